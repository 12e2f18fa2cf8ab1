"""The state of an optimizer as the lists of 2020: `weights`, `get_weights`, `set_weights`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import keras
import numpy as np

from surefoot.state.attachment import require_attached
from surefoot.state.counter import checked_updates
from surefoot.state.named_state import converted, storable
from surefoot.variables.slots import SlotRegistry

_SQUARES = ("v of ", "vhat of ")


class WeightEntry(NamedTuple):
    """One entry of `get_weights`: its name and shape, how it is read and written, its check."""

    name: str
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]
    write: Callable[[np.ndarray], None]
    check: Callable[[np.ndarray], Any]
    """Raises a ValueError with a reason for an array that cannot be written."""

    @classmethod
    def of(cls, name: str, variable: Any) -> WeightEntry:
        """The entry of a variable."""

        def check(array: np.ndarray) -> np.ndarray:
            taken = converted(variable, array)
            if name.startswith(_SQUARES) and np.any(taken < 0):
                raise ValueError(
                    f"is an average of squares, but the array contains {np.min(taken)}. Perhaps "
                    "the order of the list is wrong"
                )
            return taken

        return cls(
            name,
            tuple(variable.shape),
            lambda: storable(variable),
            lambda array: variable.assign(check(array)),
            check,
        )


class CallableList(list[Any]):
    """A list that can also be called, since `variables` was a method in 2020."""

    def __init__(self, items: Iterable[Any], called: Callable[[], list[Any]]):
        super().__init__(items)
        self._called = called

    def __call__(self) -> list[Any]:
        """The return value of the method."""
        return self._called()


class WeightLists:
    """The state as lists of the entries in `weight_entries`."""

    slots: SlotRegistry
    built: bool
    name: str
    iterations: Any
    _iterations: Any

    @property
    def variables(self) -> CallableList:
        """All state, as in Keras 3; when called, `weights`, as in 2020."""
        return CallableList(super().variables, lambda: self.weights)  # type: ignore[misc]

    @property
    def weights(self) -> list[Any]:
        """The variables in the originals' order, iterations first, then slot by slot."""
        return [
            self._iterations,
            *self.leading_weights(),
            *(slot for _, slot in self.slots.named_in_columns()),
            *self.slots.added.values(),
        ]

    def leading_weights(self) -> list[Any]:
        """The variables that the original kept between the iterations and the slots."""
        return []

    def leading_weight_entries(self) -> list[WeightEntry]:
        """The entries of `leading_weights` in `get_weights`."""
        return [WeightEntry.of(variable.name, variable) for variable in self.leading_weights()]

    def weight_entries(self) -> list[WeightEntry]:
        """The entries of `get_weights`, in the originals' order."""

        def read_iterations() -> np.ndarray:
            return np.array(keras.ops.convert_to_numpy(self.iterations))

        def write_iterations(value: np.ndarray) -> None:
            self.iterations = value

        def check_iterations(value: np.ndarray) -> None:
            checked_updates(self, value)

        return [
            WeightEntry("iterations", (), read_iterations, write_iterations, check_iterations),
            *self.leading_weight_entries(),
            *(WeightEntry.of(*item) for item in self.slots.named_in_columns()),
            *(WeightEntry.of(*item) for item in self.slots.added.items()),
        ]

    def get_weights(self) -> list[np.ndarray]:
        """Return the state as a list of NumPy arrays, in the originals' order.

        Returns:
            The iteration count, for Nadam the momentum cache, then all ``m``,
            all ``v``, with amsgrad all ``vhat``, then other state (master
            values of low-precision variables, added slots and weights). For
            Lookahead, all ``slow`` come before the inner optimizer's slots.
        """
        return [entry.read() for entry in self.weight_entries()]

    def set_weights(self, weights: Iterable[Any]) -> None:
        """Set the state from a list that `get_weights` returned.

        Without amsgrad, ``vhat`` at the end of a list are ignored, as in
        TensorFlow Addons.

        Args:
            weights: Arrays from `get_weights`, of this package or the original.

        Raises:
            ValueError: If the optimizer is not built, the list has a wrong
                length, or an entry has a wrong shape or an impossible value,
                such as a negative average of squares. Nothing is changed then.
        """
        if not self.built:
            raise ValueError(
                f"The optimizer '{self.name}' has no weights to set before it is built; call "
                "`optimizer.build(model.trainable_variables)` first."
            )
        arrays = [np.asarray(weight) for weight in weights]
        entries = self.weight_entries()
        surplus = self.surplus_weights()
        if surplus and len(arrays) == len(entries) + surplus:
            arrays = arrays[: len(entries)]
        if len(arrays) != len(entries):
            raise ValueError(
                f"The optimizer '{self.name}' has {len(entries)} weights "
                f"({', '.join(entry.name for entry in entries)}). "
                f"Received: a list of {len(arrays)} arrays"
            )
        for index, (entry, array) in enumerate(zip(entries, arrays, strict=True)):
            if array.shape != entry.shape:
                raise ValueError(
                    f"Weight {index} of the optimizer '{self.name}', {entry.name}, has shape "
                    f"{entry.shape}. Received: an array of shape {array.shape}"
                )
            try:
                entry.check(array)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"Weight {index} of the optimizer '{self.name}', {entry.name}, {error}"
                ) from error
        require_attached(self._iterations, "the optimizer's weights")
        for entry, array in zip(entries, arrays, strict=True):
            entry.write(array)

    def surplus_weights(self) -> int:
        """The number of ``vhat`` at the end of a list that `set_weights` ignores."""
        return 0 if self.slots.column("vhat") else len(self.slots.column("v"))
