"""MovingAverage and SWA: what the model gets of the averages, and when."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import surefoot
from loops import EAGER_AND_COMPILED, MODES, Loop, to_numpy
from regression import apart, assert_same, fit, new_model, wrapped

ONES = [np.ones(2)]
SGD = keras.optimizers.SGD


def averages(loop: Loop) -> float:
    first, second = loop.slot("average")[0]
    assert first == second
    return float(first)


@pytest.mark.parametrize("mode", MODES)
def test_moving_average_by_hand(mode: str) -> None:
    """From 8 one down a step: 7, 6, 5. The decay is 1/2; 0, 0, 1/2; and 1/10, 2/11, 3/12."""
    rising = 0.1 * 8 + 0.9 * 7
    then = (2 * rising + 9 * 6) / 11
    for options, expected in (
        ({}, [7.5, 6.75, 5.875]),
        ({"start_step": 2}, [7, 6, 5.5]),
        ({"dynamic_decay": True}, [rising, then, (3 * then + 9 * 5) / 12]),
    ):
        loop = Loop(surefoot.MovingAverage(SGD(1.0), 0.5, **options), [np.full(2, 8.0)], mode=mode)
        seen = []
        for _ in range(3):
            loop.step(ONES)
            seen.append(averages(loop))
        np.testing.assert_allclose(seen, expected, rtol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_mean_by_hand(mode: str) -> None:
    """From 8 one down a step: 7, 6, 5, 4, 3; from the second on every second, 6 and 4."""
    loop = Loop(surefoot.SWA(SGD(1.0), 1, 2), [np.full(2, 8.0)], mode=mode)
    seen = []
    for _ in range(5):
        loop.step(ONES)
        seen.append(averages(loop))
    assert seen == [0, 6, 6, 5, 5]


MAKE: dict[str, Callable[..., Any]] = {
    "moving": lambda inner: surefoot.MovingAverage(inner, average_decay=0.5),
    "mean": lambda inner: surefoot.SWA(inner, average_period=1),
    "around lookahead": lambda inner: surefoot.MovingAverage(
        surefoot.Lookahead(inner, sync_period=2), average_decay=0.5
    ),
}
each = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)


@pytest.mark.sampled(len(EAGER_AND_COMPILED))
@each
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("mode", EAGER_AND_COMPILED)
def test_weights_and_averages_are_swapped_and_assigned(mode: str, dtype: str, make: Any) -> None:
    """Twice swapped is as before, to the last bit, and the training goes on the same."""
    start = [np.random.default_rng(0).normal(size=(3, 2))]
    one, other = (Loop(make(surefoot.Nadam(0.1)), start, dtype=dtype, mode=mode) for _ in "ab")
    for step in range(6):
        gradient = [np.random.default_rng(step).normal(size=(3, 2))]
        one.step(gradient)
        other.step(gradient)
        average, weights = one.slot("average")[0], one.parameters[0]
        one.optimizer.swap_weights()
        np.testing.assert_allclose(one.parameters[0], average, rtol=2**-8)
        assert np.any(one.parameters[0] != weights) or step == 0
        one.optimizer.swap_weights()
        for ours, theirs in zip(
            one.optimizer.get_weights(), other.optimizer.get_weights(), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_array_equal(one.parameters[0], other.parameters[0])
    one.optimizer.assign_average_vars(one.variables)
    np.testing.assert_allclose(one.parameters[0], average, rtol=2**-8)


def test_a_weight_without_an_average_stays() -> None:
    """Before the mean begins, where there was never a gradient, and what is not trained."""
    variables = [keras.Variable(np.full(2, 8.0)) for _ in "abc"]
    trained, resting, foreign = variables
    optimizer = surefoot.SWA(SGD(1.0), start_averaging=1)
    assert not optimizer.has_shadow_copy
    with pytest.raises(ValueError, match="before the optimizer is built"):
        optimizer.swap_weights()
    optimizer.shadow_copy([trained, resting])
    assert optimizer.has_shadow_copy
    with pytest.raises(KeyError, match="no slot 'average'"):
        optimizer.shadow_copy([foreign])
    seen = []
    for _ in range(3):
        with pytest.warns(UserWarning, match="Gradients do not exist"):
            optimizer.apply([keras.ops.ones(2), None], [trained, resting])
        kept = to_numpy(trained)
        with pytest.warns(UserWarning, match=f"no average of: {foreign.path}"):
            optimizer.assign_average_vars(variables)
        seen.append([float(to_numpy(v)[0]) for v in variables])
        trained.assign(kept)
    assert seen == [[7, 8, 8], [6, 8, 8], [6, 8, 8]]


def test_a_moving_average_begins_at_the_weights_of_the_first_update() -> None:
    variable = keras.Variable(np.zeros(2))
    optimizer = surefoot.MovingAverage(SGD(1.0), 0.5)
    optimizer.build([variable])
    variable.assign(np.full(2, 8.0, "float32"))
    optimizer.swap_weights()  # there are no averages yet
    optimizer.apply([keras.ops.ones(2)], [variable])
    assert float(to_numpy(optimizer.get_slot(variable, "average"))[0]) == 7.5


@pytest.mark.once
@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: surefoot.SWA("sgd", -1, 10), ValueError, "start_averaging=-1"),
        (lambda: surefoot.SWA("sgd", 0, 0), ValueError, "average_period=0"),
        (lambda: surefoot.SWA(None), TypeError, "optimizer=None"),
        (lambda: surefoot.MovingAverage("sgd", 1.5), ValueError, "average_decay=1.5"),
        (lambda: surefoot.MovingAverage("sgd", num_updates="a"), TypeError, "num_updates='a'"),
        (lambda: surefoot.MovingAverage("sgd", dynamic_decay=2), TypeError, "dynamic_decay=2"),
        (lambda: surefoot.MovingAverage("sgd", learning_rate=1.0), ValueError, "inner optimizer's"),
    ],
)
def test_a_wrong_argument_is_named(
    make: Callable[[], Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        make()


@each
def test_beside_the_moving_average_of_keras(make: Any, tmp_path: Path) -> None:
    """Which Keras calls "average", too: files hold both."""
    inner = SGD(0.1, momentum=0.5)
    optimizer = type(make(inner))(inner, use_ema=True, ema_momentum=0.5)
    model = new_model(optimizer)
    fit(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same(loaded, model)
    assert loaded.optimizer.get_slot_names() == ["ema", "average"]


# ---- the callback ----


@pytest.mark.sampled(2)
@wrapped
@each
@pytest.mark.parametrize("update_weights", [True, False])
def test_the_callback_saves_averages(
    update_weights: bool, make: Any, wrap: Callable[..., Any], tmp_path: Path
) -> None:
    """The model goes on from them, or as without the callback; the file has both."""
    path = tmp_path / "averages.keras"
    callback = surefoot.callbacks.AverageModelCheckpoint(update_weights, path)
    model, plain = (new_model(wrap(make(SGD(0.1, momentum=0.5)))) for _ in "ab")
    fit(model, callbacks=[callback])
    fit(plain)
    saved = keras.models.load_model(path)
    average = plain.optimizer
    if isinstance(average, keras.optimizers.LossScaleOptimizer):
        average = average.inner_optimizer
    for weight, variable in zip(saved.get_weights(), plain.trainable_variables, strict=True):
        np.testing.assert_array_equal(weight, to_numpy(average.get_slot(variable, "average")))
    assert apart(saved, plain) > 1e-3
    if update_weights:
        assert apart(model, saved) == 0
    else:
        assert_same(model, plain)


def test_the_callback_is_for_averages(tmp_path: Path) -> None:
    checkpoint = surefoot.callbacks.AverageModelCheckpoint
    with pytest.raises(TypeError, match=r"MovingAverage or SWA.*Received.*Nadam"):
        fit(new_model(surefoot.Nadam()), callbacks=[checkpoint(True, tmp_path / "a.keras")])
    with pytest.raises(TypeError, match="update_weights='a'"):
        checkpoint("a", tmp_path / "a.keras")
    with pytest.raises(ValueError, match="Unrecognized save_freq"):
        checkpoint(True, tmp_path / "a.keras", save_freq="batch")
    with pytest.raises(AttributeError, match="TqdmCallback"):
        surefoot.callbacks.TQDMProgressBar  # noqa: B018
