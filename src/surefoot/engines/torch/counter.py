"""The counter of steps on PyTorch."""

from __future__ import annotations

import functools
from typing import Any

import keras
import torch

from surefoot.engines import plain
from surefoot.engines.torch import gpu
from surefoot.engines.torch.launches import launch, note_other_work


class Counter(keras.Variable):
    """A variable that counts where it is.

    Keras would copy the number to be added to the device, and PyTorch waits for such copies.
    """

    def assign_add(self, value: Any) -> Any:
        """Add a number or a tensor; nothing where the present step is not to be made."""
        if plain.is_stateless():
            return super().assign_add(value)
        holds, counter = gpu.condition(), self._value
        with torch.no_grad():
            if holds is None and isinstance(value, int):
                launch(functools.partial(counter.add_, value), [counter])
            else:
                note_other_work()
                counter.add_(value if holds is None else (holds * value).to(counter.dtype))
        return self.value
