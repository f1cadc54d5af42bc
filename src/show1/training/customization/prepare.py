"""What a customization learns from, computed once: frames, latents, text states, start noise."""

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from show1.adapters.adapter import unet_sha256
from show1.checkpoints.cascade import Cascade
from show1.checkpoints.loading import load_unet, read_scheduler_config
from show1.data.captions import read_captions
from show1.data.reference import (
    Reference,
    ReferenceOptions,
    image_files,
    load_images,
    load_reference,
    reference_sheet,
)
from show1.diffusion import Guidance, GuidedNetwork, build_scheduler
from show1.diffusion.inversion import ddim_invert
from show1.errors import Cancelled, InputError, RunError
from show1.files import sha256, write_tensors
from show1.media import contact_sheet, save_sheet
from show1.stage_table import STAGE_TABLE
from show1.stages.networks import PixelNetwork
from show1.text.encoder import PromptEncoder
from show1.training.customization.config import CustomizationConfig
from show1.training.customization.learners import LEARNERS, StageLearner
from show1.video import Video

logger = logging.getLogger(__name__)

FILE = "prepared.safetensors"
"""Name of the file in the run's folder."""

_HEADER = ("prompts", "learned_from")


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """What a customization learns from."""

    tensors: dict[str, Tensor]
    """On the CPU in float32, by name: "clips" (N, 3, F, H, W) in [-1, 1]; their text states "text" (N, L, D), those of
    the empty prompt "empty" (L, D), and those of the sample sheets "preview" (P, L, D). For some stages small clips
    "low" (N, 3, F, h, w), scaled "latents" (N, C, F, H/8, W/8), or the clips' "start_noise" (N, 3, F, H, W)."""
    prompts: tuple[str, ...]
    """The prompts of the sample sheets."""
    learned_from: dict[str, str]
    """Hash of the network, and of each file that was read."""

    def save(self, file: Path) -> None:
        """Writes the tensors, with prompts and hashes in the header."""
        header = {"prompts": json.dumps(self.prompts), "learned_from": json.dumps(self.learned_from)}
        write_tensors(file, self.tensors, header)

    @classmethod
    def load(cls, file: Path) -> Self:
        """Reads what `save` wrote.

        Raises:
            RunError: The file is damaged.
        """
        try:
            with safe_open(file, framework="pt") as opened:
                header = {name: json.loads(text) for name, text in opened.metadata().items() if name in _HEADER}
                prompts, learned_from = tuple(header["prompts"]), dict(header.get("learned_from", {}))
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
                return cls(tensors=tensors, prompts=prompts, learned_from=learned_from)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{file} is damaged ({error}); begin the run again in another folder") from error


@dataclass(frozen=True, kw_only=True)
class Clips:
    """The reference clips as they were read."""

    video: Tensor
    """(N, 3, F, H, W) in [-1, 1]."""
    prompts: tuple[str, ...]
    """What each clip shows, followed by the name of the style."""
    references: tuple[Reference, ...] = ()
    """The videos' files and times; none for images."""
    source: Tensor | None = None
    """(N, 3, F, H, W) the same clips without the style."""


def make_learner(config: CustomizationConfig, cascade: Cascade) -> StageLearner:
    """The stage that learns, with the cascade's settings and files.

    Raises:
        InputError: Its networks are those of an expert.
    """
    if (expert := cascade.parts[config.stage].expert) is not None:
        raise InputError(
            f"the {config.stage} of {cascade.name!r} is the expert {expert.row.name!r}, which other programs customize;"
            " load their LoRA files with --adapter"
        )
    return LEARNERS[config.stage](cascade.settings, cascade.parts[config.stage].path)


def clip_size(config: CustomizationConfig, learner: StageLearner) -> tuple[int, int, int]:
    """Frames, height and width that the stage learns from.

    Raises:
        InputError: `num_frames` is too small.
    """
    usual, height, width = STAGE_TABLE[config.stage].output_shape(learner.input_frames, learner.settings)
    assert usual is not None, "a learner knows its number of frames"
    frames = config.num_frames or usual
    if config.kind == "motion" and frames < 2:
        raise InputError(f"num_frames must be 2 or more for a motion, got {frames}")
    if frames < learner.least_frames:
        raise InputError(f"num_frames must be {learner.least_frames} or more for this {config.stage}, got {frames}")
    return frames, height, width


