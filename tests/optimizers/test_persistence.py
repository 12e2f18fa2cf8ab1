"""Training is the same whether or not it was saved, loaded and continued in between."""

from __future__ import annotations

import copy
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import continuing
import surefoot
from loops import EAGER, Loop

SAVED = [(name, form) for name in continuing.CONTINUED for form in continuing.forms_of(name)]


@pytest.fixture(scope="module")
def endings(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], Any]:
    """For each optimizer and format: where the uninterrupted training and the other ended.

    One new process continues all that this run asks for, because starting a backend takes seconds.
    """
    root = tmp_path_factory.mktemp("halves")
    results: dict[tuple[str, str], Any] = {}
    problems: dict[str, str] = {}
    wanted: dict[str, list[str]] = {}
    for item in request.session.items:
        if "endings" in item.fixturenames:
            wanted.setdefault(item.callspec.params["name"], []).append(item.callspec.params["form"])
    for name, forms in wanted.items():
        folder = root / name
        folder.mkdir()
        model = continuing.new_model(name)
        continuing.train_model(model, 0)
        continuing.change_on_the_way(model.optimizer)
        loop = continuing.new_loop(name) if set(forms) & set(continuing.ALONE) else None
        if loop is not None:
            continuing.train_loop(loop, 0)
            continuing.change_on_the_way(loop.optimizer)
        saved = []
        for form in forms:
            try:
                if form in continuing.WHOLE_MODEL:
                    continuing.save_model(model, folder, form)
                else:
                    continuing.save_loop(loop, folder, form)
                saved.append(form)
            except Exception as error:
                problems[f"{name}/{form}"] = f"saving: {type(error).__name__}: {error}"
        (folder / "forms.json").write_text(json.dumps(saved))
        continuing.train_model(model, continuing.HALF)
        end = continuing.everything(model)
        if loop is not None:
            continuing.train_loop(loop, continuing.HALF)
        for form in forms:
            results[name, form] = end if form in continuing.WHOLE_MODEL else continuing.ending(loop)
    script = Path(continuing.__file__)
    done = subprocess.run(
        [sys.executable, script, root],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(script.parent), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    problems |= json.loads((root / "errors.json").read_text())
    outcomes = {}
    for (name, form), whole in results.items():
        problem = problems.get(f"{name}/{form}")
        halves = None if problem else continuing.in_order(root / name / f"{form}_end.npz")
        outcomes[name, form] = (whole, halves, problem)
    return outcomes


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("name", "form"), SAVED, ids=[f"{n}-{f}" for n, f in SAVED])
def test_continued_in_a_new_process_bit_for_bit(
    name: str, form: str, endings: dict[tuple[str, str], Any]
) -> None:
    uninterrupted, continued, problem = endings[name, form]
    assert problem is None, problem
    assert len(uninterrupted) == len(continued)
    for i, (whole, halves) in enumerate(zip(uninterrupted, continued, strict=True)):
        np.testing.assert_array_equal(halves, whole, err_msg=f"array {i}")


BUILT: dict[str, Callable[[], keras.optimizers.Optimizer]] = {
    name: make for name, make in continuing.OPTIMIZERS.items() if name != "scaled"
}


def trained(name: str) -> Loop:
    loop = continuing.new_loop(name)
    continuing.train_loop(loop, 0)
    return loop


def twin_of(loop: Loop, optimizer: keras.optimizers.Optimizer) -> Loop:
    """Another optimizer at variables of its own, equal to those of ``loop``."""
    return Loop(optimizer, loop.parameters, names=["kernel", "bias"], mode=EAGER)


def assert_same_state(one: keras.optimizers.Optimizer, other: keras.optimizers.Optimizer) -> None:
    for ours, theirs in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", BUILT)
