"""Moments and slow weights in bfloat16: each step against float64 and bits of our own making."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import ml_dtypes
import numpy as np
import pytest

import random_rounding
import reference
import surefoot
import tolerances
from loops import COMPILED, EAGER, EAGER_AND_COMPILED, MODES, Loop, to_numpy
from reference_base import Reference, Rows

SHAPES = ((40, 30), (70,), ())
SEED = 2**32 - 7
MOMENTS, SLOW = 0, 2
"""Which bits of a variable: see `surefoot.rule.rounding`."""

STORED: dict[str, Any] = {"moments": "bfloat16", "seed": SEED}
OPTIONS = {"learning_rate": 0.0625, "weight_decay": 0.125, "beta_1": 0.875, "beta_2": 0.9375}
CASES: dict[str, tuple[Callable[..., Any], Callable[..., Reference]]] = {
    "radam": (lambda **o: surefoot.RectifiedAdam(**OPTIONS, **o), reference.RectifiedAdam),
    "amsgrad": (
        lambda **o: surefoot.RectifiedAdam(**OPTIONS, amsgrad=True, **o),
        lambda p, **o: reference.RectifiedAdam(p, amsgrad=True, **o),
    ),
    "nadam": (
        lambda **o: surefoot.Nadam(**OPTIONS, schedule_decay=0.0078125, **o),
        lambda p, **o: reference.Nadam(p, schedule_decay=0.0078125, **o),
    ),
    "ranger": (
        lambda **o: surefoot.Ranger(**OPTIONS, sync_period=3, slow_weights="bfloat16", **o),
        lambda p, **o: reference.ranger(p, sync_period=3, **o),
    ),
}
STEPS = 8
OTHER_SIDE = 3
"""How many numbers of a slot may be rounded to the other neighbour: those where the last bit of
the exact value, which float64 knows better, decides."""


def start() -> list[np.ndarray]:
    return [np.asarray(np.random.default_rng(1).normal(size=s), np.float32) for s in SHAPES]


def gradients(step: int) -> list[np.ndarray]:
    random = np.random.default_rng(step)
    return [np.asarray(random.normal(size=s) * 10.0 ** (step % 3), np.float32) for s in SHAPES]


def slots_of(optimizer: Any) -> tuple[Any, tuple[str, ...]]:
    """The optimizer that has the moments, and what it calls them."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    return inner, tuple(inner.moment_names)


def slot(loop: Loop, name: str) -> list[np.ndarray]:
    """A slot of every variable, of the optimizer that has it."""
    owner = loop.optimizer if name == "slow" else slots_of(loop.optimizer)[0]
    return [to_numpy(owner.get_slot(v, name)).astype(np.float64) for v in loop.variables]


def set_to(plain: Reference, loop: Loop) -> None:
    """Let the reference begin a step where the loop is, so that roundings do not add up."""
    inner = getattr(plain, "inner", plain)
    _, names = slots_of(loop.optimizer)
    for mine, theirs in zip(plain.parameters, loop.parameters, strict=True):
        mine[...] = theirs
    for name in names:
        for mine, theirs in zip(inner.slot[name], slot(loop, name), strict=True):
            mine[...] = theirs
    if inner is not plain:
        for mine, theirs in zip(plain.slot["slow"], slot(loop, "slow"), strict=True):
            mine[...] = theirs


def assert_rounded(stored: np.ndarray, exact: np.ndarray, random: np.ndarray) -> None:
    exact = exact.astype(np.float32)
    right = random_rounding.rounded(exact, random)
    assert np.sum(stored != right) <= OTHER_SIDE
    gap = np.spacing(np.abs(exact).astype(ml_dtypes.bfloat16)).astype(float)
    assert np.all(np.abs(stored - exact) <= gap * (1 + 1e-6))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("has_loops", [True, False])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CASES)
