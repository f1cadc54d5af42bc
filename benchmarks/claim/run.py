"""The claim of arXiv:2309.15818 side by side, in the sprite world: is the hybrid better than either of its halves?

    python benchmarks/claim/run.py --out claim                        # trains what is compared, generates, scores
    python benchmarks/claim/run.py --out claim --quick                # the same in minutes, to see that it runs
    python benchmarks/claim/run.py --out claim --minutes 120 --videos 64 --mixed-precision bf16
    python benchmarks/claim/run.py --out claim --earlier-keyframes STAGE    # also a hybrid of a shorter training
    python benchmarks/claim/run.py --out claim --only latent-images --only latent    # trains these alone, and ends

Five ways, with the same prompts and seeds:

- hybrid: pixel keyframes, interpolation and super-resolution, then the latent expert of noise levels up to 900.
- latent only: text to video in the VAE's latent space, at full resolution, trained as long as the whole hybrid.
- pixel only: a second pixel super-resolution network in the expert's place, trained as long as the expert.
- all noise levels: the hybrid with an expert trained on all noise levels alike.
- plain upscaling: bicubic in the expert's place.

The hybrid's stages are those of the model (`mini`, or a cascade folder); the others are trained here by the recipe of
`scripts/train_mini.py`, each for as many steps as fit its minutes. Everything that is done is kept in the folder, by a
hash of what it depends on, and not done again:

    OUT/
      training-ID/      the networks that are trained here
      videos-ID/        all videos of all ways, and samples.png
      report.json report.md
"""

import argparse
import dataclasses
import datetime
import json
import logging
import math
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import train_mini

from show1 import Show1Pipeline
from show1.config import StageName
from show1.diffusion import fold_frames, unfold_frames
from show1.errors import Cancelled
from show1.evaluation.alignment import CRITERIA, Measured, Row, SceneJudge, summarise, true_features, truth
from show1.evaluation.folder import identify
from show1.evaluation.prompts import AlignmentPrompt, alignment_prompts
from show1.files import read_json_object, sha256, write_json
from show1.media import contact_sheet, save_sheet
from show1.models.cascade import resolve
from show1.runtime import measure
from show1.training import TrainingConfig, train
from show1.video import Video

logger = logging.getLogger(__name__)

LOW, LOW_SIZE, SIZE = "low resolution", (80, 128), (160, 256)
EARLIER = "hybrid, earlier keyframes"
ARMS = ("hybrid", "latent only", "pixel only", "all noise levels", "plain upscaling")
CORRUPTIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "none": lambda video, _: video,
    "noise": lambda video, g: video + 0.2 * torch.randn(video.shape, generator=g),
    "blocks": lambda video, _: _blocks(video, 4),
    "colour shift": lambda video, g: video * (1 + 0.3 * torch.randn(3, 1, 1, 1, generator=g).clamp(-1, 1)),
}
"""What is put into a clean low-resolution video, (3, F, H, W) in [-1, 1]."""


@dataclass(frozen=True)
class Options:
    """Of the whole comparison."""

    out: Path
    model: str
    videos: int
    hybrid_minutes: float
    expert_minutes: float
    steps: int | None
    """Optimizer steps instead of minutes."""

    mixed_precision: str | None
    """Arithmetic of the trainings; None: the recipe's."""

    earlier: Path | None
    """Stage folder of keyframes that were trained for a shorter time."""

    workers: int = 0
    """Processes that render clips in the trainings."""

    @property
    def arms(self) -> tuple[str, ...]:
        """What is compared."""
        return ARMS if self.earlier is None else (*ARMS, EARLIER)

    @property
    def training(self) -> Path:
        """Folder of the networks that are trained here: one for everything that they depend on."""
        parts = resolve(self.model).parts
        text, vae = parts["keyframes"].text, parts["translation"].path / "vae"
        assert text is not None
        taken = {path.name: _hashes(path) for path in (text / "text_encoder", vae)}
        plans = {name: [train_mini.RECIPE[task], changes, whole] for name, (task, changes, whole) in PLANS.items()}
        asked = [self.hybrid_minutes, self.expert_minutes, self.steps, self.mixed_precision]
        identity = identify({"taken": taken, "plans": plans, "asked": asked})
        return self.out / f"training-{identity['id']}"

    @property
    def videos_folder(self) -> Path:
        """Folder of the videos: one for everything that they depend on."""
        parts = {stage: _hashes(part.path) for stage, part in resolve(self.model).parts.items()}
        earlier = None if self.earlier is None else _hashes(self.earlier)
        identity = identify({"training": self.training.name, "model": parts, "earlier": earlier})
        return self.out / f"videos-{identity['id']}"


