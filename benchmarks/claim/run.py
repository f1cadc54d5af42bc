"""The claim of arXiv:2309.15818 side by side, in the sprite world: is the hybrid better than either of its halves?

    python -m benchmarks.claim.run --out claim                        # trains what is compared, generates, scores
    python -m benchmarks.claim.run --out claim --quick                # the same in minutes, to see that it runs
    python -m benchmarks.claim.run --out claim --mixed-precision bf16 --cuda-graphs --workers 12    # on a GPU
    python -m benchmarks.claim.run --out claim --processes 4          # prompts side by side
    python -m benchmarks.claim.run --out claim --earlier-keyframes STAGE    # also a hybrid of a shorter training
    python -m benchmarks.claim.run --out claim --way hybrid --way "plain upscaling"    # compares these alone
    python -m benchmarks.claim.run --out claim --only latent-images --only latent    # trains these alone, and ends

Five ways, with the same prompts and seeds:

- hybrid: pixel keyframes, interpolation and super-resolution, then the latent expert of noise levels up to 900.
- latent only: text to video in the VAE's latent space, at full resolution, with the hybrid's training compute.
- pixel only: a second pixel super-resolution network in the expert's place, with the expert's training compute.
- all noise levels: the hybrid with an expert trained on all noise levels alike.
- plain upscaling: bicubic in the expert's place.

The hybrid's stages are those of the model (`mini`, or a cascade folder); the others are trained here by the recipe of
`scripts/train_mini.py`, each for as many steps as take the floating-point operations of what it stands against.
Everything that is done is kept in the folder, by a hash of what it depends on, and not done again:

    OUT/
      training-ID/      the networks that are trained here
      videos-ID/        all videos of all ways, and samples.png
      report.json report.md
"""

import argparse
import dataclasses
import datetime
import functools
import json
import logging
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from scripts import train_mini
from show1 import Show1Pipeline
from show1.checkpoints.locate import resolve
from show1.config import StageName
from show1.diffusion import fold_frames, unfold_frames
from show1.errors import Cancelled
from show1.evaluation.identity import identify
from show1.files import read_json_object, sha256, write_json
from show1.media import contact_sheet, save_sheet
from show1.runtime import measure
from show1.sprites.alignment.judge import CRITERIA, SceneJudge, truth
from show1.sprites.alignment.prompts import AlignmentPrompt, alignment_prompts
from show1.sprites.alignment.summary import Measurement, Row, summarise
from show1.sprites.clips import SpriteClips
from show1.training import TASKS, LoopOptions, TrainingConfig, train
from show1.training.batches import clip_batches
from show1.training.tasks.base import make_task
from show1.video import Video

logger = logging.getLogger(__name__)

