"""The rule on TensorFlow, in graphs; an eager step is traced once."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf
from tensorflow.python.eager import context

from surefoot.engines import (
    differentiation,
    failures,
    loops,
    plain,
    tensorflow_distribution,
    tensorflow_kernels,
    tensorflow_loops,
    tensorflow_plain,
)
from surefoot.moments import MomentOptimizer
from surefoot.rule import Array, StepScalars
from surefoot.slots import Assignment, Tracked, accumulator_dtype, value_of

if TYPE_CHECKING:
    from surefoot.managed import ManagedOptimizer


SPARSE_GRADIENTS = True
SHARDS_STATE = False


def scalar_dtype() -> str:
    """float64: a few scalars cost nothing, and the originals' counters fit."""
    return "float64"


def scalar_namespace(hyperparameters: Any) -> Any:
    """keras.ops: scalars are computed in the graph of the step."""
    del hyperparameters
    return keras.ops


def array_namespace() -> Any:
    """TensorFlow itself."""
    return tf


def scalar(value: Any) -> Array:
    """``value`` as a float64 tensor."""
    return tf.cast(value_of(value), tf.float64)


def colocated(reference: Any) -> AbstractContextManager[Any]:
    """The devices of ``reference``, also under a distribution strategy."""
    extended = tf.distribute.get_strategy().extended
    scope: AbstractContextManager[Any] = extended.colocate_vars_with(value_of(reference))
    return scope


def slot_layout(reference: Any, shard: bool) -> Any:
    """Keras has no layouts on this backend."""
    del reference, shard


def widen(gradients: list[Any]) -> list[Any]:
    """Gradients in at least float32; sparse ones stay sparse."""
    return [None if g is None else _widened(g) for g in gradients]


def _widened(gradient: Any) -> Any:
    if not isinstance(gradient, tf.IndexedSlices):
        gradient = tf.convert_to_tensor(gradient)
    return tf.cast(gradient, tf.float32) if gradient.dtype.size < 4 else gradient


def clip(
    optimizer: ManagedOptimizer,
    gradients: list[Any],
    keras_clip: Callable[[list[Any]], list[Any]],
) -> list[Any]:
    """Clip as Keras does; by the norm of all as the originals, sparse gradients included."""
    if optimizer.clipvalue is not None and isinstance(optimizer, MomentOptimizer):
        return gradients  # `update` clips them, in its pass over memory
    if optimizer.global_clipnorm is None:
        return keras_clip(gradients)
    clipped, _ = tf.clip_by_global_norm(gradients, optimizer.global_clipnorm)
    return list(clipped)


def run_step(optimizer: ManagedOptimizer, gradients: Any, variables: Any) -> None:
    """Trace an eager update as a whole, once for each set of variables."""
    gradients = list(gradients)
    inline = (
        not gradients
        or tf.inside_function()
        or tf.config.functions_run_eagerly()
        or not optimizer.compiles_eagerly()
        or (variables is None and not optimizer.built)
    )
    # Nothing in it needs AutoGraph, which would take its time to find that out.
    inline_apply = tf.autograph.experimental.do_not_convert(optimizer.inline_apply)
    known = variables or optimizer._trainable_variables
    strategy = (
        None
        if _step_key(optimizer, known) in optimizer.eager_steps and not tf.distribute.has_strategy()
        # Asked of all variables: once for each step that is traced, not at each step.
        else tensorflow_distribution.strategy_of(known)
    )
    if strategy is not None and any(g is not None for g in gradients):
        tensorflow_distribution.run(strategy, optimizer, gradients, variables, inline_apply)
        return
    if inline:
        inline_apply(gradients, variables)
        return
    variables = optimizer.all_trainable_variables(variables)
    gradients = [
        g if g is None or isinstance(g, tf.IndexedSlices) else tf.convert_to_tensor(g)
        for g in gradients
    ]
    for gradient, variable in zip(gradients, variables, strict=False):
        if isinstance(gradient, tf.IndexedSlices):
            tensorflow_plain.check_rows(gradient, variable)
    optimizer.refuse_nonfinite(gradients, variables)
    key = _step_key(optimizer, variables)
    steps = optimizer.eager_steps
    if key not in steps:

        def step(gradients: list[Any]) -> None:
            inline_apply(gradients, variables)

        steps[key] = _TracedStep(step)
    steps[key](gradients)


