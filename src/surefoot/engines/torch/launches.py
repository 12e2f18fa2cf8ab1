"""What a step asks a GPU to do, while that is recorded: see `repeated_steps`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch


@runtime_checkable
class Movable(Protocol):
    """A launch that can be made for tensors elsewhere."""

    def with_addresses(self, old: np.ndarray, new: np.ndarray) -> Callable[[], Any]:
        """The same where tensors have moved.

        Args:
            old: Where their numbers were, in ascending order.
            new: Where they are now.
        """


class Launches:
    """What one step has launched.

    Attributes:
        starts: Each launches something once more, with the same tensors.
        used: The tensors that are read and written, other than those made in the step.
        changed: Those of them that PyTorch does not know to be changed.
        repeatable: Whether that is all the step did, and it would be the same for tensors at the
            same places.
    """

    def __init__(self) -> None:
        self.starts: list[Callable[[], Any]] = []
        self.used: list[torch.Tensor] = []
        self.changed: list[torch.Tensor] = []
        self.repeatable = True

    def with_addresses(self, old: np.ndarray, new: np.ndarray) -> Launches:
        """The same for tensors that have moved, each from an old address to a new one."""
        order = np.argsort(old)
        moved = Launches()
        moved.used, moved.changed = self.used, self.changed
        moved.starts = [
            start.with_addresses(old[order], new[order]) if isinstance(start, Movable) else start
            for start in self.starts
        ]
        return moved


_recorded: ContextVar[Launches | None] = ContextVar("recorded", default=None)


@contextmanager
def recording(launches: Launches | None) -> Iterator[None]:
    """Record what is launched."""
    token = _recorded.set(launches)
    try:
        yield
    finally:
        _recorded.reset(token)


def launch(start: Callable[[], Any], used: Iterable[torch.Tensor] = ()) -> None:
    """Launch something, which can be launched again as it is.

    Args:
        start: Launches it.
        used: See `Launches`.
    """
    start()
    launches = _recorded.get()
    if launches is not None:
        launches.starts.append(start)
        launches.used.extend(used)


def note_tensors(
    used: Iterable[Iterable[torch.Tensor]], changed: Iterable[Iterable[torch.Tensor]]
) -> None:
    """Note the columns of tensors that a launch reads and writes, and those that it changes."""
    launches = _recorded.get()
    if launches is not None:
        for column in used:
            launches.used.extend(column)
        for column in changed:
            launches.changed.extend(column)


def note_other_work() -> None:
    """Note that the present step does what is not recorded, or what the next one need not do."""
    launches = _recorded.get()
    if launches is not None:
        launches.repeatable = False
