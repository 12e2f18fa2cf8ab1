"""The engine whose workers are processes on this machine."""

import multiprocessing
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from surefoot.compare.trials.engine import SECONDS_BETWEEN_EVENTS, Engine, WorkerHandle
from surefoot.compare.trials.store import Trial
from surefoot.compare.trials.worker import work


@dataclass
class _Process(WorkerHandle):
    process: Any = field(kw_only=True)
    connection: Connection = field(kw_only=True)


class ProcessEngine(Engine[_Process]):
    """Trains trials in child processes."""

    def __enter__(self) -> "ProcessEngine":
        try:
            for _ in range(self.jobs):
                self._start_worker()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.connection.close()
            # A running trial is lost; waiting for it would take too long.
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join()

    def _start_worker(self) -> None:
        # Spawned, not forked: the environment must be in place before a backend is imported.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        # Not a daemon, which could not start processes of its own, as a loader of PyTorch does.
        process = context.Process(target=work, args=(theirs, self.log), daemon=False)
        with environment(self._environment()), _without_interrupts():
            process.start()
        theirs.close()
        ours.send(self.request)
        self._workers.append(_Process(process=process, connection=ours))

    def _assign(self, worker: _Process, optimizer: int, trial: Trial) -> None:
        worker.connection.send((optimizer, trial))

    def _listen(self) -> list[tuple[_Process, tuple[Any, ...]]]:
        connections = [worker.connection for worker in self._workers]
        readable = wait(connections, timeout=SECONDS_BETWEEN_EVENTS)
        return [
            (worker, self._receive(worker))
            for worker in self._workers
            if worker.connection in readable
        ]

    def _receive(self, worker: _Process) -> tuple[Any, ...]:
        try:
            message: tuple[Any, ...] = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            worker.process.join()
            status = worker.process.exitcode
            return "ended", f"its process ended with status {status}; see {self.log}"
        return message


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Keep Ctrl-C, which a terminal sends to all processes, from those started in a ``with`` block.

    They are ended by this one; otherwise each would print where it was interrupted.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Its start takes the mask away again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables while a ``with`` block runs, for processes started in it."""
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
