"""Nothing that was loaded is lost, and a file that is refused leaves everything as it was."""

from __future__ import annotations

import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

import continuing
import surefoot
from loops import BACKEND, Loop, to_numpy

# ---- state that arrives before the optimizer is built ----

MAKE: dict[str, Callable[[], keras.optimizers.Optimizer]] = {
    "radam": lambda: surefoot.RectifiedAdam(0.02, beta_2=0.95),
    "nadam": lambda: surefoot.Nadam(0.02),
    "lookahead": lambda: surefoot.Lookahead(keras.optimizers.Adam(0.02), 4),
    "ranger": lambda: surefoot.Ranger(0.02, sync_period=4),
}
INPUTS = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
TARGETS = np.sin(INPUTS.sum(axis=1, keepdims=True))
HALF = 3


def fresh_model(optimizer: keras.optimizers.Optimizer) -> keras.Model:
    keras.utils.set_random_seed(7)
    model = keras.Sequential(
        [
            keras.layers.Input((3,)),
            keras.layers.Dense(4, activation="tanh"),
            keras.layers.Dense(1),
        ]
    )
    model.compile(optimizer, "mse")
    return model


def by_fit(model: keras.Model) -> None:
    model.fit(INPUTS, TARGETS, batch_size=8, epochs=HALF, shuffle=False, verbose=0)


def by_batches(model: keras.Model) -> None:
    for _ in range(HALF):
        model.train_on_batch(INPUTS, TARGETS)


def by_function(model: keras.Model, **how: Any) -> None:
    import tensorflow as tf

    @tf.function(**how)
    def step() -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(INPUTS) - TARGETS) ** 2)
        gradients = tape.gradient(loss, model.trainable_variables)
        model.optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

    for _ in range(HALF):
        step()


TRAINED_BY: dict[str, Callable[[keras.Model], None]] = {"fit": by_fit, "batches": by_batches}
if BACKEND == "tensorflow":
    TRAINED_BY |= {
        "function": by_function,
        "xla": lambda model: by_function(model, jit_compile=True),
    }


def through_a_file(model: keras.Model, name: str, folder: Path) -> keras.Model:
    model.save_weights(folder / "half.weights.h5")
    again = fresh_model(MAKE[name]())
    again.load_weights(folder / "half.weights.h5")
    return again


def through_a_pickle(model: keras.Model, name: str, folder: Path) -> keras.Model:
    again = fresh_model(pickle.loads(pickle.dumps(model.optimizer)))
    again.set_weights(model.get_weights())
    return again


@pytest.mark.sampled(3)
@pytest.mark.parametrize("through", [through_a_file, through_a_pickle])
@pytest.mark.parametrize("by", TRAINED_BY)
@pytest.mark.parametrize("name", MAKE)
def test_state_waits_for_a_step_that_builds(
    name: str,
    by: str,
    through: Callable[[keras.Model, str, Path], keras.Model],
    tmp_path: Path,
) -> None:
    """The moments must not be assigned in the trace of the step, nor forgotten after it."""
    train = TRAINED_BY[by]
    model = fresh_model(MAKE[name]())
    train(model)
    again = through(model, name, tmp_path)
    assert not again.optimizer.built
    train(model)
    train(again)
    for whole, halves in zip(
        continuing.everything(model), continuing.everything(again), strict=True
    ):
        np.testing.assert_array_equal(halves, whole)


@pytest.mark.parametrize("name", MAKE)
def test_state_that_does_not_fit_stays_an_error(name: str) -> None:
    """Also at the second step, which finds the optimizer built."""
    loop = Loop(MAKE[name](), [np.ones((3, 2)), np.ones(2)])
    loop.step([np.ones((3, 2)), np.ones(2)])
    again = pickle.loads(pickle.dumps(loop.optimizer))
    other = Loop(again, [np.ones((4, 2)), np.ones(2)])
    for _ in range(2):
        with pytest.raises(ValueError, match="does not match its variables"):
            other.step([np.ones((4, 2)), np.ones(2)])
        assert all(np.all(p == 1) for p in other.parameters)


@pytest.mark.parametrize("name", MAKE)
def test_state_that_would_be_lost_in_a_stateless_step_is_an_error(name: str) -> None:
    loop = Loop(MAKE[name](), [np.ones(3)])
    loop.step([np.ones(3)])
    loop.optimizer.build(loop.variables)
    state = {k: np.array(v) for k, v in stored(loop.optimizer).items()}
    before = stored(loop.optimizer)
    with keras.StatelessScope(), pytest.raises(RuntimeError, match="lost"):
        loop.optimizer.load_own_variables({k: v * 2 for k, v in state.items()})
    assert_equal(stored(loop.optimizer), before)