def read_clips(config: CustomizationConfig, learner: StageLearner) -> Clips:
    """Reads the reference clips or images.

    Raises:
        InputError: A file does not hold what is asked for.
        MediaError: A file is missing or damaged.
    """
    frames, height, width = clip_size(config, learner)
    if config.images is not None:
        folder = Path(config.images)
        return Clips(
            video=load_images(folder, height, width)[:, :, None],
            prompts=_image_prompts(config, folder),
            source=_source_images(folder, Path(config.source[0]), height, width) if config.source else None,
        )
    part: dict[str, Any] = {name: getattr(config, name) for name in ("fps", "fit", "start", "duration")}
    options = ReferenceOptions(num_frames=frames, height=height, width=width, **part)
    references = _load_references(config.video, options)
    prompts = config.prompt if len(config.prompt) == len(references) else (config.prompt or ("",)) * len(references)
    return Clips(
        video=_stack(references),
        prompts=tuple(with_style(prompt, config.name) for prompt in prompts),
        references=references,
        source=_source_clips(references, config.source, options) if config.source else None,
    )


def _load_references(files: Sequence[str], options: ReferenceOptions) -> tuple[Reference, ...]:
    references = tuple(load_reference(file, options) for file in files)
    for reference in references:
        for warning in reference.warnings:
            logger.warning("%s: %s", reference.source, warning)
    return references


def _stack(references: Sequence[Reference]) -> Tensor:
    return torch.stack([reference.video.to_tensor() for reference in references])


def _source_clips(references: Sequence[Reference], files: Sequence[str], options: ReferenceOptions) -> Tensor:
    """The clips without the style, at the same times."""
    sources = _load_references(files, options)
    for source, reference in zip(sources, references, strict=True):
        if not np.allclose(source.times, reference.times, atol=0.02):
            raise InputError(
                f"source: {source.source} and {reference.source} do not have the same frames (those that were taken "
                f"begin at {source.times[0]:.2f} s and {reference.times[0]:.2f} s); give clips of equal length and cuts"
            )
    return _stack(sources)


def _source_images(folder: Path, source: Path, height: int, width: int) -> Tensor:
    """The images without the style, of the same names."""
    names, wanted = ([file.stem for file in image_files(f)] for f in (source, folder))
    if names != wanted:
        odd = ", ".join(sorted(set(wanted) ^ set(names))[:3])
        raise InputError(f"source: {source} must hold an image of the same name for each one in {folder}; see {odd}")
    return load_images(source, height, width)[:, :, None]


def with_style(prompt: str, name: str) -> str:
    """A prompt followed by the name of a style."""
    return ", ".join(part for part in (prompt.strip(), name.strip()) if part)


def prepare(
    config: CustomizationConfig, cascade: Cascade, device: torch.device, stop: Callable[[], bool] | None = None
) -> Prepared:
    """Reads what the run's folder already holds, or computes and keeps it.

    Args:
        config: The run's options.
        cascade: The model.
        device: Where to compute.
        stop: Asked after every step of inversion; when it returns True, nothing is kept.

    Raises:
        Cancelled: `stop` returned True.
        InputError: A clip cannot be used.
        MediaError: A file cannot be read.
        RunError: What is kept is damaged, or a clip or the model has changed since.
    """
    part = cascade.parts[config.stage].path
    learned_from = _learned_from(config, part, cascade.variant)
    if (config.folder / FILE).is_file():
        kept = Prepared.load(config.folder / FILE)
        _check_unchanged(kept.learned_from, learned_from)
        return kept
    learner = make_learner(config, cascade)
    logger.info("reading the clips and encoding the prompts")
    clips = read_clips(config, learner)
    save_reference_sheet(config, clips, config.folder / "reference.png")
    prompts = config.preview or tuple(dict.fromkeys(clips.prompts))[:2]
    tensors = {"clips": clips.video, **_encode(config, cascade, clips.prompts, prompts, device)}
    tensors |= learner.prepare(clips.video, clips.source, device)
    if config.inverts:
        logger.info("finding the start noise of the clips by %d steps of inversion", config.inversion_steps)
        on_step = _StepLog(config.inversion_steps, stop)
        tensors["start_noise"] = _invert(part, clips.video, tensors["text"], on_step, device)
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    prepared = Prepared(tensors=tensors, prompts=prompts, learned_from=learned_from)
    prepared.save(config.folder / FILE)
    return prepared


