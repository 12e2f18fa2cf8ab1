"""Steps outside of `jax.jit`, each compiled as a whole."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import keras

from surefoot.engines import plain
from surefoot.engines.contract import SteppedOptimizer
from surefoot.engines.jax import layouts, loop_runner, programs, tracing
from surefoot.rule.update import Array


def run_step(optimizer: SteppedOptimizer, gradients: Any, variables: Any) -> None:
    """Compile an eager update as a whole: outside of jit each operation is dispatched alone."""
    traced = any(isinstance(g, jax.core.Tracer) for g in gradients)
    unknown = variables is None and not optimizer.built
    with optimizer.step_lock:  # another thread's step would find its state donated
        if not gradients or traced or unknown or not optimizer.compiles_eagerly():
            _inline_step(optimizer, gradients, variables)
            if traced:
                tracing.note(optimizer)
        else:
            _compiled_and_run(optimizer, gradients, variables)


def _compiled_and_run(
    optimizer: SteppedOptimizer, gradients: list[Any], variables: list[Any] | None
) -> None:
    variables = optimizer.all_trainable_variables(variables)
    optimizer.refuse_nonfinite(gradients, variables)
    step = _compiled_step(optimizer, variables)
    stateless = plain.is_stateless()
    state = [*step.donated, *step.kept, *step.parameters]
    held = [
        [v.value if stateless or v._value is None else v._value for v in part]
        for part in (step.donated, step.kept, step.parameters)
    ]
    # Within another trace, and for arrays that may be on other devices or in another memory of one,
    # JAX decides at each call.
    traces = stateless or loop_runner.other_devices() is not None
    run = step.traceable if traces else step.compiled_for(held, gradients)
    new_values = run(*held, gradients)
    # Past what Keras looks at each time, which takes longer than to update a small model; what
    # is assigned was looked at when the step was traced.
    for variable, value in zip(state, new_values, strict=True):
        if stateless:
            variable.assign(value)
        else:
            variable._direct_assign(value)


def _inline_step(
    optimizer: SteppedOptimizer, gradients: list[Any], variables: list[Any] | None
) -> None:
    optimizer.inline_apply(gradients, variables)
    if keras.distribution.distribution() is not None:
        # XLA may have chosen another place for a result, by what it was computed from.
        for variable in [*optimizer._trainable_variables, *optimizer.variables]:
            variable.assign(layouts.placed(variable.value, variable))


def _donated_and_kept(optimizer: SteppedOptimizer) -> tuple[list[Any], list[Any]]:
    """Split the state into what a step may update in place, and the rest.

    Only the rule writes the first part, and nothing else shares its buffers.
    """
    if plain.is_stateless():
        return [], list(optimizer.variables)
    owned = optimizer.rule_state()
    ids = {id(v) for v in owned}
    return owned, [v for v in optimizer.variables if id(v) not in ids]


class _Step(NamedTuple):
    """A step as a function of values, and the variables whose values it is given.

    Attributes:
        traceable: The jitted function.
        donated: The state that it updates in place.
        kept: The rest of the state.
        parameters: All parameters.
        compiled: The compiled function by what it depends on of the gradients.
    """

    traceable: Any
    donated: list[Any]
    kept: list[Any]
    parameters: list[Any]
    compiled: dict[tuple[Any, ...], Any]

    def compiled_for(self, held: list[list[Array]], gradients: list[Any]) -> Any:
        """The function compiled for these arguments."""
        key = tuple(map(_kind, gradients))
        if key not in self.compiled:
            self.compiled[key] = programs.compiled(self.traceable, *held, gradients)
        return self.compiled[key]


def _kind(gradient: Any) -> Any:
    """What a compiled step depends on of a gradient; the shape of a dense one is its variable's."""
    if gradient is None or isinstance(gradient, jax.Array):
        return getattr(gradient, "dtype", None)
    # A sparse one has as many entries as it has.
    return type(gradient), tuple((x.shape, x.dtype) for x in jax.tree.leaves(gradient))


def _compiled_step(optimizer: SteppedOptimizer, variables: list[Any]) -> _Step:
    key = (plain.is_stateless(), *optimizer.compile_key(), *(id(v) for v in variables))
    steps = optimizer.eager_steps
    if key not in steps:
        donated, kept = _donated_and_kept(optimizer)
        # All of them, also where this step is for some: averages and slow weights read the others,
        # whose values would else be constants of the compiled step.
        parameters = list(optimizer._trainable_variables)

        def step(
            donated_values: list[Array],
            kept_values: list[Array],
            parameter_values: list[Array],
            gradients: list[Array | None],
        ) -> list[Array]:
            state = [*donated, *kept, *parameters]
            values = [*donated_values, *kept_values, *parameter_values]
            with (
                keras.StatelessScope(list(zip(state, values, strict=True))) as scope,
                loop_runner.parameters_not_donated(),  # the caller may hold the arrays
            ):
                _inline_step(optimizer, gradients, variables)
            return [scope.get_current_value(v) for v in state]

        jitted = jax.jit(step, donate_argnums=(0,), keep_unused=True)
        steps[key] = _Step(jitted, donated, kept, parameters, {})
    found: _Step = steps[key]
    return found
