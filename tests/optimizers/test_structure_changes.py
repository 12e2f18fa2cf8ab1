"""What compiled steps hold fixed may change at any time: the next step sees it, or it is refused.

Schedules and callables in place of numbers, clipping and the exclusion from weight decay, in
Keras's ``fit`` as in functions of one's own, for every optimizer and for those inside of others.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest

import surefoot
from loops import BACKEND, COMPILED, EAGER, Loop, to_numpy

pytestmark = pytest.mark.usefixtures("small_heap")

STANDSTILL = [1000], [0.0, 1.0]
"""A piecewise constant rate of zero for as long as a test goes on."""


@pytest.fixture
def small_heap() -> Iterator[None]:
    """Where functions that are gone are looked for, what other tests left behind costs seconds."""
    gc.freeze()
    yield
    gc.unfreeze()


def standstill() -> keras.optimizers.schedules.LearningRateSchedule:
    return keras.optimizers.schedules.PiecewiseConstantDecay(*STANDSTILL)


MAKE: dict[str, Callable[[], keras.optimizers.Optimizer]] = {
    "radam": lambda: surefoot.RectifiedAdam(0.01),
    "nadam": lambda: surefoot.Nadam(0.01),
    "lookahead": lambda: surefoot.Lookahead(surefoot.Nadam(0.01), 1000),
    "lookahead_keras": lambda: surefoot.Lookahead(keras.optimizers.Adam(0.01), 1000),
    "ranger": lambda: surefoot.Ranger(0.01, sync_period=1000),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(surefoot.RectifiedAdam(0.01)),
    "scaled_ranger": lambda: keras.optimizers.LossScaleOptimizer(
        surefoot.Ranger(0.01, sync_period=1000)
    ),
}
OURS = ("radam", "nadam", "lookahead", "ranger")

Change = Callable[[Any], None]


def innermost(optimizer: Any) -> Any:
    """The optimizer that holds the hyperparameters."""
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    return optimizer


def halt(optimizer: Any) -> None:
    """Let nothing move from here on."""
    optimizer.learning_rate = standstill()


def data() -> tuple[np.ndarray, np.ndarray]:
    inputs = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    return inputs, inputs.sum(1, keepdims=True)


def new_model(optimizer: keras.optimizers.Optimizer, **how: Any) -> keras.Model:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(optimizer, "mse", **how)
    return model


def moved_by(model: keras.Model, act: Callable[[], object]) -> bool:
    before = model.get_weights()
    act()
    return not all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


class At(keras.callbacks.Callback):
    """Does something once, at the given moment of the second epoch; weights are kept."""

    def __init__(self, moment: str, act: Change) -> None:
        super().__init__()
        self.weights: list[list[np.ndarray]] = []
        self._epoch = -1
        self._act: Change | None = act
        setattr(self, moment, self._do)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch = epoch

    def _do(self, index: int, logs: dict[str, Any] | None = None) -> None:
        if self._epoch == 1 and index == 1 and self._act is not None:
            self._act(self.model.optimizer)
            self._act = None
            self.weights.append(self.model.get_weights())


WAYS: dict[str, dict[str, Any]] = {
    "tensorflow": {
        "graph": {"jit_compile": False},
        "jit": {"jit_compile": True},
        "eager": {"run_eagerly": True},
        "several steps": {"steps_per_execution": 2, "jit_compile": False},
    },
    "jax": {
        "jit": {},
        "no jit": {"jit_compile": False},
        "eager": {"run_eagerly": True},
        "several steps": {"steps_per_execution": 2},
    },
    "torch": {"eager": {}},
}[BACKEND]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", MAKE)
def test_schedule_between_two_fits(name: str, way: str) -> None:
    model = new_model(MAKE[name](), **WAYS[way])
    assert moved_by(model, lambda: model.fit(*data(), verbose=0))
    halt(model.optimizer)
    assert not moved_by(model, lambda: model.fit(*data(), verbose=0))
    if name != "lookahead_keras":  # whose setter refuses it
        model.optimizer.learning_rate = 0.01
        assert moved_by(model, lambda: model.fit(*data(), verbose=0))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("moment", ["on_epoch_end", "on_train_batch_begin", "on_train_batch_end"])
@pytest.mark.parametrize("name", ["radam", "lookahead_keras", "scaled_ranger"])
def test_schedule_in_the_middle_of_a_fit(name: str, moment: str) -> None:
    callback = At(moment, halt)
    model = new_model(MAKE[name]())
    model.fit(*data(), batch_size=16, epochs=3, callbacks=[callback], verbose=0)
    (then,) = callback.weights
    for before, after in zip(then, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


CHANGES: dict[str, Change] = {
    "weight decay schedule": lambda o: setattr(
        o, "weight_decay", keras.optimizers.schedules.PiecewiseConstantDecay([1000], [0.1, 0.0])
    ),
    "callable rate": lambda o: setattr(o, "learning_rate", lambda: 0.5),
    "clipnorm": lambda o: setattr(o, "clipnorm", 1e-3),
    "clipvalue": lambda o: setattr(o, "clipvalue", 1e-3),
    "global_clipnorm": lambda o: setattr(o, "global_clipnorm", 1e-3),
    "no decay": lambda o: o.exclude_from_weight_decay(var_names=["kernel"]),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["radam", "ranger"])
def test_any_change_counts_as_if_made_before(name: str, change: str) -> None:
    """After two steps of ``fit``, and of eager code: as for an optimizer that is compiled later."""
    for how in ({}, {"run_eagerly": True}):
        ends = []
        for recompiled in (False, True):
            keras.utils.set_random_seed(1)
            model = new_model(MAKE[name](), **how)
            innermost(model.optimizer).weight_decay = 0.5
            model.fit(*data(), shuffle=False, verbose=0)
            CHANGES[change](innermost(model.optimizer))
            if recompiled:
                model.compile(model.optimizer, "mse", **how)
            model.fit(*data(), shuffle=False, verbose=0)
            ends.append(model.get_weights())
        unchanged = new_weights(name, how)
        for now, right, otherwise in zip(*ends, unchanged, strict=True):
            np.testing.assert_array_equal(now, right)
            if now.ndim == 2:
                assert not np.array_equal(now, otherwise)


def new_weights(name: str, how: dict[str, Any]) -> list[np.ndarray]:
    """Where the same training ends without a change."""
    keras.utils.set_random_seed(1)
    model = new_model(MAKE[name](), **how)
    innermost(model.optimizer).weight_decay = 0.5
    for _ in range(2):
        model.fit(*data(), shuffle=False, verbose=0)
    return model.get_weights()


# ---- functions of one's own, which only their owner can compile anew ----


def everything(optimizer: Any, variables: list[Any]) -> dict[str, Any]:
    return {
        "variables": [v.path for v in optimizer.variables],
        "values": [to_numpy(v).tolist() for v in [*variables, *optimizer.variables]],
        "config": optimizer.get_config(),
    }


REFUSABLE = CHANGES | {"schedule": halt}


@pytest.mark.sampled(3)
@pytest.mark.backends("tensorflow", "jax")
@pytest.mark.parametrize("change", REFUSABLE)
@pytest.mark.parametrize("name", ["radam", "nadam", "ranger"])
def test_change_is_refused_where_it_would_not_be_seen(name: str, change: str) -> None:
    loop = Loop(MAKE[name](), [np.ones((2, 3)), np.ones(3)], names=["kernel", "bias"])
    optimizer = innermost(loop.optimizer)
    REFUSABLE[change](optimizer)  # nothing is compiled yet
    compiled = Loop(
        MAKE[name](), [np.ones((2, 3)), np.ones(3)], names=["kernel", "bias"], mode=COMPILED
    )
    compiled.step([np.ones((2, 3)), np.ones(3)])
    optimizer = innermost(compiled.optimizer)
    before = everything(compiled.optimizer, compiled.variables)
    with pytest.raises(ValueError, match=r"new optimizer and a new function") as caught:
        REFUSABLE[change](optimizer)
    assert optimizer.name in str(caught.value)
    assert everything(compiled.optimizer, compiled.variables) == before
    optimizer.learning_rate = 0.5  # numbers are live all the same
    optimizer.weight_decay = 0.5
    compiled.step([np.ones((2, 3)), np.ones(3)])


@pytest.mark.sampled(3)
@pytest.mark.backends("tensorflow", "jax")
@pytest.mark.parametrize("name", MAKE)
def test_change_through_a_wrapper_is_refused(name: str) -> None:
    loop = Loop(MAKE[name](), [np.ones(3)], mode=COMPILED)
    loop.step([np.ones(3)])
    before = to_numpy(loop.optimizer.learning_rate)
    with pytest.raises(ValueError, match="new function"):
        loop.optimizer.learning_rate = standstill()
    assert to_numpy(loop.optimizer.learning_rate) == before


@pytest.mark.parametrize("name", [*OURS, "lookahead_keras"])
def test_eager_steps_see_a_change(name: str) -> None:
    loop = Loop(MAKE[name](), [np.ones(3)], mode=EAGER)
    loop.step([np.ones(3)])
    halt(loop.optimizer)
    (before,) = loop.parameters
    loop.step([np.ones(3)])
    np.testing.assert_array_equal(loop.parameters[0], before)


@pytest.mark.backends("tensorflow")
@pytest.mark.parametrize("name", OURS)
def test_a_function_that_is_gone_does_not_count(name: str) -> None:
    loop = Loop(MAKE[name](), [np.ones(3)], mode=COMPILED)
    loop.step([np.ones(3)])
    with pytest.raises(ValueError, match="new function"):
        halt(loop.optimizer)
    loop._apply = loop._eager()
    halt(loop.optimizer)
    (before,) = loop.parameters
    loop.step([np.ones(3)])
    np.testing.assert_array_equal(loop.parameters[0], before)


class OwnStep(keras.Sequential):
    """A model whose step is compiled by its author, so that Keras cannot make it anew."""

    if BACKEND == "tensorflow":
        import tensorflow as tf

        train_step = tf.function(keras.Model.train_step)
    elif BACKEND == "jax":
        import jax

        train_step = jax.jit(keras.Model.train_step, static_argnums=0)


@pytest.mark.backends("tensorflow", "jax")
def test_a_training_step_compiled_by_its_author_is_not_keras_s() -> None:
    model = OwnStep([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(surefoot.RectifiedAdam(0.01), "mse")
    model.fit(*data(), verbose=0)
    with pytest.raises(ValueError, match="new function"):
        halt(model.optimizer)


@pytest.mark.parametrize(("name", "value"), [("gradient_accumulation_steps", 2), ("use_ema", True)])
def test_what_needs_variables_is_fixed_once_built(name: str, value: Any) -> None:
    optimizer = surefoot.Nadam(0.01)
    optimizer.build([keras.Variable(np.ones(3, "float32"))])
    with pytest.raises(ValueError, match=name):
        setattr(optimizer, name, value)
    assert not getattr(optimizer, name)


def test_clipping_written_later_is_checked() -> None:
    optimizer = surefoot.RectifiedAdam(0.01, clipnorm=1.0)
    with pytest.raises(ValueError, match="clipnorm"):
        optimizer.clipnorm = -1.0
    with pytest.raises(ValueError, match="Only one of"):
        optimizer.clipvalue = 1.0
    assert (optimizer.clipnorm, optimizer.clipvalue) == (1.0, None)
    optimizer.clipnorm = None
    optimizer.clipvalue = 1.0


@pytest.mark.parametrize("name", ["radam", "nadam"])
def test_variables_are_the_same_after_the_way_back_to_a_number(name: str) -> None:
    optimizer, other = MAKE[name](), MAKE[name]()
    optimizer.learning_rate = standstill()
    assert len(optimizer.variables) == len(other.variables) - 1
    optimizer.learning_rate = 0.25
    assert [v.name for v in optimizer.variables] == [v.name for v in other.variables]
    assert optimizer.get_config()["learning_rate"] == 0.25


@pytest.mark.backends("tensorflow")
@pytest.mark.parametrize("name", ["radam", "ranger"])
def test_checkpoint_after_a_change(name: str, tmp_path: Any) -> None:
    """TensorFlow saves no list that an entry was taken out of."""
    import tensorflow as tf

    loop = Loop(MAKE[name](), [np.ones(3)])
    loop.step([np.ones(3)])
    halt(loop.optimizer)
    tf.train.Checkpoint(optimizer=loop.optimizer).write(str(tmp_path / "checkpoint"))
