"""What Keras does with its own optimizers, it can do with these: `compile`, `fit`, save, load.

Each test is a matrix of what may be combined, since a combination that nobody tried is where it
breaks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import surefoot
from loops import to_numpy
from regression import apart, assert_same, close, data, fit, new_model, scaled, wrapped
from softmax import WAYS

RATE = 0.0625

OPTIMIZERS: dict[str, Callable[..., keras.optimizers.Optimizer]] = {
    "radam": surefoot.RectifiedAdam,
    "nadam": surefoot.Nadam,
    "lookahead": lambda rate=RATE, **options: surefoot.Lookahead(
        keras.optimizers.Adam(rate), 3, **options
    ),
    "mean": lambda rate=RATE, **options: surefoot.SWA(keras.optimizers.Adam(rate), 2, 2, **options),
    "ranger": lambda rate=RATE, **options: surefoot.Ranger(rate, sync_period=3, **options),
}
each = pytest.mark.parametrize("name", OPTIMIZERS)


# ---- what is compiled, and how ----


@pytest.fixture(params=["bare", "scaled", "mixed_float16", "ema", "accumulation"])
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    policy = keras.config.dtype_policy()
    if request.param == "mixed_float16":
        keras.config.set_dtype_policy("mixed_float16")
    yield request.param
    keras.config.set_dtype_policy(policy)


@pytest.mark.sampled(5)
@each
def test_fit_save_and_load(name: str, variant: str, tmp_path: Path) -> None:
    """Compiled, not compiled and eagerly they end alike; loaded, they are and go on the same."""
    options: dict[str, Any] = {
        "ema": {"use_ema": True, "ema_momentum": 0.5},
        "accumulation": {"gradient_accumulation_steps": 2},
    }.get(variant, {})
    ends = []
    for way, how in WAYS.items():
        if way == "default":  # one of the others
            continue
        optimizer = OPTIMIZERS[name](RATE, **options)
        model = new_model(scaled(optimizer) if variant == "scaled" else optimizer, **how)
        fit(model)
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) == (
            variant in ("scaled", "mixed_float16")
        )
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        assert_same(loaded, model)
        ends.append((model, loaded))
    for end, _ in ends[1:]:
        close(end, ends[0][0], 1e-2 if variant == "mixed_float16" else 1e-6)
        if variant != "mixed_float16":  # there, the first steps may be skipped
            steps = 7 // (2 if variant == "accumulation" else 1)
            assert int(to_numpy(end.optimizer.iterations)) == steps
    model, loaded = ends[0]
    fit(model)
    fit(loaded)
    close(loaded, model, 1e-2 if variant == "mixed_float16" else 1e-6)


class Holding(keras.callbacks.Callback):
    """Has the optimizer from elsewhere than Keras, which has taken the values out of it on JAX."""

    def __init__(self, optimizer: Any) -> None:
        super().__init__()
        self.optimizer = optimizer
        self.rates: list[float] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.rates.append(float(to_numpy(self.optimizer.lr)))
        self.optimizer.lr.assign(2.0 ** -(batch + 4))


@pytest.mark.backends("jax")
@pytest.mark.sampled(len(WAYS))
@pytest.mark.parametrize("way", WAYS)
@wrapped
@each
def test_a_callback_that_holds_the_optimizer(name: str, wrap: Callable[..., Any], way: str) -> None:
    optimizer = OPTIMIZERS[name](RATE)
    holding = Holding(optimizer)
    model = new_model(wrap(optimizer), **WAYS[way])
    fit(model, callbacks=[holding])
    assert holding.rates == [RATE, *(2.0 ** -(batch + 4) for batch in range(6))]
    plain = new_model(OPTIMIZERS[name](RATE))
    fit(plain)
    assert apart(model, plain) > 1e-3


# ---- objects of the user's in files ----


class Halving(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule as users write them, in a module that nobody can import."""

    def __init__(self, start: float):
        super().__init__()
        self.start = start

    def __call__(self, step: Any) -> Any:
        return self.start * 0.5 ** keras.ops.cast(step, "float32")

    def get_config(self) -> dict[str, Any]:
        return {"start": self.start}