LOW, LOW_SIZE, SIZE = "low resolution", (80, 128), (160, 256)
EARLIER = "hybrid, earlier keyframes"
TRUTHS = {"ground truth": SIZE, "low-resolution truth": LOW_SIZE}
ARMS = ("hybrid", "latent only", "pixel only", "all noise levels", "plain upscaling")
NETWORKS = {"latent only": "latent", "pixel only": "pixel", "all noise levels": "all-levels"}
"""The network of `PLANS` that a way has in the place of one of the hybrid's."""

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
    share: float
    """Of the hybrid's training compute, for latent only."""

    steps: int | None
    """Optimizer steps of small batches, whatever they compute."""

    mixed_precision: str | None
    """Arithmetic of the trainings; None: the recipe's."""

    earlier: Path | None
    """Stage folder of keyframes that were trained for a shorter time."""

    ways: tuple[str, ...] = ()
    """What is compared; empty: all."""

    workers: int = 0
    """Processes that render clips in the trainings."""

    cuda_graphs: bool = False
    """Replays networks as CUDA graphs in the trainings."""

    @property
    def arms(self) -> tuple[str, ...]:
        """What is compared, in order."""
        ways = self.ways or ARMS
        return tuple(arm for arm in (*ARMS, EARLIER) if arm in ways or (arm == EARLIER and self.earlier is not None))

    def network(self, name: str) -> Path:
        """Folder of a network that is trained here; of those that depend on the share, one for each."""
        return self.training / (f"{name}-{self.share:g}" if PLANS[name].like == _WHOLE else name)

    def video(self, number: int, arm: str) -> Path:
        """File of the video of a way."""
        of = {"latent only": f"-{self.share:g}"}.get(arm, "")
        if arm == EARLIER:
            assert self.earlier is not None
            of = "-" + identify(_hashes(self.earlier))["id"][:8]
        return self.videos_folder / f"{number:03d}-{arm.replace(' ', '-').replace(',', '')}{of}.mkv"

    @property
    def repaired(self) -> int:
        """Prompts whose corrupted videos are repaired."""
        return min(self.videos, 16)

    @property
    def training(self) -> Path:
        """Folder of the networks that are trained here: one for everything that they depend on."""
        parts = resolve(self.model).parts
        text, vae = parts["keyframes"].text, parts["translation"].path / "vae"
        assert text is not None
        taken = {path.name: _hashes(path) for path in (text / "text_encoder", vae)}
        plans = {name: [train_mini.RECIPE[plan.task], dataclasses.astuple(plan)] for name, plan in PLANS.items()}
        asked = [TRAINED, self.steps, self.mixed_precision]
        identity = identify({"taken": taken, "plans": plans, "asked": asked})
        return self.out / f"training-{identity['id']}"

    @property
    def videos_folder(self) -> Path:
        """Folder of the videos: one for everything that they depend on."""
        parts = {stage: _hashes(part.path) for stage, part in resolve(self.model).parts.items()}
        identity = identify({"training": self.training.name, "model": parts})
        return self.out / f"videos-{identity['id']}"


@functools.cache  # every file name of a video asks
def _hashes(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): sha256(file) for file in sorted(folder.rglob("*.safetensors"))}


TRAINED: dict[str, int] = {
    "keyframe_images": 95_968,
    "keyframes": 517_536,
    "interpolation": 24_000,
    "super_resolution_images": 217_600,
    "super_resolution": 6_880,
    "translation_images": 37_120,
    "translation": 2_400,
}
"""Samples that the embedded hybrid was trained on (docs/mini.md); all ways share its text encoder and its VAE."""

EXPERT: tuple[str, ...] = ("translation_images", "translation")


@dataclass(frozen=True)
class Plan:
    """What a network is trained for."""

    task: str
    """The run of the recipe."""

    changes: dict[str, Any]
    """Of its options."""

    like: tuple[str, ...]
    """The trainings of the hybrid that it stands against."""

    part: float
    """Of their floating-point operations."""


_EVERY = {"max_timestep": 999, "timestep_logit": None}
# nothing is to be repaired where all is drawn from noise; motions are learned as by the keyframes
_LATENT = {**_EVERY, "corruption": 0.0, "crop": None, "batch_size": 96}
_MOVING = {key: train_mini.RECIPE["keyframes_large"][key] for key in ("timestep_logit", "spins", "tilts")}
_SIZES = {"size": SIZE, "low_size": LOW_SIZE}
_WHOLE = tuple(TRAINED)
PLANS: dict[str, Plan] = {
    "pixel-images": Plan("super_resolution_images", _SIZES, EXPERT, 0.35),
    "pixel": Plan("super_resolution", {**_SIZES, "init": "pixel-images"}, EXPERT, 0.65),
    "all-levels-images": Plan("translation_images", _EVERY, EXPERT, 0.35),
    "all-levels": Plan("translation", {**_EVERY, "init": "all-levels-images"}, EXPERT, 0.65),
    "latent-images": Plan("translation_images", _LATENT, _WHOLE, 0.25),
    "latent": Plan("translation", {**_LATENT, **_MOVING, "batch_size": 16, "init": "latent-images"}, _WHOLE, 0.75),
}
"""What is trained here."""


