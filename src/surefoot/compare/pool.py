"""Worker processes and which trial each of them trains."""

import multiprocessing
import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from surefoot.compare.errors import UsageError
from surefoot.compare.store import Trial
from surefoot.compare.worker import work

# How long the display may go without a sign of life.
_SECONDS_BETWEEN_EVENTS = 0.5


@dataclass(frozen=True)
class Request:
    """What every worker is prepared for; `None` leaves the choice to the task."""

    task: str
    steps: int | None
    optimizers: tuple[str, ...] | None


@dataclass(frozen=True)
class Event:
    """Something happened to a trial.

    Attributes:
        kind: `"started"`, `"progress"`, `"done"`, `"failed"`, or `"waiting"` if nothing did.
        trial: Which; `None` for `"waiting"`.
        content: Steps done for `"progress"`; the outcome for `"done"`; for `"failed"` why, and how
            many trials of the optimizer will not be run.
    """

    kind: str
    trial: Trial | None = None
    content: Any = None


@dataclass
class _Worker:
    process: Any
    connection: Connection
    is_ready: bool = False
    trial: Trial | None = None
    last_optimizer: str | None = None


@dataclass
class Pool:
    """Trains trials in worker processes; use it as a context manager.

    Args:
        request: What the workers are prepared for.
        backend: Name of the Keras backend.
        jobs: How many workers.
        threads: Threads of the backend in each worker.
        log: File that takes what the workers print.
    """

    request: Request
    backend: str
    jobs: int
    threads: int
    log: Path
    _workers: list[_Worker] = field(default_factory=list, init=False)

    def __enter__(self) -> "Pool":
        for _ in range(self.jobs):
            self._start_worker()
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.connection.close()
            # A trial under way is not worth waiting for: it is not on disk.
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join()

    def prepare(self) -> dict[str, Any]:
        """Wait for the first worker to be ready.

        Returns:
            What it found out about the task and the optimizers.

        Raises:
            UsageError: If the task or an optimizer cannot be used.
        """
        while True:
            for worker in self._ready_to_read():
                message = self._receive(worker)
                if message[0] == "ready":
                    worker.is_ready = True
                    return dict(message[1])
                raise UsageError(message[1])

    def run(self, trials: Sequence[Trial], labels: Sequence[str]) -> Iterator[Event]:
        """Train the trials and tell what happens.

        An optimizer that cannot be trained loses its remaining trials; the others go on.

        Args:
            trials: In the order in which they are wanted.
            labels: The optimizers' labels in the order of the request.
        """
        queues = {label: deque(t for t in trials if t.optimizer == label) for label in labels}
        while True:
            for worker in self._workers:
                if worker.is_ready and worker.trial is None:
                    trial = self._next(worker, queues)
                    if trial is not None:
                        index = labels.index(trial.optimizer)
                        worker.connection.send(("trial", index, trial.learning_rate, trial.seed))
                        worker.trial, worker.last_optimizer = trial, trial.optimizer
                        yield Event("started", trial)
            if not any(queues.values()) and all(w.trial is None for w in self._workers):
                return
            readable = self._ready_to_read()
            if not readable:
                yield Event("waiting")
            for worker in readable:
                event = self._event(worker)
                if event is not None:
                    if event.kind == "failed" and event.trial is not None:
                        queue = queues[event.trial.optimizer]
                        event = replace(event, content=(event.content, len(queue) + 1))
                        queue.clear()
                    yield event

    def _event(self, worker: _Worker) -> Event | None:
        kind, *content = self._receive(worker)
        trial = worker.trial
        if kind == "ready":
            worker.is_ready = True
            return None
        if kind in ("done", "failed"):
            worker.trial = None
        if kind == "refused" or trial is None:
            raise UsageError(f"a worker process could not start: {content[0]}")
        return Event(kind, trial, content[0])

    def _next(self, worker: _Worker, queues: dict[str, "deque[Trial]"]) -> Trial | None:
        """The worker's own optimizer goes on, else one that nobody has, else the longest queue.

        A worker compiles once per optimizer that it changes to.
        """
        waiting = [label for label, queue in queues.items() if queue]
        if not waiting:
            return None
        taken = {w.last_optimizer for w in self._workers if w is not worker}
        if worker.last_optimizer in waiting:
            chosen = worker.last_optimizer
        else:
            free = [label for label in waiting if label not in taken]
            chosen = free[0] if free else max(waiting, key=lambda label: len(queues[label]))
        assert chosen is not None
        return queues[chosen].popleft()

    def _ready_to_read(self) -> list[_Worker]:
        connections = [worker.connection for worker in self._workers]
        readable = wait(connections, timeout=_SECONDS_BETWEEN_EVENTS)
        return [worker for worker in self._workers if worker.connection in readable]

    def _receive(self, worker: _Worker) -> tuple[Any, ...]:
        try:
            message: tuple[Any, ...] = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            worker.process.join()
            ending = f"its process ended with status {worker.process.exitcode}; see {self.log}"
            self._workers.remove(worker)
            if worker.trial is None:
                return "refused", ending
            self._start_worker()
            return "failed", ending
        return message

    def _start_worker(self) -> _Worker:
        # Spawned, not forked: the environment must be in place before a backend is imported.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, self.log), daemon=True)
        with _environment(self._settings()):
            process.start()
        theirs.close()
        ours.send(("prepare", self.request.task, self.request.steps, self.request.optimizers))
        worker = _Worker(process, ours)
        self._workers.append(worker)
        return worker

    def _settings(self) -> dict[str, str]:
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
            # Several processes share one accelerator only if none takes all of its memory.
            settings["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
            settings["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
        return settings


@contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
