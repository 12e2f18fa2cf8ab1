"""The counter of steps on PyTorch."""

from __future__ import annotations

from typing import Any

import keras
import torch

from surefoot.engines import plain
from surefoot.engines.torch import gpu


class Counter(keras.Variable):
    """A variable that counts where it is.

    Keras would copy the number to be added to the device, and PyTorch waits for such copies.
    """

    def assign_add(self, value: Any) -> Any:
        """Add a number or a tensor; nothing where the present step is not to be made."""
        if plain.is_stateless():
            return super().assign_add(value)
        holds = gpu.condition()
        with torch.no_grad():
            counted = value if holds is None else (holds * value).to(self._value.dtype)
            self._value.add_(counted)
        return self.value
