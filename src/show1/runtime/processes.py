"""Several processes of one command, as torchrun and `accelerate launch` start them.

They talk over gloo, through the computer's memory: what passes between them is small. They either share the rows of
each network call (the first one asks, the others help), or each makes some of the videos.
"""

import datetime
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from show1.errors import OutOfMemory, Show1Error, reason_of
from show1.launch import own_place, several
from show1.runtime.devices import DeviceLike, Devices, choose_devices
from show1.runtime.placement import is_out_of_memory

T = TypeVar("T")

_PATIENCE = datetime.timedelta(days=30)
"""A process that waits is no fault: another may decode a long video. One that has ended is noticed at once."""
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def join() -> None:
    """Connects this process with the others, unless it is."""
    if not dist.is_initialized():
        with _lost_others():
            dist.init_process_group("gloo", timeout=_PATIENCE)


def gathered(value: T) -> list[T] | None:
    """Collects a value of each process in the first one; None in the others. All processes must call it.

    Raises:
        Show1Error: Another process has ended.
    """
    number, count = own_place()
    if count == 1:
        return [value]
    join()
    values: list[Any] | None = [None] * count if number == 0 else None
    with _lost_others():
        dist.gather_object(value, values)
    return values


def own_device(device: torch.device) -> torch.device:
    """The device of this process where the first one has `device`: each has a GPU of its own, as far as they reach."""
    if device.type != "cuda" or not (there := torch.cuda.device_count()):
        return device
    return torch.device("cuda", ((device.index or 0) + int(os.environ.get("LOCAL_RANK", "0"))) % there)


def own_devices(device: DeviceLike = None) -> Devices:
    """The devices of this process where each of several makes videos of its own; see `choose_devices`."""
    chosen = choose_devices(device)
    if not several():
        return chosen
    return Devices(own_device(chosen.main), {part: own_device(place) for part, place in chosen.own.items()})


@dataclass(frozen=True)
class _Failure:
    """Why a helper could not do what it was asked for."""

    reason: str
    is_memory: bool


class Helpers:
    """The other processes, as the first one sees them."""

    def __init__(self) -> None:
        """Takes the processes that have joined."""
        self.count = dist.get_world_size() - 1
        """How many there are beside this one."""
        self._lost = False

    def ask(
        self, task: str, arguments: Sequence[tuple[Any, ...] | None], meanwhile: Callable[[], T]
    ) -> tuple[T, list[Any]]:
        """Lets each helper do a part of the work, and does the own part at the same time.

        Args:
            task: A method of the helpers' worker; see `first_process`.
            arguments: Its arguments, for each helper; None: it has nothing to do.
            meanwhile: The own part.

        Returns:
            What the own part gave, and what each helper's did (None if it had nothing to do).

        Raises:
            OutOfMemory: Memory ran out in a helper.
            Show1Error: A helper failed, or has ended.
        """
        if self._lost:
            raise Show1Error("the processes were interrupted while they worked together; start the command again")
        self._lost = True  # until all answers are there
        with _lost_others():
            dist.scatter_object_list([None], [None, *((task, given) for given in arguments)], src=0)
        error: Exception | None = None
        try:
            own = meanwhile()
        except Exception as failed:
            error = failed
        answers: list[Any] = [None] * (self.count + 1)
        with _lost_others():
            dist.gather_object(None, answers)
        self._lost = False
        if error is not None:
            raise error
        for number, answer in enumerate(answers):
            if isinstance(answer, _Failure):
                kind = OutOfMemory if answer.is_memory else Show1Error
                raise kind(f"process {number + 1} of {self.count + 1} failed: {answer.reason}")
        return own, answers[1:]

    def dismiss(self) -> None:
        """Lets the helpers end. Those that do not listen any more notice that this process ends."""
        if not self._lost:
            self._lost = True
            with suppress(RuntimeError):
                dist.scatter_object_list([None], [None] * (self.count + 1), src=0)


_helpers: list[Helpers] = []


def helpers() -> Helpers | None:
    """Those of this process, if it is the first of several that share network calls."""
    return _helpers[0] if _helpers else None


@contextmanager
def first_process(make_worker: Callable[[], Any]) -> Iterator[bool]:
    """Makes the first process the one that works, and the others its helpers until it leaves the block.

    Args:
        make_worker: Makes what works in a helper: its methods are what can be asked for.

    Yields:
        Whether this is the first process. In a helper, all work is done when the block begins.
    """
    number, count = own_place()
    if count == 1:
        yield True
        return
    join()
    if number > 0:
        _serve(make_worker())
        yield False
        return
    own = Helpers()
    _helpers.append(own)
    try:
        yield True
    finally:
        _helpers.remove(own)
        own.dismiss()


def _serve(worker: Any) -> None:
    """Does what the first process asks for, until it or its connection ends."""
    with _deaf(), suppress(RuntimeError), torch.no_grad():
        while True:
            order: list[Any] = [None]
            dist.scatter_object_list(order, None, src=0)
            if order[0] is None:
                return
            task, arguments = order[0]
            answer = None
            try:
                if arguments is not None:
                    answer = getattr(worker, task)(*arguments)
            except Exception as error:
                answer = _failure(error)
            dist.gather_object(answer, None)


def _failure(error: Exception) -> _Failure:
    reason = str(error) if isinstance(error, Show1Error) else f"{type(error).__name__}: {reason_of(error)}"
    return _Failure(reason, is_out_of_memory(error))


@contextmanager
def _deaf() -> Iterator[None]:
    """Leaves it to the first process what a signal to all of them means: a helper ends when that one does."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _SIGNALS if main}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _lost_others() -> Iterator[None]:
    """Explains that another process is gone."""
    try:
        yield
    except RuntimeError as error:
        raise Show1Error(
            "another process of this command has ended, so that this one cannot go on; its own message says why. What "
            f"is finished is kept: start the command again ({reason_of(error):.150})"
        ) from error
