"""Opening a video of any kind, and reading it frame by frame, so that long and large ones need little memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from show1.errors import MediaError
from show1.files import check_regular, user_path
from show1.media.containers import ContainerVideo, opened
from show1.media.frames import Frame, OpenVideo
from show1.media.pictures import FolderVideo, ImageVideo, is_image


@contextmanager
def open_video(path: str | Path) -> Iterator[OpenVideo]:
    """Opens a video that FFmpeg decodes, a still or animated image, or a folder of PNG or JPEG frames.

    Raises:
        MediaError: The file is missing, too large, not a video, or damaged.
    """
    path = existing(path)
    if path.is_dir():
        yield FolderVideo(path)
    elif is_image(path):
        yield ImageVideo(path)
    else:
        with opened(path) as container:
            yield ContainerVideo(path, container)


def stream_video(path: str | Path, *, start: float = 0.0) -> Iterator[Frame]:
    """Reads what `show1.media.read_video` reads, one frame at a time.

    From the file's header only the frame rate is read, and only if frames have no times, so that files that do not
    state their length can be read too.

    Args:
        path: A video, an animated image, or a folder of PNG or JPEG.
        start: Time in seconds; frames before it are left out.

    Yields:
        The frames, their times ascending.

    Raises:
        MediaError: The file is missing, too large, not a video, or damaged. If it is damaged further on, the frames
            before come first.
    """
    latest = -1.0
    with open_video(path) as video:
        for frame in video.frames(start):
            if frame.time > latest and frame.time >= start - 1e-6:
                yield frame
            latest = max(latest, frame.time)


def existing(path: str | Path) -> Path:
    """Returns the path of a file or folder that can be read.

    Raises:
        MediaError: There is no such file, or it is a pipe or a device.
    """
    path = user_path(path)
    if not path.exists():
        raise MediaError(f"no such file: {path}; check the name")
    try:
        if not path.is_dir():
            check_regular(path)
    except (ValueError, OSError) as error:
        raise MediaError(f"cannot read {path}: {error}; give a video file or a folder of frames") from error
    return path
