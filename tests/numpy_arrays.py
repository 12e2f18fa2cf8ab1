"""The functions that the rule calls, on NumPy's arrays; see `surefoot.engines.compiler.symbols`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import (
    abs,
    clip,
    isfinite,
    isnan,
    maximum,
    minimum,
    ones_like,
    sqrt,
    where,
    zeros_like,
)

__all__ = [
    "abs",
    "clip",
    "isfinite",
    "isnan",
    "maximum",
    "minimum",
    "ones_like",
    "sqrt",
    "where",
    "zeros_like",
]


def integer(x: Any) -> np.ndarray:
    """A whole number as int32, whose products are cut off without a warning."""
    return np.atleast_1d(np.asarray(x)).astype("int32")


def to_bits(x: np.ndarray) -> np.ndarray:
    """The bits of a float32 as int32."""
    return np.asarray(x, "float32").view("int32")


def from_bits(x: np.ndarray) -> np.ndarray:
    """The float32 that has these bits."""
    return x.view("float32")


def shifted_right(x: np.ndarray, bits: int) -> np.ndarray:
    """The bits of an int32, moved to the right, with zeros from the left."""
    return (x.view("uint32") >> np.uint32(bits)).view("int32")
