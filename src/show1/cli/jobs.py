"""What `show1 generate` is to make: one prompt, or those of a file (`--prompts`)."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from show1.cli.settings import Change, apply_changes
from show1.config import preset_changes
from show1.errors import InputError, RunError
from show1.generation.output import OutputFile, absolute, numbered, slug
from show1.generation.request import check_prompt
from show1.limits import MAX_SAMPLES
from show1.options import require, shown
from show1.tables import opened_text, read_rows

if TYPE_CHECKING:
    from show1.generation.metadata import VideoRecord
    from show1.generation.pipeline import Show1Pipeline
    from show1.generation.request import GenerationRequest
    from show1.video import Video

COLUMNS = ("prompt", "seed", "negative_prompt", "expert_prompt")
"""What a row of a file of prompts may hold."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A prompt, and where its video goes."""

    prompt: str
    """What to show."""
    output: OutputFile
    """The file to write."""
    run: Path | None
    """Folder for its finished stages; None: a new one."""
    options: dict[str, Any]
    """Arguments of `make_request`; None where nothing was given."""

    def request(
        self,
        pipe: "Show1Pipeline",
        record: "VideoRecord | None",
        changes: Sequence[Change],
        video: "Video | None",
        checked: "GenerationRequest | None" = None,
    ) -> "GenerationRequest":
        """What is asked for: the options, and where they say nothing, the video to repeat; `changes` win over both.

        Args:
            pipe: The model.
            record: How the video to repeat was made, if one is repeated.
            changes: Of settings.
            video: What the first stage works on, if it needs one.
            checked: A request of which all is checked; one that differs in prompts and seeds only is as sound.

        Raises:
            InputError: It cannot be made.
        """
        from show1.generation.arguments import make_request, resolve_settings

        given = {name: value for name, value in self.options.items() if value is not None}
        known: dict[str, Any] = {}
        if record is not None:
            known = {"seed": record.seed, "until": record.stages[-1], "numerics": record.numerics}
        changed = preset_changes(given.pop("preset", None), pipe.settings)
        begun = pipe.settings if record is None else record.settings
        if record is not None and self.prompt != record.prompt:
            begun = begun.without_own_prompts()  # they describe the other video
        settings = resolve_settings(
            begun.replace(**changed),
            negative_prompt=given.pop("negative_prompt", None),
            num_keyframes=given.pop("num_keyframes", None),
        )
        known |= {**given, "settings": apply_changes(settings, changes)}
        request = make_request(self.prompt, model=pipe, video=video, **known)
        if checked is None or replace(checked, prompts=request.prompts, seeds=request.seeds) != request:
            pipe.check(request)
        return request

    @property
    def is_begun(self) -> bool:
        """Whether its run folder holds a run already."""
        return self.run is not None and (self.run / "manifest.json").is_file()

    def probe(self, size: tuple[int, int] | None = None, fps: float = 8.0) -> None:
        """Makes sure, before any work, that the files can be written: see `OutputFile.probe`."""
        self.output.probe(self.options["count"], size=size, fps=fps)

    def probe_again(self) -> None:
        """The same for a run that is begun already: see `OutputFile.probe_again`."""
        from show1.generation.manifest import read_manifest

        assert self.run is not None, "it is begun"
        with suppress(RunError):  # which is said when the run is opened
            self.output.probe_again(read_manifest(self.run).output, self.options["count"])


def probe_all(
    jobs: Sequence[Job], requests: "Sequence[GenerationRequest] | None" = None, *, resuming: bool = False
) -> None:
    """Makes sure, before any work, that the files can be written.

    Args:
        jobs: The jobs.
        requests: Their requests, once they are known, which say the videos' size.
        resuming: Whether runs may be begun already, so that files that they have written may be there.

    Raises:
        OutputError: A file cannot be written.
    """
    for job, request in itertools.zip_longest(jobs, requests or ()):
        if resuming and job.is_begun:
            job.probe_again()
        elif request is None:
            job.probe()
        else:
            _, height, width, fps = request.final_shape
            job.probe((height, width), fps)


def read_jobs(
    file: Path,
    *,
    output: str | None,
    run: Path | None,
    options: dict[str, Any],
    how: dict[str, Any],
    most: int = MAX_SAMPLES,
) -> list[Job]:
    """Reads a file of prompts: a prompt per line, or a table (.csv, .jsonl) with `prompt`, `seed`,
    `negative_prompt`, `expert_prompt`.

    The same file and options give the same names of videos and run folders, so that the same command resumes.

    Args:
        file: The file.
        output: A folder for the videos, or a name such as `panda.mkv`, which becomes `panda-0001.mkv`, ...; None: a
            folder named after the file.
        run: Folder of the run folders; None: `runs/prompts-NAME`.
        options: Of each request, where a row says nothing.
        how: Of each `OutputFile`.
        most: The most prompts.

    Raises:
        InputError: The file cannot be read, or a row is faulty; the message names its line.
    """
    named = output is not None and bool(Path(output).suffix) and not output.endswith("/")
    place = absolute(file.stem if output is None else output)
    runs = Path("runs") / f"prompts-{file.stem}" if run is None else run
    jobs: list[Job] = []
    for where, row in _rows(file):
        values = {**options, **row}
        prompt, number = values.pop("prompt"), f"{len(jobs) + 1:04d}"
        path = numbered(place, number) if named else str(Path(place) / f"{number}-{slug(prompt)}.mp4")
        sheet = None if how.get("sheet") is None else numbered(how["sheet"], number)
        values["seed"] = 0 if values["seed"] is None else values["seed"]  # the same when the command is repeated
        job = Job(
            prompt=prompt, output=OutputFile(path=path, **{**how, "sheet": sheet}), run=runs / number, options=values
        )
        jobs.append(job)
        if len(jobs) > most:
            raise InputError(f"{where}: {most} prompts are the most; split the file")
    if not jobs:
        raise InputError(f"{file} holds no prompt; write one per line")
    return jobs


def _rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows, each with its place for messages."""
    for line, row in _lines(file):
        where = f"{file}, line {line}"
        if unknown := [name for name in row if name not in COLUMNS]:
            raise InputError(f"{where} has the column {shown(unknown[0])}; there are {', '.join(COLUMNS)}")
        values = {name: value for name, value in row.items() if value not in (None, "")}
        try:
            check_prompt(values.get("prompt", ""))
            for name in ("negative_prompt", "expert_prompt"):
                require(isinstance(values.get(name, ""), str), name, values.get(name), "text")
            if "seed" in values:
                values["seed"] = int(str(values["seed"]))
        except ValueError as error:
            said = error if isinstance(error, InputError) else f"its seed {shown(values['seed'])} is no whole number"
            raise InputError(f"{where}: {said}") from error
        yield where, values


def _lines(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if file.suffix.lower() in (".csv", ".jsonl"):
        yield from read_rows(file)
        return
    with opened_text(file) as opened:
        for number, line in enumerate(opened, start=1):
            if line.strip() and not line.startswith("#"):
                yield number, {"prompt": line.strip()}
