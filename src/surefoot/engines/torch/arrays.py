"""The functions of the rule on PyTorch: see `surefoot.engines.Engine.arrays`."""

from __future__ import annotations

from typing import Any

import torch
from torch import abs, clip, isfinite, isnan, maximum, ones_like, sqrt, sum, tanh, where, zeros_like

__all__ = [
    "abs",
    "clip",
    "isfinite",
    "isnan",
    "maximum",
    "ones_like",
    "sqrt",
    "sum",
    "tanh",
    "where",
    "zeros_like",
]


def places(like: torch.Tensor) -> torch.Tensor:
    """The places of the numbers of an array."""
    found = torch.arange(like.numel(), dtype=torch.int64, device=like.device)
    return found.to(torch.int32).view(like.shape)


def integer(x: Any) -> torch.Tensor:
    """A whole number as int32."""
    return (
        x.to(torch.int32) if isinstance(x, torch.Tensor) else torch.tensor(int(x)).to(torch.int32)
    )


def number(x: torch.Tensor) -> torch.Tensor:
    """An int32 as float32."""
    return x.to(torch.float32)


def to_bits(x: torch.Tensor) -> torch.Tensor:
    """The bits of a float32 as int32."""
    return x.view(torch.int32)


def from_bits(x: torch.Tensor) -> torch.Tensor:
    """The float32 that has these bits."""
    return x.view(torch.float32)


def shifted_right(x: torch.Tensor, bits: int) -> torch.Tensor:
    """The bits of an int32, moved to the right, with zeros from the left."""
    return (x >> bits) & ((1 << (32 - bits)) - 1)
