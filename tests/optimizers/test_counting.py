"""How far optimizers count, and what becomes of steps at the end of a dtype."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import reference
import surefoot
from loops import BACKEND, EAGER_AND_COMPILED, Loop, to_numpy
from optimizers.test_state_kept import stored
from reference_base import Reference

COUNTED: dict[str, tuple[Callable[[], Any], Callable[[Any], Reference]]] = {
    "radam": (
        lambda: surefoot.RectifiedAdam(0.02, beta_2=0.95, weight_decay=0.1),
        lambda p: reference.RectifiedAdam(p, 0.02, beta_2=0.95, weight_decay=0.1),
    ),
    "nadam": (lambda: surefoot.Nadam(0.02), lambda p: reference.Nadam(p, 0.02)),
    "accumulating": (
        lambda: surefoot.Nadam(0.02, gradient_accumulation_steps=3),
        lambda p: reference.Nadam(p, 0.02, gradient_accumulation_steps=3),
    ),
    "lookahead": (
        lambda: surefoot.Lookahead(keras.optimizers.SGD(0.02, 0.9), 3),
        lambda p: reference.Lookahead(reference.SGD(p, 0.02, 0.9), 3),
    ),
    "ranger": (
        lambda: surefoot.Ranger(0.02, beta_2=0.95, sync_period=4),
        lambda p: reference.ranger(p, sync_period=4, learning_rate=0.02, beta_2=0.95),
    ),
}
INT32_END = BACKEND == "jax"


def follow_from(name: str, count: int, mode: str, steps: int = 14) -> None:
    """Steps from ``count`` on are finite, and those of the reference."""
    start = [np.random.default_rng(3).normal(size=(3, 2)), np.ones(2)]
    make, make_reference = COUNTED[name]
    loop, right = Loop(make(), start, mode=mode), make_reference(start)
    micro_steps = loop.optimizer.gradient_accumulation_steps or 1
    count //= micro_steps
    loop.optimizer.build(loop.variables)
    loop.optimizer.iterations = count
    for one in (right, getattr(right, "inner", right)):
        one.updates = count
    for slow, parameter in zip(right.slot.get("slow", []), right.parameters, strict=False):
        slow[...] = parameter
    random = np.random.default_rng(0)
    for _ in range(steps):
        gradients = [random.normal(size=s.shape) for s in start]
        loop.step(gradients)
        right.apply(gradients)
    for ours, theirs in zip(loop.parameters, right.parameters, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.sampled(len(EAGER_AND_COMPILED))
@pytest.mark.parametrize("mode", EAGER_AND_COMPILED)
@pytest.mark.parametrize("name", COUNTED)
@pytest.mark.parametrize("exponent", [24, 31])
def test_steps_around_the_end_of_a_dtype(exponent: int, name: str, mode: str) -> None:
    """float32 has not all numbers above 2^24; int32 ends at 2^31 - 1, where JAX goes back."""
    follow_from(name, 2**exponent - 5, mode)


@pytest.mark.sampled(len(EAGER_AND_COMPILED))
@pytest.mark.parametrize("mode", EAGER_AND_COMPILED)
@pytest.mark.parametrize("name", COUNTED)
@pytest.mark.parametrize("exponent", [31, 53])
@pytest.mark.usefixtures("float64")
def test_steps_as_far_as_int64_goes(exponent: int, name: str, mode: str) -> None:
    follow_from(name, 2**exponent - 5, mode)


@pytest.mark.parametrize("name", COUNTED)
def test_no_more_than_can_be_counted(name: str) -> None:
    optimizer = COUNTED[name][0]()
    steps = optimizer.gradient_accumulation_steps or 1
    most = (2**31 - 1) // steps if INT32_END else 2**53
    optimizer.iterations = most
    for count in (most + 1, 2**53 + 1, 2.0**60):
        with pytest.raises(ValueError, match=str(most)):
            optimizer.iterations = count
    assert int(to_numpy(optimizer.iterations)) == most


@pytest.mark.parametrize("name", ["radam", "nadam", "lookahead", "ranger"])
def test_a_counter_of_int32_is_loaded(name: str) -> None:
    """From files that were written on JAX, or before counters were int64 on PyTorch."""
    optimizer = COUNTED[name][0]()
    state = stored(optimizer)
    optimizer.load_own_variables(state | {"iteration": np.array(7, "int32")})
    assert int(to_numpy(optimizer.iterations)) == 7
    assert optimizer.variables[0].name == "iteration"
    with pytest.raises(ValueError, match="iteration"):
        optimizer.load_own_variables(state | {"iteration": np.array(2**60)})
    assert int(to_numpy(optimizer.iterations)) == 7