def train_networks(
    options: Options, only: Sequence[str] = (), stop: Callable[[], bool] | None = None
) -> dict[str, Path]:
    """Trains the networks that the model lacks, or those of them that are named; gives the stage folders of all.

    Raises:
        Cancelled: `stop` said yes; the next call goes on from there.
    """
    parts = resolve(options.model).parts
    text, vae = parts["keyframes"].text, parts["translation"].path
    folders = {name: options.network(name) for name in PLANS}
    common = {"text": str(text), "sample_every": 0, "workers": options.workers}
    if options.mixed_precision is not None:
        common["mixed_precision"] = options.mixed_precision

    def config_of(task: str, changes: dict[str, Any], folder: Path) -> TrainingConfig:
        recipe = {**train_mini.RECIPE[task], **changes, **common, "task": task, "out": str(folder)}
        if "vae" in recipe:
            recipe["vae"] = str(vae)
        if recipe.get("init") is not None:
            recipe["init"] = str(folders[recipe["init"]] / "export")
        return TrainingConfig.from_dict(train_mini.with_data(recipe), TASKS)

    needed = [name for name in PLANS if name.removesuffix("-images") in map(NETWORKS.get, options.arms)]
    for name in only or needed:
        plan, done = PLANS[name], _trained(folders[name])
        if done.is_file():
            continue
        # super-resolution has steps of single frames among those of windows, and graphs are of one shape
        graphs = options.cuda_graphs and plan.task != "super_resolution"
        changes = {**plan.changes, "lr_schedule": "linear", "cuda_graphs": graphs}
        if options.steps is not None:
            changes["batch_size"] = 2
        config = config_of(plan.task, changes, folders[name])
        operations, batch_size = operations_of(config), config.loop.batch_size
        steps = options.steps
        if steps is None:
            fresh: dict[str, Any] = {"init": None}
            like = sum(TRAINED[t] * operations_of(config_of(t, fresh, folders[name])) for t in plan.like)
            share = plan.part * (options.share if plan.like == _WHOLE else 1.0)
            steps = max(1, round(share * like / operations / batch_size))
        loop = dataclasses.replace(config.loop, steps=steps)
        logger.info("training %s: %d steps of %d", name, steps, batch_size)
        train(config.options, loop, SpriteClips.from_spec(config.data, loop.seed), stop=stop)
        samples = steps * batch_size
        petaflops = samples * operations / 1e15
        write_json(done, {"steps": steps, "samples": samples, "petaflops": petaflops, "minutes": _minutes(loop)})
    return {name: folders[name] / "export" for name in needed}


def _trained(folder: Path) -> Path:
    """What is written when a training is done."""
    return folder.with_name(f"{folder.name}-trained.json")


def operations_of(config: TrainingConfig) -> float:
    """Floating-point operations of a training on one sample, forward and backward; those of corrupted inputs aside."""
    values = {**config.to_dict(), "batch_size": 1, "accumulate": 1, "workers": 0, "cuda_graphs": False}
    if "corruption" in values:
        values["corruption"] = 0.0
    config = TrainingConfig.from_dict(values, TASKS)
    clips = SpriteClips.from_spec(config.data, config.loop.seed)
    batch = next(clip_batches(clips, config.options.view(), config.loop, rank=0, world=1, start=0))
    with torch.random.fork_rng(), FlopCounterMode(display=False) as counter:
        torch.manual_seed(0)
        make_task(config.options, clips)(batch)["loss"].backward()
    return float(counter.get_total_flops())


def _minutes(loop: LoopOptions) -> float:
    """What the log of a run says that its steps took."""
    before, seconds = 0, 0.0
    for line in map(json.loads, (loop.folder / "log.jsonl").read_text().splitlines()):
        seconds += (line["step"] - before) * loop.batch_size / line["samples_per_second"]
        before = line["step"]
    return seconds / 60


