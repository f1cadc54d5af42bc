"""The files that a generation writes: their names, the checks before the work, and the writing."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from show1.errors import MediaError
from show1.files import user_path
from show1.generation.request import with_numerics
from show1.options import Options, require

if TYPE_CHECKING:
    from show1.video import Video

_NAME_LENGTH = 60


@dataclass(frozen=True, kw_only=True)
class OutputFile(Options):
    """The video file that was asked for; a run folder remembers it."""

    options_of: ClassVar[str] = "output"

    path: str
    """The video, best as an absolute path; with several drafts `panda.mp4` stands for `panda-1.mp4`, `panda-2.mp4`."""
    overwrite: bool = False
    """Whether existing files may be replaced."""
    codec: str | None = None
    """See `write_video`."""
    quality: int | None = None
    """See `write_video`; 0 to 100."""
    sheet: str | None = None
    """Path of a contact sheet to write as well."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("path", "sheet"):
            self.check(name, "\0" not in (getattr(self, name) or ""), "a path without null characters")

    def to_dict(self) -> dict[str, Any]:
        """The saved form: JSON types only."""
        values = super().to_dict()
        path = values.pop("path")
        return {"path": path, "options": {k: v for k, v in values.items() if v is not None and v is not False}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Reads the saved form; options of other programs are left out.

        Raises:
            InputError: It is no output, or a value is of another type.
        """
        known = isinstance(values, Mapping) and bool(values.get("path"))
        require(known, "an output", values, "a mapping with a path")
        options = values.get("options", {})
        require(isinstance(options, Mapping), "the options of an output", options, "a mapping")
        kept = {name: options[name] for name in ("overwrite", "codec", "quality", "sheet") if name in options}
        return super().from_dict({"path": values["path"], **kept})

    def files(self, count: int) -> list[str]:
        """The path of each draft's video."""
        return [self.path] if count == 1 else [numbered(self.path, i + 1) for i in range(count)]

    def probe(self, count: int, *, size: tuple[int, int] | None = None, fps: float = 8.0) -> None:
        """Raises now what `write` would raise after the work.

        Args:
            count: Number of drafts.
            size: (height, width) in pixels, where known.
            fps: Frames per second.

        Raises:
            InputError: A suffix, codec or size cannot be used.
            OutputError: A file exists, or a folder cannot be written.
        """
        from show1.media import probe_output, probe_sheet

        for file in self.files(count):
            probe_output(file, self.overwrite, codec=self.codec, quality=self.quality, size=size, fps=fps)
        if self.sheet is not None:
            probe_sheet(self.sheet, self.overwrite)

    def probe_again(self, before: Self | None, count: int) -> None:
        """As `probe`, for a run that was begun before: files that it has written itself may be there.

        Args:
            before: What the run was asked to write until now.
            count: Number of drafts.

        Raises:
            OutputError: A contact sheet that is not the run's is there, or a video of another codec or quality.
        """
        from show1.media import probe_output, probe_sheet

        if self.sheet is not None and (before is None or absolute(before.sheet or "") != absolute(self.sheet)):
            probe_sheet(self.sheet, self.overwrite)
        same = before is not None and absolute(before.path) == absolute(self.path)
        if before is not None and same and (before.codec, before.quality) != (self.codec, self.quality):
            for file in self.files(count):
                probe_output(file, self.overwrite, codec=self.codec, quality=self.quality)

    def write(self, videos: "Sequence[Video]", *, keep_same: bool = False) -> list[str]:
        """Writes the videos and the contact sheet.

        Args:
            videos: One per draft.
            keep_same: Whether a run is resumed: a file that holds the same video already, and a contact sheet that is
                there (see `probe_again`), is left as it is unless `overwrite` is set, and what a process that was
                killed while it wrote has left is removed.

        Returns:
            The paths of the videos.

        Raises:
            OutputError: A file exists, or cannot be written.
        """
        from show1.media import contact_sheet, remove_partials, save_sheet

        files = self.files(len(videos))
        for file in [*files, *([] if self.sheet is None else [self.sheet])] if keep_same else []:
            remove_partials(file)
        kept = keep_same and not self.overwrite
        for file, video in zip(files, videos, strict=True):
            if not (kept and _holds(file, video)):
                video.save(file, overwrite=self.overwrite, codec=self.codec, quality=self.quality)
        if self.sheet is not None and not (kept and Path(self.sheet).exists()):
            sheet = contact_sheet([v.frames for v in videos], labels=[v.label for v in videos])
            save_sheet(sheet, self.sheet, overwrite=self.overwrite)
        return files


def absolute(path: str) -> str:
    """An absolute path, with the slash at its end that stands for a folder of frames."""
    is_folder = path.endswith(("/", os.sep))
    return str(user_path(path).absolute()) + ("/" if is_folder else "") if path.strip() else path


def default_path(prompt: str, *, count: int, overwrite: bool) -> str:
    """A file name from the prompt, in the current folder; a number is added where it is taken, unless `overwrite`."""
    path = absolute(f"{slug(prompt)}.mp4")
    return path if overwrite else free_path(path, count)


def slug(prompt: str) -> str:
    """The first words of a prompt as a part of a file's name."""
    words = re.sub(r"[\W_]+", "-", prompt.lower()).strip("-")
    name = words[:_NAME_LENGTH].rpartition("-")[0] or words[:_NAME_LENGTH] if len(words) > _NAME_LENGTH else words
    return name or "video"


def free_path(path: str, count: int = 1) -> str:
    """The path, or with the first number from 2 up at which none of its files exists."""
    candidate, number = path, 1
    while any(os.path.lexists(file) for file in (candidate, *OutputFile(path=candidate).files(count))):
        number += 1
        candidate = numbered(path, number)
    return candidate


def numbered(path: str, label: int | str) -> str:
    """`panda.mp4` -> `panda-3.mp4`; `frames/` -> `frames-3/`."""
    if path.endswith(("/", os.sep)):
        return f"{path.rstrip('/' + os.sep)}-{label}/"
    stem, suffix = os.path.splitext(path)
    return f"{stem}-{label}{suffix}"


def _holds(file: str, video: "Video") -> bool:
    """Whether the file carries the record of this very video."""
    from show1.media import read_metadata

    if not os.path.lexists(file):
        return False
    try:
        known = read_metadata(file)
    except MediaError:
        return False
    return bool(known) and with_numerics(known) == json.loads(json.dumps(video.metadata))
