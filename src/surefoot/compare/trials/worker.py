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
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from surefoot.compare.trials.engine import Request
    from surefoot.compare.trials.store import Trial

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

    def prepare(self, request: "Request") -> Message:
        """Import Keras and the task."""
        from surefoot.compare.errors import UsageError

        try:
            return "ready", self._prepare(request)
        except Exception as error:
            from surefoot.compare.trials.faults import in_one_line

            if not isinstance(error, UsageError):
                _log()
            return "refused", in_one_line(error, self._task)

    def _prepare(self, request: "Request") -> dict[str, Any]:
        # Keras is imported only here, after backend and threads are set.
        import keras

        import surefoot
        from surefoot.compare.search.expression import parse
        from surefoot.compare.search.registry import resolve
        from surefoot.compare.search.space import parse_varied
        from surefoot.compare.trials.checks import check_task
        from surefoot.compare.trials.data import count_examples
        from surefoot.compare.trials.identity import identity
        from surefoot.compare.trials.measures import bounds
        from surefoot.compare.trials.task import Task, load_task
        from surefoot.compare.trials.trial import Trainer

        # Data that the task draws at random, or a dataset shuffles, are the same in each worker.
        keras.utils.set_random_seed(0)
        task = request.task
        if not isinstance(task, Task):
            self._task = task
            task = load_task(task)
        steps = request.steps or task.steps
        axes = parse_varied(request.varied)
        self._recipes = [
            resolve(parse(optimizer), request.schedule, axes)
            for optimizer in (*(request.optimizers or task.optimizers), *request.added)
        ]
        labels = [recipe.label for recipe in self._recipes]
        model = check_task(task)
        self._trainer = Trainer(task, steps)
        return {
            "task": task.name or "task",
            "description": task.description,
            "metric": task.metric_name,
            "higher_is_better": task.higher_is_better,
            "near_best": task.near_best,
            "target": task.target,
            "learning_rates": task.learning_rates,
            "steps": steps,
            "batch_size": task.batch_size,
            "data_sha256": task.data_hash(),
            **identity(task, model),
            "task_facts": dict(task.facts),
            "backend_version": _backend_version(keras.backend.backend()),
            "keras": keras.__version__,
            "surefoot": surefoot.__version__,
            "bounds": bounds(task),
            "validation_examples": count_examples(task.validation),
            "labels": labels,
            "own_schedules": [each.label for each in self._recipes if each.has_own_schedule],
            "count_steps": [each.label for each in self._recipes if each.counts_steps],
            "varied": {recipe.label: list(recipe.varied) for recipe in self._recipes},
            "target_of": _target_of(request.target, labels),
        }

    def train(self, optimizer: int, trial: "Trial") -> Iterator[Message]:
        """Train one trial; `optimizer` is an index into those of the request."""
        training = self._trainer.run(
            self._recipes[optimizer],
            trial.learning_rate,
            trial.seed,
            dict(trial.others),
            trial.length,
        )
        try:
            outcome = yield from _progress_messages(training)
        except Exception as error:
            from surefoot.compare.trials.faults import full, in_one_line

            _log()
            yield "failed", in_one_line(error, self._task), full(error)
        else:
            yield "done", outcome.to_dict()


def _target_of(target: float | str | None, labels: list[str]) -> str | None:
    """The label of the optimizer whose result is the target."""
    from surefoot.compare.errors import UsageError
    from surefoot.compare.search.expression import parse
    from surefoot.compare.search.registry import resolve

    if not isinstance(target, str):
        return None
    label = resolve(parse(target)).label
    if label not in labels:
        raise UsageError(
            f"--target must be a number or one of the optimizers, {', '.join(labels)}. "
            f"Received: {target!r}"
        )
    return label


def work(connection: Connection, log: Path) -> None:
    """Run a worker until the other end of the connection closes.

    Args:
        connection: Receives the request, then trials; sends the messages.
        log: File for everything that is printed.
    """
    worker = Worker(log)
    try:
        connection.send(worker.prepare(connection.recv()))
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
