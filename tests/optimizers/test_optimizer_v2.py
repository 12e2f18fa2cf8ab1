"""The methods of the 2020 reference pages, on every backend."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import golden
import surefoot
from loops import BACKEND, COMPILED, EAGER, EAGER_AND_COMPILED, Loop, to_numpy
from softmax import BATCHES, fitted

ALL = {
    "radam": lambda: surefoot.RectifiedAdam(0.125),
    "radam_amsgrad": lambda: surefoot.RectifiedAdam(0.125, amsgrad=True),
    "nadam": lambda: surefoot.Nadam(0.125),
    "lookahead": lambda: surefoot.Lookahead(surefoot.RectifiedAdam(0.125)),
    "ranger": lambda: surefoot.Ranger(0.125),
    "moving": lambda: surefoot.MovingAverage(surefoot.RectifiedAdam(0.125)),
}
SLOTS = {
    "radam": ["m", "v"],
    "radam_amsgrad": ["m", "v", "vhat"],
    "nadam": ["m", "v"],
    "lookahead": ["slow"],
    "ranger": ["slow"],
    "moving": ["average"],
}
each = pytest.mark.parametrize("name", ALL)


def trained(name: str, steps: int = 3, mode: str = EAGER) -> Loop:
    loop = Loop(ALL[name](), [np.ones((2, 3)), np.zeros(3)], mode=mode, names=["kernel", "bias"])
    for step in range(steps):
        loop.step([np.full((2, 3), 1.0 + step), np.full(3, -1.0)])
    return loop


@pytest.mark.sampled(len(EAGER_AND_COMPILED))
@each
@pytest.mark.parametrize("mode", EAGER_AND_COMPILED)
def test_iterations(name: str, mode: str) -> None:
    optimizer = ALL[name]()
    assert int(to_numpy(optimizer.iterations)) == 0
    if BACKEND == "tensorflow":
        assert keras.backend.standardize_dtype(optimizer.iterations.dtype) == "int64"
    optimizer.iterations = 5
    loop = Loop(optimizer, [np.ones(2)], mode=mode)
    loop.step([np.ones(2)])
    assert int(to_numpy(optimizer.iterations)) == 6
    optimizer.iterations = np.int64(41)
    loop.step([np.ones(2)])
    assert int(to_numpy(optimizer.iterations)) == 42
    assert optimizer.get_weights()[0] == 42
    for wrong in (-1, 1.5, "many", None):
        with pytest.raises((ValueError, TypeError), match="iterations"):
            optimizer.iterations = wrong
    assert int(to_numpy(optimizer.iterations)) == 42


@each
def test_weights_and_variables(name: str) -> None:
    optimizer = trained(name).optimizer
    weights = optimizer.weights
    assert [tuple(w.shape) for w in weights] == [w.shape for w in optimizer.get_weights()]
    assert all(a is b for a, b in zip(optimizer.variables(), weights, strict=True))
    ids = {id(v) for v in optimizer.variables}
    assert {id(w) for w in weights} <= ids
    for variable, array in zip(weights, optimizer.get_weights(), strict=True):
        np.testing.assert_allclose(to_numpy(variable), array, rtol=1e-6)


@each
def test_slots(name: str) -> None:
    loop = trained(name)
    optimizer = loop.optimizer
    assert sorted(optimizer.get_slot_names()) == sorted(SLOTS[name])
    for variable in loop.variables:
        for slot in SLOTS[name]:
            assert tuple(optimizer.get_slot(variable, slot).shape) == tuple(variable.shape)
    with pytest.raises((KeyError, ValueError), match="momentum"):
        optimizer.get_slot(loop.variables[0], "momentum")


@each
def test_added_slots_and_weights_are_saved_loaded_and_counted(name: str) -> None:
    loop = trained(name)
    optimizer = loop.optimizer
    count = len(optimizer.get_weights())
    kernel = loop.variables[0]
    slot = optimizer.add_slot(kernel, "age", initializer="ones")
    assert optimizer.add_slot(kernel, "age") is slot
    assert optimizer.get_slot(kernel, "age") is slot
    assert "age" in optimizer.get_slot_names()
    np.testing.assert_array_equal(to_numpy(slot), np.ones((2, 3)))
    weight = optimizer.add_weight("counter", (2,), dtype="float32", initializer="zeros")
    weight.assign(np.array([3.0, 4.0], "float32"))
    slot.assign(np.full((2, 3), 7.0, "float32"))
    weights = optimizer.get_weights()
    assert len(weights) == count + 2
    assert len(optimizer.weights) == count + 2
    store: dict[str, Any] = {}
    optimizer.save_own_variables(store)
    assert any("age" in key for key in store)
    assert any("counter" in key for key in store)
    slot.assign(np.zeros((2, 3), "float32"))
    weight.assign(np.zeros(2, "float32"))
    optimizer.load_own_variables(store)
    np.testing.assert_array_equal(to_numpy(slot), 7)
    np.testing.assert_array_equal(to_numpy(weight), [3, 4])
    weight.assign(np.zeros(2, "float32"))
    optimizer.set_weights(weights)
    np.testing.assert_array_equal(to_numpy(weight), [3, 4])


@each
def test_apply_gradients_takes_what_the_pages_say(name: str) -> None:
    one, other = trained(name, steps=0), trained(name, steps=0)
    pairs = zip([keras.ops.ones((2, 3)), keras.ops.ones((3,))], one.variables, strict=True)
    one.optimizer.apply_gradients(pairs, name="step", experimental_aggregate_gradients=False)
    other.step([np.ones((2, 3)), np.ones(3)])
    for ours, theirs in zip(one.parameters, other.parameters, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.backends("tensorflow")
@each
def test_apply_gradients_in_a_graph_returns_an_operation(name: str) -> None:
    import tensorflow as tf

    loop = trained(name)
    returned = []

    @tf.function
    def step() -> None:
        returned.append(loop.optimizer.apply_gradients([(tf.ones((2, 3)), loop.variables[0])]))

    step()
    assert isinstance(returned[0], tf.Operation)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("when", ["before build", "after build"])
@pytest.mark.parametrize("by", ["variable", "name"])
@pytest.mark.parametrize("name", ["radam", "nadam", "lookahead", "ranger"])
def test_exclude_from_weight_decay(name: str, by: str, when: str) -> None:
    """With gradients of zero only the decay moves: by lr * wd = 1/32 each step."""
    make = {
        "radam": lambda: surefoot.RectifiedAdam(0.125, weight_decay=0.25),
        "nadam": lambda: surefoot.Nadam(0.125, weight_decay=0.25),
        "lookahead": lambda: surefoot.Lookahead(surefoot.RectifiedAdam(0.125, weight_decay=0.25)),
        "ranger": lambda: surefoot.Ranger(0.125, weight_decay=0.25),
    }[name]
    loop = Loop(make(), [np.ones(2), np.ones(3)], names=["kernel", "bias"], mode=EAGER)
    if when == "after build":
        loop.step([np.zeros(2), np.zeros(3)])
        np.testing.assert_array_equal(loop.parameters[1], 1 - 1 / 32)
    if by == "variable":
        loop.optimizer.exclude_from_weight_decay(var_list=[loop.variables[1]])
    else:
        loop.optimizer.exclude_from_weight_decay(var_names=["bias"])
    kernel, bias = loop.parameters
    loop.step([np.zeros(2), np.zeros(3)])
    np.testing.assert_allclose(loop.parameters[0], kernel * (1 - 1 / 32), rtol=1e-7)
    np.testing.assert_array_equal(loop.parameters[1], bias)


@pytest.mark.parametrize("mode", EAGER_AND_COMPILED)
def test_effective_learning_rate(mode: str) -> None:
    """Warmup of 4 in 10 steps, and r_t of the reference where there is one."""
    options = {"learning_rate": 0.5, "beta_2": 0.875, "total_steps": 10, "warmup_proportion": 0.5}
    optimizer = surefoot.RectifiedAdam(**options)
    plain = golden.reference.RectifiedAdam([], **options)
    wanted = [plain.rate(t - 1) * (plain.rectification(t) or 1.0) for t in range(1, 13)]
    steps = np.arange(1, 13)
    np.testing.assert_allclose(optimizer.effective_learning_rate(steps), wanted, rtol=1e-6)
    assert optimizer.effective_learning_rate(3) == pytest.approx(wanted[2], rel=1e-6)
    loop = Loop(optimizer, [np.ones(2)], mode=mode)
    for step in range(1, 4):
        assert optimizer.effective_learning_rate() == pytest.approx(wanted[step - 1], rel=1e-6)
        loop.step([np.ones(2)])
    for wrapped in (
        surefoot.Lookahead(surefoot.RectifiedAdam(**options)),
        surefoot.Ranger(**options),
    ):
        assert wrapped.effective_learning_rate(3) == pytest.approx(wanted[2], rel=1e-6)
    nadam = surefoot.Nadam(keras.optimizers.schedules.ExponentialDecay(0.5, 2, 0.25))
    np.testing.assert_allclose(
        nadam.effective_learning_rate(np.array([1, 3, 5])), [0.5, 0.125, 0.03125], rtol=1e-6
    )


@each
def test_learning_rate_by_its_old_name(name: str) -> None:
    optimizer = ALL[name]()
    assert float(to_numpy(optimizer.lr)) == 0.125
    optimizer.lr = 0.5
    assert float(to_numpy(optimizer.learning_rate)) == 0.5
    loop = Loop(optimizer, [np.zeros(2)], mode=COMPILED)
    optimizer.lr = 0.25
    loop.step([np.ones(2)])
    step = -loop.parameters[0][0]
    expected = {"nadam": None}.get(name, 0.25)
    assert expected is None or step == pytest.approx(expected, rel=1e-6)


@each
def test_config_has_the_learning_rate_as_it_was_given(name: str) -> None:
    """Not as the float32 that the variable makes of it; a rate set since then counts."""
    optimizer = ALL[name]()
    optimizer.learning_rate = 0.1
    config = optimizer.get_config()
    assert config.get("optimizer", {"config": config})["config"]["learning_rate"] == 0.1
    keras.ops.convert_to_tensor(optimizer.learning_rate)
    getattr(optimizer, "inner_optimizer", optimizer)._learning_rate.assign(0.5)
    config = optimizer.get_config()
    assert config.get("optimizer", {"config": config})["config"]["learning_rate"] == 0.5


@pytest.mark.backends("tensorflow")
@each
def test_on_tensorflow_lr_is_a_native_variable(name: str) -> None:
    optimizer = ALL[name]()
    assert optimizer.lr.read_value().numpy() == np.float32(0.125)
    optimizer.lr.assign(0.5)
    assert float(optimizer.learning_rate) == 0.5


class RatesOfBatches(keras.callbacks.Callback):
    """Reads and sets the learning rate between the batches of an epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.seen.append(float(to_numpy(self.model.optimizer.learning_rate)))
        self.model.optimizer.learning_rate = 2.0 ** -(batch + 4)


