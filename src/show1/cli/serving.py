"""What the commands of a server share: its options, its log, and what must be installed."""

import importlib.util
import json
import logging
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from show1.cli.flags import Precision
from show1.cli.session import load_pipeline
from show1.cli.settings import parse_model, with_expert
from show1.errors import InputError, MissingDependencyError, OutputError
from show1.files import user_path
from show1.stage_table import STAGE_TABLE

if TYPE_CHECKING:
    from show1.generation.pipeline import Show1Pipeline
    from show1.server.jobs import DataFolder

DATABASE, STORE = "SHOW1_DATABASE", "SHOW1_STORE"
"""Environment variables with the URLs of the database and the store: unlike options, they hide a password from `ps`."""

Data = Annotated[
    str,
    typer.Option(
        metavar="DIR",
        envvar="SHOW1_DATA",
        help="Folder for jobs and videos; on several machines one that all of them share, or --store.",
    ),
]
StoreUrl = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        envvar=STORE,
        help="Where machines that share no folder keep the files of jobs, such as s3://BUCKET/show1.",
    ),
]
Database = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar=DATABASE,
        help="Database: sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME. By default one in --data.",
    ),
]
Model = Annotated[
    str,
    typer.Option(
        "--model", "-m", metavar="MODEL", help="mini, mini:fast, showlab/show-1, a folder or a Hub repository."
    ),
]
Experts = Annotated[
    list[str] | None,
    typer.Option(
        "--expert",
        metavar="NAME=MODEL",
        help="Expert that clients may choose for the last stage: a Hub repository or a folder; can be repeated.",
    ),
]
AdapterFolder = Annotated[
    str | None,
    typer.Option("--adapters", metavar="DIR", help="Adapters for clients. By default `adapters` in --data."),
]
Dtype = Annotated[
    Precision | None, typer.Option(help="Precision of new videos. By default the fastest that the device has.")
]
Grace = Annotated[
    float, typer.Option(min=0, metavar="SECONDS", help="Time that the running stage has to finish when it is stopped.")
]
Log = Annotated[Literal["text", "json"], typer.Option("--log", help="Form of the log on stderr.")]


def check_installed() -> None:
    """Makes sure that the packages of the extra `server` are there.

    Raises:
        MissingDependencyError: They are not.
    """
    for package in ("dbos", "fastapi", "uvicorn", "prometheus_client", "python_multipart"):
        if importlib.util.find_spec(package) is None:  # not imported: a server must first say where its numbers go
            raise MissingDependencyError(f"a server needs the package {package}: pip install 'show1[server]'")


def data_folder(data: str, adapters: str | None = None, store: str | None = None) -> "DataFolder":
    """The folder for jobs, which is made if it is missing.

    Args:
        data: The folder.
        adapters: That of the operator's adapters; None: one inside.
        store: URL of the place that keeps the files; None: the folder does.

    Raises:
        OutputError: It cannot be made or written.
        InputError: There is no such folder of adapters, or the store cannot be used.
        MissingDependencyError: fsspec needs another package for the store.
    """
    from show1.server.jobs import DataFolder

    folder = DataFolder(user_path(data, "--data").absolute(), adapter_folder(adapters), store)
    try:
        for part in (folder.files / "jobs", folder.workers, folder.locks):
            part.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder.path} cannot be written: {error.strerror or error}; name another with --data"
        ) from error
    folder.store.check()
    return folder


def parse_experts(pairs: Sequence[str]) -> dict[str, str]:
    """Reads the values of `--expert` of a server.

    Raises:
        InputError: One is no `NAME=MODEL`, or its name is taken.
    """
    experts: dict[str, str] = {}
    for pair in pairs:
        name, _, where = (part.strip() for part in pair.partition("="))
        if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name) is None or not where:
            raise InputError(f"--expert {pair}: expected NAME=MODEL, such as wan=Wan-AI/Wan2.1-T2V-1.3B-Diffusers")
        if name in experts or name == "none" or name in STAGE_TABLE:
            raise InputError(f"--expert {pair}: the name {name!r} is taken; choose another")
        experts[name] = where
    return experts


def load_experts(model: str, pairs: Sequence[str], **options: Any) -> "dict[str, Show1Pipeline]":
    """The model of a server with each expert that clients may choose, by name."""
    experts = parse_experts(pairs)
    return {
        name: load_pipeline(with_expert(parse_model(model), where), quiet=True, **options)
        for name, where in experts.items()
    }


def adapter_folder(path: str | None) -> Path | None:
    """The folder that `--adapters` names.

    Raises:
        InputError: There is no such folder.
    """
    folder = None if path is None else user_path(path, "--adapters").absolute()
    if folder is not None and not folder.is_dir():
        raise InputError(f"--adapters {path}: there is no such folder")
    return folder


@contextmanager
def logged(form: Literal["text", "json"]) -> Iterator[None]:
    """Writes what show1 logs to stderr, a line each, inside the block."""
    logger = logging.getLogger("show1")
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines() if form == "json" else logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level, before, logger.handlers = logger.level, logger.handlers, [handler]
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.handlers = before


class _JsonLines(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        values = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            values["traceback"] = self.formatException(record.exc_info)
        return json.dumps(values, ensure_ascii=False)