def _hashes(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): sha256(file) for file in sorted(folder.rglob("*.safetensors"))}


_EVERY = {"max_timestep": 999, "timestep_logit": None}
# nothing is to be repaired where all is drawn from noise; motions are learned at the keyframes' noise levels
_LATENT = {**_EVERY, "corruption": 0.0, "crop": None}
_MOVING = {"timestep_logit": train_mini.RECIPE["keyframes_large"]["timestep_logit"], "batch_size": 8}
_SIZES = {"size": SIZE, "low_size": LOW_SIZE}
PLANS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "pixel-images": ("super_resolution_images", _SIZES, False),
    "pixel": ("super_resolution", {**_SIZES, "init": "pixel-images"}, False),
    "all-levels-images": ("translation_images", _EVERY, False),
    "all-levels": ("translation", {**_EVERY, "init": "all-levels-images"}, False),
    "latent-images": ("translation_images", _LATENT, True),
    "latent": ("translation", {**_LATENT, **_MOVING, "init": "latent-images"}, True),
}
"""What is trained: the run of the recipe, what is changed, and whether it takes half of the hybrid's minutes, or of the
expert's."""


def train_networks(
    options: Options, only: Sequence[str] = (), stop: Callable[[], bool] | None = None
) -> dict[str, Path]:
    """Trains the networks that the model lacks, or those of them that are named; gives the stage folders of all.

    Raises:
        Cancelled: `stop` said yes; the next call goes on from there.
    """
    parts = resolve(options.model).parts
    text, vae = parts["keyframes"].text, parts["translation"].path
    folders = {name: options.training / name for name in PLANS}
    for name in only or PLANS:
        task, changes, whole = PLANS[name]
        recipe = {**train_mini.RECIPE[task], **changes, "task": task, "out": str(folders[name]), "text": str(text)}
        recipe |= {"lr_schedule": "linear", "sample_every": 0, "workers": options.workers}
        if options.mixed_precision is not None:
            recipe["mixed_precision"] = options.mixed_precision
        if "vae" in recipe:
            recipe["vae"] = str(vae)
        if "init" in recipe:
            recipe["init"] = str(folders[recipe["init"]] / "export")
        minutes = (options.hybrid_minutes if whole else options.expert_minutes) / 2
        _train_for(minutes, TrainingConfig.from_dict(recipe), options.steps, stop)
    return {name: folder / "export" for name, folder in folders.items()}


def _train_for(
    minutes: float, config: TrainingConfig, steps: int | None, stop: Callable[[], bool] | None = None
) -> None:
    """Trains for as many steps as fit the minutes (or so many), over as many calls as it takes."""
    done, plan = (config.folder.with_name(f"{config.folder.name}-{what}.json") for what in ("trained", "plan"))
    if done.is_file():
        return
    if not plan.is_file():
        write_json(plan, {"steps": steps or max(1, int(minutes * 60 / _seconds_of_a_step(config)))})
    config = dataclasses.replace(config, steps=read_json_object(plan)["steps"])
    logger.info("training %s: %d steps of %d", config.out, config.steps, config.batch_size)
    train(config, stop=stop)
    samples = config.steps * config.batch_size
    write_json(done, {"steps": config.steps, "samples": samples, "minutes": round(_seconds(config) / 60, 1)})


def _seconds_of_a_step(config: TrainingConfig) -> float:
    """Of the second half of a short run; the first steps are slower."""
    with tempfile.TemporaryDirectory() as folder:
        short = dataclasses.replace(config, out=f"{folder}/run", steps=16, log_every=8)
        train(short)
        return _seconds(short, after=8) / 8