@each
def test_learning_rate_between_batches(name: str) -> None:
    rates = RatesOfBatches()
    fitted(ALL[name](), 1, callbacks=[rates])
    assert rates.seen == [0.125, *(2.0 ** -(batch + 4) for batch in range(BATCHES - 1))]


def test_two_models_two_optimizers_in_one_loop() -> None:
    """An actor and its critic, each with an optimizer of its own, as if alone."""
    together = [trained("radam", 0), trained("nadam", 0)]
    alone = [trained("radam", 0), trained("nadam", 0)]
    for step in range(4):
        for loop in together:
            loop.step([np.full((2, 3), 1.0 + step), np.ones(3)])
    for loop in alone:
        for step in range(4):
            loop.step([np.full((2, 3), 1.0 + step), np.ones(3)])
    for one, other in zip(together, alone, strict=True):
        for ours, theirs in zip(one.parameters, other.parameters, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_an_optimizer_knows_only_its_own_variables() -> None:
    loop = trained("radam")
    stranger = keras.Variable(np.ones(2, "float32"), name="stranger")
    with pytest.raises(ValueError, match=r"stranger|[Uu]nknown variable"):
        loop.optimizer.apply_gradients([(keras.ops.ones((2,)), stranger)])


def test_a_fresh_optimizer_after_clone_model() -> None:
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)])
    model.compile(surefoot.Ranger(0.1), "mse")
    inputs = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
    model.fit(inputs, inputs[:, :2], verbose=0)
    clone = keras.models.clone_model(model)
    clone.compile(type(model.optimizer).from_config(model.optimizer.get_config()), "mse")
    clone.fit(inputs, inputs[:, :2], verbose=0)
    assert int(to_numpy(clone.optimizer.iterations)) == 1