@pytest.mark.parametrize("how", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_copy_of_a_built_optimizer_goes_on_alike(
    name: str, how: Callable[[keras.optimizers.Optimizer], keras.optimizers.Optimizer]
) -> None:
    loop = Loop(BUILT[name](), continuing.new_loop(name).parameters, names=["kernel", "bias"])
    continuing.train_loop(loop, 0)
    twin = twin_of(loop, how(loop.optimizer))
    before = [w.copy() for w in loop.optimizer.get_weights()]
    continuing.train_loop(twin, continuing.HALF)
    for ours, theirs in zip(loop.optimizer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg="the copy shares state")
    continuing.train_loop(loop, continuing.HALF)
    for ours, theirs in zip(loop.parameters, twin.parameters, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert_same_state(loop.optimizer, twin.optimizer)


@pytest.mark.parametrize("name", BUILT)
def test_clone_from_config_is_fresh_and_the_same(name: str) -> None:
    loop = trained(name)
    config = loop.optimizer.get_config()
    before = copy.deepcopy(config)
    assert json.loads(json.dumps(config)) == config, "the config is not plain JSON"
    clone = type(loop.optimizer).from_config(config)
    assert config == before, "from_config changed the dictionary it was given"
    assert clone.get_config() == before
    assert int(keras.ops.convert_to_numpy(clone.iterations)) == 0
    again = continuing.new_loop(name, clone)
    continuing.train_loop(again, 0)
    for ours, theirs in zip(loop.parameters, again.parameters, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.once
@pytest.mark.parametrize("name", continuing.OPTIMIZERS)
def test_serialize_and_deserialize(name: str) -> None:
    optimizer = continuing.OPTIMIZERS[name]()
    serialized = keras.optimizers.serialize(optimizer)
    before = copy.deepcopy(serialized)
    assert json.loads(json.dumps(serialized)) == serialized
    for read in (keras.optimizers.deserialize, keras.optimizers.get):
        again = read(copy.deepcopy(serialized))
        assert type(again) is type(optimizer)
        assert again.get_config() == optimizer.get_config()
    assert serialized == before
    assert keras.optimizers.get(optimizer) is optimizer


@pytest.mark.once
@pytest.mark.parametrize("name", ["RectifiedAdam", "Lookahead", "Ranger"])
def test_found_by_the_names_users_write(name: str) -> None:
    wanted = getattr(surefoot, name)
    if name == "Lookahead":  # needs something to look ahead with
        given = {"class_name": name, "config": {"optimizer": "sgd"}}
        assert type(keras.optimizers.get(given)) is wanted
        return
    assert type(keras.optimizers.get(name)) is wanted
    assert type(keras.optimizers.get({"class_name": name, "config": {}})) is wanted


@pytest.mark.once
def test_registered_names() -> None:
    registered = keras.saving.get_registered_object
    for name in (*surefoot.optimizers.__all__, *surefoot.schedules.__all__):
        if name not in ("Nadam", "Ranger"):  # which TensorFlow Addons did not have
            assert registered(f"Addons>{name}") is getattr(surefoot, name)
    assert type(keras.optimizers.get("nadam")) is keras.optimizers.Nadam
    assert type(keras.optimizers.get("Nadam")) is keras.optimizers.Nadam


# ---- what does not fit ----


def store_of(optimizer: keras.optimizers.Optimizer) -> dict[str, np.ndarray]:
    store: dict[str, np.ndarray] = {}
    optimizer.save_own_variables(store)
    return {key: np.array(value) for key, value in store.items()}


def assert_refused(loop: Loop, store: dict[str, np.ndarray], *named: str) -> None:
    """Loading raises an error that says all of ``named``, and changes nothing."""
    before = store_of(loop.optimizer)
    parameters = loop.parameters
    with pytest.raises(ValueError, match=re.escape(named[0])) as caught:
        loop.optimizer.load_own_variables(store)
    assert all(word in str(caught.value) for word in named), str(caught.value)
    after = store_of(loop.optimizer)
    assert before.keys() == after.keys()
    for key, value in before.items():
        np.testing.assert_array_equal(after[key], value, err_msg=key)
    for ours, theirs in zip(loop.parameters, parameters, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert {k: v.tolist() for k, v in after.items()} == {k: v.tolist() for k, v in before.items()}


LOADABLE = ["radam_all", "nadam", "lookahead", "lookahead_sgd", "ranger", "accumulating"]


@pytest.mark.parametrize("name", LOADABLE)
def test_every_missing_entry_is_named(name: str) -> None:
    store = {k: v * 3 for k, v in store_of(trained(name).optimizer).items()}
    loop = trained(name)
    for key in store:
        assert_refused(loop, {k: v for k, v in store.items() if k != key}, key)


@pytest.mark.parametrize("name", LOADABLE)
def test_every_misshapen_entry_is_named_with_both_shapes(name: str) -> None:
    store = {k: v * 3 for k, v in store_of(trained(name).optimizer).items()}
    loop = trained(name)
    for key, value in store.items():
        wrong = np.zeros((5, *value.shape), value.dtype)
        assert_refused(loop, store | {key: wrong}, key, str(wrong.shape), str(value.shape))


@pytest.mark.parametrize("name", LOADABLE)
def test_extra_entries_are_named(name: str) -> None:
    loop = trained(name)
    store = store_of(loop.optimizer)
    assert_refused(loop, store | {"surplus": np.zeros(3)}, "surplus")
    slots = [key for key in store if "kernel" in key]
    assert slots
    for key in slots:
        stranger = key.replace("kernel", "stranger")
        assert_refused(loop, store | {stranger: store[key]}, stranger)


def test_another_optimizers_state_is_refused() -> None:
    assert_refused(trained("nadam"), store_of(trained("radam_all").optimizer), "vhat")
    assert_refused(trained("radam_all"), store_of(trained("radam").optimizer), "vhat", "kernel")
    assert_refused(trained("ranger"), store_of(trained("radam").optimizer), "slow")


def test_weights_file_of_another_optimizer_is_refused(tmp_path: Path) -> None:
    model = continuing.new_model("nadam")
    continuing.train_model(model, 0)
    model.save_weights(tmp_path / "nadam.weights.h5")
    other = continuing.new_model("radam_all")
    continuing.train_model(other, 0)
    before = store_of(other.optimizer)
    with pytest.raises(ValueError, match="vhat"):
        other.load_weights(tmp_path / "nadam.weights.h5")
    for key, value in store_of(other.optimizer).items():
        np.testing.assert_array_equal(before[key], value, err_msg=key)


@pytest.mark.parametrize("name", ["radam_all", "nadam", "lookahead"])
def test_set_weights_refuses_what_does_not_fit(name: str) -> None:
    loop = trained(name)
    weights = loop.optimizer.get_weights()
    before = [w.copy() for w in weights]
    misshapen = [*weights[:-1], np.zeros((7, 7), "float32")]
    for wrong in (weights[:-1], [*weights, weights[-1]], [], misshapen):
        with pytest.raises(ValueError, match=r"weight|entr|shape|length"):
            loop.optimizer.set_weights([w * 2 for w in wrong])
        for ours, theirs in zip(loop.optimizer.get_weights(), before, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ValueError, match=r"\(7, 7\)") as caught:
        loop.optimizer.set_weights(misshapen)
    assert str(weights[-1].shape) in str(caught.value)


@pytest.mark.parametrize("name", ["radam_all", "nadam", "ranger"])
def test_set_weights_refuses_what_cannot_be_at_its_place(name: str) -> None:
    """An average of squares is not negative; moments that changed places are told by that."""
    loop = trained(name)
    weights = loop.optimizer.get_weights()
    names = [entry.name for entry in loop.optimizer.weight_entries()]
    first, second = names.index("m of kernel"), names.index("v of kernel")
    assert np.any(weights[first] < 0)
    exchanged = list(weights)
    exchanged[first], exchanged[second] = weights[second], weights[first]
    words = [*weights[:-1], weights[-1].astype(str)]
    wrong = [(exchanged, "v of kernel"), (words, "dtype"), ([-1, *weights[1:]], "iterations")]
    if name == "nadam":
        wrong.append(([weights[0], 1.5, *weights[2:]], "momentum_cache"))
    for given, match in wrong:
        with pytest.raises(ValueError, match=match):
            loop.optimizer.set_weights(given)
        for ours, theirs in zip(loop.optimizer.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    spoiled = [
        np.full_like(w, np.nan) if n[:2] == "v " else w for n, w in zip(names, weights, strict=True)
    ]
    loop.optimizer.set_weights(spoiled)


def test_weights_with_trailing_vhat_load_without_amsgrad() -> None:
    """The originals' rule: surplus ``vhat`` at the end is left alone."""
    options = {"learning_rate": 0.02, "beta_2": 0.95}
    with_maximum = continuing.new_loop("", surefoot.RectifiedAdam(**options, amsgrad=True))
    continuing.train_loop(with_maximum, 0)
    without = continuing.new_loop("", surefoot.RectifiedAdam(**options))
    without.optimizer.build(without.variables)
    without.optimizer.set_weights(with_maximum.optimizer.get_weights())
    assert len(without.optimizer.get_weights()) == 5
    for ours, theirs in zip(
        without.optimizer.get_weights(), with_maximum.optimizer.get_weights(), strict=False
    ):
        np.testing.assert_array_equal(ours, theirs)