def pipelines(options: Options, networks: dict[str, Path]) -> dict[str, Show1Pipeline]:
    """One for each way that has a network of its own."""
    load = Show1Pipeline.from_pretrained
    pipes = {"hybrid": load(options.model)}
    for arm, name in NETWORKS.items():
        if arm in options.arms:
            stage: StageName = "super_resolution" if name == "pixel" else "translation"
            pipes[arm] = load({"keyframes": options.model, stage: networks[name]})  # the keyframes for their text
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


class PromptRun:
    """What is done for each prompt; what the folder has is not done again."""

    def __init__(self, options: Options, pipes: dict[str, Show1Pipeline]) -> None:
        self.options, self.pipes = options, pipes
        self.base = pipes["hybrid"]
        self.judge = SceneJudge()

    def compare(self, number: int) -> None:
        """Makes and scores the videos of all ways, and renders of the same scene."""
        prompt, low = _prompts(number + 1)[number], None
        for arm in (LOW, *self.options.arms, *TRUTHS):
            file = self.options.video(number, arm)
            scored = file.with_suffix(".json")
            if not file.is_file():
                if arm in TRUTHS:
                    height, width = TRUTHS[arm]
                    made = truth(prompt, seed=5000 + number, num_frames=29, height=height, width=width)
                else:
                    pipe, settings = self.pipes.get(arm, self.base), self.base.settings
                    made = make(arm, pipe, low, prompt.prompt, 1000 + number, settings)
                Video.from_tensor(made, fps=8.0).save(file)
            if arm == LOW or not scored.is_file():
                video = Video.load(file).to_tensor()
                low = video if arm == LOW else low
            if not scored.is_file():
                score, features = self.judge.score(video)
                assert features is not None
                write_json(scored, {"score": dataclasses.asdict(score), "features": features.tolist()})

    def measured(self, number: int, arm: str) -> Measurement:
        """What `compare` found."""
        found = read_json_object(self.options.video(number, arm).with_suffix(".json"))
        score = self.judge.restore(found["score"])
        return Measurement(_prompts(number + 1)[number], score, np.array(found["features"], dtype=np.float32))

    def repair(self, number: int) -> dict[str, dict[str, float]]:
        """What the experts do to corrupted low-resolution videos: errors against a clean render, in 8-bit levels."""
        file = self.options.videos_folder / f"{number:03d}-repair.json"
        if not file.is_file():
            prompt, errors = _prompts(number + 1)[number], {}
            clean, wanted = (truth(prompt, seed=number, num_frames=29, height=h, width=w) for h, w in (LOW_SIZE, SIZE))
            for name, corrupt in CORRUPTIONS.items():
                low = corrupt(clean, torch.Generator().manual_seed(number)).clamp(-1, 1)
                errors[name] = {"before": _error(_resized(low, *SIZE), wanted)}
                for expert, arm in {"expert": "hybrid", "expert of all noise levels": "all noise levels"}.items():
                    video = make(arm, self.pipes[arm], low, prompt.prompt, number, self.base.settings)
                    errors[name][expert] = _error(video, wanted)
            write_json(file, errors)
        return read_json_object(file)


_run: PromptRun
"""Of a process of `side_by_side`."""


def _begin(options: Options, networks: dict[str, Path], threads: int) -> None:
    global _run
    torch.set_num_threads(threads)
    _run = PromptRun(options, pipelines(options, networks))


def _do(number: int, repaired: bool) -> None:
    _run.compare(number)
    if repaired and "all noise levels" in _run.pipes:
        _run.repair(number)


def side_by_side(options: Options, networks: dict[str, Path], processes: int) -> None:
    """Does what `compare` and `repair` would, prompts at a time in processes of their own."""
    options.videos_folder.mkdir(parents=True, exist_ok=True)
    threads = max(1, torch.get_num_threads() // processes)
    with ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), initializer=_begin, initargs=(options, networks, threads)
    ) as pool:
        numbers = range(options.videos)
        for i, _ in enumerate(pool.map(_do, numbers, [number < options.repaired for number in numbers])):
            logger.info("%d of %d prompts", i + 1, options.videos)


