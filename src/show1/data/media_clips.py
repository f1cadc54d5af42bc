"""Videos and pictures with captions as a source of training clips, wherever they are kept."""

import dataclasses
import hashlib
import json
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from show1.data.captions import ClipEntry
from show1.data.clips import ClipSource, ClipView, Vocabulary, frame_times
from show1.data.decoding import Probe, Times, decode_all, fitted, pictures_at, probe
from show1.data.options import DataOptions
from show1.errors import InputError, MediaError, OutputError
from show1.files import cache_dir, read_json_object, write_text
from show1.media.pictures import open_picture
from show1.text.words import split_words

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with how many clips are checked, and how many there are."""

AT_A_TIME = 64
"""Number of files that wait to be opened, so that few are still opened after Ctrl-C."""

SHOWN = 5
"""Number of bad clips that a message lists."""


class MediaClips(ClipSource):
    """Videos and pictures as a `show1.data.clips.ClipSource`.

    A random part is taken from a video that is longer than a clip. Indices beyond the number of videos start over, with
    other parts. Frames are resized to cover the size that is asked for, and cropped at the centre. Of a video that is
    shorter than a clip, windows that fit into it can be taken; of a picture, single frames.

    Args:
        entries: The videos and pictures.
        spec: What names them.
        options: Frames and frame rate of a clip, and what to do with bad ones.
        seed: Picks the parts of long videos.

    Raises:
        InputError: There are none.
    """

    captions_hint = ""
    """Where captions are looked for, for a message about missing ones."""

    def __init__(self, entries: Sequence[ClipEntry], *, spec: str, options: DataOptions, seed: int = 0) -> None:
        self.listed = tuple(entries)
        """All entries, the bad ones among them."""
        self.entries = self.listed
        """The entries that clips are taken from."""
        self.seed = seed
        self._spec, self._options = spec, options
        self._probes: tuple[Probe | str, ...] | None = None

    @property
    def spec(self) -> str:
        """See `ClipSource.spec`."""
        return self._spec

    @property
    def options(self) -> DataOptions:
        """See `ClipSource.options`."""
        return self._options

    @property
    def num_clips(self) -> int:
        """See `ClipSource.num_clips`: the number of videos and pictures."""
        return len(self.entries)

    @cached_property
    def fingerprint(self) -> str:
        """See `ClipSource.fingerprint`: of captions, sizes, and samples of each file."""
        digest = hashlib.sha256()
        for entry in self.listed:
            try:
                size, sample = entry.sample()
            except (OSError, ValueError, MediaError):
                size, sample = -1, b""
            digest.update(f"{entry.suffix} {entry.caption!r} {size} ".encode() + hashlib.sha256(sample).digest())
        return digest.hexdigest()

    def caption(self, index: int, kind: Literal["clip", "image"] = "clip") -> str:
        """See `ClipSource.caption`; both kinds are the same here."""
        return self._entry(index).caption or ""

    def vocabulary(self) -> Vocabulary:
        """See `ClipSource.vocabulary`: the words of all captions, sorted."""
        words = {word for entry in self.listed for word in split_words(entry.caption or "")}
        return Vocabulary(words=tuple(sorted(words)))

    def clip(
        self, index: int, *, num_frames: int, height: int, width: int, frames: slice = slice(None)
    ) -> torch.Tensor:
        """See `ClipSource.clip`: (3, F, height, width).

        Raises:
            MediaError: The video cannot be decoded, or is too short.
        """
        entry = self._entry(index)
        place = random.Random(f"clip {self.seed} {index}").random()
        times = self.options.duration * frame_times(num_frames)[frames]

        def choose(length: float, frame: float) -> Times:
            return self._moments(times, length, frame, place, entry)

        with _content(entry) as file:
            if entry.is_picture:
                choose(0.0, 0.0)
                pictures = [np.asarray(open_picture(file))] * len(times)
            else:
                pictures = pictures_at(file, entry.where, choose)
        return torch.stack([fitted(picture, height, width) for picture in pictures], dim=1)

    def prepare(self, view: ClipView, *, captions: bool) -> None:
        """See `ClipSource.prepare`: every file is opened once."""
        need = view.span * self.options.duration
        problems = [self.problem(i, need) for i in range(len(self.listed))]
        entries = [entry for entry, problem in zip(self.listed, problems, strict=True) if problem is None]
        if bad := [problem for problem in problems if problem is not None]:
            more = [f"and {len(bad) - SHOWN} more; `show1 data check` lists them"] if len(bad) > SHOWN else []
            listed = "\n  ".join([*bad[:SHOWN], *more])
            text = f"{len(bad)} of {len(self.listed)} clips cannot be used for this task:\n  {listed}"
            if not (self.options.skip_bad and entries):
                raise InputError(f"{text}\nReplace or remove them, or leave them out with --skip-bad")
            logger.warning("%s\nThey are left out", text)
        bare = [entry for entry in entries if entry.caption is None]
        if captions and bare:
            raise InputError(
                f"{len(bare)} of {len(entries)} clips have no caption, such as {bare[0].title}; this task learns from "
                'captions: write them, or an empty one ("") where a clip is to be learned without'
                f"{self.captions_hint}"
            )
        self.entries = tuple(entries)

    def problem(self, index: int, need: float) -> str | None:
        """Says why a listed clip cannot be used where so many seconds of it are needed; None if it can."""
        entry, found = self.listed[index], self.probe_all()[index]
        if isinstance(found, str):
            return found
        return None if found.seconds >= need else self._too_short(entry, found.seconds, need)

    def probe_all(self, on_progress: Progress | None = None) -> tuple[Probe | str, ...]:
        """Opens every file that is not known to be good, and remembers what it finds, also for later processes.

        Args:
            on_progress: Called after each.

        Returns:
            For each listed clip, what its file says about itself, or why it cannot be used.
        """
        if self._probes is None:
            cache = cache_dir() / "clips" / f"{self.fingerprint}.json"
            known = _known(cache, len(self.listed))
            found = self._each(lambda entry, known: known or _probe(entry), known, on_progress)
            self._probes = tuple(found)
            if None in known and any(isinstance(each, Probe) for each in found):
                rows = [dataclasses.astuple(each) if isinstance(each, Probe) else None for each in found]
                with suppress(OutputError):  # a cache that cannot be written costs time, not the run
                    write_text(cache, json.dumps({"probes": rows}))
        return self._probes

    def decode_all(self, on_progress: Progress | None = None) -> tuple[Probe | str, ...]:
        """Decodes every frame of every clip that `probe_all` does not call bad; arguments and result are the same."""
        return tuple(self._each(_decoded, self.probe_all(), on_progress))

    def _each(
        self, look: Callable[[ClipEntry, Any], Probe | str], known: Sequence[Any], on_progress: Progress | None
    ) -> list[Probe | str]:
        """What a function finds out about each listed clip and what is known of it, some at a time."""
        found: list[Probe | str] = []
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(self.listed), AT_A_TIME):
                part = slice(start, start + AT_A_TIME)
                for result in pool.map(look, self.listed[part], known[part]):
                    found.append(result)
                    if on_progress is not None:
                        on_progress(len(found), len(self.listed))
        return found

    def _entry(self, index: int) -> ClipEntry:
        return self.entries[index % len(self.entries)]

    def _moments(self, times: Times, length: float, frame: float, place: float, entry: ClipEntry) -> Times:
        """The moments of a video for times of a clip.

        Args:
            times: (F,) seconds from the start of a clip.
            length: Seconds that the video lasts.
            frame: Seconds that one of its frames lasts.
            place: Where in a longer video the clip is, 0 to 1.
            entry: The video, for messages.
        """
        spare, need = length - self.options.duration, float(times[-1] - times[0])
        if spare >= 0:
            start: Times = place * max(spare - frame, 0.0) + times
            return start
        if length < need:
            raise InputError(self._too_short(entry, length, need))
        part = float(times[0]) / (self.options.duration - need)
        moved: Times = times - times[0] + part * max(length - need - frame, 0.0)
        return moved

    def _too_short(self, entry: ClipEntry, length: float, need: float) -> str:
        if entry.is_picture:
            return f"{entry.title} is a still picture, but {need:.2f} s of video are needed; it suits the image tasks"
        return (
            f"{entry.title} lasts {length:.2f} s, but {round(need * self.options.fps) + 1} frames at "
            f"{self.options.fps:g} frames per second need {need:.2f} s; use a longer video, fewer frames or a higher "
            "fps"
        )


def _known(cache: Path, count: int) -> list[Probe | None]:
    """What an earlier process found about clips with the same content."""
    try:
        rows = read_json_object(cache)["probes"]
        known = [None if row is None else Probe(float(row[0]), float(row[1]), *map(int, row[2:])) for row in rows]
        return known if len(known) == count else [None] * count
    except (OSError, ValueError, TypeError, LookupError, OverflowError):
        return [None] * count


def _probe(entry: ClipEntry) -> Probe | str:
    """What a file says about itself, or why it cannot be used."""
    try:
        with _content(entry) as file:
            if not file.exists():
                return f"{entry.title} does not exist; add it or drop the line"
            if entry.is_picture:
                image = open_picture(file)
                return Probe(seconds=0.0, fps=0.0, height=image.height, width=image.width)
            return probe(file, entry.where)
    except MediaError as error:
        return str(error)


def _decoded(entry: ClipEntry, found: Probe | str) -> Probe | str:
    """What was found about a clip, or why not all of its frames can be decoded."""
    if isinstance(found, str) or entry.is_picture:
        return found
    try:
        with _content(entry) as file:
            decode_all(file, entry.where)
    except MediaError as error:
        return str(error)
    return found


@contextmanager
def _content(entry: ClipEntry) -> Iterator[Path]:
    """Gives a file with the content of an entry; messages name the entry.

    Raises:
        MediaError: It cannot be read.
    """
    file = entry.file
    try:
        with entry.opened() as file:
            yield file
    except MediaError as error:
        if file == entry.file:
            raise
        raise MediaError(str(error).replace(str(file), str(entry.file))) from error
    except OSError as error:
        reason = error.strerror or error
        raise MediaError(f"{entry.title} cannot be read: {reason}; check the file and the disk") from error
