"""Loops on TensorFlow: they compute what XLA would, in the variables' own memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import surefoot
from loops import BACKEND, REASONS_AGAINST_LOOPS, to_numpy, without_loops

if BACKEND == "tensorflow":
    import tensorflow as tf

    from surefoot.engines.compiler import llvm, xla
    from surefoot.engines.tensorflow import loop_runner

pytestmark = pytest.mark.backends("tensorflow")

OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "radam": lambda: surefoot.RectifiedAdam(0.01, clipvalue=0.5),
    "radam_amsgrad": lambda: surefoot.RectifiedAdam(0.01, amsgrad=True, weight_decay=0.1),
    "ranger": lambda: surefoot.Ranger(0.01, sync_period=2),
}


def random_values(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.normal(size=shape).astype("float32") for shape in shapes]


class Graph:
    """A step as a graph, and what it consists of."""

    def __init__(self, optimizer: Any, variables: list[Any], **options: Any) -> None:
        optimizer.build(variables)

        def step(gradients: Any) -> None:
            optimizer.apply(gradients, variables)

        self.step = tf.function(step, autograph=False, **options)
        self.variables = variables

    def loops(self) -> int:
        """How many loops there are in it and in the functions it calls."""
        specs = [tf.TensorSpec(v.shape, v.dtype) for v in self.variables]
        graph = self.step.get_concrete_function(specs).graph.as_graph_def()
        nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
        return sum(node.op == "XlaCallModule" for node in nodes)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_is_a_loop(name: str) -> None:
    variables = [keras.Variable(x) for x in random_values((4, 3), (7,), (5, 2))]
    rules = 3 if name == "ranger" else 1  # the rule, the copy at the start, and the way back
    assert Graph(OPTIMIZERS[name](), variables).loops() == rules


def test_what_a_loop_does_not_serve_is_updated_with_it() -> None:
    values = random_values((4, 3), (), (3, 0), (6, 2), (5,))
    dtypes = ["float32", "float32", "float32", "float32", "bfloat16"]
    gradients = [np.ones_like(x) for x in values]
    changed = []
    for own in ("1", "0"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SUREFOOT_LOOPS", own)
            variables = [keras.Variable(x, dtype=d) for x, d in zip(values, dtypes, strict=True)]
            optimizer = surefoot.RectifiedAdam(0.1)
            for _ in range(7):
                given = [tf.cast(g, v.dtype) for g, v in zip(gradients, variables, strict=True)]
                given[3] = tf.IndexedSlices(
                    tf.ones((2, 2)), tf.constant([1, 4]), tf.constant([6, 2])
                )
                optimizer.apply(given, variables)
            changed.append([to_numpy(v).astype("float32") for v in variables])
    for by_loop, plain, before in zip(*changed, values, strict=True):
        np.testing.assert_allclose(by_loop, plain, rtol=1e-6)
        assert before.size == 0 or not np.array_equal(by_loop, before)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_values_read_before_stay_what_they_were(name: str) -> None:
    variables = [keras.Variable(x) for x in random_values((64, 3), (7,))]
    optimizer = OPTIMIZERS[name]()
    optimizer.build(variables)
    gradients = [tf.ones_like(v.value) for v in variables]
    everything = [*variables, *optimizer.variables]
    for _ in range(4):
        held = [tf.convert_to_tensor(v.value) for v in everything]
        copies = [np.array(t) for t in held]
        optimizer.apply(gradients, variables)
        for tensor, copy in zip(held, copies, strict=True):
            np.testing.assert_array_equal(tensor, copy)
        assert not np.array_equal(to_numpy(variables[0]), copies[0])


def test_variables_that_share_memory_part() -> None:
    first, second = (keras.Variable(x) for x in random_values((4, 3), (4, 3)))
    second.assign(first.value)
    before = to_numpy(first).copy()
    surefoot.Nadam(0.1).apply([tf.ones((4, 3))], [first])
    np.testing.assert_array_equal(to_numpy(second), before)
    assert np.all(to_numpy(first) < before)


def test_a_gradient_may_be_a_variables_own_value() -> None:
    (value,) = random_values((4, 3))
    own, other = keras.Variable(value), keras.Variable(value)
    surefoot.Nadam(0.1).apply([tf.convert_to_tensor(own.value)], [own])
    surefoot.Nadam(0.1).apply([tf.constant(value)], [other])
    np.testing.assert_array_equal(to_numpy(own), to_numpy(other))


def test_a_step_works_in_the_memory_that_is_there() -> None:
    variable = keras.Variable(random_values((64, 33))[0])
    optimizer = surefoot.Nadam(0.1)

    def addresses() -> list[int]:
        values = [variable.value, *(v.value for v in optimizer.rule_state())]
        return [np.asarray(memoryview(v.read_value())).ctypes.data for v in values]

    optimizer.apply([tf.ones((64, 33))], [variable])
    before = addresses()
    for _ in range(3):
        optimizer.apply([tf.ones((64, 33))], [variable])
    assert addresses() == before


@pytest.mark.parametrize("own", ["1", "0"])
@pytest.mark.parametrize("name", [*OPTIMIZERS, "nadam"])
def test_steps_in_loops_and_branches_of_a_graph(
    name: str, own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUREFOOT_LOOPS", own)
    make = OPTIMIZERS.get(name, lambda: surefoot.Nadam(0.1))
    (value,) = random_values((4, 3))
    inside, outside = keras.Variable(value), keras.Variable(value)
    optimizer, other = make(), make()
    optimizer.build([inside])

    @tf.function
    def run(steps: tf.Tensor) -> tf.Tensor:
        for step in tf.range(steps):
            if step % 2 == 0:
                optimizer.apply([2.0 * inside.value], [inside])
        return tf.reduce_sum(inside.value)  # read behind the last step

    total = run(tf.constant(17))
    for _ in range(9):
        other.apply([2.0 * outside.value], [outside])
    np.testing.assert_allclose(to_numpy(inside), to_numpy(outside), rtol=1e-6)
    np.testing.assert_allclose(total, to_numpy(inside).sum(), rtol=1e-6, atol=1e-5)


def test_a_step_that_xla_compiles_as_a_whole_is_a_loop_too() -> None:
    variables = [keras.Variable(random_values((4, 3))[0])]
    graph = Graph(surefoot.Nadam(0.1), variables, jit_compile=True)
    assert graph.loops() == 1
    before = to_numpy(variables[0]).copy()
    graph.step([tf.ones((4, 3))])
    assert np.all(to_numpy(variables[0]) < before)


def test_what_was_traced_without_xla_it_compiles_later() -> None:
    (variable,) = variables = [keras.Variable(random_values((4, 3))[0])]
    graph = Graph(surefoot.Nadam(0.1), variables)
    before = to_numpy(variable).copy()
    later = tf.function(graph.step, autograph=False, jit_compile=True)
    later([tf.ones((4, 3))])
    assert np.all(to_numpy(variable) < before)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_values_that_another_thread_reads_do_not_change(name: str) -> None:
    """XLA holds the variables' locks while a loop writes, and copies what somebody holds."""
    variables = [keras.Variable(x) for x in random_values((512, 640), (512, 640))]
    optimizer = OPTIMIZERS[name]()
    optimizer.build(variables)
    gradients = [tf.ones_like(v.value) for v in variables]
    optimizer.apply(gradients, variables)
    everything = [*variables, *optimizer.rule_state()]
    changed, read, running = [], [], [True]

    def look() -> None:
        while running:
            for variable in everything:
                value = variable.value.read_value()
                first = np.array(value)
                time.sleep(0.001)
                read.append(1)
                if not np.array_equal(first, value):
                    changed.append(variable.name)

    reader = threading.Thread(target=look)
    reader.start()
    for _ in range(60):
        optimizer.apply(gradients, variables)
        time.sleep(0.002)
    running.clear()
    reader.join()
    assert len(read) > 20
    assert not changed


def test_a_loop_may_follow_another_one_in_a_graph() -> None:
    (value,) = random_values((4, 3))
    one, two = keras.Variable(value), keras.Variable(value)
    optimizers = surefoot.Nadam(0.1), surefoot.Nadam(0.1)

    @tf.function
    def twice() -> None:
        for _ in range(2):
            optimizers[0].apply([tf.ones((4, 3))], [one])

    optimizers[0].build([one])
    twice()
    for _ in range(2):
        optimizers[1].apply([tf.ones((4, 3))], [two])
    np.testing.assert_allclose(to_numpy(one), to_numpy(two), rtol=1e-6)


def another_interface(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(xla, "KNOWN_MAJOR_VERSION", 9)


@pytest.mark.parametrize("reason", REASONS_AGAINST_LOOPS)
def test_without_loops_xla_does_it(reason: str) -> None:
    cached = (llvm._llvm, loop_runner._interface)
    with without_loops(reason, another_interface, *cached):
        variables = [keras.Variable(random_values((4, 3))[0])]
        graph = Graph(surefoot.Nadam(0.1), variables)
        assert graph.loops() == 0
        graph.step([tf.ones((4, 3))])