def compare(options: Options, pipes: dict[str, Show1Pipeline]) -> list[Row]:
    """Generates all ways for the same prompts and seeds, and scores them."""
    options.videos_folder.mkdir(parents=True, exist_ok=True)
    run = PromptRun(options, pipes)
    for number in range(options.videos):
        run.compare(number)
        logger.info("%d of %d prompts", number + 1, options.videos)
    measured = {
        arm: [run.measured(number, arm) for number in range(options.videos)] for arm in (LOW, *options.arms, *TRUTHS)
    }
    rows = []
    for arm in (LOW, *options.arms):
        real = measured["low-resolution truth" if arm == LOW else "ground truth"]
        features = [seen for _, _, seen in real if seen is not None]
        rows.append(summarise(arm, measured[arm], features))
    rows.append(summarise("ground truth", measured["ground truth"]))
    _save_sheet(options)
    return rows


def costs_of(arms: Sequence[str], command: Sequence[str]) -> dict[str, dict[str, float]]:
    """Seconds and bytes of a whole video by each way, from the text on, each in a process of its own."""
    found = {}
    for arm in arms:
        asked = [sys.executable, "-m", "benchmarks.claim.run", *command, "--cost-of", arm]
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


def repair(options: Options, pipes: dict[str, Show1Pipeline]) -> list[dict[str, Any]]:
    """What the experts do to corrupted low-resolution videos: mean errors over some prompts, in 8-bit levels."""
    run = PromptRun(options, pipes)
    errors = [run.repair(number) for number in range(options.repaired)]
    return [
        {"corruption": name, **{key: sum(e[name][key] for e in errors) / len(errors) for key in errors[0][name]}}
        for name in CORRUPTIONS
    ]


def report(options: Options, rows: Sequence[Row], costs: dict[str, Any], repairs: Sequence[dict[str, Any]]) -> str:
    """The tables as Markdown."""
    lines = [f"| way | {' | '.join(CRITERIA)} | sharpness | flicker | FD frames | FD clips | seconds | peak GB |"]
    lines.append("|---|" + "---:|" * (len(CRITERIA) + 6))
    for row in rows:
        shares = [row.shares[c] for c in CRITERIA]
        cells = [f"{100 * s.share:.1f} ({100 * s.interval[0]:.0f} to {100 * s.interval[1]:.0f})" for s in shares]
        looks = [row.sharpness, row.flicker, row.frame_distance, row.clip_distance]
        cells += ["" if value is None else f"{value:.2f}" for value in looks]
        cost = costs.get(row.name)
        cells += ["", ""] if cost is None else [f"{cost['seconds']:.1f}", f"{cost['bytes'] / 1e9:.2f}"]
        lines.append(f"| {row.name} | {' | '.join(cells)} |")
    if repairs:
        names = [key for key in repairs[0] if key != "corruption"]
        lines += ["", f"| corruption | {' | '.join(names)} |", "|---|" + "---:|" * len(names)]
        lines += [f"| {r['corruption']} | {' | '.join(f'{r[n]:.2f}' for n in names)} |" for r in repairs]
    lines += ["", "| network | steps | samples | PFLOP | minutes |", "|---|---:|---:|---:|---:|"]
    for name in PLANS:
        if not _trained(options.network(name)).is_file():
            continue
        trained = read_json_object(_trained(options.network(name)))
        counts = f"{trained['steps']} | {trained['samples']} | {trained['petaflops']:.2f}"
        lines.append(f"| {name} | {counts} | {trained['minutes']:.1f} |")
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