def _seconds(config: TrainingConfig, after: int = 0) -> float:
    """What the log of a run says that its steps took, those after a step alone."""
    before, seconds = 0, 0.0
    for line in map(json.loads, (config.folder / "log.jsonl").read_text().splitlines()):
        if line["step"] > after:
            seconds += (line["step"] - before) * config.batch_size / line["samples_per_second"]
        before = line["step"]
    return seconds


def pipelines(options: Options, networks: dict[str, Path]) -> dict[str, Show1Pipeline]:
    """One for each way that has a network of its own."""
    load = Show1Pipeline.from_pretrained
    text = {"keyframes": options.model}
    pipes = {
        "hybrid": load(options.model),
        "latent only": load({**text, "translation": networks["latent"]}),
        "pixel only": load({**text, "super_resolution": networks["pixel"]}),
        "all noise levels": load({**text, "translation": networks["all-levels"]}),
    }
    if options.earlier is not None:
        later: tuple[StageName, ...] = ("interpolation", "super_resolution", "translation")
        pipes[EARLIER] = load({"keyframes": options.earlier, **{stage: options.model for stage in later}})
    return pipes


def make(arm: str, pipe: Show1Pipeline, low: Tensor | None, prompt: str, seed: int, settings: Any) -> Tensor:
    """The video (3, F, H, W) of one way from the low-resolution one (3, F, h, w), which is a way as well."""
    if arm == LOW:
        first: Tensor = pipe(prompt, seed=seed, until="super_resolution", output_type="pt")
        return first
    if arm == EARLIER:
        whole: Tensor = pipe(prompt, seed=seed, settings=settings, output_type="pt")
        return whole
    assert low is not None
    if arm == "plain upscaling":
        return _resized(low, *SIZE)
    stage: StageName = "super_resolution" if arm == "pixel only" else "translation"
    if arm == "pixel only":
        settings = settings.replace(super_resolution={"height": SIZE[0], "width": SIZE[1]})
    if arm == "latent only":
        low = torch.zeros_like(low)
        sampling = {"strength": 1.0, "max_timestep": 1000, "num_inference_steps": 25, "guidance_scale": 3.0}
        settings = settings.replace(translation=sampling)
    out: Tensor = pipe(prompt, seed=seed, start_from=stage, until=stage, video=low, settings=settings, output_type="pt")
    return out


def compare(options: Options, pipes: dict[str, Show1Pipeline]) -> list[Row]:
    """Generates all ways for the same prompts and seeds, and scores them."""
    judge, base = SceneJudge(), pipes["hybrid"]
    asked = _prompts(options.videos)
    folder = options.videos_folder
    folder.mkdir(parents=True, exist_ok=True)
    measured: dict[str, list[Measured]] = {arm: [] for arm in (LOW, *options.arms)}
    for i, prompt in enumerate(asked):
        low = None
        for arm in (LOW, *options.arms):
            file = _video_file(folder, i, arm)
            if not file.is_file():
                video = make(arm, pipes.get(arm, base), low, prompt.prompt, 1000 + i, base.settings)
                Video.from_tensor(video, fps=8.0).save(file)
            video = Video.load(file).to_tensor()
            low = video if arm == LOW else low
            measured[arm].append((prompt, *judge.score(video)))
        logger.info("%d of %d prompts", i + 1, len(asked))
    rows = []
    for arm, videos in measured.items():
        height, width = SIZE if arm != LOW else LOW_SIZE
        size = {"num_frames": 29, "height": height, "width": width}
        real = true_features(judge, asked, range(5000, 5000 + len(asked)), **size)
        rows.append(summarise(arm, videos, real))
    _save_sheet(folder, options.arms, asked)
    return rows


def costs_of(arms: Sequence[str], command: Sequence[str]) -> dict[str, dict[str, float]]:
    """Seconds and bytes of a whole video by each way, from the text on, each in a process of its own."""
    found = {}
    for arm in arms:
        asked = [sys.executable, *command, "--cost-of", arm]
        told = subprocess.run(asked, check=True, stdout=subprocess.PIPE, text=True).stdout
        found[arm] = json.loads(told.splitlines()[-1])
    return found


