"""Opens the clips that a name stands for."""

import re

from show1.data.folder import ClipFolder
from show1.data.hub import PREFIX, HubClips
from show1.data.media_clips import MediaClips
from show1.data.options import DataOptions
from show1.data.shards import ShardClips, names_shards
from show1.errors import InputError


def open_clips(data: str, options: DataOptions | None = None, *, seed: int = 0) -> MediaClips:
    """Opens the clips that a name stands for, as `--data` does.

    Args:
        data: A folder, WebDataset shards (a folder of them, or a pattern), or `hf:` before a data set of Hugging Face.
        options: Frames and frame rate of a clip, and what to do with bad ones.
        seed: Picks the parts of long videos.

    Raises:
        InputError: There are no such clips, or their captions are faulty.
        MissingDependencyError: A data set of Hugging Face is asked for, and the package for it is not installed.
    """
    options = options or DataOptions()
    if data.startswith(PREFIX):
        return HubClips(data.removeprefix(PREFIX), options=options, seed=seed)
    if re.match(r"\w+://|pipe:", data):
        raise InputError(f"{data} is an address, and only files on this computer's disks are read; download them first")
    if names_shards(data):
        return ShardClips(data, options=options, seed=seed)
    return ClipFolder(data, num_frames=options.frames, fps=options.fps, seed=seed, skip_bad=options.skip_bad)