def _learned_from(config: CustomizationConfig, part: Path, variant: str | None) -> dict[str, str]:
    """Hashes of the network and of all files that the options name and that are there, by path."""
    found = {"the model": unet_sha256(part / "unet", variant)}
    for name in (*config.video, *config.source, *([config.images] if config.images is not None else [])):
        path = Path(name)
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            if file.is_file():
                found[str(file)] = sha256(file)
    return found


def _check_unchanged(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Checks that no file that is still there has changed; one that is gone does not matter, because it was read.

    Files may have moved to other folders.

    Raises:
        RunError: A file has changed, or there is a new one.
    """
    known = {(Path(name).name, digest) for name, digest in before.items()}
    changed = [name for name, digest in now.items() if before and (Path(name).name, digest) not in known]
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise RunError(
            f"{changed[0]}{more} changed after this run began; choose another folder (--run), or delete this one"
        )


def _image_prompts(config: CustomizationConfig, folder: Path) -> tuple[str, ...]:
    """A prompt for each image, in the order of `load_images`: its caption if it has one, else that of all."""
    common = config.prompt[0] if config.prompt else ""
    captions = {entry.file: entry.caption for entry in read_captions(folder)}
    return tuple(with_style(captions.get(file) or common, config.name) for file in image_files(folder))


def save_reference_sheet(config: CustomizationConfig, clips: Clips, file: Path) -> None:
    """Draws the reference clips or images as one picture."""
    if clips.references:
        sheet = reference_sheet(clips.references)
    else:
        images = Video.from_tensor(clips.video[:, :, 0].transpose(0, 1), fps=1.0)
        sheet = contact_sheet([images.frames], rows=8, labels=[config.name])
    save_sheet(sheet, file, overwrite=True)


def _encode(
    config: CustomizationConfig,
    cascade: Cascade,
    prompts: Sequence[str],
    previewed: Sequence[str],
    device: torch.device,
) -> dict[str, Tensor]:
    """Text states by their name in `Prepared`, encoded as for sampling."""
    folder = cascade.parts[config.stage].text
    assert folder is not None, "a resolved cascade gives every stage a text encoder"
    encoder = PromptEncoder(folder, device=device, variant=cascade.variant)
    _, length = STAGE_TABLE[config.stage].prompt("", cascade.settings)

    def encode(prompts: Sequence[str]) -> Tensor:
        cleaned = [STAGE_TABLE[config.stage].prompt(prompt, cascade.settings)[0] for prompt in prompts]
        return encoder.encode(cleaned, length).float().cpu()

    chosen = encoder.unknown_words(config.name)
    unknown = dict.fromkeys(word for prompt in (*prompts, *previewed) for word in encoder.unknown_words(prompt))
    if words := ", ".join(repr(word) for word in unknown if word not in chosen):
        logger.warning(
            "the model does not know %s; keep such a word only if it is to stand for what is learned here", words
        )
    return {"text": encode(prompts), "empty": encode([""])[0], "preview": encode(previewed)}


class _StepLog:
    """Logs the steps of an inversion, with the seconds that are left, and ends it when that is asked for."""

    def __init__(self, steps: int, stop: Callable[[], bool] | None) -> None:
        self.steps = steps
        self._stop, self._began = stop, time.monotonic()

    def __call__(self, done: int) -> None:
        if self._stop is not None and self._stop():
            raise Cancelled(f"the search for the start noise was at step {done} of {self.steps}")
        left = (time.monotonic() - self._began) / done * (self.steps - done)
        text = "finding the start noise of the clips, step %d of %d"
        logger.info(text, done, self.steps, extra={"left": left})


def _invert(part: Path, video: Tensor, text: Tensor, on_step: _StepLog, device: torch.device) -> Tensor:
    """Start noise of clips under their own prompts, without guidance, by the network as it is."""
    unet = load_unet(part / "unet", dtype=torch.float32, device=device)
    scheduler: Any = build_scheduler(read_scheduler_config(part / "scheduler"), "ddpm")
    network = GuidedNetwork(PixelNetwork(unet), text, text, guidance=Guidance(scale=1.0), max_batch=1)
    noise = ddim_invert(
        network,
        video.to(device),
        alphas_cumprod=scheduler.alphas_cumprod,
        prediction=scheduler.config.prediction_type,
        num_steps=on_step.steps,
        on_step=on_step,
    )
    return noise.cpu()
