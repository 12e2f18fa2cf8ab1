"""The rule on TensorFlow, in graphs; an eager step is traced once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.eager import context

from surefoot.engines import differentiation, failures, loops, plain
from surefoot.engines.contract import RuleOptimizer, SteppedOptimizer
from surefoot.engines.tensorflow import distribution, jit_compile, loop_runner, operations, tracing
from surefoot.rule.update import Array, StepScalars
from surefoot.variables.tracked import Assignment, Tracked
from surefoot.variables.variable import accumulator_dtype, is_low_precision, value_of

SPARSE_GRADIENTS = True
SHARDS_STATE = False

step_path = loop_runner.step_path


def scalar_dtype() -> str:
    """float64: a few scalars cost nothing, and the originals' counters fit."""
    return "float64"


def counter_dtype() -> str:
    """int64, which Keras has here."""
    return "int64"


def scalar_namespace(hyperparameters: Any) -> Any:
    """keras.ops: scalars are computed in the graph of the step."""
    del hyperparameters
    return keras.ops


def scalar(value: Any) -> Array:
    """``value`` as a float64 tensor."""
    return tf.cast(value_of(value), tf.float64)


def colocated(reference: Any) -> AbstractContextManager[Any]:
    """The devices of ``reference``, also under a distribution strategy."""
    extended = tf.distribute.get_strategy().extended
    scopes = contextlib.ExitStack()
    scopes.enter_context(extended.colocate_vars_with(value_of(reference)))
    scopes.enter_context(tf.variable_creator_scope(_named_alike))
    return scopes


def _named_alike(create: Callable[..., Any], **arguments: Any) -> Any:
    """A variable by a name that TensorFlow has seen: for each new one it keeps 35 KB for ever."""
    return create(**arguments | {"name": "slot"})


shape = operations.shape


def outside_of_traces() -> AbstractContextManager[Any]:
    """Out of the graph that is being traced, which would assign at each call."""
    scope: AbstractContextManager[Any] = tf.init_scope()
    return scope


def slot_layout(reference: Any, shard: bool) -> Any:
    """Keras has no layouts on this backend."""
    del reference, shard


def as_tensors(gradients: Iterable[Any]) -> list[Any]:
    """Gradients given as tensors, arrays or lists, and sparse ones made of any of these."""
    return [g if g is None or isinstance(g, tf.Tensor) else _as_tensor(g) for g in gradients]


def _as_tensor(gradient: Any) -> Any:
    if isinstance(gradient, tf.distribute.DistributedValues):
        return gradient  # one for each replica
    if not isinstance(gradient, tf.IndexedSlices):
        return tf.convert_to_tensor(gradient)
    shape = gradient.dense_shape
    return tf.IndexedSlices(
        tf.convert_to_tensor(gradient.values),
        tf.convert_to_tensor(gradient.indices),
        None if shape is None else tf.convert_to_tensor(shape),
    )


def widen(gradients: list[Any]) -> list[Any]:
    """Gradients in at least float32; sparse ones stay sparse."""
    return [None if g is None else _widened(g) for g in gradients]


def _widened(gradient: Any) -> Any:
    if not isinstance(gradient, tf.IndexedSlices):
        gradient = tf.convert_to_tensor(gradient)
    return tf.cast(gradient, tf.float32) if gradient.dtype.size < 4 else gradient


def clip(
    optimizer: SteppedOptimizer,
    gradients: list[Any],
    keras_clip: Callable[[list[Any]], list[Any]],
) -> list[Any]:
    """Clip as Keras does; by the norm of all as the originals, sparse gradients included."""
    if optimizer.clipvalue is not None and optimizer.clips_in_update():
        return gradients  # `update` clips them, in its pass over memory
    if optimizer.global_clipnorm is None:
        return keras_clip(gradients)
    clipped, _ = tf.clip_by_global_norm(gradients, optimizer.global_clipnorm)
    return list(clipped)


def run_step(optimizer: SteppedOptimizer, gradients: Any, variables: Any) -> None:
    """Trace an eager update as a whole, once for each set of variables."""
    known = variables or optimizer._trainable_variables
    if len(gradients) == len(known):  # else Keras complains
        gradients = list(map(operations.fitting, gradients, known))
    inline = (
        not gradients
        or tf.inside_function()
        or tf.config.functions_run_eagerly()
        or not optimizer.compiles_eagerly()
        or (variables is None and not optimizer.built)
    )
    # Nothing in it needs AutoGraph, which would take its time to find that out.
    inline_apply = tf.autograph.experimental.do_not_convert(optimizer.inline_apply)
    strategy = (
        None
        if _step_key(optimizer, known) in optimizer.eager_steps and not tf.distribute.has_strategy()
        # Asked of all variables: once for each step that is traced, not at each step.
        else distribution.strategy_of(known)
    )
    if strategy is not None and any(g is not None for g in gradients):
        distribution.run(strategy, optimizer, gradients, variables, inline_apply)
        return
    with optimizer.step_lock:  # one thread builds and traces, and counts
        if inline:
            inline_apply(gradients, variables)
            tracing.note(optimizer)
        else:
            _traced_and_run(optimizer, gradients, variables, inline_apply)


