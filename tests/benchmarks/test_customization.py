"""The benchmark of customization, with ground truth in the place of the model."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.customization import run
from benchmarks.customization.motions import TEACHING_MOTIONS
from benchmarks.customization.plan import TRIED, TUNED, USE, WEIGHTS, Cell, Plan, cells, settings_of
from benchmarks.customization.scores import ContentPrompt, motion_prompts, true_motion
from benchmarks.customization.styles import STYLES, apply_style
from benchmarks.customization.teach import configure
from show1.errors import RunError
from show1.sprites.caption_reader import parse_caption
from show1.sprites.scenes import SpriteWorld, render
from show1.video import Video


class TruthPipeline:
    """Gives renders of what is asked for; a taught motion or style only while its adapter is loaded."""

    model_record = SimpleNamespace(name="truth", sha256="0" * 64)
    settings = SimpleNamespace(
        keyframes=SimpleNamespace(num_frames=8, height=20, width=32),
        super_resolution=SimpleNamespace(height=40, width=64),
    )
    device = "cpu"

    def __init__(self) -> None:
        self.calls = 0
        self.loaded: list[str] = []
        self.weights: list[dict[str, float | None]] = []
        self.adapters = SimpleNamespace(load=self.load, unload=lambda: self.loaded.clear())

    def load(self, path: Path, name: str, **weights: float | None) -> str:
        assert path.is_file() and not self.loaded
        self.weights.append(weights)
        self.loaded.append(name)
        return name

    def __call__(self, prompts: Sequence[str], *, seed: Sequence[int], until: str, **options: Any) -> Any:
        assert len(seed) == len(prompts)
        self.calls += 1
        if until == "interpolation":  # an adapter of super-resolution has no effect on it
            assert options == {"output_type": "pt"}
            return self.small(prompts, seed)
        made = [self.video(prompt, number) for prompt, number in zip(prompts, seed, strict=True)]
        taught = any(m.verb in prompt for m in TEACHING_MOTIONS.values() for prompt in prompts)
        assert until == ("keyframes" if taught else "super_resolution")
        if taught:
            guided = {"settings": {"keyframes": {"guidance_scale": 4.5}}}
            assert options == (guided if self.loaded else {})
        elif options:
            assert options.pop("start_from") == "super_resolution" and set(options) == {"video"}
            assert torch.equal(options["video"], torch.stack(self.small(prompts, seed)))
        return made

    def small(self, prompts: Sequence[str], seed: Sequence[int]) -> list[Tensor]:
        """Without the adapter."""
        loaded, self.loaded = self.loaded, []
        made = [self.video(prompt, number).to_tensor() for prompt, number in zip(prompts, seed, strict=True)]
        self.loaded = loaded
        return made

    def video(self, prompt: str, seed: int) -> Video:
        read = parse_caption(prompt.split(",")[0])
        assert read is not None
        subject, motion, background = read
        taught = next((name for name, m in TEACHING_MOTIONS.items() if f" {m.verb} " in prompt), None)
        if taught and self.loaded:
            asked = ContentPrompt(prompt=prompt, subject=subject, background=background)
            return Video.from_tensor(true_motion(taught, asked, seed, num_frames=8, height=20, width=32), fps=2)
        scene = SpriteWorld(seed=seed, split="all").compose(subject, motion or 0, background)
        frames = render(scene, 8, 20, 32)
        style = next((s for s in STYLES if prompt.endswith(s)), None)
        return Video(frames=apply_style(style, frames) if style and self.loaded else frames, fps=2)


@pytest.fixture
def pipe() -> TruthPipeline:
    return TruthPipeline()


def customize(config: Any) -> Path:
    folder = Path(config.run)
    folder.mkdir(parents=True)
    if config.kind == "motion":
        assert all(Path(video).is_file() for video in config.video) and len(config.prompt) == len(config.video)
    else:
        assert all(len(list(Path(d).glob("*.png"))) == 2 for d in (config.images, *config.source))
        assert bool(config.source) == (config.stage == "super_resolution")
    (folder / "report.json").write_text(json.dumps({"seconds": 1.5, "peak_memory_bytes": 200_000_000}))
    Path(config.output).write_bytes(b"adapter")
    return Path(config.output)


def measure(pipe: TruthPipeline, out: Path, plan: Plan) -> dict[str, Any]:
    return run.run(out, plan, pipe=pipe, customize=customize)  # type: ignore[arg-type]


def plan(**changes: Any) -> Plan:
    options = {"motions": ("circle",), "styles": ("sepia film",), "videos": 3, "style_images": 2, "batch_size": 2}
    return Plan(**(options | {"methods": ("lora", "spatial_lora")} | changes))


def test_ground_truth_passes_and_its_absence_fails(pipe: TruthPipeline, tmp_path: Path) -> None:
    report = measure(pipe, tmp_path, plan(style_stages=("keyframes", "super_resolution")))
    assert [(c["kind"], c["method"], c["stage"]) for c in report["cells"]] == [
        ("motion", "none", "keyframes"),
        ("motion", "lora", "keyframes"),
        ("style", "none", "keyframes"),
        ("style", "spatial_lora", "keyframes"),
        ("style", "spatial_lora", "super_resolution"),
    ]
    without, taught, plain, styled, translated = (c["summary"] for c in report["cells"])
    assert without["correlation"]["median"] < 0.7 < 0.9 < taught["correlation"]["median"]
    assert taught["subject"]["hits"] == 3 and taught["subject_leak"]["hits"] == 0
    assert plain["style"]["hits"] == styled["style"]["hits"] == translated["style"]["hits"] == 3
    assert report["cells"][1]["cost"]["seconds"] == 1.5
    used = []
    for kind, method in (("motion", "lora"), ("style", "spatial_lora"), ("style", "spatial_lora")):
        weights = dict(zip(("weight", "detail_weight"), TRIED[kind][0], strict=True))  # the first is enough
        used += [TUNED[kind, method] | weights] * 2  # to choose, then to measure
    assert pipe.weights == [{name: options[name] for name in WEIGHTS} for options in used]
    text = (tmp_path / "report.md").read_text()
    for part in ("circle | lora", "circle | *ground truth*", "sepia film | *ground truth*", "2 s, 0.20 GB"):
        assert part in text
    assert (tmp_path / "cells" / "motion-circle-lora" / "sheet.png").is_file()


def test_weights_are_chosen_by_other_videos(
    pipe: TruthPipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    original: Callable[..., Video] = pipe.video
    seen: list[tuple[str, int]] = []

    def follows_late(prompt: str, seed: int) -> Video:
        seen.append((prompt, seed))
        loaded = pipe.loaded
        if pipe.loaded and (pipe.weights[-1]["weight"] or 0) < 1.15:
            pipe.loaded = []
        made = original(prompt, seed)
        pipe.loaded = loaded
        return made

    monkeypatch.setattr(pipe, "video", follows_late)
    tried = TRIED["motion"]
    report = measure(pipe, tmp_path, plan(styles=()))
    assert [(w["weight"], w["detail_weight"]) for w in pipe.weights] == [*tried[:3], tried[2]]
    assert report["cells"][1]["settings"]["weight"] == 1.15
    scored = {(a.prompt, 1 + i) for i, a in enumerate(motion_prompts("circle", 3))}
    assert len(set(seen) - scored) == 3 and len(set(seen)) == 6
    measure(pipe, tmp_path / "given", plan(styles=(), weight=0.7))
    assert pipe.weights[4:] == [{"weight": 0.7, "detail_weight": 0.5, "noise_weight": 0.9}]


def test_it_goes_on_where_it_stopped(pipe: TruthPipeline, tmp_path: Path) -> None:
    small = plan(styles=())
    original: Callable[..., list[Video]] = pipe.video  # type: ignore[assignment]

    def scoring() -> bool:
        return (tmp_path / "cells/motion-circle-lora/weights.json").exists()

    def dies(prompt: str, seed: int) -> Video:
        if pipe.loaded and seed == 3 and scoring():
            raise KeyboardInterrupt
        return original(prompt, seed)  # type: ignore[return-value]

    pipe.video = dies  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        measure(pipe, tmp_path, small)
    assert not pipe.loaded
    pipe.video, before = original, pipe.calls  # type: ignore[method-assign, assignment]
    report = measure(pipe, tmp_path, small)
    assert pipe.calls == before + 1  # the one batch that was missing
    assert measure(pipe, tmp_path, small)["cells"] == report["cells"] and pipe.calls == before + 1
    with pytest.raises(RunError, match="another plan"):
        measure(pipe, tmp_path, plan(styles=(), videos=4))


def test_command_line(tmp_path: Path) -> None:
    out, full = run.parse([str(tmp_path)])
    assert out == tmp_path and full == Plan() and full.videos == 64
    assert len(cells(full)) == 5 * 4 + 1 + 4 * 2
    _, quick = run.parse([str(tmp_path), "--quick", "--motions", "spiral", "--steps", "2"])
    assert (quick.motions, quick.steps, quick.videos, quick.styles) == (("spiral",), 2, 4, ("pencil sketch",))
    _, none = run.parse([str(tmp_path), "--styles"])
    assert none.styles == () and none.motions == full.motions


def test_options_of_the_plan_go_before_those_of_the_method(tmp_path: Path) -> None:
    cell = Cell(kind="motion", name="circle", method="temporal_attention")
    tuned = configure(tmp_path, Plan(), cell)
    expected = TUNED["motion", "temporal_attention"]
    training = {name: value for name, value in expected.items() if name not in USE}
    assert {name: getattr(tuned, name) for name in training} == training
    options = ["--steps", "7", "--weight", "0.5", "--detail-weight", "0", "--timestep-logit", "1", "2"]
    _, chosen = run.parse([str(tmp_path), *options])
    given = configure(tmp_path, chosen, cell)
    assert (given.steps, given.timestep_logit, given.learning_rate) == (7, (1.0, 2.0), tuned.learning_rate)
    weights = [settings_of(chosen, cell)[name] for name in WEIGHTS]
    assert weights == [0.5, 0.0, expected["noise_weight"]]
    style = Cell(kind="style", name="sepia film", method="spatial_lora")
    assert configure(tmp_path, chosen, style).timestep_logit == (1.0, 1.5)  # the option is for motions
