"""Commands that torchrun or `accelerate launch` starts several times, to work as one."""

import functools
from collections.abc import Callable
from typing import ParamSpec

from show1.launch import several

P = ParamSpec("P")


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
