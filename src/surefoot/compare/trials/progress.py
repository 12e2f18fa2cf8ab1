"""Shows the running trials, the remaining time and the best result so far."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from surefoot.compare.formatting import number, rate
from surefoot.compare.trials.store import Trial

# Without a terminal, a line is printed after each tenth of the trials.
_LINES = 10


class Display:
    """Shows the progress of the trials: live on a terminal, as a few lines otherwise.

    Args:
        console: The console to print to.
        total: Number of trials, including those of an earlier start.
        done: Number of trials of an earlier start.
        steps: Steps of a trial.
        higher_is_better: Whether a higher result is better.
    """

    def __init__(
        self, console: Console, total: int, done: int, steps: int, higher_is_better: bool
    ) -> None:
        self._console = console
        self._total, self._done, self._before = total, done, done
        self._steps = steps
        self._higher = higher_is_better
        self._running: dict[Trial, int] = {}
        self._best: tuple[float, Trial] | None = None
        self._diverged = 0
        self._explained: set[str] = set()
        self._started: float | None = None
        self._progress = Progress(
            TextColumn("trials"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
        )
        self._task = self._progress.add_task("", total=total, completed=done, left="starting")

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show the display while a ``with`` block runs."""
        if not self._console.is_terminal:
            yield
            return
        with Live(
            get_renderable=self._render, console=self._console, transient=True, refresh_per_second=4
        ):
            yield

    def known(self, records: Iterable[tuple[Trial, dict[str, Any]]]) -> None:
        """Consider results of an earlier start."""
        for trial, record in records:
            self._rank(trial, record["result"])

    def started(self, trial: Trial) -> None:
        """A trial has started."""
        self._started = self._started or time.monotonic()
        self._running[trial] = 0

    def stepped(self, trial: Trial, step: int) -> None:
        """A trial has done this many steps."""
        self._running[trial] = step

    def finished(self, trial: Trial, outcome: dict[str, Any]) -> None:
        """A trial has ended and is on disk."""
        self._running.pop(trial)
        self._done += 1
        self._diverged += outcome["status"] == "diverged"
        self._rank(trial, outcome["result"])
        self._print_line()

    def failed(self, trial: Trial, dropped: int, message: str, traceback: str) -> None:
        """An optimizer cannot be trained; `dropped` trials will not be run.

        A fault of the task's fails every optimizer, so its traceback is shown only once.
        """
        self._running.pop(trial)
        self._total -= dropped
        if message not in self._explained:
            self._explained.add(message)
            self._console.print(
                Text(traceback.rstrip()), soft_wrap=True, end="\n" * bool(traceback)
            )
        text = f"{_named(trial)}, failed, so {trial.optimizer} cannot be trained: {message}"
        self._console.print(Text(text, style="red"), soft_wrap=True)

    def _rank(self, trial: Trial, result: float | None) -> None:
        if result is None:
            return
        best = self._best
        if best is None or (result > best[0] if self._higher else result < best[0]):
            self._best = result, trial

    def _render(self) -> Group:
        partly = sum(self._running.values()) / self._steps
        self._progress.update(
            self._task, total=self._total, completed=self._done, left=self._time_left(partly)
        )
        running = [
            Text(f"  {_named(trial)}, " + (f"step {step} of {self._steps}" if step else "starting"))
            for trial, step in sorted(self._running.items())
        ]
        return Group(self._progress, *running, Text(self._so_far(), style="green"))

    def _print_line(self) -> None:
        if self._console.is_terminal:
            return
        each = max(self._total // _LINES, 1)
        if (self._done - self._before) % each == 0 or self._done == self._total:
            left = self._time_left(0.0)
            self._console.print(
                f"{self._done} of {self._total} trials, {left}; {self._so_far().strip()}",
                soft_wrap=True,
            )

    def _so_far(self) -> str:
        if self._best is None:
            return "  nothing finished yet"
        diverged = f"; {self._diverged} diverged" if self._diverged else ""
        return f"  best so far: {number(self._best[0])} with {_named(self._best[1])}{diverged}"

    def _time_left(self, partly: float) -> str:
        done = self._done - self._before + partly
        if self._started is None or not done:
            return "starting"
        elapsed = time.monotonic() - self._started
        left = elapsed / done * (self._total - self._done - partly)
        return f"{int(left // 60)}:{int(left % 60):02} left"


def _named(trial: Trial) -> str:
    return f"{trial.optimizer} at {rate(trial.learning_rate)}, seed {trial.seed}"
