"""Memory plans of experts: whatever the plan, the video is the same; what cannot be counted is said."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from show1 import Show1Pipeline, make_request
from show1.checkpoints.cascade import Part
from show1.checkpoints.locate import resolve
from show1.cli.main import main
from show1.config import TranslationSettings
from show1.diffusion import IndependentSeeds
from show1.errors import InputError, OutOfMemory
from show1.experts import ExpertText, expert_needs, load_expert, loading
from show1.experts.loading import can_stream, names_of
from show1.experts.placing import add_loras
from show1.experts.wan import Wan
from show1.generation.request import GenerationRequest
from show1.generation.run import Run
from show1.runtime.plan import Way, choose_ways, ways
from show1.runtime.tracing import LiveTensors
from show1.stage_table import Component
from tests.experts.tiny_experts import (
    build_cogvideox,
    build_hunyuan,
    build_ltx,
    build_ltx2,
    build_wan,
    clip,
    embeddings,
)

BUILD = {
    "wan": build_wan,
    "cogvideox": build_cogvideox,
    "ltx": build_ltx,
    "ltx-2": build_ltx2,
    "hunyuan": build_hunyuan,
}
SETTINGS = TranslationSettings(
    num_inference_steps=4, guidance_scale=3.0, height=32, width=32, level=0.7, max_batch=1, window=None
)
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(scope="module", params=BUILD)
def part(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Part:
    folder = BUILD[request.param](tmp_path_factory.mktemp(request.param) / "expert")
    return resolve({"translation": str(folder)}).parts["translation"]


@pytest.fixture(scope="module")
def wan(tmp_path_factory: pytest.TempPathFactory) -> Part:
    folder = build_wan(tmp_path_factory.mktemp("wan") / "expert")
    return resolve({"translation": str(folder)}).parts["translation"]


def needs_of(part: Part, settings: TranslationSettings = SETTINGS, **changes: Any) -> Any:
    options = {"frames": 17, "prompts": 1, "dtype": torch.float32, "device": CPU, "text_device": CPU, **changes}
    found = expert_needs(part, settings, **options)
    assert found is not None
    return found


def made(part: Part, way: Way | None, text_streamed: bool, settings: TranslationSettings = SETTINGS) -> torch.Tensor:
    text = ExpertText(part, dtype=torch.float32, device=CPU)
    text.streamed = text_streamed
    known = text.embed(["a burning lamborghini"], [""])
    chosen: dict[str, Any] = {} if way is None else {"streamed": way.streamed, "tiled": way.tiled}
    expert = load_expert(part, dtype=torch.float32, device="cpu", **chosen)
    shown = clip(1, 9, settings.height, settings.width)
    return expert(shown, known, seeds=IndependentSeeds([3]), settings=settings)


def test_weights_that_stay_in_the_files_give_the_same_video(part: Part) -> None:
    needs = needs_of(part)
    least = [way for way in ways(needs.networks) if way.streamed][-1]
    assert not least.tiled and least.peak < next(ways(needs.networks)).peak
    expected = made(part, None, False)
    assert torch.equal(made(part, least, needs.text.streamable), expected)


def test_a_text_encoder_whose_tensors_are_renamed_stays_in_memory(part: Part) -> None:
    assert part.expert is not None
    renamed = {"LlamaModel", "Gemma3ForConditionalGeneration"} & {name for _, name in part.expert.classes.values()}
    assert can_stream(part, names_of(part.expert, text=True)) == (not renamed)
    assert can_stream(part, names_of(part.expert, text=False))


def test_what_is_counted_is_what_is_taken(wan: Part) -> None:
    needs = needs_of(wan, frames=33)
    expert, family = load_expert(wan, dtype=torch.float32, device="cpu"), Wan()
    pipe = expert.pipe
    weights = [p for name in ("vae", "transformer") for p in getattr(pipe, name).parameters()]
    assert needs.networks.weights == sum(p.nbytes for p in weights)
    video, text = clip(1, 33, 32, 32), embeddings(1, 512)
    with torch.no_grad():
        with LiveTensors([*weights, video]) as coding:
            family.decode(pipe, family.encode(pipe, video), [])
        latents = family.encode(pipe, video)
        states = {
            "prompt_embeds": text.prompt_embeds,
            "negative_prompt_embeds": text.negative_prompt_embeds,
        }
        with LiveTensors([*weights, latents, *states.values()]) as step:
            options = {"steps": 2, "guidance": 3.0, "generators": [torch.Generator()], "on_step": lambda _: None}
            family.denoise(pipe, latents, states, size=(33, 32, 32), **options)
    # kernels' copies, and attention's scores, are not counted
    assert needs.networks.row == pytest.approx(step.peak, rel=0.2)
    assert needs.networks.other - video.nbytes == pytest.approx(coding.peak, rel=0.2)


@pytest.mark.slow
def test_longer_and_larger_videos_in_batches_and_windows(wan: Part) -> None:
    large = {**vars(SETTINGS), "height": 64, "width": 64}
    short, long = (needs_of(wan, TranslationSettings(**large), frames=frames).networks for frames in (9, 49))
    assert long.row > short.row and long.other > short.other and long.weights == short.weights
    windows = TranslationSettings(**{**large, "window": 17, "overlap": 8})
    assert short.row < needs_of(wan, windows, frames=49).networks.row != long.row
    several = TranslationSettings(**{**vars(SETTINGS), "max_batch": 2})
    assert needs_of(wan, several, prompts=5).networks.samples == 2
    assert short.tiled is None, "a tile would be as large as the video"
    wide = TranslationSettings(**{**vars(SETTINGS), "width": 512})
    beyond = needs_of(wan, wide, frames=9).networks
    assert beyond.tiled is not None and beyond.other > short.other


def test_tiles_blend_to_nearly_the_same_video(wan: Part) -> None:
    wide = TranslationSettings(**{**vars(SETTINGS), "height": 16, "width": 320})
    way = Way(samples=1, split_guidance=False, streamed=False, peak=0, tiled=True)
    whole, tiled = made(wan, None, False, wide), made(wan, way, False, wide)
    assert tiled.shape == whole.shape == (1, 3, 9, 16, 320)
    assert not torch.equal(tiled, whole)
    assert float((tiled - whole).abs().mean()) < 0.1 * float(whole.std())


def test_eight_bits_are_the_last_resort_and_are_counted_when_they_are_asked_for(wan: Part) -> None:
    assert needs_of(wan, device=CUDA, loras=True).networks.streamable
    fixed = needs_of(wan, loras=True).networks  # a LoRA is in no file of the network
    assert not fixed.streamable
    last = list(ways(fixed))[-1]
    assert last.fp8 and not last.streamed and "fp8 weights" in str(last)
    asked = needs_of(wan, TranslationSettings(**{**vars(SETTINGS), "weights": "fp8"})).networks
    assert asked.fp8 is None and asked.weights == fixed.fp8 < fixed.weights


@pytest.fixture
def networks_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Budgets are for networks alone, not for the process."""
    monkeypatch.setattr("show1.generation.memory.taken_memory", lambda _: 0)
    monkeypatch.setattr("show1.generation.memory.CPU_SCRATCH", 0)


