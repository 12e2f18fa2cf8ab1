"""Hyperparameters as Python numbers that have an `assign` method.

In 2020 they were variables, and notebooks call ``optimizer.beta_1.assign(0.95)`` or
``K.set_value(optimizer.beta_1, 0.95)``. Here they are Python numbers with that method.
"""

from __future__ import annotations

from typing import Any

import numpy as np


class LiveNumber:
    """The methods that a number has in addition when it is a hyperparameter."""

    dtype: np.dtype[Any]
    _plain: type
    _optimizer: Any
    _name: str

    def assign(self, value: Any) -> None:
        """Set the hyperparameter from which this number was read; the number does not change."""
        setattr(self._optimizer, self._name, value)

    def numpy(self) -> Any:
        """The number as a NumPy scalar, in the dtype that it had in 2020."""
        return self.dtype.type(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._plain, (self._plain(self),)  # copies and pickles are plain numbers


class LiveFloat(LiveNumber, float):
    """A float hyperparameter."""

    dtype = np.dtype("float32")
    _plain = float


class LiveInt(LiveNumber, int):
    """An integer hyperparameter."""

    dtype = np.dtype("int64")
    _plain = int


def live(number: float, optimizer: Any, name: str) -> float:
    """``number`` with an `assign` that sets the hyperparameter ``name`` of ``optimizer``."""
    found = (LiveInt if isinstance(number, int) else LiveFloat)(number)
    found._optimizer, found._name = optimizer, name
    return found
