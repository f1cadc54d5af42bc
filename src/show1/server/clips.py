"""Clips that clients upload for a later stage to work on."""

import contextlib
from pathlib import Path

from safetensors import SafetensorError, safe_open

from show1.generation.manifest import INPUT_FILE
from show1.media import read_facts
from show1.server.asked import BadRequest
from show1.server.jobs import JobFolder
from show1.server.limits import ServerLimits
from show1.video import Video


def read_clip(clip: Path, limits: ServerLimits) -> Video:
    """Reads an upload within the limits of the server.

    Raises:
        BadRequest: It is too large.
        MediaError: It is no video.
    """
    facts = read_facts(clip)
    frames = min(facts.num_frames or 1, limits.max_clip_frames)
    if frames * facts.height * facts.width > limits.max_clip_megapixels * 1e6:
        raise BadRequest(
            f"the clip has {facts.num_frames} frames of {facts.width}x{facts.height}, which is too much; make it "
            "smaller or shorter",
            "input_reference",
        )
    return Video.load(clip, max_frames=limits.max_clip_frames)


def clip_frames(folder: JobFolder) -> int | None:
    """Frames of the clip that a job began with, of which only the file's header is read; None if it cannot be."""
    for file in (folder.input, folder.run / INPUT_FILE):
        with contextlib.suppress(OSError, SafetensorError), safe_open(file, framework="pt") as opened:
            return int(opened.get_slice("video").get_shape()[2])
    return None
