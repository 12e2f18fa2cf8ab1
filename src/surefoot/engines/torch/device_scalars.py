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


def uniform(like: torch.Tensor, key: int, step: torch.Tensor) -> torch.Tensor:
    """Numbers in [0, 1) that are a function of key, step and place alone (SplitMix64)."""
    place = torch.arange(like.numel(), dtype=torch.int64, device=like.device).view(like.shape)
    step = step.to(torch.int64)
    bits = (place + (step << 32)) * _GOLDEN + key
    for shift, factor in ((30, _MIX_1), (27, _MIX_2)):
        bits = (bits ^ _shifted(bits, shift)) * factor
    bits = bits ^ _shifted(bits, 31)
    return _shifted(bits, 40).to(torch.float32) * 2.0**-24


def _shifted(bits: torch.Tensor, places: int) -> torch.Tensor:
    """To the right, with zeros from the left."""
    return (bits >> places) & ((1 << (64 - places)) - 1)


_GOLDEN, _MIX_1, _MIX_2 = (
    x - 2**64 for x in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)
