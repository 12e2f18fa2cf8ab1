"""A worker process: receives trials, trains them, sends back how they ended.

The messages are tuples whose first entry names them.
To the worker: `("prepare", task, steps, optimizers)`, then any number of
`("trial", optimizer, learning_rate, seed)`; the end of the connection ends the worker.
From the worker: `("ready", facts)` or `("refused", message)`; then for each trial any number of
`("progress", step, loss)` and one `("done", outcome)` or `("failed", message)`.
"""

import os
import sys
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

# Often enough for a lively display, too seldom to cost anything.
_SECONDS_BETWEEN_REPORTS = 0.2


def work(connection: Connection, log: Path) -> None:
    """Serve trials until the other end of the connection closes.

    Args:
        connection: To the process that holds the results.
        log: Takes what the backend, Keras and the user's code print.
    """
    _redirect_output(log)
    try:
        recipes, trainer = _prepare(connection)
        while True:
            _, optimizer, learning_rate, seed = connection.recv()
            _run(connection, trainer, recipes[optimizer], learning_rate, seed)
    except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        # Whoever asked is gone, or is stopping; nobody is left to answer to.
        return


def _prepare(connection: Connection) -> tuple[list[Any], Any]:
    from surefoot.compare.errors import UsageError

    _, task_reference, steps, optimizers = connection.recv()
    try:
        # Keras is imported only here, in a process whose backend and threads are settled.
        import keras

        from surefoot.compare.expression import parse
        from surefoot.compare.registry import resolve
        from surefoot.compare.task import load_task
        from surefoot.compare.trial import Trainer

        task = load_task(task_reference)
        recipes = [resolve(parse(optimizer)) for optimizer in optimizers or task.optimizers]
        steps = steps or task.steps
        facts = {
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
            "labels": [recipe.label for recipe in recipes],
        }
    except UsageError as error:
        connection.send(("refused", str(error)))
        raise EOFError from None
    except Exception as error:
        traceback.print_exc()
        connection.send(("refused", _where(error)))
        raise EOFError from None
    connection.send(("ready", facts))
    return recipes, Trainer(task, steps)


def _run(
    connection: Connection, trainer: Any, recipe: Any, learning_rate: float, seed: int
) -> None:
    last = time.monotonic()

    def progress(step: int, loss: float) -> None:
        nonlocal last
        if time.monotonic() - last > _SECONDS_BETWEEN_REPORTS:
            last = time.monotonic()
            connection.send(("progress", step, loss))

    try:
        outcome = trainer.run(recipe, learning_rate, seed, progress)
    except (BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:
        traceback.print_exc()
        connection.send(("failed", _where(error)))
    else:
        connection.send(("done", outcome.to_dict()))


def _redirect_output(log: Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(descriptor, stream.fileno())


def _backend_version(backend: str) -> str:
    return str(sys.modules[backend].__version__)


def _where(error: Exception) -> str:
    """The error in one line, with the innermost place outside of installed packages."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename]
    frame = (own or frames)[-1]
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text} ({Path(frame.filename).name}, line {frame.lineno})"
