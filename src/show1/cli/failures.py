"""Errors as one message and an exit code.

====  ==============================================================================
code  meaning
====  ==============================================================================
0     done
1     a failure while it ran: disk full, memory, a damaged checkpoint, a bug
2     bad input: an option, a prompt, a file name, a model's name, a run's folder
130   stopped with Ctrl-C
143   stopped by SIGTERM, such as by `docker stop` or at the time limit of a batch system
129   stopped by SIGHUP: the terminal was closed
====  ==============================================================================
"""

import errno
import sys
import traceback
from collections.abc import Callable
from typing import Any

from show1.cli.console import debugging, tell
from show1.cli.stopping import Stopped
from show1.errors import Cancelled, InputError, MediaError, ModelNotFoundError, OutputError, RunError, Show1Error

RUNTIME, BAD_INPUT, STOPPED = 1, 2, 130

_BAD_INPUT = (InputError, MediaError, ModelNotFoundError, RunError)
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_BAD_PATH = (PermissionError, NotADirectoryError, FileExistsError, IsADirectoryError)
_BAD_PATH_NUMBERS = {errno.EROFS, errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP}


def run_script(main: Callable[[], None]) -> None:
    """Runs the main function of a script; an error ends the process with one message, as it ends `show1`."""
    try:
        main()
    except (Exception, KeyboardInterrupt) as error:
        if not isinstance(error, Show1Error | OSError | KeyboardInterrupt):
            traceback.print_exception(error)
        sys.exit(report(error))


def report(error: BaseException) -> int:
    """Writes one message for an error to stderr (the traceback too with `SHOW1_DEBUG`) and returns the exit code."""
    if debugging():
        tell("".join(traceback.format_exception(error)))
    code = exit_code(error)
    if is_usage_error(error) and not str(error):  # a command without words has shown its help
        return code
    tell(
        f"show1: {'stopped' if isinstance(error, KeyboardInterrupt | Cancelled) else 'error'}: {describe(error)}",
        style="bold red",
    )
    for note in getattr(error, "__notes__", ()):
        tell(note)
    return code


def exit_code(error: BaseException) -> int:
    """The exit code for an error."""
    if isinstance(error, KeyboardInterrupt):
        return STOPPED
    if isinstance(error, Cancelled):
        return 128 + error.number if isinstance(error, Stopped) else STOPPED
    if isinstance(error, OutputError):
        cause = error.__cause__
        bad_path = cause is None or isinstance(cause, _BAD_PATH) or getattr(cause, "errno", None) in _BAD_PATH_NUMBERS
        return BAD_INPUT if bad_path else RUNTIME
    if isinstance(error, _BAD_INPUT) or is_usage_error(error):
        return BAD_INPUT
    return RUNTIME


def describe(error: BaseException) -> str:
    """The message that a user sees for an error."""
    if is_usage_error(error):
        usage: Any = error
        command = getattr(getattr(usage, "ctx", None), "command_path", "show1")
        return f"{usage.format_message().rstrip('.')}; see `{command} --help`"
    if isinstance(error, Show1Error):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "by Ctrl-C"
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return f"no room left on the disk{_for(error)}: free some space, or choose another folder"
    if isinstance(error, FileNotFoundError) and not error.filename:  # only the system's getcwd names no file
        return "the current folder does not exist any more: change to another one"
    if isinstance(error, OSError) and error.errno is not None:
        return f"{error.strerror}{_for(error)}"
    if isinstance(error, MemoryError):
        return "memory ran out: use `--memory low`, fewer frames (`--keyframes`) or a smaller size"
    first = (str(error).strip().splitlines() or [""])[0]
    return (
        f"{type(error).__name__}: {first}\nThis is a bug in show1. Please report it with the output of `show1 env` "
        "and of the same command with SHOW1_DEBUG=1 set."
    )


def is_usage_error(error: BaseException) -> bool:
    """Whether the command line's parser raised it (its classes are in click or in typer, depending on the version)."""
    return hasattr(error, "format_message") and hasattr(error, "exit_code")


def _for(error: OSError) -> str:
    return f" ({error.filename})" if error.filename else ""
