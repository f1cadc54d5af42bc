"""The command `show1`."""

import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from show1.cli.batch import batch
from show1.cli.console import own_messages_only, say
from show1.cli.customize import app as customize
from show1.cli.data import app as data
from show1.cli.env import env
from show1.cli.evaluate import app as evaluate
from show1.cli.failures import RUNTIME, STOPPED, report
from show1.cli.generate import generate
from show1.cli.inspect import inspect
from show1.cli.models import models
from show1.cli.processes import together
from show1.cli.refine import refine
from show1.cli.resume import resume
from show1.cli.serve import keys, serve
from show1.cli.stopping import Stopped, interrupted_by_signals
from show1.cli.threads import prepare_threads
from show1.cli.train import app as train
from show1.cli.train import distil
from show1.cli.worker import worker

app = typer.Typer(
    name="show1",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(together(generate))
app.command()(together(refine))
app.command()(together(resume))
app.command()(inspect)
app.add_typer(models, name="models")
app.command()(env)
app.add_typer(evaluate, name="evaluate")
app.add_typer(customize, name="customize")
app.add_typer(train, name="train")
app.add_typer(distil, name="distil")
app.add_typer(data, name="data")
app.command()(batch)
app.command()(serve)
app.command()(worker)
app.add_typer(keys, name="keys")


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        say(f"show1 {version('show1')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Make videos from text by the four stages of Show-1, on any laptop.

    Examples:

    \b
      show1 generate "a panda spins over the snow" -o panda.mp4
      show1 generate "a panda spins over the snow" --until keyframes --count 8 --sheet drafts.png
      show1 resume runs/20261122-101502-3f2a --pick 5
      show1 inspect panda.mp4

    Exit codes: 0 done, 1 failed, 2 bad input, 130 stopped by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP.
    SHOW1_DEBUG=1 shows tracebacks.
    """
    os.getcwd()  # fails where the folder is gone, in which Intel's MKL ends the process when torch is imported


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line.

    Args:
        arguments: Words after `show1`; None for those of the process.

    Returns:
        The exit code. Errors have been reported on stderr.
    """
    prepare_threads()
    try:
        with own_messages_only():
            try:
                with interrupted_by_signals() as came:
                    code = app(args=arguments, prog_name="show1", standalone_mode=False)
                sys.stdout.flush()
                if code == STOPPED:  # stopped before there was anything to keep
                    return report(Stopped(came.number or signal.SIGINT))
                return code if isinstance(code, int) else 0
            except BrokenPipeError:
                return _broken_pipe()
            except SystemExit as error:  # by rich or typer, when the reader of a pipe has gone away
                return error.code if isinstance(error.code, int) else RUNTIME
            except BaseException as error:
                return report(error)
    except BrokenPipeError:
        return _broken_pipe()


def _broken_pipe() -> int:
    """Ends without a message, also from Python itself, because the reader has gone away (`show1 ... | head`)."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return RUNTIME
