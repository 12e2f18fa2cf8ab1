"""The engine that trains in this process, where the objects of a notebook are."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from surefoot.compare.trials.engine import Engine, WorkerHandle
from surefoot.compare.trials.store import Trial
from surefoot.compare.trials.worker import Worker


@dataclass
class _Here(WorkerHandle):
    worker: Worker = field(kw_only=True)
    messages: Iterator[tuple[Any, ...]] = field(kw_only=True)


class InProcessEngine(Engine[_Here]):
    """Trains one trial after the other, with the backend and the threads of this process."""

    def __enter__(self) -> "InProcessEngine":
        self._start_worker()
        return self

    def __exit__(self, *_: object) -> None:
        self._workers.clear()

    def _start_worker(self) -> None:
        worker = Worker(None)
        self._workers.append(_Here(worker=worker, messages=iter([worker.prepare(self.request)])))

    def _assign(self, worker: _Here, optimizer: int, trial: Trial) -> None:
        worker.messages = worker.worker.train(optimizer, trial)

    def _listen(self) -> list[tuple[_Here, tuple[Any, ...]]]:
        return [(worker, next(worker.messages)) for worker in self._workers]
