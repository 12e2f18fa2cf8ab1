"""The floor: one fused pass that reads p, g, m, v once and writes p, m, v once.

It does the arithmetic of an Adam step and knows nothing of frameworks: the tensors lie one
behind the other in one buffer per stream, and the cores share them in pieces of equal size.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np

# The worker threads of the OpenMP layer spin after each pass and would slow the next contender.
os.environ.setdefault("NUMBA_THREADING_LAYER", "workqueue")

import numba

from benchmarks.shapes import Shape, parameters

PIECE = 1 << 16
"""Numbers a thread takes at a time: its four streams fit into a second-level cache."""

Pass = Callable[[], None]


@numba.njit(parallel=True, fastmath=True, error_model="numpy", cache=True)
def adam_kernel(p, g, m, v, rate, one_minus_beta_1, one_minus_beta_2, epsilon):
    size = p.size
    for piece in numba.prange((size + PIECE - 1) // PIECE):
        start = piece * PIECE
        for i in range(start, min(start + PIECE, size)):
            m_i = m[i] + one_minus_beta_1 * (g[i] - m[i])
            v_i = v[i] + one_minus_beta_2 * (g[i] * g[i] - v[i])
            m[i] = m_i
            v[i] = v_i
            p[i] -= rate * m_i / (np.sqrt(v_i) + epsilon)


@numba.njit(parallel=True, fastmath=True, error_model="numpy", cache=True)
def amsgrad_kernel(p, g, m, v, vhat, rate, one_minus_beta_1, one_minus_beta_2, epsilon):
    size = p.size
    for piece in numba.prange((size + PIECE - 1) // PIECE):
        start = piece * PIECE
        for i in range(start, min(start + PIECE, size)):
            m_i = m[i] + one_minus_beta_1 * (g[i] - m[i])
            v_i = v[i] + one_minus_beta_2 * (g[i] * g[i] - v[i])
            vhat_i = max(vhat[i], v_i)
            m[i] = m_i
            v[i] = v_i
            vhat[i] = vhat_i
            p[i] -= rate * m_i / (np.sqrt(vhat_i) + epsilon)


def floor_pass(shapes: list[Shape], *, amsgrad: bool = False) -> Pass:
    """One pass over freshly made tensors of these shapes; call it once per step.

    Args:
        shapes: Shapes of the parameters.
        amsgrad: Whether there is a fifth stream, the maximum of v.

    Returns:
        A function without arguments that makes one step.
    """
    size = parameters(shapes)
    rng = np.random.default_rng(0)
    p = rng.standard_normal(size, dtype=np.float32)
    g = rng.standard_normal(size, dtype=np.float32)
    # Written once, so that the pages are there before the first pass is timed.
    m, v, vhat = (np.full(size, 1e-3, np.float32) for _ in range(3))
    scalars = tuple(np.float32(x) for x in (1e-3, 0.1, 0.001, 1e-7))
    if amsgrad:
        return lambda: amsgrad_kernel(p, g, m, v, vhat, *scalars)
    return lambda: adam_kernel(p, g, m, v, *scalars)