def cost_of(arm: str, pipes: dict[str, Show1Pipeline]) -> dict[str, float]:
    """Of the second video; the first one also waits for weights."""
    base, prompt = pipes["hybrid"], _prompts(1)[0].prompt
    for seed in (1, 2):
        with measure(base.device) as cost:
            begins = arm not in (EARLIER, "latent only")
            low = make(LOW, base, None, prompt, seed, base.settings) if begins else torch.zeros(3, 29, *LOW_SIZE)
            if arm != LOW:
                make(arm, pipes.get(arm, base), low, prompt, seed, base.settings)
    return {"seconds": round(cost.seconds, 2), "bytes": float(cost.peak_memory)}


def repair(options: Options, pipes: dict[str, Show1Pipeline], count: int) -> list[dict[str, Any]]:
    """What the expert does to corrupted low-resolution videos: errors against a clean render, in 8-bit levels."""
    base, found = pipes["hybrid"], []
    experts = {"expert": base, "expert of all noise levels": pipes["all noise levels"]}
    for name, corrupt in CORRUPTIONS.items():
        errors: dict[str, list[float]] = {"before": [], **{expert: [] for expert in experts}}
        for i, prompt in enumerate(_prompts(count)):
            generator = torch.Generator().manual_seed(i)
            clean, wanted = (truth(prompt, seed=i, num_frames=29, height=h, width=w) for h, w in (LOW_SIZE, SIZE))
            low = corrupt(clean, generator).clamp(-1, 1)
            errors["before"].append(_error(_resized(low, *SIZE), wanted))
            for expert, pipe in experts.items():
                errors[expert].append(_error(make(expert, pipe, low, prompt.prompt, i, base.settings), wanted))
        found.append({"corruption": name, **{key: sum(v) / len(v) for key, v in errors.items()}})
    return found


def report(options: Options, rows: Sequence[Row], costs: dict[str, Any], repairs: Sequence[dict[str, Any]]) -> str:
    """The tables as Markdown."""
    lines = [f"| way | {' | '.join(CRITERIA)} | sharpness | flicker | FD frames | FD clips | seconds | peak GB |"]
    lines.append("|---|" + "---:|" * (len(CRITERIA) + 6))
    for row in rows:
        shares = [row.shares[c] for c in CRITERIA]
        cells = [f"{100 * s.share:.1f} ({100 * s.interval[0]:.0f} to {100 * s.interval[1]:.0f})" for s in shares]
        cost = costs.get(row.name, {"seconds": math.nan, "bytes": math.nan})
        looks = [row.sharpness, row.flicker, row.frame_distance, row.clip_distance]
        cells += ["" if value is None else f"{value:.2f}" for value in looks]
        cells += [f"{cost['seconds']:.1f}", f"{cost['bytes'] / 1e9:.2f}"]
        lines.append(f"| {row.name} | {' | '.join(cells)} |")
    if repairs:
        names = [key for key in repairs[0] if key != "corruption"]
        lines += ["", f"| corruption | {' | '.join(names)} |", "|---|" + "---:|" * len(names)]
        lines += [f"| {r['corruption']} | {' | '.join(f'{r[n]:.2f}' for n in names)} |" for r in repairs]
    lines += ["", "| network | steps | samples | minutes |", "|---|---:|---:|---:|"]
    for file in sorted(options.training.glob("*-trained.json")):
        trained = read_json_object(file)
        name = file.name.removesuffix("-trained.json")
        lines.append(f"| {name} | {trained['steps']} | {trained['samples']} | {trained['minutes']:.0f} |")
    lines += [
        "",
        f"{options.videos} prompts (half held out), model {options.model}; seconds and memory of a whole video. "
        f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, {datetime.date.today()}.",
    ]
    return "\n".join(lines) + "\n"