def _traced_and_run(
    optimizer: SteppedOptimizer,
    gradients: list[Any],
    variables: list[Any] | None,
    inline_apply: Callable[..., None],
) -> None:
    variables = optimizer.all_trainable_variables(variables)
    for gradient, variable in zip(gradients, variables, strict=False):
        if isinstance(gradient, tf.IndexedSlices):
            operations.check_rows(gradient, variable)
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


def _step_key(optimizer: SteppedOptimizer, variables: list[Any]) -> tuple[int, ...]:
    return (*optimizer.compile_key(), *(id(v) for v in variables))


def update(
    optimizer: RuleOptimizer,
    scalars: Callable[[], StepScalars],
    tracked: list[Tracked],
    gradients: list[Any],
) -> None:
    """Clip the gradients by value; apply the rule to every variable."""
    bound = optimizer.clipvalue
    numbers = scalars()
    pairs = list(zip(tracked, gradients, strict=True))
    dense = [pair for pair in pairs if not isinstance(pair[1], tf.IndexedSlices)]
    in_graph = not tf.executing_eagerly()
    if in_graph and jit_compile.may_compile([t.variable for t, _ in dense]):
        groups = loops.groups_of([t for t, _ in dense])
        done = loops.update(loop_runner, groups, numbers, [g for _, g in dense], bound)
        served = {id(dense[i][0]) for i in done}
        rest = [
            (t, g) for t, g in dense if id(t) not in served and not is_low_precision(t.variable)
        ]
        if rest:
            jit_compile.run(lambda: _update_plainly(optimizer, numbers, rest, bound))
            served.update(id(t) for t, _ in rest)
        pairs = [(t, g) for t, g in pairs if id(t) not in served]
    _update_plainly(optimizer, numbers, pairs, bound)


def _update_plainly(
    optimizer: RuleOptimizer,
    scalars: StepScalars,
    pairs: list[tuple[Tracked, Any]],
    bound: float | None,
) -> None:
    for entry, gradient in pairs:
        clipped = gradient if bound is None else keras.ops.clip(gradient, -bound, bound)
        operations.update_variable(optimizer, scalars, entry, clipped)


def update_variable(
    optimizer: RuleOptimizer, scalars: StepScalars, tracked: Tracked, gradient: Any
) -> None:
    """Apply the rule to one variable; of a sparse gradient, to its rows."""
    operations.update_variable(optimizer, scalars, tracked, gradient)


def assign_where(
    condition: Array,
    assignments: list[Assignment],
    value: Callable[..., Array],
    scalars: Sequence[Array],
) -> None:
    """Assign in a branch that XLA compiles; within XLA, which would copy for it, by selection."""

    def assign(rest: list[Assignment], *, selects: bool) -> None:
        for targets, sources in rest:
            given = [tf.cast(s, accumulator_dtype(targets[0])) for s in scalars]
            held = [None if v is None else tf.convert_to_tensor(value_of(v)) for v in sources]
            new = value(operations.ARRAYS, exact_value, given, *held)
            for target in map(value_of, targets):
                new = tf.cast(new, target.dtype)
                if selects:
                    new = jit_compile.kept_apart(tf.where(condition, new, target))
                target.assign(new)

    def assign_in_loops(*, selects: bool) -> None:
        rest = loops.assign_where(loop_runner, condition, assignments, value, scalars)
        if rest:
            jit_compile.run(lambda: assign(rest, selects=selects))

    variables = [v for a in assignments for v in a.targets]
    if jit_compile.is_traced_for_xla():
        assign_in_loops(selects=True)
    elif not variables:
        return
    elif not tf.executing_eagerly() and jit_compile.may_compile(variables):
        device = value_of(variables[0]).device
        jit_compile.run_if(condition, lambda: assign_in_loops(selects=False), device)
    else:
        run_where(condition, lambda: assign(assignments, selects=False), [])


def hand_back(trainer: Any) -> None:
    """Nothing to do: variables hold their values all the time."""
    del trainer


def native_variable(variable: Any) -> Any:
    """The `tf.Variable` in a Keras variable."""
    return value_of(variable)


def state_scope(optimizer: Any) -> AbstractContextManager[bool]:
    """Variables hold their values all the time; a graph reads them when it runs."""
    del optimizer
    return contextlib.nullcontext(not tf.executing_eagerly())


def reattach(variable: Any) -> None:
    """Nothing to do: variables hold their values all the time."""
    del variable


def apply_result(optimizer: Any) -> Any:
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
    return plain.exact_parameter(
        operations.ARRAYS, tf.cast, value, master, accumulator_dtype(value)
    )


def gathered(value: Array) -> Array:
    """The value itself: every worker has all of it."""
    return value


def initialize_as_copy(slot: Any, variable: Any) -> None:
    """Let a new slot start at the value of ``variable``, once."""
    with tf.init_scope():
        slot.assign(tf.cast(tf.convert_to_tensor(value_of(variable)), slot.dtype))


def finite(gradients: list[Any]) -> Array:
    """For each gradient, whether all of it is finite."""
    return tf.stack(
        [tf.reduce_all(tf.math.is_finite(operations.dense_values(g))) for g in gradients]
    )


def all_true(flags: Array) -> Array:
    """Whether all of ``flags`` hold."""
    return tf.reduce_all(flags)


def global_norm(tensors: list[Any]) -> Array:
    """The Euclidean norm of all elements together, in float32, in one pass over memory."""
    dense = [
        operations.summed_duplicates(t)[0] if isinstance(t, tf.IndexedSlices) else t
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
