"""A worker of any engine: it prepares itself for a request, then trains one trial after another.

A worker answers with messages, tuples that begin with a name. The answer to the request is
`("ready", facts)` or `("refused", reason)`. Then follow, for each trial, any number of
`("progress", step, loss)` and one `("done", outcome)` or `("failed", reason, traceback)`.
"""

import contextlib
import os
import sys
import time
import traceback
from collections.abc import Generator, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

# Often enough for a live display, and rare enough to cost no time.
_SECONDS_BETWEEN_REPORTS = 0.2

Message = tuple[Any, ...]


class Worker:
    """Trains trials in the current process, which belongs to the worker.

    Args:
        log: File for everything that is printed in the process; `None` leaves the output alone.
    """

    def __init__(self, log: Path | None) -> None:
        if log is not None:
            _redirect_output(log)
        self._task = ""
        self._recipes: list[Any] = []
        self._trainer: Any = None

    def prepare(self, task: str, steps: int | None, optimizers: tuple[str, ...] | None) -> Message:
        """Import Keras and the task; for the arguments see `Request`."""
        from surefoot.compare.errors import UsageError

        try:
            return "ready", self._prepare(task, steps, optimizers)
        except Exception as error:
            from surefoot.compare.trials.faults import in_one_line

            if not isinstance(error, UsageError):
                _log()
            return "refused", in_one_line(error, task)

    def _prepare(
        self, reference: str, steps: int | None, optimizers: tuple[str, ...] | None
    ) -> dict[str, Any]:
        # Keras is imported only here, after backend and threads are set.
        import keras

        import surefoot
        from surefoot.compare.search.expression import parse
        from surefoot.compare.search.registry import resolve
        from surefoot.compare.trials.checks import check_task
        from surefoot.compare.trials.task import load_task
        from surefoot.compare.trials.trial import Trainer

        # Data that the task draws at random, or a dataset shuffles, are the same in each worker.
        keras.utils.set_random_seed(0)
        self._task = reference
        task = load_task(reference)
        steps = steps or task.steps
        self._recipes = [resolve(parse(optimizer)) for optimizer in optimizers or task.optimizers]
        check_task(task)
        self._trainer = Trainer(task, steps)
        return {
            "task": task.name,
            "description": task.description,
            "metric": task.metric_name,
            "higher_is_better": task.higher_is_better,
            "near_best": task.near_best,
            "target": task.target,
            "learning_rates": task.learning_rates,
            "steps": steps,
            "batch_size": task.batch_size,
            "data_sha256": task.data_hash(),
            "task_facts": dict(task.facts),
            "backend_version": _backend_version(keras.backend.backend()),
            "keras": keras.__version__,
            "surefoot": surefoot.__version__,
            "labels": [recipe.label for recipe in self._recipes],
        }

    def train(self, optimizer: int, learning_rate: float, seed: int) -> Iterator[Message]:
        """Train one trial; `optimizer` is an index into those of the request."""
        recipe = self._recipes[optimizer]
        try:
            outcome = yield from _progress_messages(self._trainer.run(recipe, learning_rate, seed))
        except Exception as error:
            from surefoot.compare.trials.faults import full, in_one_line

            _log()
            yield "failed", in_one_line(error, self._task), full(error)
        else:
            yield "done", outcome.to_dict()


def work(connection: Connection, log: Path) -> None:
    """Run a worker until the other end of the connection closes.

    Args:
        connection: Receives the request, then trials; sends the messages.
        log: File for everything that is printed.
    """
    worker = Worker(log)
    try:
        connection.send(worker.prepare(*connection.recv()))
        while True:
            for message in worker.train(*connection.recv()):
                connection.send(message)
    except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        # The main process has ended or is stopping.
        return


def _progress_messages(
    training: Generator[tuple[int, float], None, Any],
) -> Generator[Message, None, Any]:
    """Messages about the steps of a trial, at most one per `_SECONDS_BETWEEN_REPORTS`."""
    last = time.monotonic()
    while True:
        try:
            step, loss = next(training)
        except StopIteration as end:
            return end.value
        if time.monotonic() - last > _SECONDS_BETWEEN_REPORTS:
            last = time.monotonic()
            yield "progress", step, loss


def _redirect_output(log: Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(descriptor, stream.fileno())


def _log() -> None:
    """Print the traceback of what is being handled; on a full disk the message is what counts."""
    with contextlib.suppress(OSError):
        traceback.print_exc()


def _backend_version(backend: str) -> str:
    return str(sys.modules[backend].__version__)
