"""How long the stages of a request will take, judged by earlier runs."""

from pathlib import Path

from show1.config import StageName
from show1.errors import RunError
from show1.generation.manifest import Environment, Manifest, read_manifest
from show1.generation.request import GenerationRequest

NEWEST = 50
"""Runs that are looked at."""


def expected_seconds(
    request: GenerationRequest, frames: int | None, *, model: str, now: Environment, runs: str | Path = "runs"
) -> dict[StageName, float]:
    """Predicts the wall-clock time of each stage, the loading of its networks included, in seconds.

    The newest run of the same model that has finished the stage, on the same kind of device with the same precision,
    says how long it takes. Other steps, sizes, lengths and numbers of prompts are taken to cost in proportion; what a
    memory budget or other processes change is not known.

    Args:
        request: What is asked for.
        frames: Frames of the video that it begins with, if it begins with one.
        model: The model's name, as manifests record it.
        now: Where and how precisely the request would be computed.
        runs: The folder of the run folders.

    Returns:
        The seconds by stage; stages that no run has finished are left out.
    """
    found: dict[StageName, float] = {}
    newest = sorted(Path(runs).glob("*/manifest.json"), key=lambda file: file.parent.name, reverse=True)
    for file in newest[:NEWEST]:
        if len(found) == len(request.stages):
            break
        try:
            known = read_manifest(file.parent)
        except RunError:
            continue
        same_place = (known.device, known.precision) == (now.device, now.precision)
        if same_place and known.model is not None and known.model.name == model:
            for stage in set(request.stages) - found.keys():
                if (seconds := _seconds(known, stage, request, frames)) is not None:
                    found[stage] = seconds
    return {stage: found[stage] for stage in request.stages if stage in found}


def _seconds(known: Manifest, stage: StageName, request: GenerationRequest, frames: int | None) -> float | None:
    """What a stage of a run took, in proportion to the work; None: the run does not say."""
    record, before = known.stages.get(stage), known.request
    if record is None or record.seconds is None or before is None or before.needs_video:
        return None
    return record.seconds * _work(request, stage, frames) / _work(before, stage, None)


def _work(request: GenerationRequest, stage: StageName, frames: int | None) -> float:
    """Steps times pixels of a stage, of all prompts."""
    settings = getattr(request.settings, stage)
    length, height, width = request.shapes(frames)[stage]
    rows = 2 if settings.guidance_scale != 1 else 1
    return float(settings.num_inference_steps * rows * (length or 1) * height * width * len(request.prompts))
