"""Loops on JAX: they compute what XLA would, in place, and leave to it what they do not serve."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import surefoot
import tolerances
from loops import BACKEND, REASONS_AGAINST_LOOPS, to_numpy, without_loops

if BACKEND == "jax":
    import jax
    import jax.numpy as jnp

    from surefoot.engines.compiler import llvm, xla
    from surefoot.engines.jax import loop_runner

pytestmark = pytest.mark.backends("jax")

SHAPES = ((64, 33), (7,), (), (5, 0))
OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "radam": lambda: surefoot.RectifiedAdam(0.01, clipvalue=0.5),
    "radam_amsgrad": lambda: surefoot.RectifiedAdam(0.01, amsgrad=True, weight_decay=0.1),
    "nadam": lambda: surefoot.Nadam(0.01),
    "ranger": lambda: surefoot.Ranger(0.01, sync_period=2),
}


class Stateless:
    """An optimizer with parameters, state and gradients, to be stepped by a pure function."""

    def __init__(self, name: str) -> None:
        random = np.random.default_rng(0)
        variables = [keras.Variable(random.normal(size=s), dtype="float32") for s in SHAPES]
        self.optimizer = OPTIMIZERS[name]()
        self.optimizer.build(variables)
        self.parameters = [jnp.copy(v.value) for v in variables]
        self.state = [jnp.copy(v.value) for v in self.optimizer.variables]
        self.gradients = [jnp.asarray(random.normal(size=s), "float32") for s in SHAPES]

    def step(self, parameters: Any, state: Any, gradients: Any) -> Any:
        return self.optimizer.stateless_apply(state, gradients, parameters)

    def compiled(self) -> Any:
        step = jax.jit(self.step, donate_argnums=(0, 1))
        return step.lower(self.parameters, self.state, self.gradients).compile()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_with_donated_state_copies_nothing(name: str) -> None:
    compiled = Stateless(name).compiled().as_text()
    assert "surefoot_" in compiled
    copies = re.findall(r"= (\S+) copy\(", compiled)
    assert not [shape for shape in copies if "64,33" in shape]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_without_donated_state_leaves_it_alone(name: str) -> None:
    run = Stateless(name)
    before = [np.array(x) for x in (*run.parameters, *run.state)]
    parameters, _ = jax.jit(run.step)(run.parameters, run.state, run.gradients)
    for was, now in zip(before, (*run.parameters, *run.state), strict=True):
        np.testing.assert_array_equal(was, now)
    assert not np.array_equal(parameters[0], run.parameters[0])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_gradients_pass_through_a_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Stateless(name)

    def after(parameters: Any, gradients: Any) -> Any:
        state = run.state
        for _ in range(3):
            parameters, state = run.step(parameters, state, gradients)
        return sum(jnp.sum(jnp.sin(p)) for p in parameters)

    ours = jax.jit(jax.grad(after, argnums=(0, 1)))(run.parameters, run.gradients)
    monkeypatch.setenv("SUREFOOT_LOOPS", "0")
    by_xla = jax.jit(jax.grad(after, argnums=(0, 1)))(run.parameters, run.gradients)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(by_xla), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerances.FUSED_KERNEL, atol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_many_models_step_at_once(name: str) -> None:
    run = Stateless(name)
    many = [jnp.stack([p, p + 1.0, p - 1.0]) for p in run.parameters]
    together, _ = jax.jit(jax.vmap(run.step, in_axes=(0, None, None)))(
        many, run.state, run.gradients
    )
    for index in range(3):
        alone, _ = jax.jit(run.step)([p[index] for p in many], run.state, run.gradients)
        for a, b in zip(together, alone, strict=True):
            np.testing.assert_array_equal(a[index], b)


def another_interface(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(xla, "KNOWN_MAJOR_VERSION", 9)


@pytest.mark.parametrize("reason", REASONS_AGAINST_LOOPS)
def test_without_loops_xla_does_it(reason: str) -> None:
    cached = (llvm._llvm, loop_runner._interface_version)
    with without_loops(reason, another_interface, *cached):
        assert "surefoot_" not in Stateless("radam").compiled().as_text()


@pytest.mark.parametrize("make", [surefoot.Nadam, surefoot.Ranger])
def test_eager_steps_use_loops_and_keep_old_parameters(make: Callable[[float], Any]) -> None:
    variable = keras.Variable(np.ones((64, 33), "float32"))
    optimizer = make(0.1)
    held = variable.value
    for _ in range(3):
        optimizer.apply([jnp.ones((64, 33))], [variable])
    np.testing.assert_array_equal(held, 1.0)
    assert np.all(to_numpy(variable) < 0.8)
    (step,) = optimizer.eager_steps.values()
    (program,) = step.compiled.values()
    text = program.as_text()
    assert "surefoot_" in text
    assert not re.findall(r"= \S*64,33\S* copy\(", text)