Halving.__module__ = "a_notebook"
KNOWN = {"Halving": Halving}


@pytest.mark.sampled(2)
@wrapped
@each
def test_schedule_of_the_users_is_loaded_by_custom_objects(
    name: str, wrap: Callable[..., Any], tmp_path: Path
) -> None:
    model = new_model(wrap(OPTIMIZERS[name](Halving(0.125))))
    fit(model)
    model.save(tmp_path / "model.keras")
    with pytest.raises(Exception, match="Halving"):
        keras.models.load_model(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", custom_objects=KNOWN)
    assert float(to_numpy(loaded.optimizer.learning_rate)) == 0.125 * 0.5**7
    with keras.saving.custom_object_scope(KNOWN):
        close(keras.models.load_model(tmp_path / "model.keras"), model, 0.0)
    fit(model)
    fit(loaded)
    close(loaded, model)


@pytest.mark.once
@each
def test_custom_objects_add_to_those_of_a_scope(name: str) -> None:
    made = OPTIMIZERS[name](Halving(0.125))
    config = made.get_config()
    for outer, given in ((KNOWN, None), (KNOWN, {}), (KNOWN, {"Other": object}), ({}, KNOWN)):
        with keras.saving.custom_object_scope(outer):
            clone = type(made).from_config(config, custom_objects=given)
        assert clone.get_config() == config


# ---- averages that Keras's callback puts into the model ----

AVERAGE: dict[str, Any] = {"use_ema": True, "ema_momentum": 0.5}
AVERAGING: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "radam": (lambda: surefoot.RectifiedAdam(RATE, **AVERAGE), lambda o: o),
    "ranger": (lambda: surefoot.Ranger(RATE, **AVERAGE), lambda o: o),
    "outside of adam": (
        lambda: surefoot.Lookahead(keras.optimizers.Adam(RATE), **AVERAGE),
        lambda o: o,
    ),
    "inside": (
        lambda: surefoot.Lookahead(surefoot.Nadam(RATE, **AVERAGE)),
        lambda o: o.inner_optimizer,
    ),
    "inside, adam": (
        lambda: surefoot.Lookahead(keras.optimizers.Adam(RATE, **AVERAGE)),
        lambda o: o.inner_optimizer,
    ),
}


class Seen(keras.callbacks.Callback):
    """Weights and averages when an evaluation begins, after `SwapEMAWeights`."""

    def __init__(self, averaging: Any) -> None:
        super().__init__()
        self.averaging = averaging
        self.pairs: list[tuple[np.ndarray, np.ndarray]] = []

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        (average, *_) = self.averaging._model_variables_moving_average
        self.pairs.append((self.model.get_weights()[0], to_numpy(average)))


@pytest.mark.sampled(3)
@wrapped
@pytest.mark.parametrize("name", AVERAGING)
def test_swap_ema_weights(name: str, wrap: Callable[..., Any], tmp_path: Path) -> None:
    """Evaluated is the average, trained and saved are the weights."""
    make, averaging = AVERAGING[name]
    optimizer = make()
    seen = Seen(averaging(optimizer))
    model, plain = new_model(wrap(optimizer)), new_model(wrap(make()))
    swapping = keras.callbacks.SwapEMAWeights()
    fit(model, epochs=2, callbacks=[swapping, seen], validation_data=data())
    theirs = plain.optimizer.inner_optimizer if wrap is scaled else plain.optimizer
    unswapped = Seen(averaging(theirs))
    fit(plain, epochs=2, callbacks=[unswapped], validation_data=data())
    for (ours, ours_average), (theirs, their_average) in zip(
        seen.pairs, unswapped.pairs, strict=True
    ):
        np.testing.assert_allclose(ours, their_average, rtol=0, atol=1e-6)
        np.testing.assert_allclose(ours_average, theirs, rtol=0, atol=1e-6)
        assert np.max(np.abs(ours - theirs)) > 1e-3
    close(model, plain)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same(loaded, model)
    fit(model, callbacks=[keras.callbacks.SwapEMAWeights(swap_on_epoch=True)])


