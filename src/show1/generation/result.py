"""The result of a generation, as text for people and as JSON for programs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from show1.config import STAGES
from show1.generation.output import OutputFile
from show1.generation.request import GenerationRequest
from show1.stage_table import STAGE_TABLE

if TYPE_CHECKING:
    from show1.generation.manifest import CostRecord
    from show1.generation.run import Run
    from show1.video import Video


def final_shape(request: GenerationRequest) -> tuple[int | None, int, int, float]:
    """(frames, height, width, fps) of the finished video; frames are None if it began with another video."""
    frames, height, width = None, 0, 0
    fps = request.fps
    for stage in request.stages:
        frames, height, width = STAGE_TABLE[stage].output_shape(frames, request.settings)
        fps *= STAGE_TABLE[stage].fps_factor(request.settings)
    return frames, height, width, fps


def describe_result(
    run: "Run", videos: "Sequence[Video]", files: Sequence[str], output: OutputFile, seconds: float
) -> dict[str, Any]:
    """Describes finished videos in JSON types.

    Args:
        run: The run that made them.
        videos: One per draft.
        files: The path of each video.
        output: The file that was asked for.
        seconds: Wall-clock time of the whole.
    """
    manifest = run.manifest
    costs: dict[str, CostRecord | None] = {"text": manifest.text}
    costs |= {stage: manifest.stages.get(stage) for stage in STAGES}
    stages = {
        name: {"seconds": cost.seconds, "peak_memory_bytes": cost.peak_memory_bytes}
        for name, cost in costs.items()
        if cost is not None
    }
    outputs = [
        {
            "file": file,
            "prompt": video.metadata["prompt"],
            "seed": video.metadata["seed"],
            "frames": len(video),
            "height": video.frames.shape[1],
            "width": video.frames.shape[2],
            "fps": video.fps,
        }
        for file, video in zip(files, videos, strict=True)
    ]
    return {
        "file": files[0],
        "run": str(run.path.absolute()),
        "seed": outputs[0]["seed"],
        "model": videos[0].metadata["model"],
        "videos": outputs,
        "sheet": output.sheet,
        "seconds": seconds,
        "stages": stages,
        "peak_memory_bytes": max((s["peak_memory_bytes"] or 0 for s in stages.values()), default=0),
    }