@pytest.mark.backends("tensorflow")
def test_slot_added_in_a_trace_gets_its_values_once() -> None:
    import tensorflow as tf

    optimizer = surefoot.RectifiedAdam()
    weight = keras.Variable(np.ones(2, "float32"))

    @tf.function
    def count() -> None:
        optimizer.add_slot(weight, "seen", np.full(2, 5.0, "float32")).assign_add(tf.ones(2))

    for _ in range(3):
        count()
    np.testing.assert_array_equal(to_numpy(optimizer.get_slot(weight, "seen")), [8.0, 8.0])


# ---- files that are damaged ----

Damage = Callable[[h5py.Group, str], None]


def stored(optimizer: Any) -> dict[str, np.ndarray]:
    """Everything that an optimizer would save."""
    store: dict[str, np.ndarray] = {}
    optimizer.save_own_variables(store)
    return {key: np.array(value) for key, value in store.items()}


def whole_state(optimizer: Any) -> dict[str, Any]:
    """Everything there is to see of an optimizer, as lists and numbers."""
    return {
        "stored": {k: v.tolist() for k, v in stored(optimizer).items()},
        "weights": [w.tolist() for w in optimizer.get_weights()],
        "variables": [to_numpy(v).tolist() for v in optimizer.variables],
        "config": optimizer.get_config(),
    }