# ---- the rate as a metric ----

WARMUP = {"total_steps": 8, "warmup_proportion": 0.5, "decay": 0.125}
RATED: dict[str, Callable[[], Any]] = {
    "radam": lambda: surefoot.RectifiedAdam(0.125, **WARMUP),
    "nadam": lambda: surefoot.Nadam(keras.optimizers.schedules.ExponentialDecay(0.5, 2, 0.25)),
    "lookahead": lambda: surefoot.Lookahead(surefoot.RectifiedAdam(0.125, **WARMUP)),
    "ranger": lambda: surefoot.Ranger(0.125, **WARMUP, gradient_accumulation_steps=2),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("way", [way for way in WAYS if way != "default"])
@wrapped
@pytest.mark.parametrize("name", RATED)
def test_effective_learning_rate_as_a_metric(name: str, wrap: Callable[..., Any], way: str) -> None:
    """After each epoch of one step the rate of the next update, in training and evaluation."""
    optimizer = RATED[name]()
    every = optimizer.gradient_accumulation_steps or 1
    wanted = [optimizer.effective_learning_rate(step // every + 1) for step in range(1, 6)]

    def rate(labels: Any, outputs: Any) -> Any:
        return optimizer.effective_learning_rate()

    def scheduled(labels: Any, outputs: Any) -> Any:
        return optimizer._decayed_lr("float32")

    model = new_model(wrap(optimizer), metrics=[rate, scheduled], **WAYS[way])
    inputs, labels = (array[:4] for array in data())
    logs = model.fit(
        inputs, labels, batch_size=4, epochs=5, verbose=0, validation_data=(inputs, labels)
    ).history
    assert len(set(wanted)) > 2
    np.testing.assert_allclose(logs["rate"], wanted, rtol=1e-6)
    np.testing.assert_allclose(logs["val_rate"], wanted, rtol=1e-6)
    assert model.evaluate(inputs, labels, verbose=0)[1] == pytest.approx(wanted[-1], rel=1e-6)
    assert optimizer.effective_learning_rate() == pytest.approx(wanted[-1], rel=1e-6)
    updates = np.arange(1, 6) // every
    decayed = 0.5 * 0.25 ** (updates / 2) if name == "nadam" else 0.125 / (1 + 0.125 * updates)
    np.testing.assert_allclose(logs["scheduled"], decayed, rtol=1e-6)
    np.testing.assert_allclose(logs["val_scheduled"], decayed, rtol=1e-6)


@pytest.mark.backends("tensorflow", "jax")
@pytest.mark.parametrize("name", RATED)
def test_effective_learning_rate_in_a_function_of_ones_own(name: str) -> None:
    """It follows what is set later, and tells of other steps, too."""
    optimizer = RATED[name]()

    def rates(step: Any) -> Any:
        return optimizer.effective_learning_rate(), optimizer.effective_learning_rate(step)

    if keras.backend.backend() == "jax":
        import jax

        traced = jax.jit(rates)
    else:
        import tensorflow as tf

        traced = tf.function(rates)
    for done in (0, 4):
        optimizer.iterations = done
        following, third = traced(keras.ops.convert_to_tensor(3))
        assert keras.backend.standardize_dtype(following.dtype) == "float32"
        assert float(following) == pytest.approx(optimizer.effective_learning_rate(), rel=1e-6)
        assert float(third) == pytest.approx(optimizer.effective_learning_rate(3), rel=1e-6)


@pytest.mark.backends("jax")
def test_a_training_step_that_hides_the_state_is_told_how_to_show_it() -> None:
    class Hidden(keras.Sequential):
        def train_step(self, state: Any, data: Any) -> Any:
            self.optimizer.effective_learning_rate()
            return {}, state

    model = Hidden([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(surefoot.Nadam(), "mse")
    with pytest.raises(RuntimeError, match="optimizer_variables"):
        model.fit(*data(), verbose=0)
