"""Optimizers on JAX that share compiled programs compute what each of them says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import surefoot
from loops import BACKEND

if BACKEND == "jax":
    import jax.numpy as jnp
    from jax.experimental.sparse import BCOO

pytestmark = pytest.mark.backends("jax")

FACTORS = (1.0, 3.0)


def _with_table(factor: float, size: int) -> Callable[[], Any]:
    table = jnp.arange(size, dtype="float32") * factor
    return lambda: table[1]


# The code of two of them is the same; what differs is what it closes over.
RATES: dict[str, Callable[[float], Any]] = {
    "number": lambda factor: factor,
    "callable": lambda factor: lambda: factor,
    "small_table": lambda factor: _with_table(factor, 4),
    "large_table": lambda factor: _with_table(factor, 100_000),
    "schedule": lambda factor: keras.optimizers.schedules.ExponentialDecay(factor, 10, 0.9),
}


def moved(optimizer: Any, gradient: Any = 1.0) -> float:
    variable = keras.Variable(np.zeros(5, "float32"), name="weight")
    optimizer.apply([jnp.full(5, gradient, "float32")], [variable])
    return float(np.asarray(variable.value)[0])


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("make", [surefoot.RectifiedAdam, surefoot.Nadam, surefoot.Ranger])
def test_what_a_schedule_closes_over_is_its_own(make: Callable[[Any], Any], rate: str) -> None:
    first, second = (moved(make(RATES[rate](factor))) for factor in FACTORS)
    assert first != 0.0
    np.testing.assert_allclose(second / first, FACTORS[1] / FACTORS[0], rtol=1e-5)


def test_bounds_are_their_own() -> None:
    first, second = (moved(surefoot.RectifiedAdam(1.0, clipnorm=b), 10.0) for b in FACTORS)
    np.testing.assert_allclose(second / first, FACTORS[1] / FACTORS[0], rtol=1e-5)


def test_gradients_of_another_dtype_are_another_program() -> None:
    optimizer = surefoot.RectifiedAdam(1.0)
    variable = keras.Variable(np.zeros(3, "float32"))
    for dtype in ("float32", "bfloat16", "float32"):
        optimizer.apply([jnp.ones(3, dtype)], [variable])
    same = surefoot.RectifiedAdam(1.0)
    expected = keras.Variable(np.zeros(3, "float32"))
    for _ in range(3):
        same.apply([jnp.ones(3)], [expected])
    np.testing.assert_array_equal(variable.value, expected.value)


def test_sparse_gradients_with_more_or_fewer_entries() -> None:
    sparse, dense = (keras.Variable(np.zeros((4, 2), "float32")) for _ in range(2))
    first, second = surefoot.Nadam(0.1), surefoot.Nadam(0.1)
    for rows in (1, 3, 2, 1):
        gradient = jnp.zeros((4, 2)).at[:rows].set(1.0 + rows)
        first.apply([BCOO.fromdense(gradient)], [sparse])
        second.apply([gradient], [dense])
    np.testing.assert_array_equal(sparse.value, dense.value)


def test_an_error_names_the_variable_of_its_optimizer() -> None:
    for name in ("first", "second"):
        optimizer = surefoot.RectifiedAdam(1.0, nonfinite="raise")
        variable = keras.Variable(np.zeros(3, "float32"), name=name)
        optimizer.apply([jnp.ones(3)], [variable])
        with pytest.raises(FloatingPointError, match=name):
            optimizer.apply([jnp.full(3, np.nan)], [variable])
