"""Steps on a GPU that repeat what the step before launched.

To find out for each tensor, and each step anew, whether its memory may be handed to a kernel takes
the host longer than the GPU needs for many small tensors. Here all of it is asked at once: are
these the same tensors, of the same kind, in the same memory as in the step before? If so, the same
kernels are launched again, and read the numbers of this step from the device's memory. Where only
gradients have moved, the kernels get new tables of addresses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from surefoot.engines import plain
from surefoot.engines.contract import SteppedOptimizer
from surefoot.engines.torch import gpu
from surefoot.engines.torch.launches import Launches, recording
from surefoot.engines.torch.memory import (
    Resident,
    guard_maker,
    held_tensor,
    held_tensors,
    is_in_memory,
    note_changed,
    overlap,
    resident,
)

_NAME = "repeated step"


class RepeatedStep(NamedTuple):
    """A step that has been recorded, and where it applies.

    Attributes:
        launches: What it launched.
        key: The structure of the optimizer.
        stream: On which stream of the device; another one would not wait for its kernels.
        state: All variables of the model and the optimizer.
        known: Their tensors.
        addresses: Where the numbers of the gradients were.
        sizes: The bytes of all tensors, those of the gradients last.
        itemsizes: The bytes of a number of each.
        are_alike: Whether tensors are of the same kinds as these and the gradients.
    """

    launches: Launches
    key: tuple[int, ...]
    stream: int
    state: list[Any]
    known: Resident
    addresses: np.ndarray
    sizes: np.ndarray
    itemsizes: np.ndarray
    are_alike: Callable[..., bool]

    def for_next(self, optimizer: SteppedOptimizer, gradients: list[Any]) -> RepeatedStep | None:
        """The same with these gradients; None if the next step would do anything else."""
        if self.key != optimizer.compile_key() or len(gradients) != len(self.addresses):
            return None
        tensors = held_tensors(self.state)
        count = len(tensors)
        try:
            if not self.are_alike(*tensors, *gradients) or not self.known.holds(tensors):
                return None
            given = resident(gradients, self.sizes[count:], self.itemsizes[count:])
        except (NotImplementedError, RuntimeError):  # sparse, or wrapped by `torch.func`
            return None
        if given is None or np.array_equal(given.addresses, self.addresses):
            return given and self
        if overlap(np.concatenate([self.known.addresses, given.addresses]), self.sizes):
            return None
        moved = self.launches.with_addresses(self.addresses, given.addresses)
        return self._replace(launches=moved, addresses=given.addresses)


def run(
    optimizer: SteppedOptimizer,
    gradients: list[Any],
    variables: list[Any] | None,
    step: Callable[[], None],
) -> None:
    """Make a step: launch what the one before has launched, or run ``step``."""
    stream = _stream(optimizer, variables)
    if stream is None:
        step()
        return
    last: RepeatedStep | None = optimizer.eager_steps.get(_NAME)
    if last is not None and last.stream == stream:
        again = last.for_next(optimizer, gradients)
        if again is not None:
            for start in again.launches.starts:
                start()
            note_changed([again.launches.changed])
            optimizer.eager_steps[_NAME] = again
            return
    launches = Launches()
    with recording(launches):
        step()
    if launches.repeatable:
        found = _recorded(launches, stream, optimizer, gradients)
        if found is not None:
            optimizer.eager_steps[_NAME] = found


def _stream(optimizer: SteppedOptimizer, variables: list[Any] | None) -> int | None:
    """The stream on which a step may repeat another one, or None."""
    counter = held_tensor(optimizer._iterations)
    device = counter.device
    if (
        not gpu.is_gpu(device)
        or not is_in_memory(counter)
        or gpu.obstacle(device) is not None
        or plain.is_stateless()
        or gpu.condition() is not None
        or not optimizer.repeats_steps()
        or not (variables is None or optimizer.are_all(variables))
        or not gpu.is_current(device)
        or gpu.is_capturing(device)
    ):
        return None
    return gpu.current_stream(device)


def _recorded(
    launches: Launches, stream: int, optimizer: SteppedOptimizer, gradients: list[Any]
) -> RepeatedStep | None:
    state = [*optimizer._trainable_variables, *optimizer.variables]
    tensors = held_tensors(state)
    make_guard = guard_maker()
    known = set(map(id, [*tensors, *gradients]))
    if make_guard is None or not known.issuperset(map(id, launches.used)):
        return None
    everything = [*tensors, *gradients]
    itemsizes = np.array([tensor.itemsize for tensor in everything])
    sizes = np.array([tensor.numel() for tensor in everything]) * itemsizes
    found = resident(everything, sizes, itemsizes)
    if found is None or overlap(found.addresses, sizes):
        return None
    count = len(tensors)
    return RepeatedStep(
        launches=launches,
        key=optimizer.compile_key(),
        stream=stream,
        state=state,
        known=found.first(count),
        addresses=found.addresses[count:],
        sizes=sizes,
        itemsizes=itemsizes,
        are_alike=make_guard(everything),
    )
