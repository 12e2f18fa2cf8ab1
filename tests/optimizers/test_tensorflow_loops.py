"""Loops on TensorFlow: they compute what its operations would, in the variables' own memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import surefoot
from loops import BACKEND, REASONS_AGAINST_LOOPS, to_numpy, without_loops

if BACKEND == "tensorflow":
    import tensorflow as tf

    from surefoot.engines import loops, machine_code, tensorflow_foreign, tensorflow_loops

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
        return sum(node.op.startswith("SurefootLoop") for node in nodes)


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


def test_xla_gets_the_rule_itself() -> None:
    variables = [keras.Variable(random_values((4, 3))[0])]
    graph = Graph(surefoot.Nadam(0.1), variables, jit_compile=True)
    assert graph.loops() == 0
    before = to_numpy(variables[0]).copy()
    graph.step([tf.ones((4, 3))])
    assert np.all(to_numpy(variables[0]) < before)


def test_what_was_traced_without_xla_it_compiles_later_only_without_loops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for own in ("1", "0"):
        monkeypatch.setenv("SUREFOOT_LOOPS", own)
        (variable,) = variables = [keras.Variable(random_values((4, 3))[0])]
        graph = Graph(surefoot.Nadam(0.1), variables)
        graph.step([tf.ones((4, 3))])
        before = to_numpy(variable).copy()
        later = tf.function(graph.step, autograph=False, jit_compile=True)
        if own == "1":
            with pytest.raises(tf.errors.InvalidArgumentError, match="unsupported operations"):
                later([tf.ones((4, 3))])
            np.testing.assert_array_equal(to_numpy(variable), before)
        else:
            later([tf.ones((4, 3))])
            assert np.all(to_numpy(variable) < before)


@pytest.mark.parametrize("by", ["configuration", "environment"])
def test_where_xla_chooses_what_to_compile_there_are_no_loops(
    by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = [keras.Variable(random_values((4, 3))[0])]
    if by == "environment":
        monkeypatch.setenv("TF_XLA_FLAGS", "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit")
    else:
        tf.config.optimizer.set_jit("autoclustering")
    try:
        assert Graph(surefoot.Nadam(0.1), variables).loops() == 0
    finally:
        tf.config.optimizer.set_jit(False)


def another_interface(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(tensorflow_foreign._SIGNATURES, "TF_NoSuchFunction", (None,))


@pytest.mark.parametrize("reason", REASONS_AGAINST_LOOPS)
def test_without_loops_tensorflow_does_it(reason: str) -> None:
    cached = (machine_code._llvm, tensorflow_foreign._interface)
    with without_loops(reason, another_interface, *cached):
        variables = [keras.Variable(random_values((4, 3))[0])]
        graph = Graph(surefoot.Nadam(0.1), variables)
        assert graph.loops() == 0
        graph.step([tf.ones((4, 3))])


SPECIAL = [0.0, -0.0, 1.5, -2.0, np.inf, -np.inf, np.nan, 1e-30, 3e38]


def every_operation(x: Any, y: Any, z: Any, flag: Any, scale: Any) -> list[Any]:
    # What computes scalars becomes part of the loop.
    scale = tf.math.log1p(tf.exp(scale)) - tf.math.expm1(tf.maximum(scale, 0.1))
    either = (x < y) | ~(x >= z) & flag
    first = tf.where(either, tf.maximum(x, y), tf.minimum(y, -z))
    second = tf.minimum(tf.abs(x) / (tf.square(y) + tf.cast(scale, x.dtype)), 1.5) - x * x
    root = tf.cast(tf.sqrt(tf.cast(tf.abs(z), tf.float64)), x.dtype)
    third = root * tf.where((x == y) | (y != z), tf.ones_like(x), np.nan)
    return [first, second, third + tf.where((x <= z) & (y > x), np.inf, tf.identity(x))]


@pytest.mark.parametrize("flag", [True, False])
def test_every_operation_on_special_numbers(flag: bool) -> None:
    arrays = [a.ravel() for a in np.meshgrid(*[np.float32(SPECIAL)] * 3)]
    variables = [keras.Variable(a) for a in arrays]

    @tf.function(autograph=False)
    def by_loop(flag: Any, scale: Any) -> None:
        third = scale / 3.0
        assert tensorflow_loops.run(
            lambda x, y, z: every_operation(x, y, z, flag, third),
            [loops.Row(variables, [], [])],
            condition=flag | True,
        )

    scale = tf.constant(0.7, tf.float64)
    right = every_operation(*map(tf.constant, arrays), tf.constant(flag), scale / 3.0)
    by_loop(tf.constant(flag), scale)
    for variable, b in zip(variables, right, strict=True):
        np.testing.assert_allclose(to_numpy(variable), b, rtol=2e-7)


def test_where_the_condition_fails_nothing_changes() -> None:
    (value,) = random_values((4, 3))
    variable = keras.Variable(value)

    @tf.function(autograph=False)
    def run(condition: Any) -> None:
        row = loops.Row([variable], [], [])
        assert tensorflow_loops.run(lambda x: [x + 1.0], [row], condition=condition)

    run(tf.constant(False))
    np.testing.assert_array_equal(to_numpy(variable), value)
    run(tf.constant(True))
    np.testing.assert_array_equal(to_numpy(variable), value + 1.0)


UNKNOWN: dict[str, Callable[[Any], Any]] = {
    "square of a power": lambda x: tf.pow(x, 2.0),
    "another dtype": lambda x: tf.cast(tf.cast(x, tf.int32), tf.float32),
    "more than numbers": lambda x: tf.reduce_sum(x * tf.ones(3)),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_function_with_another_operation_is_left_to_tensorflow(name: str) -> None:
    variable = keras.Variable(random_values((4, 3))[0])

    @tf.function(autograph=False)
    def run() -> None:
        row = loops.Row([variable], [], [])
        assert not tensorflow_loops.run(lambda x: [UNKNOWN[name](x)], [row])

    run()