def _prompts(count: int) -> list[AlignmentPrompt]:
    """Half of them held out, half seen."""
    sets = [[p for p in alignment_prompts() if p.set == name] for name in ("held_out", "seen")]
    return [group[i // 2 % len(group)] for i in range(count) for group in [sets[i % 2]]]


def _video_file(folder: Path, number: int, arm: str) -> Path:
    return folder / f"{number:03d}-{arm.replace(' ', '-').replace(',', '')}.mkv"


def _resized(video: Tensor, height: int, width: int) -> Tensor:
    frames = F.interpolate(fold_frames(video[None]), size=(height, width), mode="bicubic")
    return unfold_frames(frames, 1)[0].clamp(-1, 1)


def _blocks(video: Tensor, size: int) -> Tensor:
    """Half way to the mean of blocks, as strong compression leaves them."""
    coarse = F.avg_pool2d(video, size)
    return 0.5 * video + 0.5 * F.interpolate(coarse, scale_factor=size, mode="nearest")


def _error(video: Tensor, wanted: Tensor) -> float:
    return float((video - wanted).abs().mean() * 127.5)


def _save_sheet(folder: Path, arms: Sequence[str], asked: Sequence[AlignmentPrompt]) -> None:
    videos, labels = [], []
    for i, prompt in enumerate(asked[:3]):
        for arm in arms:
            videos.append(Video.load(_video_file(folder, i, arm)))
            labels.append(f"{prompt.prompt} [{arm}]")
    sheet = contact_sheet(videos, labels=labels, columns=8, max_width=1500)
    save_sheet(sheet, folder / "samples.png", overwrite=True)


def parse(arguments: Sequence[str] | None = None) -> tuple[Options, list[str], str | None]:
    """The options of a command line, the networks that are to be trained alone, and the way whose cost is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--videos", type=int, default=64)
    parser.add_argument("--minutes", type=float, default=1320.0, help="training of the whole hybrid, for latent only")
    parser.add_argument("--expert-minutes", type=float, default=110.0, help="training of the expert, for the others")
    parser.add_argument("--mixed-precision", choices=("no", "bf16"), help="arithmetic of the trainings")
    parser.add_argument("--workers", type=int, default=0, help="processes that render clips in the trainings")
    parser.add_argument(
        "--only", action="append", default=[], choices=tuple(PLANS), help="train this and end; repeat it"
    )
    parser.add_argument("--earlier-keyframes", type=Path, help="stage folder of keyframes of a shorter training")
    parser.add_argument("--quick", action="store_true", help="2 prompts, 2 optimizer steps")
    parser.add_argument("--cost-of", choices=(LOW, *ARMS, EARLIER), help="only the seconds and bytes of a way, as JSON")
    given = parser.parse_args(arguments)
    if given.videos < 1:
        parser.error(f"--videos must be 1 or more, got {given.videos}")
    if given.earlier_keyframes is not None and not (given.earlier_keyframes / "unet").is_dir():
        parser.error(f"--earlier-keyframes: {given.earlier_keyframes} is no stage folder; it has no folder unet")
    options = Options(
        out=given.out,
        model=given.model,
        videos=2 if given.quick else given.videos,
        hybrid_minutes=given.minutes,
        expert_minutes=given.expert_minutes,
        steps=2 if given.quick else None,
        mixed_precision=given.mixed_precision,
        earlier=given.earlier_keyframes,
        workers=given.workers,
    )
    return options, given.only, given.cost_of


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options, only, asked = parse()
    with train_mini.stop_when_asked() as stop:
        try:
            networks = train_networks(options, only, stop)
        except Cancelled as stopped:
            sys.exit(f"{stopped}; the same command goes on from there")
    if only:
        return
    pipes = pipelines(options, networks)
    if asked is not None:
        print(json.dumps(cost_of(asked, pipes)))
        return
    rows = compare(options, pipes)
    repairs = repair(options, pipes, 1 if options.steps else 16)
    costs = costs_of((LOW, *options.arms), sys.argv)
    text = report(options, rows, costs, repairs)
    (options.out / "report.md").write_text(text, encoding="utf-8")
    write_json(
        options.out / "report.json",
        {"rows": [row.to_dict() for row in rows], "costs": costs, "repair": repairs},
    )
    print(text)


if __name__ == "__main__":
    main()