class _TracedStep:
    """A function of gradients, traced once for each combination of their dtypes.

    A `tf.function` looks at the type of every tensor at each call, which for some hundred
    gradients takes longer than to run the graph.
    """

    def __init__(self, function: Callable[[list[Any]], None]) -> None:
        self._function = tf.function(function, reduce_retracing=True, autograph=False)
        self._by_dtypes: dict[tuple[tf.DType | None, ...], Any] = {}

    def __call__(self, gradients: list[Any]) -> None:
        if any(isinstance(g, tf.IndexedSlices) for g in gradients):
            self._function(gradients)
            return
        dtypes = tuple(None if g is None else g.dtype for g in gradients)
        if dtypes not in self._by_dtypes:
            specs = [None if g is None else tf.TensorSpec(g.shape, g.dtype) for g in gradients]
            self._by_dtypes[dtypes] = self._function.get_concrete_function(specs)
        traced = self._by_dtypes[dtypes]
        given = [g for g in gradients if g is not None]
        # Past the function's look at its arguments. The operation that calls functions in
        # graphs, which is public, would run one thread.
        context.context().call_function(traced.name, [*given, *traced.captured_inputs], 0)


def _step_key(optimizer: ManagedOptimizer, variables: list[Any]) -> tuple[int, ...]:
    return (*optimizer.structure(), *(id(v) for v in variables))


def update(
    optimizer: MomentOptimizer,
    scalars: StepScalars,
    tracked: list[Tracked],
    gradients: list[Any],
) -> None:
    """Clip the gradients by value; apply the rule to every variable."""
    bound = optimizer.clipvalue
    pairs = list(zip(tracked, gradients, strict=True))
    if tensorflow_kernels.may_loop([t.variable for t in tracked]):
        pairs = loops.update(tensorflow_loops, scalars, pairs, bound)
    pairs = [(t, tensorflow_loops.clipped(g, bound)) for t, g in pairs]
    fast = [(t, g) for t, g in pairs if tensorflow_kernels.serves(t, g)]
    if not tensorflow_kernels.may_compile([t.variable for t, _ in fast]):
        fast = []
    served = {t.index for t, _ in fast}
    for entry, gradient in pairs:
        if entry.index not in served:
            tensorflow_plain.update_variable(optimizer, scalars, entry, gradient)
    if fast:
        tensorflow_kernels.update(optimizer, scalars, fast)


def update_variable(
    optimizer: MomentOptimizer, scalars: StepScalars, tracked: Tracked, gradient: Any
) -> None:
    """Apply the rule to one variable; of a sparse gradient, to its rows."""
    tensorflow_plain.update_variable(optimizer, scalars, tracked, gradient)


def assign_where(
    condition: Array, assignments: list[Assignment], value: Callable[..., Array]
) -> None:
    """Assign in a branch that XLA compiles; within XLA, which would copy for it, by selection."""

    def selected(new: Array, old: Array) -> Array:
        return tensorflow_kernels.kept_apart(tf.where(condition, new, old))

    def assign(chosen: Callable[[Array, Array], Array] = lambda new, old: new) -> None:
        for targets, sources in assignments:
            new = value(
                *(None if v is None else tf.convert_to_tensor(value_of(v)) for v in sources)
            )
            for target in map(value_of, targets):
                new = chosen(tf.cast(new, target.dtype), target)
                target.assign(new)

    if tensorflow_kernels.is_traced_for_xla():
        assign(selected)
        return
    variables = [v for a in assignments for v in a.targets]
    if tensorflow_kernels.may_loop(variables):
        assignments = loops.assign_where(tensorflow_loops, condition, assignments, value)
        variables = [v for a in assignments for v in a.targets]
    if not assignments:
        return
    if tensorflow_kernels.may_compile(variables):
        compiled = tf.function(assign, jit_compile=True, autograph=False)
        tensorflow_kernels.run_if(condition, compiled, value_of(variables[0]).device)
    else:
        run_where(condition, assign, [])


def original(variable: Any) -> Any:
    """The `tf.Variable` in a Keras variable."""
    return value_of(variable)


def reattach(variable: Any) -> None:
    """Nothing to do: variables hold their values all the time."""
    del variable


def completion(optimizer: Any) -> Any:
    """In a graph an operation that follows the update, else the counter."""
    if not tf.inside_function() and tf.executing_eagerly():
        return optimizer.iterations
    with tf.control_dependencies([tf.convert_to_tensor(value_of(optimizer.iterations))]):
        return tf.no_op(name=optimizer.name)


def gradients(
    loss: Callable[[], Any], var_list: Any, grad_loss: Any
) -> tuple[list[Any], list[Any]]:
    """Differentiate ``loss`` on a tape."""
    with tf.GradientTape() as tape:
        if not callable(var_list):
            watched = differentiation.listed_variables(var_list, (tf.Variable,))
            tape.watch([value_of(v) for v in watched])
        value = loss()
    variables = differentiation.listed_variables(var_list, (tf.Variable,))
    return tape.gradient(value, [value_of(v) for v in variables], grad_loss), variables


