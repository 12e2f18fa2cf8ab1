"""Assigns trials to workers; subclasses decide where the workers run."""

import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from surefoot.compare.errors import UsageError
from surefoot.compare.trials.store import Trial, is_same

# The longest time between two updates of the display.
SECONDS_BETWEEN_EVENTS = 0.5


@dataclass(frozen=True)
class Request:
    """What every worker trains; `None` means the task's default.

    Attributes:
        task: Its name, or a `Task` for workers in the same process.
        added: Optimizers in addition to the others.
        schedule: Of optimizers of which nothing else is said.
        varied: Further hyperparameters that are searched.
        target: A result, or one of the optimizers, whose result is the target.
    """

    task: Any
    steps: int | None
    optimizers: tuple[str, ...] | None
    added: tuple[str, ...] = ()
    schedule: str = "constant"
    varied: tuple[str, ...] = ()
    target: float | str | None = None

    @property
    def references(self) -> tuple[str, ...]:
        """All that names the user's own objects."""
        return (self.task, *(self.optimizers or ()), *self.added)


@dataclass(frozen=True)
class Event:
    """A change of a trial's status.

    Attributes:
        kind: `"started"`, `"progress"`, `"done"`, `"failed"`, or `"waiting"` if nothing changed.
        trial: The trial; `None` for `"waiting"`.
        content: The steps done for `"progress"`, the outcome for `"done"`, and for `"failed"` the
            reason, a traceback or `""`, and how many trials of the optimizer will not be run.
    """

    kind: str
    trial: Trial | None = None
    content: Any = None


@dataclass
class WorkerHandle:
    """What an engine knows about a worker."""

    is_ready: bool = False
    trial: Trial | None = None
    last_optimizer: str | None = None


AnyWorker = TypeVar("AnyWorker", bound=WorkerHandle)


@dataclass
class Engine(ABC, Generic[AnyWorker]):
    """Trains trials on workers; use it as a context manager.

    An engine starts its workers on entering and ends them on leaving. `_listen` returns the
    messages of the workers (`surefoot.compare.trials.worker.Worker`), and `("ended", reason)` for
    a worker that has ended.

    Args:
        request: What the workers train.
        backend: Name of the Keras backend.
        jobs: The number of workers.
        threads: Threads of the backend in each worker.
        log: File for the output of workers on this machine.
    """

    request: Request
    backend: str
    jobs: int
    threads: int
    log: Path
    _workers: list[AnyWorker] = field(default_factory=list, init=False)
    _facts: dict[str, Any] | None = field(default=None, init=False)

    @abstractmethod
    def __enter__(self) -> "Engine[AnyWorker]": ...

    @abstractmethod
    def __exit__(self, *_: object) -> None: ...

    @abstractmethod
    def _start_worker(self) -> None:
        """Start one worker, which prepares itself for the request."""

    @abstractmethod
    def _assign(self, worker: AnyWorker, optimizer: int, trial: Trial) -> None:
        """Let a worker train a trial; `optimizer` is an index into those of the request."""

    @abstractmethod
    def _listen(self) -> list[tuple[AnyWorker, tuple[Any, ...]]]:
        """Wait at most `SECONDS_BETWEEN_EVENTS` for messages and return them."""

    def prepare(self) -> dict[str, Any]:
        """Wait until the first worker is ready.

        Returns:
            Its facts about the task and the optimizers.

        Raises:
            UsageError: If the task or an optimizer cannot be used.
        """
        while self._facts is None:
            for worker, (kind, *content) in self._listen():
                if kind != "ready":
                    raise UsageError(content[0])
                self._admit(worker, content[0])
        return dict(self._facts)

    def run(self, trials: Sequence[Trial], labels: Sequence[str]) -> Iterator[Event]:
        """Train the trials and report what happens.

        If an optimizer cannot be trained, its remaining trials are dropped; the others continue.

        Args:
            trials: The trials in the desired order.
            labels: The optimizers' labels in the order of the request.
        """
        queues = {label: deque(t for t in trials if t.optimizer == label) for label in labels}
        while True:
            for worker in self._workers:
                if worker.is_ready and worker.trial is None:
                    trial = self._next(worker, queues)
                    if trial is not None:
                        self._assign(worker, labels.index(trial.optimizer), trial)
                        worker.trial, worker.last_optimizer = trial, trial.optimizer
                        yield Event("started", trial)
            if not any(queues.values()) and all(worker.trial is None for worker in self._workers):
                return
            messages = self._listen()
            if not messages:
                yield Event("waiting")
            for worker, message in messages:
                event = self._event(worker, message)
                if event is not None:
                    if event.kind == "failed" and event.trial is not None:
                        queue = queues[event.trial.optimizer]
                        event = replace(event, content=(*event.content, len(queue) + 1))
                        queue.clear()
                    yield event

    def _event(self, worker: AnyWorker, message: tuple[Any, ...]) -> Event | None:
        kind, *content = message
        trial = worker.trial
        if kind == "ready":
            self._admit(worker, content[0])
            return None
        if kind == "ended":
            self._workers.remove(worker)
            if trial is not None:
                self._start_worker()
                kind, content = "failed", [*content, ""]
        if kind in ("done", "failed"):
            worker.trial = None
        if trial is None:
            raise UsageError(f"a worker could not start: {content[0]}")
        return Event(kind, trial, content if kind == "failed" else content[0])

    def _admit(self, worker: AnyWorker, facts: dict[str, Any]) -> None:
        """Accept a worker if it trains the same as the others."""
        self._facts = facts if self._facts is None else self._facts
        for name, value in facts.items():
            if not is_same(value, self._facts[name]):
                raise UsageError(
                    f"two workers differ in {name}: {self._facts[name]!r} and {value!r}, so their "
                    f"results cannot be compared; the task must be the same each time it is "
                    f"created, and every machine needs the same package versions"
                )
        worker.is_ready = True

    def _next(self, worker: AnyWorker, queues: dict[str, "deque[Trial]"]) -> Trial | None:
        """A trial of the worker's last optimizer, else of a free one, else of the longest queue.

        A worker compiles again when it changes to another optimizer.
        """
        waiting = [label for label, queue in queues.items() if queue]
        if not waiting:
            return None
        taken = {other.last_optimizer for other in self._workers if other is not worker}
        if worker.last_optimizer in waiting:
            chosen = worker.last_optimizer
        else:
            free = [label for label in waiting if label not in taken]
            chosen = free[0] if free else max(waiting, key=lambda label: len(queues[label]))
        assert chosen is not None
        return queues[chosen].popleft()

    def _environment(self) -> dict[str, str]:
        """Environment variables that a worker needs before a backend is imported."""
        threads = str(self.threads)
        settings = {
            "KERAS_BACKEND": self.backend,
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
            "TF_NUM_INTRAOP_THREADS": threads,
            "TF_NUM_INTEROP_THREADS": "1",
            # The size of XLA's own thread pool.
            "NPROC": threads,
            "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2"),
        }
        if self.jobs > 1:
            # Several processes can share one accelerator only if none reserves all of its memory.
            settings["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
            settings["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
        return settings
