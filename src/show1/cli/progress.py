"""Progress of a generation on stderr: bars on a terminal, lines elsewhere."""

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Self

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from show1.cli.console import ERR, tell
from show1.cli.lean import without_collector
from show1.config import StageName

if TYPE_CHECKING:
    from torch import Tensor

    from show1.generation.progress import Callbacks
    from show1.video import Video

SECONDS_OF_SILENCE = 4.0
"""Time after which a log gets a line, so that it is never silent for 5 seconds."""


@contextmanager
def shown(*, quiet: bool) -> Iterator["Callbacks"]:
    """Shows the progress of a generation inside the block: bars on a terminal, lines in a log, nothing if quiet.

    Yields:
        What the pipeline is to call.
    """
    from show1.generation.progress import Callbacks

    if quiet:
        yield Callbacks()
        return
    with StageBars() if ERR.is_terminal else StageLines() as to:
        yield Callbacks(on_stage_start=to.stage_start, on_step_end=to.step_end, on_stage_end=to.stage_end)


@contextmanager
def starting(*, quiet: bool) -> Iterator[None]:
    """Says that the command is starting, inside a block that imports torch, which takes seconds."""
    telling: AbstractContextManager[Any] = nullcontext()
    if not quiet:
        telling = ERR.status("starting") if ERR.is_terminal else Heartbeat("starting")
    with telling, without_collector():
        yield


class Heartbeat:
    """Says in a log what is being done whenever nothing was said for a while, inside a block."""

    def __init__(self, doing: str = "", *, longest: float = 0.0) -> None:
        """Takes what is being done, which may change.

        Args:
            doing: What is being done; empty: nothing.
            longest: Seconds up to which the silence doubles from line to line; 0: it stays the same.
        """
        self._longest = longest
        self._stop = threading.Event()
        self._last_line = time.monotonic()
        self.note(doing)

    def __enter__(self) -> Self:
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()

    def note(self, doing: str, *, left: float | None = None, new: bool = True) -> None:
        """Notes what is being done from now on.

        Args:
            doing: What; empty: nothing.
            left: Seconds that it takes; None: unknown.
            new: Whether it is another kind of work, of which the first line is to come soon.
        """
        self.doing, self._left, self._began = doing, left, time.monotonic()
        if new:
            self._patience = SECONDS_OF_SILENCE

    def tell(self, text: str) -> None:
        """Writes a line."""
        self._last_line = time.monotonic()
        tell(text)

    def _beat(self) -> None:
        while not self._stop.wait(SECONDS_OF_SILENCE / 10):
            if self.doing and time.monotonic() - self._last_line >= self._patience:
                self._patience = max(self._patience, min(2 * self._patience, self._longest))
                self.tell(self._line())

    def _line(self) -> str:
        """What is being done, and how much time is left, or how long it has taken."""
        if self._left is not None:
            return f"{self.doing}, {duration(self._left)} left"
        return f"{self.doing}, {duration(time.monotonic() - self._began)} so far"


class StageLines(Heartbeat):
    """A line per stage, and one whenever it is silent for a while, also while a network is loaded."""

    def stage_start(self, name: str) -> None:
        """Notes when the stage began."""
        self._steps = False
        self.note(f"{'prompt' if name == 'text' else name}: loading")

    def step_end(self, stage: StageName, done: int, total: int, samples: "Tensor") -> None:
        """Notes the step; the samples (N, C, F, H, W) are not shown."""
        left = (time.monotonic() - self._began) / done * (total - done)
        self._steps = True
        self.doing = f"{stage}: step {done} of {total}, about {duration(left)} left"

    def _line(self) -> str:
        """The step, which says how long is left; before the first one, how long the stage has been loading."""
        return self.doing if self._steps else super()._line()

    def stage_end(self, stage: StageName, videos: "list[Video]") -> None:
        """Writes how long the stage took."""
        self.doing = ""
        self.tell(f"{stage}: done in {duration(time.monotonic() - self._began)}")


class StageBars:
    """A bar per stage, with steps, time spent and time left."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<18}", markup=False),
            BarColumn(bar_width=30),
            _StepsColumn(),
            console=ERR,
            refresh_per_second=4,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._task is not None:
            self._progress.stop_task(self._task)
        self._progress.stop()

    def stage_start(self, name: str) -> None:
        """Begins a bar."""
        self._finish()
        self._task = self._progress.add_task("prompt" if name == "text" else name, total=None)

    def step_end(self, stage: StageName, done: int, total: int, samples: "Tensor") -> None:
        """Moves the bar; the samples (N, C, F, H, W) are not shown."""
        if self._task is not None:
            self._progress.update(self._task, completed=done, total=total)

    def stage_end(self, stage: StageName, videos: "list[Video]") -> None:
        """Completes the bar."""
        self._finish()

    def _finish(self) -> None:
        """Completes the bar of the stage before."""
        if self._task is None:
            return
        task = self._progress.tasks[self._task]
        total = task.total or 1
        self._progress.update(self._task, total=total, completed=total)
        self._task = None


class _StepsColumn(ProgressColumn):
    """`step 3/25, 0:12 left`, then the time that the stage took."""

    def render(self, task: Task) -> Text:
        spent = duration(task.finished_time if task.finished else task.elapsed)
        if task.finished:
            return Text(spent, style="green")
        if task.total is None:
            return Text(f"loading, {spent}", style="dim")
        left = f", {duration(task.time_remaining)} left" if task.time_remaining is not None else ""
        return Text(f"step {task.completed:.0f}/{task.total:.0f}{left}")


def duration(seconds: float | None) -> str:
    """`8.1 s`, `3:07 min`, `1:03:07 h`; empty if unknown."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d} h" if hours else f"{minutes}:{rest:02d} min"
