"""`show1 batch`."""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from show1.cli.batch_report import check_report, write_report
from show1.cli.flags import DeviceFlag, MemoryFlag, Overwrite, Quiet, VideoAsJson
from show1.cli.jobs import Job, probe_all, read_jobs
from show1.cli.making import Failed, end_with, make_all
from show1.cli.serving import Data, Model, StoreUrl, check_installed, data_folder
from show1.cli.session import load_pipeline
from show1.cli.settings import Change, parse_change, parse_model
from show1.config import StageName
from show1.errors import InputError
from show1.files import user_path
from show1.launch import own_place, several
from show1.limits import MAX_PROMPTS

if TYPE_CHECKING:
    from show1.generation.pipeline import Show1Pipeline
    from show1.generation.request import GenerationRequest

Work = list[tuple[Job, "GenerationRequest"]]
"""Prompts with what each asks for."""

Output = Annotated[
    str | None, typer.Option("--output", "-o", metavar="DIR", help="Folder for the videos. By default FILE's name.")
]
Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; can be repeated.")
]
ByRay = Annotated[
    bool, typer.Option("--ray", help="Let a cluster of Ray make the videos: that of RAY_ADDRESS, or this machine.")
]
QueueUrl = Annotated[
    str | None,
    typer.Option(
        "--database", metavar="URL", help="Let the workers of this queue make the videos (see `show1 worker`, --data)."
    ),
]

Shard = Annotated[
    str | None,
    typer.Option(metavar="I/N", help="Make only every Nth prompt, from the Ith (1 to N): one process of an array."),
]


def batch(
    file: Annotated[str, typer.Argument(help="Prompts: one per line, .csv or .jsonl, or - for standard input.")],
    output: Output = None,
    run: Annotated[str | None, typer.Option(metavar="DIR", help="Folder that keeps finished stages.")] = None,
    model: Model = "mini",
    until: Annotated[StageName | None, typer.Option(metavar="STAGE", help="Last stage to run.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Videos of each prompt.")] = 1,
    seed: Annotated[int | None, typer.Option(help="Seed of prompts that have none. By default 0.")] = None,
    set_: Changes = None,
    shard: Shard = None,
    database: QueueUrl = None,
    data: Data = "show1-data",
    store: StoreUrl = None,
    ray: ByRay = False,
    memory: MemoryFlag = "auto",
    device: DeviceFlag = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: VideoAsJson = False,
) -> None:
    """Make a video of each prompt in a file, and a page that shows them all.

    The same command resumes: what is made is kept. A prompt that fails does not stop the others. Started by torchrun,
    each process makes a part of the prompts.

    Examples:

    \b
      show1 batch prompts.txt -o videos/
      show1 batch prompts.jsonl --until keyframes --count 4
      show1 batch prompts.csv --shard $SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT
      torchrun --nproc-per-node 4 -m show1 batch prompts.txt
      show1 batch prompts.jsonl --database postgresql://show1:secret@db/show1 --data /mnt/show1
      RAY_ADDRESS=auto show1 batch prompts.jsonl --ray -o /mnt/videos --run /mnt/runs
    """
    _check_ways(file, database, ray)
    options: dict[str, Any] = {"seed": seed, "count": count, "until": until}
    jobs = _shard(_read(file, output, run, options, overwrite=overwrite), shard)
    check_report(jobs, shard=shard)
    changes = [parse_change(pair) for pair in set_ or ()]
    pipe = load_pipeline(parse_model(model), quiet=quiet or as_json, device=device, memory=memory)
    work = _requests(pipe, jobs, changes)
    said = {"quiet": quiet, "as_json": as_json}
    if ray:
        from show1.cli.batch_ray import make_by_ray

        probe_all(jobs, [request for _, request in work], resuming=True)
        failed = make_by_ray(pipe, work, {"device": device, "memory": memory}, **said)
    elif database is not None:
        check_installed()
        from show1.cli.batch_queue import make_by_queue

        failed = make_by_queue(pipe, database, data_folder(data, store=store), model, work, **said)
    elif (parts := _make_here(pipe, work, **said)) is not None:
        failed = parts
    else:
        return  # the first process reports
    write_report(work, failed, shard=shard, quiet=quiet or as_json)
    end_with(failed, len(work))


def _check_ways(file: str, database: str | None, ray: bool) -> None:
    """Makes sure that one way of making the videos is asked for, and that several processes can go it.

    Raises:
        InputError: It is not so.
    """
    if several() and (file == "-" or database is not None or ray):
        raise InputError(
            "several processes need a file of prompts, and neither --database nor --ray: start this command only once"
        )
    if ray and database is not None:
        raise InputError("the videos are made by --ray or by the queue of --database; give one of them")


def _requests(pipe: "Show1Pipeline", jobs: Sequence[Job], changes: Sequence[Change]) -> Work:
    """The jobs with what each asks for."""
    work: Work = []
    for job in jobs:
        work.append((job, job.request(pipe, None, changes, None, checked=work[-1][1] if work else None)))
    return work


def _make_here(pipe: "Show1Pipeline", work: Work, *, quiet: bool, as_json: bool) -> list[Failed] | None:
    """Makes the videos in this process, or in those that torchrun has started; None in all of them but the first."""
    from show1.runtime.processes import gathered

    number, processes = own_place()
    own = work[number::processes]
    probe_all([job for job, _ in own], [request for _, request in own], resuming=True)
    parts = gathered(make_all(pipe, own, None, several=True, repeated=None, quiet=quiet, as_json=as_json))
    return None if parts is None else [each for part in parts for each in part]


def _read(file: str, output: str | None, run: str | None, options: dict[str, Any], *, overwrite: bool) -> list[Job]:
    """The jobs of a file, each with a name that follows from its place."""
    options = dict.fromkeys(("negative_prompt", "num_keyframes", "start_from", "numerics")) | options
    place = None if output is None else f"{output}/"
    runs = None if run is None else user_path(run, "--run")
    with _readable(file) as prompts:
        how = {"overwrite": overwrite}
        return read_jobs(prompts, output=place, run=runs, options=options, how=how, most=MAX_PROMPTS)


def _shard(jobs: Sequence[Job], shard: str | None) -> list[Job]:
    """The jobs of this process.

    Raises:
        InputError: The shard is no I/N, or there is no prompt for it.
    """
    if shard is None:
        return list(jobs)
    first, _, number = shard.partition("/")
    try:
        index, count = int(first), int(number)
    except ValueError:
        index, count = 0, 0
    if not 1 <= index <= count:
        raise InputError(f"--shard must be I/N with I from 1 to N, such as 2/8, got {shard!r}")
    if not (mine := list(jobs[index - 1 :: count])):
        raise InputError(f"--shard {shard}: there are {len(jobs)} prompts, so that none is left for this one")
    return mine


@contextmanager
def _readable(file: str) -> Iterator[Path]:
    """The file of prompts; what comes on standard input becomes one."""
    if file != "-":
        yield user_path(file, "FILE")
        return
    text = sys.stdin.read()
    with tempfile.TemporaryDirectory(prefix="show1-") as folder:
        path = Path(folder) / ("batch.jsonl" if text.lstrip().startswith("{") else "batch.txt")
        path.write_text(text, encoding="utf-8")
        yield path
