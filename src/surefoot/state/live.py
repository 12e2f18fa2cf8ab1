"""Hyperparameters as they are read: numbers that can also be assigned to.

In 2020 they were variables, and notebooks say ``optimizer.beta_1.assign(0.95)`` or
``K.set_value(optimizer.beta_1, 0.95)``. Here they are numbers of Python with that method.
"""

from __future__ import annotations

from typing import Any

import numpy as np


class LiveNumber:
    """What a number has besides when it is an attribute of an optimizer."""

    dtype: np.dtype[Any]
    _plain: type
    _optimizer: Any
    _name: str

    def assign(self, value: Any) -> None:
        """Set the hyperparameter that this number was read from; the number stays what it is."""
        setattr(self._optimizer, self._name, value)

    def numpy(self) -> Any:
        """The number as NumPy's, in the dtype that it had in 2020."""
        return self.dtype.type(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._plain, (self._plain(self),)  # a copy, or from a file: a number and no more


class LiveFloat(LiveNumber, float):
    """A float of an optimizer."""

    dtype = np.dtype("float32")
    _plain = float


class LiveInt(LiveNumber, int):
    """A whole number of an optimizer."""

    dtype = np.dtype("int64")
    _plain = int


def live(number: float, optimizer: Any, name: str) -> float:
    """``number``, the hyperparameter ``name`` of ``optimizer``, so that it can be assigned to."""
    found = (LiveInt if isinstance(number, int) else LiveFloat)(number)
    found._optimizer, found._name = optimizer, name
    return found
