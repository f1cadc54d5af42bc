"""Commands that torchrun or `accelerate launch` starts several times, to work as one."""

import functools
import os
from collections.abc import Callable
from typing import ParamSpec

P = ParamSpec("P")


def is_first() -> bool:
    """Whether this is the only process of the command, or the first one."""
    return int(os.environ.get("RANK", "0")) == 0


def several() -> bool:
    """Whether there are other processes of this command."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def together(command: Callable[P, None]) -> Callable[P, None]:
    """Lets the first process run a command, and the others compute parts of its network calls."""

    @functools.wraps(command)
    def run(*arguments: P.args, **options: P.kwargs) -> None:
        if not several():
            return command(*arguments, **options)
        from show1.stages.helping import helped

        with helped() as is_first:
            if is_first:
                command(*arguments, **options)

    return run