def _resized(video: Tensor, height: int, width: int) -> Tensor:
    frames = F.interpolate(fold_frames(video[None]), size=(height, width), mode="bicubic")
    return unfold_frames(frames, 1)[0].clamp(-1, 1)


def _blocks(video: Tensor, size: int) -> Tensor:
    """Half way to the mean of blocks, as strong compression leaves them."""
    coarse = F.avg_pool2d(video, size)
    return 0.5 * video + 0.5 * F.interpolate(coarse, scale_factor=size, mode="nearest")


def _error(video: Tensor, wanted: Tensor) -> float:
    return float((video - wanted).abs().mean() * 127.5)


def _save_sheet(options: Options) -> None:
    videos, labels = [], []
    for i, prompt in enumerate(_prompts(options.videos)[:3]):
        for arm in options.arms:
            videos.append(Video.load(options.video(i, arm)))
            labels.append(f"{prompt.prompt} [{arm}]")
    sheet = contact_sheet(videos, labels=labels, columns=8, max_width=1500)
    save_sheet(sheet, options.videos_folder / "samples.png", overwrite=True)


def parse(arguments: Sequence[str] | None = None) -> tuple[Options, list[str], int, str | None]:
    """The options of a command line, the networks that are to be trained alone, how many processes make videos, and the
    way whose cost is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--videos", type=int, default=64)
    parser.add_argument("--share", type=float, default=1.0, help="of the hybrid's training compute, for latent only")
    parser.add_argument("--mixed-precision", choices=("no", "bf16"), help="arithmetic of the trainings")
    parser.add_argument("--workers", type=int, default=0, help="processes that render clips in the trainings")
    parser.add_argument("--processes", type=int, default=1, help="make and score the videos of so many prompts at once")
    parser.add_argument("--cuda-graphs", action="store_true", help="replay networks as CUDA graphs in the trainings")
    parser.add_argument(
        "--only", action="append", default=[], choices=tuple(PLANS), help="train this and end; repeat it"
    )
    parser.add_argument(
        "--way", action="append", default=[], choices=ARMS, help="compare this; repeat it (default: all)"
    )
    parser.add_argument("--earlier-keyframes", type=Path, help="stage folder of keyframes of a shorter training")
    parser.add_argument("--quick", action="store_true", help="2 prompts, 2 optimizer steps")
    parser.add_argument("--cost-of", choices=(LOW, *ARMS, EARLIER), help="only the seconds and bytes of a way, as JSON")
    given = parser.parse_args(arguments)
    if given.videos < 1:
        parser.error(f"--videos must be 1 or more, got {given.videos}")
    if given.processes < 1:
        parser.error(f"--processes must be 1 or more, got {given.processes}")
    if given.share <= 0:
        parser.error(f"--share must be more than 0, got {given.share}")
    if given.earlier_keyframes is not None and not (given.earlier_keyframes / "unet").is_dir():
        parser.error(f"--earlier-keyframes: {given.earlier_keyframes} is no stage folder; it has no folder unet")
    options = Options(
        out=given.out,
        model=given.model,
        videos=2 if given.quick else given.videos,
        share=given.share,
        steps=2 if given.quick else None,
        mixed_precision=given.mixed_precision,
        earlier=given.earlier_keyframes,
        ways=tuple(given.way),
        workers=given.workers,
        cuda_graphs=given.cuda_graphs,
    )
    return options, given.only, given.processes, given.cost_of


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options, only, processes, asked = parse()
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
    if processes > 1:
        side_by_side(options, networks, processes)
    rows = compare(options, pipes)
    repairs = repair(options, pipes) if "all noise levels" in pipes else []
    costs = costs_of((LOW, *options.arms), sys.argv[1:])
    text = report(options, rows, costs, repairs)
    (options.out / "report.md").write_text(text, encoding="utf-8")
    write_json(
        options.out / "report.json",
        {"rows": [row.to_dict() for row in rows], "costs": costs, "repair": repairs},
    )
    print(text)


if __name__ == "__main__":
    main()