def symbolic_gradients(loss: Any, params: list[Any]) -> list[Any]:
    """Differentiate a tensor of the graph being built."""
    if tf.executing_eagerly():
        raise RuntimeError(
            "`get_gradients` and `get_updates` differentiate a TensorFlow graph: call them inside "
            "a `tf.function`. Outside, use `optimizer.minimize(loss_function, variables)` or a "
            "`tf.GradientTape` and `apply_gradients`."
        )
    gradients = tf.gradients(loss, [value_of(p) for p in params])
    return differentiation.require_all(gradients, params)


def exact_value(value: Array, master: Array | None) -> Array:
    """A variable's value in its accumulators' dtype, taken from ``master`` if valid."""
    return plain.exact_parameter(tf, tf.cast, value, master, accumulator_dtype(value))


def whole(value: Array) -> Array:
    """The value itself: every worker has all of it."""
    return value


def like(scalar: Array, tensor: Array) -> Array:
    """A scalar in the dtype of ``tensor``."""
    return tf.cast(scalar, tensor.dtype)


def initialize_as_copy(slot: Any, variable: Any) -> None:
    """Let a new slot start at the value of ``variable``, once."""
    with tf.init_scope():
        slot.assign(tf.cast(value_of(variable), slot.dtype))


def initialize(variable: Any, values: Callable[[], Array]) -> None:
    """Give a new variable its first value, once, also while a graph is traced."""
    with tf.init_scope():
        variable.assign(values())


def samples(variables: list[Any], count: int) -> Array:
    """``count`` elements of each variable in float32, shaped (variables, count)."""
    if not variables:
        return tf.zeros((0, count), tf.float32)
    found = tensorflow_loops.samples([value_of(v) for v in variables], count)
    if found is not None:
        return found
    return tf.stack(
        [
            tf.cast(
                tf.gather(
                    tf.reshape(tf.convert_to_tensor(value_of(v)), [-1]),
                    plain.probe_positions(math.prod(v.shape), count),
                ),
                tf.float32,
            )
            for v in variables
        ]
    )


def differs(variable: Any, values: Array) -> Array:
    """Whether any element of ``variable`` is not the one in ``values``."""
    return tf.reduce_any(tf.convert_to_tensor(variable.value) != values)


def finite(gradients: list[Any]) -> Array:
    """For each gradient, whether all of it is finite."""
    return tf.stack(
        [tf.reduce_all(tf.math.is_finite(tensorflow_plain.dense_values(g))) for g in gradients]
    )


def all_true(flags: Array) -> Array:
    """Whether all of ``flags`` hold."""
    return tf.reduce_all(flags)


def global_norm(tensors: list[Any]) -> Array:
    """The Euclidean norm of all elements together, in float32, in one pass over memory."""
    dense = [
        tensorflow_plain.summed_duplicates(t)[0] if isinstance(t, tf.IndexedSlices) else t
        for t in tensors
    ]
    halves = [tf.nn.l2_loss(tf.cast(t, tf.float32)) for t in dense]
    return tf.sqrt(2.0 * tf.add_n(halves))


def snapshot(variables: list[Any]) -> list[Array]:
    """Their values: a step that finds them in use writes elsewhere."""
    return widen([value_of(v) for v in variables])


def distance(before: list[Array], variables: list[Any]) -> Array:
    """How far ``variables`` are from a `snapshot`, in float32."""
    pairs = zip(snapshot(variables), before, strict=True)
    return global_norm([now - then for now, then in pairs])


def as_int32(flag: Array) -> Array:
    """A boolean as 0 or 1."""
    return tf.cast(flag, tf.int32)


def run_where(condition: Array, action: Callable[[], None], state: list[Any]) -> None:
    """Trace ``action`` into a branch of the graph."""
    del state

    def run() -> tf.Tensor:
        action()
        return tf.constant(True)

    tf.cond(condition, run, lambda: tf.constant(False))


def report_nonfinite(finite: Array, names: list[str], optimizer_name: str) -> Array:
    """Raise at once in eager mode; in a graph, from an operation of the step.

    XLA drops that operation: there the step is skipped and counted only.
    """
    if tf.executing_eagerly():
        failures.raise_nonfinite(finite.numpy().tolist(), names, optimizer_name)
        return finite
    reports = []
    for index, name in enumerate(names):
        message = failures.nonfinite_message([name], optimizer_name)
        reports.append(tf.debugging.Assert(finite[index], [tf.constant(message)]))
    with tf.control_dependencies(reports):
        return tf.identity(finite)
