"""Lookahead held against paths worked out by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import reference
import surefoot
import tolerances
from loops import EAGER, EAGER_AND_COMPILED, MODES, Loop, to_numpy

ONES = [np.ones(2)]


def around_sgd(**options: object) -> surefoot.Lookahead:
    return surefoot.Lookahead(keras.optimizers.SGD(1.0), **options)


def path(
    optimizer: keras.optimizers.Optimizer, steps: int, start: float = 0.0, mode: str = EAGER
) -> list[float]:
    """Where a variable goes under a gradient of one, rounded to float32."""
    loop = Loop(optimizer, [np.full(2, start)], mode=mode)
    values = []
    for _ in range(steps):
        loop.step(ONES)
        first, second = loop.parameters[0]
        assert first == second
        values.append(float(first))
    return values


@pytest.mark.parametrize("mode", MODES)
def test_three_steps_forward_half_a_way_back(mode: str) -> None:
    """SGD with rate 1 and a gradient of 1 walks one down a step.

    From 0 the fast weights go to -1, -2, -3; with k = 3 and alpha = 1/2 the slow weights,
    which wait at 0, move half the way: -1.5, and the fast ones are put there. The next
    period goes -2.5, -3.5, -4.5 and ends half way between -1.5 and -4.5: -3.
    """
    assert path(around_sgd(sync_period=3), 7, mode=mode) == [-1, -2, -1.5, -2.5, -3.5, -3, -4]


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [
        (0.0, [-1, 0, -1, 0]),  # the slow weights never move
        (0.25, [-1, -0.5, -1.5, -1.0]),  # a quarter of -2, then a quarter on from -0.5 to -2.5
        (1.0, [-1, -2, -3, -4]),  # plain SGD
    ],
)
def test_alpha(alpha: float, expected: list[float]) -> None:
    assert path(around_sgd(sync_period=2, slow_step_size=alpha), 4) == expected


@pytest.mark.parametrize(("alpha", "expected"), [(0.5, [-0.5, -1, -1.5]), (1.0, [-1, -2, -3])])
def test_period_of_one_scales_every_step(alpha: float, expected: list[float]) -> None:
    assert path(around_sgd(sync_period=1, slow_step_size=alpha), 3) == expected


@pytest.mark.parametrize("mode", EAGER_AND_COMPILED)
def test_slow_weights_are_the_fast_ones_at_the_last_synchronisation(mode: str) -> None:
    loop = Loop(around_sgd(sync_period=2), [np.full(2, 8.0)], mode=mode)
    seen = []
    for _ in range(5):
        loop.step(ONES)
        seen.append(float(loop.slot("slow")[0][0]))
    assert seen == [8, 7, 7, 6, 6]


@pytest.mark.parametrize("mode", EAGER_AND_COMPILED)
def test_only_the_end_of_a_period_changes_the_slow_weights(mode: str) -> None:
    """Weights that somebody else changes go on from there, and half the way back at the end.

    From 0 to -1, then 100 is assigned; 99 and 98; half way between 0 and 98: 49.
    """
    loop = Loop(around_sgd(sync_period=3), [np.zeros(2)], mode=mode)
    loop.step(ONES)
    loop.variables[0].assign(np.full(2, 100.0, "float32"))
    loop.step(ONES)
    loop.step(ONES)
    np.testing.assert_array_equal(loop.parameters[0], [49, 49])


@pytest.mark.parametrize("mode", EAGER_AND_COMPILED)
def test_weights_loaded_before_the_first_update_are_the_slow_ones(mode: str) -> None:
    """From 100 to 99 and 98, and half the way back."""
    loop = Loop(around_sgd(sync_period=2), [np.zeros(2)], mode=mode)
    loop.optimizer.build(loop.variables)
    loop.variables[0].assign(np.full(2, 100.0, "float32"))
    loop.step(ONES)
    loop.step(ONES)
    np.testing.assert_array_equal(loop.parameters[0], [99, 99])


@pytest.mark.parametrize("make", [around_sgd, surefoot.Ranger])
@pytest.mark.parametrize("mode", EAGER_AND_COMPILED)
def test_slow_weights_are_reset_when_asked(mode: str, make: Callable[..., Any]) -> None:
    loop = Loop(make(sync_period=100), [np.zeros(2)], mode=mode)
    loop.optimizer.reset_slow_weights()  # before there are any
    loop.step(ONES)
    loop.variables[0].assign(np.full(2, 100.0, "float32"))
    loop.optimizer.reset_slow_weights()
    np.testing.assert_array_equal(loop.slot("slow")[0], [100, 100])
    loop.step(ONES)
    np.testing.assert_array_equal(loop.slot("slow")[0], [100, 100])


class Halved(keras.constraints.Constraint):
    def __call__(self, w: object) -> object:
        return 0.5 * w


def test_slow_weights_know_no_constraints() -> None:
    """As in the original, which constrains what the way back has left, not where it starts.

    From 4 and halved after each step, a weight goes to (4 - 1) / 2 = 1.5, then to 0.5, from
    there half the way back to 4, and is halved: 1.125. Then to 0.0625 and -0.9375; half way
    between that and 2.25 is 0.65625.
    """
    variable = keras.Variable(np.full(2, 4.0))
    variable.constraint = Halved()
    optimizer = around_sgd(sync_period=2)
    seen = []
    for _ in range(4):
        optimizer.apply([keras.ops.ones(2)], [variable])
        seen.append(float(to_numpy(variable)[0]))
    assert seen == [1.5, 1.125, 0.0625, 0.65625 / 2]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("mode", MODES)
def test_around_keras_adam(mode: str) -> None:
    half = float(np.float32(0.03))
    beta = {"beta_1": 0.875, "beta_2": 0.9375, "epsilon": 2.0**-20}
    optimizer = surefoot.Lookahead(keras.optimizers.Adam(half, **beta), 4, 0.75)
    start = [np.random.default_rng(0).normal(size=(3, 2))]
    loop = Loop(optimizer, start, dtype="float64", mode=mode)
    plain = reference.Lookahead(reference.Adam(start, half, **beta), 4, 0.75)
    for step in range(1, 14):
        gradient = [np.random.default_rng(step).normal(size=(3, 2))]
        loop.step(gradient)
        plain.apply(gradient)
        np.testing.assert_allclose(
            loop.parameters[0], plain.parameters[0], rtol=0, atol=tolerances.GOLDEN_FLOAT64
        )
    for name in ("m", "v"):
        assert name not in optimizer.get_slot_names() or loop.slot(name)


INNER = {
    "object": lambda: keras.optimizers.SGD(0.5, momentum=0.5),
    "config": lambda: keras.optimizers.serialize(keras.optimizers.SGD(0.5, momentum=0.5)),
    "old config": lambda: {"class_name": "SGD", "config": {"learning_rate": 0.5, "momentum": 0.5}},
}


@pytest.mark.parametrize("how", INNER)
def test_inner_optimizer_given_in_three_ways(how: str) -> None:
    """Momentum 1/2, rate 1/2: steps of 0.5, 0.75, 0.875; then halved, alpha 1/2."""
    given = INNER[how]()
    before = copy.deepcopy(given) if isinstance(given, dict) else None
    optimizer = surefoot.Lookahead(given, sync_period=3)
    assert isinstance(optimizer.inner_optimizer, keras.optimizers.SGD)
    assert before is None or given == before
    assert path(optimizer, 3) == [-0.5, -1.25, -1.0625]


@pytest.mark.parametrize("name", ["sgd", "Adam", "RectifiedAdam", "Nadam"])
def test_inner_optimizer_by_name(name: str) -> None:
    optimizer = surefoot.Lookahead(name)
    assert type(optimizer.inner_optimizer).__name__.lower() == name.lower()
    steps = path(optimizer, 2)
    assert steps[1] < steps[0] < 0


def test_positional_order_and_defaults() -> None:
    optimizer = surefoot.Lookahead("sgd", 4, 0.25, "Outer")
    config = optimizer.get_config()
    assert (config["sync_period"], config["slow_step_size"], config["name"]) == (4, 0.25, "Outer")
    config = surefoot.Lookahead("sgd").get_config()
    assert (config["sync_period"], config["slow_step_size"], config["name"]) == (
        6,
        0.5,
        "Lookahead",
    )


@pytest.mark.parametrize("mode", EAGER_AND_COMPILED)
def test_rate_of_the_inner_optimizer_is_the_rate(mode: str) -> None:
    optimizer = around_sgd(sync_period=10)
    loop = Loop(optimizer, [np.zeros(2)], mode=mode)
    loop.step(ONES)
    optimizer.learning_rate = 0.25
    loop.step(ONES)
    np.testing.assert_array_equal(loop.parameters[0], [-1.25, -1.25])
    assert float(to_numpy(optimizer.learning_rate)) == 0.25
    assert float(to_numpy(optimizer.inner_optimizer.learning_rate)) == 0.25
    optimizer.inner_optimizer.learning_rate = 0.5
    loop.step(ONES)
    np.testing.assert_array_equal(loop.parameters[0], [-1.75, -1.75])


@pytest.mark.parametrize("mode", EAGER_AND_COMPILED)
def test_clipping_of_the_inner_optimizer_clips(mode: str) -> None:
    optimizer = surefoot.Lookahead(keras.optimizers.SGD(1.0, clipvalue=0.25), sync_period=2)
    loop = Loop(optimizer, [np.zeros(2)], mode=mode)
    seen = []
    for _ in range(3):
        loop.step(ONES)
        seen.append(float(loop.parameters[0][0]))
    assert seen == [-0.25, -0.25, -0.5]


def test_lookahead_inside_lookahead() -> None:
    """Only the end of its own period changes the slow weights of each.

    Inside, with k = 1: from 0 to -1 and half the way back, -0.5; to -1.5 and back to -1. Outside,
    with k = 2: half the way back to 0, -0.5. From there to -1.5, inside half the way back to -1:
    -1.25; to -2.25 and half the way back to -1.25: -1.75; outside half the way back to -0.5.
    """
    inner = around_sgd(sync_period=1)
    assert path(surefoot.Lookahead(inner, sync_period=2), 4) == [-0.5, -0.5, -1.25, -1.125]


@pytest.mark.parametrize("mode", MODES)
def test_ranger_is_rectified_adam_inside_lookahead(mode: str) -> None:
    options = {"learning_rate": 0.02, "weight_decay": 0.1, "total_steps": 12, "beta_2": 0.9}
    start = [np.random.default_rng(0).normal(size=(3, 2))]
    one = Loop(surefoot.Ranger(**options, sync_period=4, slow_step_size=0.3), start, mode=mode)
    composed = surefoot.Lookahead(surefoot.RectifiedAdam(**options), 4, 0.3)
    two = Loop(composed, start, mode=mode)
    for step in range(1, 13):
        gradient = [np.random.default_rng(step).normal(size=(3, 2))]
        one.step(gradient)
        two.step(gradient)
        np.testing.assert_array_equal(one.parameters[0], two.parameters[0])
    for ours, theirs in zip(one.optimizer.get_weights(), composed.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    config = one.optimizer.get_config()
    assert "optimizer" not in config
    assert config["sync_period"] == 4
    assert config["beta_2"] == 0.9


@pytest.mark.parametrize("order", [("float32", "bfloat16"), ("bfloat16", "float32")])
def test_variables_of_both_precisions_go_back(order: tuple[str, str]) -> None:
    """Those with a master value have one value more to take back than their neighbours."""
    variables = [keras.Variable(np.ones((4, 3)), dtype=dtype) for dtype in order]
    optimizer = surefoot.Lookahead(surefoot.Nadam(0.25), sync_period=2, slow_step_size=0.5)
    alone = [keras.Variable(np.ones((4, 3)), dtype=dtype) for dtype in order]
    optimizers = [
        surefoot.Lookahead(surefoot.Nadam(0.25), sync_period=2, slow_step_size=0.5) for _ in alone
    ]
    for _ in range(4):
        gradients = [keras.ops.ones((4, 3), dtype=dtype) for dtype in order]
        optimizer.apply(gradients, variables)
        for single, gradient, variable in zip(optimizers, gradients, alone, strict=True):
            single.apply([gradient], [variable])
    for together, apart, single in zip(variables, alone, optimizers, strict=True):
        slow = [o.get_slot(v, "slow") for o, v in ((optimizer, together), (single, apart))]
        np.testing.assert_array_equal(*(keras.ops.convert_to_numpy(s) for s in slow))
        np.testing.assert_array_equal(
            *(keras.ops.convert_to_numpy(keras.ops.cast(v, "float32")) for v in (together, apart))
        )
