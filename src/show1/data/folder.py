"""A folder of videos and pictures as a source of training clips."""

from pathlib import Path

from show1.data.captions import read_captions
from show1.data.media_clips import MediaClips
from show1.data.options import CLIP_FRAMES, DataOptions


class ClipFolder(MediaClips):
    """A folder of videos and pictures; see `show1.data.captions` for where their captions may be.

    Args:
        folder: The folder.
        num_frames: Number of frames of a clip at full frame rate.
        fps: Frame rate of a clip, per second.
        seed: Picks the parts of long videos.
        skip_bad: Whether videos that cannot be used are left out.

    Raises:
        InputError: The list of captions is faulty, or names a video that is not there and bad ones are not skipped.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        num_frames: int = CLIP_FRAMES,
        fps: float = 8.0,
        seed: int = 0,
        skip_bad: bool = False,
    ) -> None:
        self.folder = Path(folder).expanduser().absolute()
        options = DataOptions(frames=num_frames, fps=fps, skip_bad=skip_bad)
        entries = read_captions(self.folder, frame_folders=True, missing=skip_bad)
        super().__init__(entries, spec=str(self.folder), options=options, seed=seed)