def assert_equal(now: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    assert now.keys() == right.keys()
    for key, value in right.items():
        np.testing.assert_array_equal(now[key], value, err_msg=key)


def replaced_by(make: Callable[[np.ndarray], Any]) -> Damage:
    def damage(group: h5py.Group, key: str) -> None:
        value = make(np.array(group[key]))
        del group[key]
        group[key] = value

    return damage


def renamed(group: h5py.Group, key: str) -> None:
    group[f"{key}!"] = group[key]
    del group[key]


def emptied(group: h5py.Group, key: str) -> None:
    del group[key]
    group.create_group(key)


def dangling(group: h5py.Group, key: str) -> None:
    del group[key]
    group[key] = h5py.SoftLink("/nowhere")


def deleted(group: h5py.Group, key: str) -> None:
    del group[key]


def joined(group: h5py.Group, key: str) -> None:
    group[f"{key} too"] = np.zeros(3)


def declared_as(dtype: str) -> Damage:
    def damage(group: h5py.Group, key: str) -> None:
        group[key].attrs["dtype"] = dtype

    return damage


DAMAGES: dict[str, Damage] = {
    "deleted": deleted,
    "renamed": renamed,
    "emptied": emptied,
    "dangling": dangling,
    "joined": joined,
    "deeper": replaced_by(lambda a: a[None]),
    "flat": replaced_by(np.ravel),
    "shorter": replaced_by(lambda a: a[:-1] if a.ndim else a[None][:0]),
    "longer": replaced_by(lambda a: np.stack([a, a])),
    "text": replaced_by(lambda a: "0.5"),
    "texts": replaced_by(lambda a: np.full(a.shape, b"0.5")),
    "complex": replaced_by(lambda a: a.astype("complex64")),
    "bool": replaced_by(lambda a: a.astype(bool)),
    "int": replaced_by(lambda a: a.astype("int16")),
    "half": replaced_by(lambda a: a.astype("float16")),
    "float": replaced_by(lambda a: a.astype("float32")),
    "double": replaced_by(lambda a: a.astype("float64")),
    "bfloat16": declared_as("bfloat16"),
    "NaN": replaced_by(lambda a: np.full_like(a, np.nan, dtype="float64")),
    "infinite": replaced_by(lambda a: np.full_like(a, -np.inf, dtype="float64")),
    "negative": replaced_by(lambda a: np.full_like(a, -3)),
    "too large": replaced_by(lambda a: np.full_like(a, 1e300, dtype="float64")),
    "beyond": replaced_by(lambda a: np.full_like(a, 2**62, dtype="int64")),
}


def kinds_of(store: dict[str, np.ndarray]) -> Iterator[str]:
    """One entry of every kind: numbers, of hyperparameters and of slots each the last."""
    kinds: dict[Any, str] = {}
    for key, value in store.items():
        name = key.partition("|")[0]
        kinds[(name, value.ndim) if "|" in key and "hyperparameter" not in name else name] = key
    kinds |= {key: key for key in store if key.endswith(("beta_1", "sync_period", "variable 1"))}
    yield from dict.fromkeys(kinds.values())


def damaged(path: Path, damage: Damage, key: str) -> Path:
    """A copy of a file of Keras with a damage at an entry of the optimizer's."""
    copy = path.with_name(f"damaged_{path.name}")
    shutil.copyfile(path, copy)
    if path.suffix != ".keras":
        with h5py.File(copy, "a") as file:
            damage(file["optimizer/vars"], key)
        return copy
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    inner = path.with_name("inner.h5")
    inner.write_bytes(parts["model.weights.h5"])
    with h5py.File(inner, "a") as file:
        damage(file["optimizer/vars"], key)
    with zipfile.ZipFile(copy, "w") as archive:
        for name, content in (parts | {"model.weights.h5": inner.read_bytes()}).items():
            archive.writestr(name, content)
    return copy


DAMAGED = ["radam", "radam_all", "nadam", "accumulating", "lookahead", "lookahead_sgd", "ranger"]


def trained(name: str, batches: int = 1) -> keras.Model:
    model = continuing.new_model(name)
    for _ in range(batches):
        continuing.train_model(model, 0)
    return model


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_state_is_refused_or_loaded_right(name: str, tmp_path: Path) -> None:
    """As they stand in an HDF5 file, one after the other."""
    right = stored(trained(name, 2).optimizer)
    optimizer = trained(name).optimizer
    reset, before = stored(optimizer), whole_state(optimizer)
    loaded = refused = 0
    with h5py.File(tmp_path / "state.h5", "w") as file:
        for key in kinds_of(right):
            for kind, damage in DAMAGES.items():
                what = f"{kind}: {key}"
                group = file.create_group(what)
                for entry, value in right.items():
                    group[entry] = value
                damage(group, key)
                try:
                    optimizer.load_own_variables(group)
                except ValueError:
                    refused += 1
                    assert whole_state(optimizer) == before, what
                    continue
                loaded += 1
                now = stored(optimizer)
                assert now.keys() == group.keys(), what
                for entry, value in now.items():
                    given = np.array(group[entry]).astype(value.dtype)
                    np.testing.assert_array_equal(value, given, what)
                optimizer.load_own_variables(reset)
                assert whole_state(optimizer) == before
    assert refused > loaded > 0


THROUGH_KERAS = ("deleted", "emptied", "dangling", "text", "NaN", "deeper", "bool")


@pytest.mark.parametrize("form", ["whole.weights.h5", "whole.keras"])
@pytest.mark.parametrize("name", ["nadam", "lookahead_sgd"])
def test_a_damaged_file_is_refused(name: str, form: str, tmp_path: Path) -> None:
    model = trained(name, 2)
    (model.save if form.endswith(".keras") else model.save_weights)(tmp_path / form)
    model = trained(name)
    before = whole_state(model.optimizer)
    for damage in THROUGH_KERAS:
        copy = damaged(tmp_path / form, DAMAGES[damage], "iteration")
        with pytest.raises(ValueError, match="iteration"):
            model.load_weights(copy)
        assert whole_state(model.optimizer) == before
        if form.endswith(".keras"):
            with pytest.raises(ValueError, match="iteration"):
                keras.models.load_model(copy)
    model.load_weights(tmp_path / form)
    assert whole_state(model.optimizer) != before


WRONG: dict[str, Callable[[np.ndarray], Any]] = {
    "text": lambda a: np.full(a.shape, "0.5"),
    "complex": lambda a: a.astype(complex),
    "object": lambda a: np.full(a.shape, None),
    "too large": lambda a: np.full(a.shape, 1e300),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", ["radam", "nadam", "lookahead_sgd", "ranger"])
def test_set_weights_refuses_what_no_variable_can_hold(name: str, wrong: str) -> None:
    optimizer = trained(name).optimizer
    weights, before = optimizer.get_weights(), whole_state(optimizer)
    for index, weight in enumerate(weights):
        given = [w * 0 for w in weights]
        given[index] = WRONG[wrong](weight)
        with pytest.raises(ValueError, match=f"Weight {index} of"):
            optimizer.set_weights(given)
        assert whole_state(optimizer) == before
    for count in (-1, 2.5, np.nan, 2.0**54):
        with pytest.raises(ValueError, match="iterations"):
            optimizer.set_weights([np.array(count), *weights[1:]])
        assert whole_state(optimizer) == before


def test_a_state_from_before_the_first_step_is_not_for_a_trained_optimizer() -> None:
    """It has no moments, and those of the trained one would stay."""
    fresh, optimizer = surefoot.Nadam(0.02), trained("nadam").optimizer
    before = whole_state(optimizer)
    with pytest.raises(ValueError, match=r"m\|"):
        optimizer.load_own_variables(stored(fresh))
    assert whole_state(optimizer) == before