def test_each_step(name: str, mode: str, has_loops: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not has_loops:
        monkeypatch.setenv("SUREFOOT_LOOPS", "0")
    build, build_reference = CASES[name]
    loop = Loop(build(**STORED), start(), mode=mode)
    plain = build_reference(start(), **OPTIONS)
    _, names = slots_of(loop.optimizer)
    for step in range(STEPS):
        if step:
            set_to(plain, loop)
        before = loop.parameters
        loop.step(gradients(step))
        plain.apply(gradients(step))
        for i, shape in enumerate(SHAPES):
            bound = tolerances.float32_bound(before[i], plain.parameters[i], 1)
            np.testing.assert_allclose(loop.parameters[i], plain.parameters[i], 0, bound)
            bits = random_rounding.bits(SEED, i, MOMENTS, step, shape)
            for kind in names:
                random = bits & 0xFFFF if kind == "m" else bits >> 16
                exact = getattr(plain, "inner", plain).slot[kind][i]
                assert_rounded(slot(loop, kind)[i], exact, random)
            if name == "ranger":
                bits = random_rounding.bits(SEED, i, SLOW, step, shape)
                assert_rounded(slot(loop, "slow")[i], plain.slot["slow"][i], bits & 0xFFFF)


@pytest.mark.backends("tensorflow")
@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("mode", EAGER_AND_COMPILED)
def test_rows_of_a_table(mode: str, lazy: bool) -> None:
    table = np.random.default_rng(0).normal(size=(50, 4, 5)).astype("float32")
    loop = Loop(surefoot.RectifiedAdam(**OPTIONS, **STORED, lazy=lazy), [table], mode=mode)
    plain = reference.RectifiedAdam([table], **OPTIONS, lazy=lazy)
    for step in range(4):
        if step:
            set_to(plain, loop)
        random = np.random.default_rng(step)
        rows = Rows(np.array([7, 3, 7, 49]), random.normal(size=(4, 4, 5)).astype("float32"))
        loop.step([rows])
        plain.apply([rows])
        bits = random_rounding.bits(SEED, 0, MOMENTS, step, table.shape)
        np.testing.assert_allclose(loop.parameters[0], plain.parameters[0], 1e-6, 1e-6)
        assert_rounded(slot(loop, "m")[0], plain.slot["m"][0], bits & 0xFFFF)
        assert_rounded(slot(loop, "v")[0], plain.slot["v"][0], bits >> 16)


@pytest.mark.parametrize("scale", [1.0, 1e-10])
def test_averages_neither_stall_nor_drift(scale: float) -> None:
    """A stationary gradient over thousands of steps: mean and spread are those of float32.

    Rounded to nearest, a second moment of one ended at 1.72 in trials.
    """
    count, steps = 2048, 2500
    optimizers = {
        form: surefoot.RectifiedAdam(0.0, epsilon=0.0, moments=form)
        for form in ("float32", "bfloat16")
    }
    loops = {form: Loop(o, [np.ones(count)], mode=COMPILED) for form, o in optimizers.items()}
    random = np.random.default_rng(0)
    for _ in range(steps):
        gradient = (scale * (0.5 + random.normal(size=count))).astype("float32")
        for loop in loops.values():
            loop.step([gradient])
    exact, stored = ({n: slot(loops[f], n)[0] for n in "mv"} for f in optimizers)
    v_mean, m_mean = exact["v"].mean(), exact["m"].mean()
    assert stored["v"].mean() == pytest.approx(v_mean, rel=0.004)
    assert stored["m"].mean() == pytest.approx(m_mean, rel=0.01)
    # A step of bfloat16 at v is 2^-8 to 2^-7 of it; the average forgets 0.001 of an error a step,
    # so that these errors, of at most half a step in the mean square, stand at this ratio to v.
    largest_spread = 0.5 * 2.0**-7 / np.sqrt(2 * 0.001)
    assert 0 < np.std(stored["v"] - exact["v"]) < largest_spread * v_mean
    assert np.std(stored["m"]) == pytest.approx(np.std(exact["m"]), rel=0.02)


def test_zeros_stay_zeros_and_vhat_never_falls() -> None:
    loop = Loop(surefoot.RectifiedAdam(**OPTIONS, amsgrad=True, **STORED), [np.ones(2000)])
    largest = np.zeros(2000)
    for step in range(60):
        gradient = np.random.default_rng(step).normal(size=2000).astype("float32")
        gradient[:1000] = 0.0
        loop.step([gradient])
        vhat = slot(loop, "vhat")[0]
        assert np.all(vhat >= largest)
        largest = vhat
    assert not slot(loop, "v")[0][:1000].any()
    assert not slot(loop, "m")[0][:1000].any()
    assert np.all(largest[1000:] > 0)


@pytest.mark.parametrize("name", CASES)
def test_seeds_and_variables_have_bits_of_their_own(name: str) -> None:
    def after(seed: int) -> list[np.ndarray]:
        build, _ = CASES[name]
        loop = Loop(build(moments="bfloat16", seed=seed), [np.ones(500), np.ones(500)])
        for step in range(2):
            gradient = np.random.default_rng(step).normal(size=500).astype("float32")
            loop.step([gradient, gradient])
        return slot(loop, "v")

    first, again, other = after(1), after(1), after(2)
    np.testing.assert_array_equal(first, again)
    assert np.mean(first[0] != first[1]) > 0.1
    assert np.mean(first[0] != other[0]) > 0.1


@pytest.mark.parametrize("name", CASES)
def test_what_is_stored_and_shown(name: str) -> None:
    build, _ = CASES[name]
    loop = Loop(build(**STORED), start())
    loop.step(gradients(0))
    inner, names = slots_of(loop.optimizer)
    for kind in (*names, *(("slow",) if name == "ranger" else ())):
        for variable in loop.variables:
            found = (loop.optimizer if kind == "slow" else inner).get_slot(variable, kind)
            assert keras.backend.standardize_dtype(found.dtype) == "bfloat16"
    for weight in loop.optimizer.get_weights():
        assert np.asarray(weight).dtype.name in ("float32", "float64", "int64", "int32")
    copy = type(loop.optimizer).from_config(loop.optimizer.get_config())
    assert slots_of(copy)[0].moments == "bfloat16"
    other = Loop(copy, loop.parameters)
    other.optimizer.build(other.variables)
    other.optimizer.set_weights(loop.optimizer.get_weights())
    for one in (loop, other):
        one.step(gradients(1))
    for mine, theirs in zip(
        loop.optimizer.get_weights(), other.optimizer.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)
    assert inner.seed == SEED


@pytest.mark.parametrize(("saved", "loaded"), [("float32", "bfloat16"), ("bfloat16", "float32")])
def test_a_file_of_one_setting_loads_into_the_other(
    saved: str, loaded: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def model(form: str) -> keras.Model:
        keras.utils.set_random_seed(3)
        made = keras.Sequential([keras.layers.Input((6,)), keras.layers.Dense(5)])
        made.compile(surefoot.Ranger(0.01, moments=form, slow_weights=form), "mse")
        return made

    x = np.random.default_rng(0).normal(size=(16, 6)).astype("float32")
    first, second = model(saved), model(loaded)
    for one in (first, second):
        one.train_on_batch(x, x[:, :5])
    first.save_weights(tmp_path / "a.weights.h5")
    with caplog.at_level(logging.WARNING, logger="surefoot"):
        second.load_weights(tmp_path / "a.weights.h5")
    assert ("bfloat16" in caplog.text) == (loaded == "bfloat16")
    for one, other in zip(first.optimizer.variables, second.optimizer.variables, strict=True):
        expected = to_numpy(one).astype("float32")
        if keras.backend.standardize_dtype(other.dtype) == "bfloat16":
            expected = expected.astype(ml_dtypes.bfloat16).astype("float32")
        if "measurement" not in one.path:
            np.testing.assert_array_equal(to_numpy(other).astype("float32"), expected)
    second.train_on_batch(x, x[:, :5])


@pytest.mark.usefixtures("float64")
def test_float64_variables() -> None:
    loop = Loop(surefoot.RectifiedAdam(**OPTIONS, **STORED), [np.ones(50)], dtype="float64")
    plain = reference.RectifiedAdam([np.ones(50)], **OPTIONS)
    for step in range(4):
        if step:
            set_to(plain, loop)
        gradient = np.random.default_rng(step).normal(size=50)
        loop.step([gradient])
        plain.apply([gradient])
        np.testing.assert_allclose(loop.parameters[0], plain.parameters[0], 1e-12)


@pytest.mark.parametrize(
    ("make", "received"),
    [
        (lambda: surefoot.Nadam(moments="float16"), "moments='float16'"),
        (lambda: surefoot.RectifiedAdam(moments=8), "moments=8"),
        (lambda: surefoot.Ranger(slow_weights="half"), "slow_weights='half'"),
        (lambda: surefoot.Lookahead("adam", slow_weights=None), "slow_weights=None"),
    ],
)
def test_wrong_arguments(make: Callable[[], Any], received: str) -> None:
    with pytest.raises((TypeError, ValueError), match=received):
        make()


def test_inner_optimizer_of_keras_has_seed_zero() -> None:
    loop = Loop(
        surefoot.Lookahead(keras.optimizers.SGD(0.1), sync_period=1, slow_weights="bfloat16"),
        [np.linspace(1, 2, 300, dtype="float32")],
        mode=EAGER,
    )
    loop.step([np.ones(300, "float32")])
    exact = np.linspace(1, 2, 300, dtype="float32") - np.float32(0.05)
    assert np.mean(slot(loop, "slow")[0] > exact) == pytest.approx(0.5, abs=0.1)
