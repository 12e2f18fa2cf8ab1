"""The functions that formulas call, on tensors of one number each in a device's memory.

`keras.ops` would copy each Python number to the device first, and PyTorch waits for such copies.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

exp, expm1, log1p, sqrt = torch.exp, torch.expm1, torch.log1p, torch.sqrt
ones_like, zeros_like = torch.ones_like, torch.zeros_like


def minimum(x: torch.Tensor, y: Any) -> torch.Tensor:
    """The smaller one."""
    return torch.minimum(x, y) if isinstance(y, torch.Tensor) else x.clamp(max=y)


def maximum(x: torch.Tensor, y: Any) -> torch.Tensor:
    """The larger one."""
    return torch.maximum(x, y) if isinstance(y, torch.Tensor) else x.clamp(min=y)


def where(condition: torch.Tensor, x: Any, y: Any) -> torch.Tensor:
    """``x`` where the condition holds, else ``y``; one of them may be a Python number."""
    like = x if isinstance(x, torch.Tensor) else y
    x, y = (v if isinstance(v, torch.Tensor) else torch.full_like(like, v) for v in (x, y))
    return torch.where(condition, x, y)


class NumbersOnDevice(TorchFunctionMode):
    """A scope in which Keras's operations make tensors of Python numbers where these shall be."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Fill a new tensor instead of copying one."""
        kwargs = kwargs or {}
        is_number = func is torch.as_tensor and type(args[0]) in (bool, int, float)
        if is_number and not str(kwargs.get("device") or "cpu").startswith("cpu"):
            return torch.full((), args[0], **kwargs)
        return func(*args, **kwargs)