VIDEO = clip(1, 9, 16, 16)


def pipeline(part: Part, memory: Any) -> Show1Pipeline:
    options: dict[str, Any] = {"device": "cpu", "dtype": torch.float32, "cache_embeddings": False}
    return Show1Pipeline.from_pretrained({"translation": str(part.path)}, memory=memory, **options)


def request(pipe: Show1Pipeline) -> GenerationRequest:
    changes = {"translation": {"height": 32, "width": 32, "num_inference_steps": 3}}
    options: dict[str, Any] = {"start_from": "translation", "video": VIDEO}
    return make_request("a panda", model=pipe, seed=5, settings=changes, **options)


def test_a_budget_plans_an_expert(wan: Part, networks_alone: None) -> None:
    free = pipeline(wan, "low")
    (expected,) = free.generate(request(free), video=VIDEO, output_type="pt")
    needs = free.needs(request(free), 9)
    assert list(needs) == ["the text encoder of translation", "translation"]
    least = max(list(ways(need))[-1].peak for need in needs.values())
    pipe = pipeline(wan, least)
    plan = pipe.plan(request(pipe), 9)
    assert plan["the text encoder of translation"].streamed or plan["translation"].streamed
    (out,) = pipe.generate(request(pipe), video=VIDEO, output_type="pt")
    assert torch.equal(out, expected)
    with pytest.raises(InputError, match="GB of memory are not enough for .*allow more, or ask for fewer frames"):
        tight = pipeline(wan, least // 50)
        tight.generate(request(tight), video=VIDEO)


NO_MEMORY = RuntimeError("[enforce fail at alloc_cpu.cpp:125] err == 0. DefaultCPUAllocator: can't allocate memory")


def test_memory_that_runs_out_while_an_expert_loads_is_followed_by_another_try(
    wan: Part, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    load, tried = loading._load, 0

    def failing(part: Part, component: Component, *arguments: Any, **options: Any) -> Any:
        nonlocal tried
        if component.name == "transformer":
            tried += 1
            if not options["streamed"]:
                raise NO_MEMORY
        return load(part, component, *arguments, **options)

    pipe = pipeline(wan, "low")
    (expected,) = pipe.generate(request(pipe), video=VIDEO, output_type="pt")
    monkeypatch.setattr(loading, "_load", failing)
    pipe = pipeline(wan, "low")
    with caplog.at_level(logging.WARNING):
        (out,) = pipe.generate(request(pipe), video=VIDEO, output_type="pt")
    assert torch.equal(out, expected) and tried > 1
    assert "memory ran out in the stage 'translation': computed again with less memory" in caplog.text


def test_where_nothing_takes_less_an_expert_that_does_not_load_is_not_called_damaged(
    wan: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise NO_MEMORY

    monkeypatch.setattr(loading, "_load", never)
    pipe = pipeline(wan, "low")
    with pytest.raises(OutOfMemory, match="memory ran out in the text encoder"):
        pipe.generate(request(pipe), video=VIDEO)


@pytest.mark.parametrize("error", [NO_MEMORY, torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_memory_that_runs_out_is_no_fault_of_a_lora(error: Exception, tmp_path: Path) -> None:
    class Pipe:
        def load_lora_weights(self, *_: Any, **__: Any) -> None:
            raise error

    with pytest.raises(type(error)):
        add_loras(Pipe(), [(tmp_path / "a.safetensors", 1.0)])


def test_weights_in_fewer_bits_than_asked_for_are_recorded(
    wan: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = pipeline(wan, "low")
    way = Way(samples=1, split_guidance=False, streamed=False, peak=0, fp8=True)
    monkeypatch.setattr(pipe._planner, "plan", lambda *_, **__: pipe._planner._ways.update({"translation": way}))
    asked = request(pipe)
    (alone,) = pipe.generate(asked, video=VIDEO)
    (video,) = pipe.generate(asked, tmp_path / "run", video=VIDEO)
    run = Run.open(tmp_path / "run")
    assert run.begun_request == asked and asked.settings.translation.weights == "plain"
    assert run.manifest.stages["translation"].weights == "fp8"
    (resumed,) = pipeline(wan, "low").resume(run)  # it is finished
    (picked,) = pipeline(wan, "low").resume(run.pick(0))
    for each in (alone, video, resumed, picked):
        assert each.metadata["weights"] == {"translation": "fp8"}

    file = video.save(tmp_path / "video.mkv")
    for name in (run.path, file):
        assert main(["inspect", str(name)]) == 0
        assert "weights in fp8" in capsys.readouterr().out


def test_a_pipeline_that_cannot_be_traced_keeps_to_no_budget(
    wan: Part, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def untraceable(*_: Any, **__: Any) -> Any:
        raise RuntimeError("looks at its numbers")

    monkeypatch.setattr(Wan, "denoise", untraceable)
    with caplog.at_level(logging.WARNING):
        found = expert_needs(wan, SETTINGS, frames=9, prompts=1, dtype=torch.float32, device=CPU, text_device=CPU)
    assert found is None
    assert "the expert 'wan' keeps to no memory budget: its memory cannot be counted" in caplog.text


@pytest.mark.slow
def test_the_published_wan_fits_8_gb_by_its_plan(tmp_path: Path) -> None:
    """Of the configs alone: what is counted needs no weights."""
    from benchmarks.memory import EXPERTS, expert_configs

    part = expert_configs(tmp_path, *EXPERTS["Wan 2.1 1.3B"])
    own = TranslationSettings(
        num_inference_steps=50, guidance_scale=5.0, height=480, width=832, level=0.7, max_batch=1, window=81
    )
    needs = needs_of(part, own, frames=29, dtype=torch.bfloat16, device=CUDA, text_device=CUDA)
    plan = choose_ways({"text": needs.text, "networks": needs.networks}, 8 * 10**9)
    assert plan["text"].streamed and plan["networks"].tiled and not plan["networks"].streamed
    assert 4e9 < plan["text"].peak < 8e9 and 4e9 < plan["networks"].peak < 8e9
