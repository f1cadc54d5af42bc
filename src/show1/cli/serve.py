"""`show1 serve` and `show1 keys`."""

import importlib
import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from show1.cli.console import say, tell
from show1.cli.flags import DeviceFlag, MemoryFlag
from show1.cli.serving import (
    DATABASE,
    STORE,
    AdapterFolder,
    Data,
    Database,
    Dtype,
    Experts,
    Grace,
    Log,
    Model,
    StoreUrl,
    check_installed,
    data_folder,
    load_experts,
    logged,
)
from show1.cli.session import load_pipeline
from show1.cli.settings import parse_model
from show1.cli.stopping import interrupted_by_signals
from show1.errors import InputError
from show1.options import plain_number

if TYPE_CHECKING:
    from fastapi import FastAPI

    from show1.server.access import Access
    from show1.server.jobs import DataFolder
    from show1.server.keys import KeyFile
    from show1.server.limits import ServerLimits
    from show1.server.service import Policy

keys = typer.Typer(no_args_is_help=True, help="API keys of a server.")


Limits = Annotated[
    list[str] | None,
    typer.Option("--limit", metavar="NAME=NUMBER", help="Change a limit, such as max_queue=50; can be repeated."),
]
PolicyName = Annotated[
    str | None,
    typer.Option(
        "--policy",
        metavar="MODULE:FUNCTION",
        help="Function that takes a prompt and returns why it is refused, or None.",
    ),
]


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any that is free.")] = 8000,
    data: Data = "show1-data",
    database: Database = None,
    store: StoreUrl = None,
    model: Model = "mini",
    memory: MemoryFlag = "auto",
    device: DeviceFlag = None,
    dtype: Dtype = None,
    expert: Experts = None,
    adapters: AdapterFolder = None,
    adapter_uploads: Annotated[
        bool, typer.Option("--adapter-uploads", help="Let clients upload adapters for videos of theirs.")
    ] = False,
    worker: Annotated[bool, typer.Option(help="Whether to compute here too, or only to answer.")] = True,
    limit: Limits = None,
    policy: PolicyName = None,
    open_to_all: Annotated[bool, typer.Option("--open", help="Let everybody in without a key.")] = False,
    browser: Annotated[bool, typer.Option("--browser", help="Open the page in a browser.")] = False,
    grace: Grace = 30.0,
    log: Log = "text",
) -> None:
    """Serve the videos API and a page, and compute what they ask for.

    Jobs survive whatever happens: they are kept in --data, and computed when the server runs again.

    Examples:

    \b
      show1 serve --browser
      show1 keys add ann && show1 serve --host 0.0.0.0 --port 80
      show1 serve --no-worker --database postgresql://show1:secret@db/show1 --data /mnt/show1
      show1 serve --adapters styles/ --expert wan=Wan-AI/Wan2.1-T2V-1.3B-Diffusers
    """
    check_installed()
    folder = data_folder(data, adapters, store)
    with logged(log), ExitStack() as stack, interrupted_by_signals():
        numbers = stack.enter_context(tempfile.TemporaryDirectory(prefix="show1-metrics-"))
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = numbers  # read when prometheus_client is imported
        from show1.server.access import Access
        from show1.server.serve import answer, listen, watched_worker

        access = Access(_key_file(folder.path), host=host, open_to_all=open_to_all)
        url, limits, refuse = database or folder.database, parse_limits(limit or ()), load_policy(policy)
        opened = stack.enter_context(listen(host, port))
        if worker:
            told = {"data": folder.path, "model": model, "memory": memory, "device": device, "dtype": dtype}
            told |= {"adapters": folder.adapters_path, "grace": grace, "log": log}
            words = [word for name, value in told.items() if value is not None for word in (f"--{name}", str(value))]
            words += [word for each in expert or () for word in ("--expert", each)]
            stack.enter_context(watched_worker(words, {DATABASE: url, STORE: store or ""}, grace=grace))
        how = {"limits": limits, "policy": refuse, "takes_adapters": adapter_uploads}
        app = _app(folder, url, model, expert or (), access, how)
        address = _address(host, opened.getsockname()[1])
        say(address)
        tell(f"show1 serves {model} on {address}; Ctrl-C stops it")
        if browser:
            typer.launch(address)
        answer(app, opened)


def _app(
    data: "DataFolder", database: str, model: str, experts: Sequence[str], access: "Access", how: dict[str, Any]
) -> "FastAPI":
    """The application, with models that only check requests; `how` holds other options of its `Service`."""
    pipe = load_pipeline(parse_model(model), quiet=True, device="cpu")
    with_experts = load_experts(model, experts, device="cpu")
    import torch

    from show1.server.app import make_app
    from show1.server.queue import JobQueue
    from show1.server.service import Service

    torch.set_num_threads(1)  # the processor is for the workers
    queue = JobQueue(database, model=model)
    return make_app(Service(pipe, data, queue, model=model, experts=with_experts, **how), access)


def parse_limits(pairs: Sequence[str]) -> "ServerLimits":
    """Reads the values of `--limit`.

    Raises:
        InputError: One is no `NAME=NUMBER`, or there is no such limit.
    """
    from show1.server.limits import ServerLimits

    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, number = pair.partition("=")
        if not equals or not number.strip().isdigit():
            raise InputError(f"--limit {pair}: expected NAME=NUMBER, such as max_queue=50")
        values[name.strip()] = plain_number(int(number))
    return ServerLimits.from_dict(values)


def load_policy(text: str | None) -> "Policy | None":
    """The function that `--policy` names.

    Raises:
        InputError: There is none of that name.
    """
    if text is None:
        return None
    module, _, name = text.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"--policy {text}: {error}; give MODULE:FUNCTION, which Python can import") from error
    if not callable(found):
        raise InputError(f"--policy {text}: it is no function")
    policy: Policy = found
    return policy


@keys.command("add")
def add_key(
    name: Annotated[str, typer.Argument(help="Who gets it.")],
    data: Data = "show1-data",
    priority: Annotated[int, typer.Option(min=1, max=1000, help="Priority of its jobs; 1 comes first.")] = 100,
    max_jobs: Annotated[int | None, typer.Option(min=1, help="Jobs that may wait or run at once.")] = None,
) -> None:
    """Make a key and show it, this once."""
    check_installed()
    say(_key_file(data_folder(data).path).add(name, priority=priority, max_jobs=max_jobs))
    tell("Keep it: only its hash is stored.")


@keys.command("remove")
def remove_key(name: Annotated[str, typer.Argument(help="Whose.")], data: Data = "show1-data") -> None:
    """Make a key useless, at once."""
    check_installed()
    _key_file(data_folder(data).path).remove(name)


@keys.command("list")
def list_keys(data: Data = "show1-data") -> None:
    """Show the names of all keys."""
    check_installed()
    for key in _key_file(data_folder(data).path).keys().values():
        say(f"{key.name}\tpriority {key.priority}" + ("" if key.max_jobs is None else f"\tat most {key.max_jobs} jobs"))


def _key_file(folder: Path) -> "KeyFile":
    from show1.server.keys import KeyFile

    return KeyFile(folder / "keys.json")


def _address(host: str, port: int) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}"
