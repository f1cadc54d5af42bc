"""Stopping a command: Ctrl-C, SIGTERM (`docker stop`, time limits of batch systems), SIGHUP (a closed terminal)."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from show1.cli.console import tell
from show1.errors import Cancelled
from show1.launch import several

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Stopped(Cancelled):
    """A signal stopped the command."""

    def __init__(self, number: int = signal.SIGINT, message: str | None = None) -> None:
        """Takes the signal's number, and what to say instead of its name."""
        by = "by Ctrl-C" if number == signal.SIGINT else f"by {signal.Signals(number).name}"
        super().__init__(by if message is None else message)
        self.number = number


class StopRequest:
    """Whether a signal came that asks for a stop, and which."""

    number: int | None = None
    """The signal; None: none came."""

    def __call__(self) -> bool:
        """Whether one came."""
        return self.number is not None


@contextmanager
def interrupted_by_signals() -> Iterator[StopRequest]:
    """Lets SIGTERM and SIGHUP interrupt the block as Ctrl-C does, in a container's first process as well.

    Each raises `KeyboardInterrupt` with its number, which `stopped` turns into an error with a message.
    """
    came = StopRequest()

    def interrupt(number: int, _: Any) -> None:
        came.number = number
        raise KeyboardInterrupt(number)

    with _handled(interrupt, [number for number in _SIGNALS if number != signal.SIGINT]):
        yield came


@contextmanager
def asked_by_signals() -> Iterator[StopRequest | None]:
    """Gives what says whether Ctrl-C was pressed or SIGTERM or SIGHUP came; the next one interrupts at once.

    With several processes each has to be stopped alike: then all interrupt at once (and this gives None).
    """
    if several():
        yield None
        return
    came = StopRequest()

    def ask(number: int, _: Any) -> None:
        came.number = number
        restore()
        tell("stopping after this step (Ctrl-C again: at once, back to the last checkpoint)")

    with _handled(ask, _SIGNALS) as restore:
        yield came


def stopped(error: KeyboardInterrupt) -> Stopped:
    """The error for a command that was interrupted."""
    return Stopped(*error.args[:1])


@contextmanager
def _handled(handler: Callable[[int, Any], None], numbers: Any) -> Iterator[Callable[[], None]]:
    """Handles signals inside the block, unless they are ignored (`nohup`); gives what ends that before.

    Only the main thread can do so; in another, nothing changes.
    """
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in numbers if main}
    before = {number: known for number, known in before.items() if known not in (signal.SIG_IGN, None)}

    def restore() -> None:
        for number, known in before.items():
            signal.signal(number, known)

    for number in before:
        signal.signal(number, handler)
    try:
        yield restore
    finally:
        restore()
