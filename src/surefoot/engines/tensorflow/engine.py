"""The rule on TensorFlow, in graphs; an eager step is traced once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import tensorflow as tf

from surefoot.engines import assignment_loops, differentiation, failures, loops, plain
from surefoot.engines.contract import RuleOptimizer, SteppedOptimizer
from surefoot.engines.engine import Engine
from surefoot.engines.tensorflow import arrays, jit_compile, loop_runner, shapes, sparse, steps
from surefoot.rule.update import Array, StepScalars
from surefoot.variables.tracked import Assignment, Tracked
from surefoot.variables.variable import is_low_precision, value_of


class TensorFlowEngine(Engine):
    """TensorFlow; `Engine` says what each method does."""

    SPARSE_GRADIENTS = True
    loop_runner = loop_runner
    arrays = arrays
    bits = plain.BitCasts(lambda x: tf.bitcast(x, tf.int16), tf.bitcast)

    # Numbers and where they are.

    def scalar_dtype(self) -> str:
        return "float64"  # a few scalars cost nothing, and the originals' counters fit

    def scalar(self, value: Any) -> Array:
        return tf.cast(value_of(value), tf.float64)

    def cast(self, value: Array, dtype: Any) -> Array:
        return tf.cast(value, dtype)

    # Variables.

    def shape(self, variable: Any) -> tuple[int, ...]:
        return shapes.shape(variable)

    def colocated(self, reference: Any) -> AbstractContextManager[Any]:
        extended = tf.distribute.get_strategy().extended
        scopes = contextlib.ExitStack()
        scopes.enter_context(extended.colocate_vars_with(value_of(reference)))
        scopes.enter_context(tf.variable_creator_scope(_named_alike))
        return scopes

    def outside_of_traces(self) -> AbstractContextManager[Any]:
        scope: AbstractContextManager[Any] = tf.init_scope()
        return scope

    def state_scope(self, optimizer: Any) -> AbstractContextManager[bool]:
        """Nothing to do but to say whether a graph will read the variables when it runs."""
        del optimizer
        return contextlib.nullcontext(not tf.executing_eagerly())

    def native_variable(self, variable: Any) -> Any:
        return value_of(variable)

    def read(self, variable: Any) -> Array:
        return tf.convert_to_tensor(value_of(variable))

    def assign(self, variable: Any, value: Array) -> None:
        value_of(variable).assign(value)

    # Gradients.

    def gradients(
        self, loss: Callable[[], Any], var_list: Any, grad_loss: Any
    ) -> tuple[list[Any], list[Any]]:
        with tf.GradientTape() as tape:
            if not callable(var_list):
                watched = differentiation.listed_variables(var_list, (tf.Variable,))
                tape.watch([value_of(v) for v in watched])
            value = loss()
        variables = differentiation.listed_variables(var_list, (tf.Variable,))
        return tape.gradient(value, [value_of(v) for v in variables], grad_loss), variables

    def symbolic_gradients(self, loss: Any, params: list[Any]) -> list[Any]:
        if tf.executing_eagerly():
            raise RuntimeError(
                "`get_gradients` and `get_updates` differentiate a TensorFlow graph: call them "
                "inside a `tf.function`. Outside, use `optimizer.minimize(loss_function, "
                "variables)` or a `tf.GradientTape` and `apply_gradients`."
            )
        gradients = tf.gradients(loss, [value_of(p) for p in params])
        return differentiation.require_all(gradients, params)

    def as_tensor(self, gradient: Any) -> Any:
        if isinstance(gradient, tf.Tensor | tf.distribute.DistributedValues):
            return gradient  # the latter: one for each replica
        if not isinstance(gradient, tf.IndexedSlices):
            return tf.convert_to_tensor(gradient)
        shape = gradient.dense_shape
        return tf.IndexedSlices(
            tf.convert_to_tensor(gradient.values),
            tf.convert_to_tensor(gradient.indices),
            None if shape is None else tf.convert_to_tensor(shape),
        )

    def upcast_one(self, gradient: Any) -> Any:
        if not isinstance(gradient, tf.IndexedSlices):
            gradient = tf.convert_to_tensor(gradient)
        return tf.cast(gradient, tf.float32) if gradient.dtype.size < 4 else gradient

    def is_dense(self, gradient: Any) -> bool:
        return isinstance(gradient, tf.Tensor)

    def dense_values(self, gradient: Any) -> Array:
        return gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient

    def report_nonfinite(self, finite: Array, names: list[str], optimizer_name: str) -> Array:
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

    def clip(
        self,
        optimizer: SteppedOptimizer,
        gradients: list[Any],
        keras_clip: Callable[[list[Any]], list[Any]],
    ) -> list[Any]:
        """Clip as Keras does; by the norm of all as the originals, sparse gradients included."""
        if optimizer.global_clipnorm is None:
            return super().clip(optimizer, gradients, keras_clip)
        clipped, _ = tf.clip_by_global_norm(gradients, optimizer.global_clipnorm)
        return list(clipped)

    def global_norm(self, tensors: list[Any]) -> Array:
        """In one pass over memory."""
        dense = [
            sparse.summed_duplicates(t)[0] if isinstance(t, tf.IndexedSlices) else t
            for t in tensors
        ]
        halves = [tf.nn.l2_loss(tf.cast(t, tf.float32)) for t in dense]
        return tf.sqrt(2.0 * tf.add_n(halves))

    # The step.

    def run_step(self, optimizer: SteppedOptimizer, gradients: Any, variables: Any) -> None:
        steps.run_step(optimizer, gradients, variables)

    def update(
        self,
        optimizer: RuleOptimizer,
        scalars: Callable[[], StepScalars],
        tracked: list[Tracked],
        gradients: list[Any],
    ) -> None:
        numbers = scalars()
        pairs = list(zip(tracked, gradients, strict=True))
        dense = [pair for pair in pairs if not isinstance(pair[1], tf.IndexedSlices)]
        in_graph = not tf.executing_eagerly()
        if in_graph and jit_compile.may_compile([t.variable for t, _ in dense]):
            groups = loops.groups_of([t for t, _ in dense])
            given = [g for _, g in dense]
            done = loops.update(loop_runner, groups, numbers, given, optimizer.clipvalue)
            served = {id(dense[i][0]) for i in done}
            rest = [
                (t, g) for t, g in dense if id(t) not in served and not is_low_precision(t.variable)
            ]
            if rest:
                jit_compile.run(lambda: self.update_plainly(optimizer, numbers, rest))
                served.update(id(t) for t, _ in rest)
            pairs = [(t, g) for t, g in pairs if id(t) not in served]
        self.update_plainly(optimizer, numbers, pairs)

    def update_variable(
        self, optimizer: RuleOptimizer, scalars: StepScalars, tracked: Tracked, gradient: Any
    ) -> None:
        """Apply the rule to one variable; of a sparse gradient, to its rows."""
        if isinstance(gradient, tf.IndexedSlices):
            if optimizer.sparse_step != "dense":
                sparse.update_rows(self, optimizer, scalars, tracked, gradient)
                return
            gradient = sparse.densified(gradient, tracked.variable)
        super().update_variable(optimizer, scalars, tracked, gradient)

    def read_state(
        self, tracked: Tracked, read: Callable[[Any], Array] | None = None
    ) -> plain.VariableState:
        state = super().read_state(tracked, read)
        if read is None and shapes.is_open(tracked.variable):
            # It may have been assigned another shape, and would be broadcast.
            fitting = tf.ensure_shape(state.parameter, tracked.full_slot.shape)
            return state._replace(parameter=fitting)
        return state

    def assign_where(
        self,
        condition: Array,
        assignments: list[Assignment],
        value: Callable[..., Array],
        scalars: Sequence[Array],
    ) -> None:
        """In a branch that XLA compiles; within XLA, which would copy for it, by selection."""

        def assign(rest: list[Assignment], *, selects: bool) -> None:
            for assignment in rest:
                exact = self.assigned_value(assignment, value, scalars)
                for place, target in enumerate(assignment.targets):
                    new = self.target_value(assignment, place, exact, scalars)
                    if selects:
                        new = jit_compile.kept_apart(tf.where(condition, new, value_of(target)))
                        exact = new if new.dtype == exact.dtype else exact
                    self.assign(target, new)

        def assign_in_loops(*, selects: bool) -> None:
            rest = assignment_loops.assign_where(
                loop_runner, condition, assignments, value, scalars
            )
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
            self.run_where(
                condition, lambda: assign(assignments, selects=False), [], only_rule=True
            )

    def run_where(
        self, condition: Array, action: Callable[[], None], state: list[Any], *, only_rule: bool
    ) -> None:
        """Trace ``action`` into a branch of the graph."""
        del state, only_rule

        def run() -> tf.Tensor:
            action()
            return tf.constant(True)

        tf.cond(condition, run, lambda: tf.constant(False))

    def apply_result(self, optimizer: Any) -> Any:
        if not tf.inside_function() and tf.executing_eagerly():
            return optimizer.iterations
        with tf.control_dependencies([tf.convert_to_tensor(value_of(optimizer.iterations))]):
            return tf.no_op(name=optimizer.name)


def _named_alike(create: Callable[..., Any], **arguments: Any) -> Any:
    """A variable by a name that TensorFlow has seen: for each new one it keeps 35 KB for ever."""
    return create(**arguments | {"name": "slot"})
