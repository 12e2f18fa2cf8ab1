"""What Keras does with its own optimizers, it can do with these: `compile`, `fit`, save, load.

Each test is a matrix of what may be combined, since a combination that nobody tried is where it
breaks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import surefoot
from loops import to_numpy
from softmax import WAYS

RATE = 0.0625

OPTIMIZERS: dict[str, Callable[..., keras.optimizers.Optimizer]] = {
    "radam": surefoot.RectifiedAdam,
    "nadam": surefoot.Nadam,
    "lookahead": lambda rate=RATE, **options: surefoot.Lookahead(
        keras.optimizers.Adam(rate), 3, **options
    ),
    "ranger": lambda rate=RATE, **options: surefoot.Ranger(rate, sync_period=3, **options),
}
each = pytest.mark.parametrize("name", OPTIMIZERS)


def scaled(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    return keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=8.0)


WRAPPINGS: dict[str, Callable[..., Any]] = {"bare": lambda optimizer: optimizer, "scaled": scaled}
wrapped = pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=WRAPPINGS)


def new_model(optimizer: Any, **how: Any) -> keras.Model:
    keras.utils.set_random_seed(5)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(optimizer, "mse", **how)
    return model


def data() -> tuple[np.ndarray, np.ndarray]:
    inputs = np.random.default_rng(0).normal(size=(28, 3)).astype("float32")
    return inputs, np.sin(inputs.sum(axis=1, keepdims=True))


def fit(model: keras.Model, epochs: int = 1, **how: Any) -> dict[str, list[float]]:
    """Seven steps an epoch."""
    history = model.fit(
        *data(), batch_size=4, epochs=epochs, shuffle=False, verbose=0, **how
    ).history
    assert np.all(np.isfinite(history["loss"]))
    return history


def close(one: keras.Model, other: keras.Model, tolerance: float = 1e-6) -> None:
    for ours, theirs in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


def apart(one: keras.Model, other: keras.Model) -> float:
    pairs = zip(one.get_weights(), other.get_weights(), strict=True)
    return max(float(np.max(np.abs(ours - theirs))) for ours, theirs in pairs)


# ---- what is compiled, and how ----


@pytest.fixture(params=["bare", "scaled", "mixed_float16", "ema", "accumulation"])
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    policy = keras.config.dtype_policy()
    if request.param == "mixed_float16":
        keras.config.set_dtype_policy("mixed_float16")
    yield request.param
    keras.config.set_dtype_policy(policy)


def state(model: keras.Model) -> list[np.ndarray]:
    return [*model.get_weights(), *map(to_numpy, model.optimizer.variables)]


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
        for ours, theirs in zip(state(loaded), state(model), strict=True):
            np.testing.assert_array_equal(ours, theirs)
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


# ---- saved before the first step ----


def several() -> keras.optimizers.Optimizer:
    by_path = keras.optimizers.OptimizerMap(keras.optimizers.Adam(0.05))
    by_path[".*bias"] = keras.optimizers.SGD(0.25)
    return keras.optimizers.MultiOptimizer(by_path)


FOREIGN: dict[str, Callable[[], Any]] = {
    "adam": lambda: "adam",
    "sgd": keras.optimizers.SGD,
    "scheduled": lambda: keras.optimizers.Adam(
        keras.optimizers.schedules.ExponentialDecay(0.1, 5, 0.5)
    ),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(), 8.0),
    "several": several,
    "nadam": surefoot.Nadam,
}


@pytest.mark.parametrize("form", ["model.keras", "model.weights.h5"])
@pytest.mark.parametrize("inner", FOREIGN)
def test_lookahead_saved_before_its_first_step(inner: str, form: str, tmp_path: Path) -> None:
    """A fresh start with the weights, the rate and the step that were saved."""

    def new() -> keras.Model:
        return new_model(surefoot.Lookahead(FOREIGN[inner](), 3))

    model, path = new(), tmp_path / form
    if inner not in ("several", "scheduled"):
        model.optimizer.learning_rate = 0.125
    model.optimizer.iterations = 2
    (model.save if form.endswith("keras") else model.save_weights)(path)
    for is_built in (False, True):
        loaded = new()
        if form.endswith("keras"):
            loaded = keras.models.load_model(path)
        else:
            if is_built:
                loaded.optimizer.build(loaded.trainable_variables)
            loaded.load_weights(path)
        if inner != "several":
            for optimizer in (loaded.optimizer, model.optimizer):
                rate = 0.1 * 0.5 ** (2 / 5) if inner == "scheduled" else 0.125
                assert float(to_numpy(optimizer.learning_rate)) == pytest.approx(rate, rel=1e-6)
        assert int(to_numpy(loaded.optimizer.inner_optimizer.iterations)) == 2
        one, other = new(), loaded
        one.optimizer.iterations = 2
        if inner not in ("several", "scheduled"):
            one.optimizer.learning_rate = 0.125
        fit(one)
        fit(other)
        close(other, one)
        assert apart(one, model) > 1e-3


# ---- around an optimizer that has several ----


@pytest.mark.parametrize("missing", [None, 0])
def test_lookahead_around_a_multi_optimizer(missing: int | None) -> None:
    """It moves as the parts alone, and after three steps half the way back."""
    start = [np.ones((2, 3), "float32"), np.ones(3, "float32")]
    moved = []
    for wrap in (lambda optimizer: optimizer, lambda o: surefoot.Lookahead(o, sync_period=3)):
        by_path = keras.optimizers.OptimizerMap(keras.optimizers.SGD(0.25, momentum=0.5))
        by_path["gain"] = keras.optimizers.SGD(0.25)
        optimizer = wrap(keras.optimizers.MultiOptimizer(by_path))
        names = ("kernel", "bias", "gain")
        variables = [
            keras.Variable(value, name=name)
            for name, value in zip(names, [*start, np.ones(3, "float32")], strict=True)
        ]
        optimizer.build(variables)
        gradients = [keras.ops.ones(v.shape) for v in variables]
        if missing is not None:
            gradients[missing] = None
        for _ in range(3):
            with (
                pytest.warns(UserWarning, match="Gradients do not exist")
                if missing is not None
                else contextlib.nullcontext()
            ):
                optimizer.apply(gradients, variables)
        moved.append([to_numpy(v) for v in variables])
    for alone, wrapped_one in zip(*moved, strict=True):
        np.testing.assert_allclose(wrapped_one, 1 + 0.5 * (alone - 1), rtol=1e-6)
    np.testing.assert_allclose(moved[0][2], 0.25)


def test_lookahead_around_a_multi_optimizer_in_fit(tmp_path: Path) -> None:
    model = new_model(surefoot.Lookahead(several(), 3))
    before = new_model(surefoot.Lookahead(several(), 3))
    logs = fit(model, callbacks=[surefoot.OptimizerDiagnostics()])
    assert logs["gradient_norm"][0] > 0
    assert np.isnan(logs["effective_learning_rate"][0])
    assert apart(model, before) > 1e-3
    for read in (lambda o: o.learning_rate, lambda o: o.lr):
        with pytest.raises(AttributeError, match=r"inner_optimizer\.optimizers\[0\]"):
            read(model.optimizer)
    assert not hasattr(model.optimizer, "learning_rate")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for ours, theirs in zip(state(loaded), state(model), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    model.optimizer.iterations = 2
    parts = [model.optimizer.inner_optimizer, *model.optimizer.inner_optimizer.optimizers]
    assert [int(to_numpy(part.iterations)) for part in parts] == [2, 2, 2]


SCALED_INSIDE: dict[str, Callable[[], Any]] = {
    "by a factor": lambda: keras.optimizers.SGD(0.25, loss_scale_factor=8.0),
    "ours": lambda: surefoot.RectifiedAdam(0.25, loss_scale_factor=8.0),
    "dynamically": lambda: scaled(keras.optimizers.SGD(0.25)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("inner", SCALED_INSIDE)
def test_lookahead_around_what_scales_the_loss(inner: str, way: str) -> None:
    """What is divided out of the gradients was multiplied into the loss."""
    plain = surefoot.RectifiedAdam if inner == "ours" else keras.optimizers.SGD
    model = new_model(surefoot.Lookahead(SCALED_INSIDE[inner](), 3), **WAYS[way])
    other = new_model(surefoot.Lookahead(plain(0.25), 3))
    fit(model)
    fit(other)
    close(model, other, 1e-5)


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
    for ours, theirs in zip(state(loaded), state(model), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    fit(model, callbacks=[keras.callbacks.SwapEMAWeights(swap_on_epoch=True)])


# ---- the rate as a metric ----

WARMUP = {"total_steps": 8, "warmup_proportion": 0.5, "decay": 0.125}
RATED: dict[str, Callable[[], Any]] = {
    "radam": lambda: surefoot.RectifiedAdam(0.125, **WARMUP),
    "nadam": lambda: surefoot.Nadam(keras.optimizers.schedules.ExponentialDecay(0.5, 2, 0.25)),
    "lookahead": lambda: surefoot.Lookahead(surefoot.RectifiedAdam(0.125, **WARMUP)),
    "ranger": lambda: surefoot.Ranger(0.125, **WARMUP, gradient_accumulation_steps=2),
}


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
