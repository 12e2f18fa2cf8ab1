"""Sparse gradients of TensorFlow: rows, some of them twice, some never."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import reference
import surefoot
import tolerances
from loops import EAGER, Loop
from reference_base import Gradient, Reference, Rows
from scenarios import f32

pytestmark = [pytest.mark.backends("tensorflow"), pytest.mark.usefixtures("float64")]

MODES = ("eager", "graph")
ALL_MODES = (*MODES, "xla", "graph-tf.Variable")
TABLE, DENSE = (7, 2), (3,)
BASE = {"learning_rate": f32(0.03), "beta_1": f32(0.9), "beta_2": f32(0.9), "epsilon": f32(1e-4)}
OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "radam": ("RectifiedAdam", {}),
    "radam_amsgrad_decay": ("RectifiedAdam", {"amsgrad": True, "weight_decay": 0.25}),
    "radam_skip": ("RectifiedAdam", {"unrectified_update": "skip"}),
    "radam_clipnorm": ("RectifiedAdam", {"clipnorm": 0.5}),
    "radam_clipvalue": ("RectifiedAdam", {"clipvalue": 0.25}),
    "radam_global_clipnorm": ("RectifiedAdam", {"global_clipnorm": 0.5}),
    "radam_lazy": ("RectifiedAdam", {"lazy": True}),
    "radam_lazy_all": ("RectifiedAdam", {"lazy": True, "amsgrad": True, "weight_decay": 0.25}),
    "radam_lazy_clipnorm": ("RectifiedAdam", {"lazy": True, "clipnorm": 0.5}),
    "nadam": ("Nadam", {}),
    "nadam_decay": ("Nadam", {"weight_decay": 0.25}),
    "nadam_lazy": ("Nadam", {"lazy": True, "weight_decay": 0.25}),
    "adamw": ("AdamW", {"weight_decay": 0.25}),
    "adamw_all": ("AdamW", {"weight_decay": 0.25, "amsgrad": True, "clipnorm": 0.5}),
    "adamw_lazy": ("AdamW", {"weight_decay": 0.25, "amsgrad": True, "lazy": True}),
    "adabelief": ("AdaBelief", {"amsgrad": True, "weight_decay": 0.25}),
    "adabelief_lazy": ("AdaBelief", {"lazy": True, "weight_decay": 0.25}),
    "lazy_adam": ("LazyAdam", {}),
    "lamb": ("LAMB", {"weight_decay": 0.25, "clipnorm": 0.5}),
    "novograd": ("NovoGrad", {"weight_decay": 0.25, "grad_averaging": True}),
    "ranger": ("Ranger", {"sync_period": 3}),
    "ranger_lazy": ("Ranger", {"sync_period": 3, "lazy": True, "weight_decay": 0.25}),
    "ema": ("Nadam", {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 4}),
}


def gradients(step: int, duplicates: bool = True) -> list[Gradient]:
    """Up to five rows of the table, the last ones never, and a dense gradient beside."""
    random = np.random.default_rng(step)
    count = int(random.integers(1, 6))
    indices = random.choice(TABLE[0] - 2, size=count, replace=duplicates)
    return [
        Rows(indices, random.normal(size=(count, TABLE[1]))),
        random.normal(size=DENSE),
    ]


def start() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.normal(size=TABLE), random.normal(size=DENSE)]


def both(name: str, mode: str) -> tuple[Loop, Reference]:
    kind, options = OPTIONS[name]
    build = reference.ranger if kind == "Ranger" else getattr(reference, kind)
    optimizer = getattr(surefoot, kind)(**BASE, **options)
    return Loop(optimizer, start(), dtype="float64", mode=mode), build(start(), **BASE, **options)


EVERYWHERE = ("radam", "radam_amsgrad_decay", "radam_lazy_all", "nadam_lazy", "ranger")
RUNS = [
    pytest.param(name, mode, id=f"{name}-{mode}")
    for i, name in enumerate(OPTIONS)
    for mode in (ALL_MODES if name in EVERYWHERE else [MODES[i % len(MODES)]])
]


@pytest.mark.parametrize(("name", "mode"), RUNS)
def test_rows_move_as_the_reference_says(name: str, mode: str) -> None:
    loop, plain = both(name, mode)
    for step in range(1, 13):
        loop.step(gradients(step))
        plain.apply(gradients(step))
        for ours, theirs in zip(loop.parameters, plain.parameters, strict=True):
            np.testing.assert_allclose(
                ours,
                theirs,
                rtol=0,
                atol=tolerances.REFERENCE_FLOAT64,
                err_msg=f"after step {step}",
            )
    for slot, right in plain.slot.items():
        for ours, theirs in zip(loop.slot(slot), right, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerances.REFERENCE_FLOAT64)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["radam_lazy_all", "nadam_lazy"])
def test_lazy_rows_without_gradient_stand_still(name: str, mode: str) -> None:
    loop, _ = both(name, mode)
    loop.step(gradients(1))
    for step in range(2, 9):
        touched = set(gradients(step)[0].indices.tolist())
        others = [row for row in range(TABLE[0]) if row not in touched]
        before = [loop.parameters[0]] + [loop.slot(s)[0] for s in loop.optimizer.get_slot_names()]
        loop.step(gradients(step))
        after = [loop.parameters[0]] + [loop.slot(s)[0] for s in loop.optimizer.get_slot_names()]
        for was, now in zip(before, after, strict=True):
            np.testing.assert_array_equal(now[others], was[others])
        assert np.all(after[0][sorted(touched)] != before[0][sorted(touched)])


@pytest.mark.parametrize("mode", [EAGER, "graph"])
@pytest.mark.parametrize("name", ["radam", "nadam", "ranger", "radam_lazy"])
def test_accumulated_rows_do_what_they_say_or_raise(name: str, mode: str) -> None:
    """The mean of the summed rows, which is a dense gradient; or an error."""
    kind, options = OPTIONS[name]
    build = reference.ranger if kind == "Ranger" else getattr(reference, kind)
    if options.get("lazy"):
        with pytest.raises(ValueError, match="lazy"):
            getattr(surefoot, kind)(**BASE, **options, gradient_accumulation_steps=2)
        return
    optimizer = getattr(surefoot, kind)(**BASE, **options, gradient_accumulation_steps=2)
    loop = Loop(optimizer, start(), dtype="float64", mode=mode)
    plain = build(start(), **BASE, **options, gradient_accumulation_steps=2)
    for step in range(1, 9):
        loop.step(gradients(step))
        plain.apply(gradients(step))
        for ours, theirs in zip(loop.parameters, plain.parameters, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerances.REFERENCE_FLOAT64)


@pytest.mark.parametrize("compiled", [False, True])
def test_gradients_of_a_lookup_come_as_rows(compiled: bool) -> None:
    """What a GradientTape gives for an embedding is taken as it is."""
    import tensorflow as tf

    loop, plain = both("radam_amsgrad_decay", EAGER)
    table = loop.variables[0]

    def step(indices: Any) -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.gather(table.value, indices) ** 2)
        gradient = tape.gradient(loss, table.value)
        assert isinstance(gradient, tf.IndexedSlices)
        loop.optimizer.apply_gradients([(gradient, table)])

    run = tf.function(step) if compiled else step
    loop.optimizer.build(loop.variables)
    for indices in ([0, 3, 3], [1, 1, 1], [0, 5, 2]):
        rows = plain.parameters[0][indices]
        run(tf.constant(indices))
        plain.apply([Rows(np.array(indices), 2 * rows), None])
        np.testing.assert_allclose(
            loop.parameters[0], plain.parameters[0], rtol=0, atol=tolerances.REFERENCE_FLOAT64
        )


@pytest.mark.sampled(3)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", [tuple, list, np.asarray])
@pytest.mark.parametrize("name", ["radam", "radam_clipnorm", "radam_lazy", "nadam", "ranger"])
def test_rows_given_as_anything(name: str, form: Callable[[Any], Any], mode: str) -> None:
    """Keras's optimizers take them, too; with a shape and without."""
    import tensorflow as tf

    def end(make: Callable[[Any], Any], shape: tuple[int, ...] | None) -> np.ndarray:
        kind, options = OPTIONS[name]
        optimizer = getattr(surefoot, kind)(**BASE, **options)
        table = keras.Variable(np.ones(TABLE, "float32"))
        values, indices = make([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), make([1, 4, 1])

        def step() -> None:
            rows = tf.IndexedSlices(values, indices, None if shape is None else make(shape))
            optimizer.apply_gradients([(rows, table)])

        run = tf.function(step) if mode == "graph" else step
        for _ in range(2):
            run()
        return table.numpy()

    right = end(tf.constant, TABLE)
    assert not np.array_equal(right, np.ones(TABLE))
    np.testing.assert_array_equal(end(form, TABLE), right)
    np.testing.assert_array_equal(end(form, None), right)


def test_rows_outside_the_table_are_refused() -> None:
    loop, _ = both("radam", EAGER)
    before = loop.parameters
    with pytest.raises(Exception, match=r"(?i)indic|index|range|bounds"):
        loop.step([Rows(np.array([TABLE[0]]), np.ones((1, TABLE[1]))), np.ones(DENSE)])
    for ours, theirs in zip(loop.parameters, before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.backends("tensorflow")
@pytest.mark.parametrize("lazy", [True, False])
@pytest.mark.parametrize("name", ["radam", "nadam"])
def test_a_lazy_step_never_reads_the_table(name: str, lazy: bool) -> None:
    """What costs with the table and not with the rows; the dense decay cannot do without."""
    import tensorflow as tf

    table = keras.Variable(np.ones((1000, 4), "float32"))
    optimizer = {"radam": surefoot.RectifiedAdam, "nadam": surefoot.Nadam}[name](lazy=lazy)
    optimizer.build([table])

    @tf.function
    def step(values: Any, rows: Any) -> None:
        optimizer.apply([tf.IndexedSlices(values, rows, tf.constant([1000, 4]))], [table])

    traced = step.get_concrete_function(
        tf.TensorSpec((3, 4), tf.float32), tf.TensorSpec((3,), tf.int64)
    )
    reads = [
        operation
        for operation in traced.graph.get_operations()
        if operation.type == "ReadVariableOp" and operation.outputs[0].shape == table.shape
    ]
    assert bool(reads) != lazy
