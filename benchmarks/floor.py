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


@numba.njit(fastmath=True, error_model="numpy")
def _adam_piece(p, g, m, v, rate, one_minus_beta_1, one_minus_beta_2, epsilon):
    for i in range(p.size):
        m_i = m[i] + one_minus_beta_1 * (g[i] - m[i])
        v_i = v[i] + one_minus_beta_2 * (g[i] * g[i] - v[i])
        m[i] = m_i
        v[i] = v_i
        p[i] -= rate * m_i / (np.sqrt(v_i) + epsilon)


@numba.njit(fastmath=True, error_model="numpy")
def _amsgrad_piece(p, g, m, v, vhat, rate, one_minus_beta_1, one_minus_beta_2, epsilon):
    for i in range(p.size):
        m_i = m[i] + one_minus_beta_1 * (g[i] - m[i])
        v_i = v[i] + one_minus_beta_2 * (g[i] * g[i] - v[i])
        vhat_i = max(vhat[i], v_i)
        m[i] = m_i
        v[i] = v_i
        vhat[i] = vhat_i
        p[i] -= rate * m_i / (np.sqrt(vhat_i) + epsilon)


# Each piece is a slice of its own: an index into the whole buffer might be negative for all
# that the compiler knows, and the loop would not be vectorized (three times the time).
@numba.njit(parallel=True)
def adam_kernel(p, g, m, v, *scalars):
    for piece in numba.prange((p.size + PIECE - 1) // PIECE):
        i, j = piece * PIECE, min((piece + 1) * PIECE, p.size)
        _adam_piece(p[i:j], g[i:j], m[i:j], v[i:j], *scalars)


@numba.njit(parallel=True)
def amsgrad_kernel(p, g, m, v, vhat, *scalars):
    for piece in numba.prange((p.size + PIECE - 1) // PIECE):
        i, j = piece * PIECE, min((piece + 1) * PIECE, p.size)
        _amsgrad_piece(p[i:j], g[i:j], m[i:j], v[i:j], vhat[i:j], *scalars)


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
