"""JAX: `stateless_apply` under `jax.jit` with donated buffers, and `apply` outside of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import keras
import optax

from benchmarks.contenders import Build, Contender, Entry, Running, Tensors, keras_optimizers

Update = Callable[[Any, Any, Any], tuple[Any, Any]]
"""From parameters, state and gradients to new parameters and state."""


def gradients(arrays: Tensors) -> list[jax.Array]:
    return [jax.numpy.asarray(array) for array in arrays]


def _functional(update: Update, parameters: Any, state: Any, grads: Any) -> Running:
    """Step by a pure function whose inputs make room for its outputs."""
    compiled = jax.jit(update, donate_argnums=(0, 1))
    carried = [parameters, state]

    def step() -> None:
        carried[:] = compiled(*carried, grads)

    return Running(step, lambda: jax.block_until_ready(carried))


def _keras_jit(make: Callable[[], Any]) -> Build:
    def build(values: Tensors, grads: Any) -> Running:
        variables = [keras.Variable(value) for value in values]
        optimizer = make()
        optimizer.build(variables)
        return _functional(
            lambda p, state, g: optimizer.stateless_apply(state, g, p),
            [variable.value for variable in variables],
            [variable.value for variable in optimizer.variables],
            grads,
        )

    return build


def _keras_eager(make: Callable[[], Any]) -> Build:
    def build(values: Tensors, grads: Any) -> Running:
        variables = [keras.Variable(value) for value in values]
        optimizer = make()
        optimizer.build(variables)

        def wait() -> None:
            jax.block_until_ready([v.value for v in (*variables, *optimizer.variables)])

        return Running(lambda: optimizer.apply(grads, variables), wait)

    return build


def _optax_jit(make: Callable[[], optax.GradientTransformation]) -> Build:
    def build(values: Tensors, grads: Any) -> Running:
        transformation = make()

        def update(p: Any, state: Any, g: Any) -> tuple[Any, Any]:
            updates, state = transformation.update(g, state, p)
            return optax.apply_updates(p, updates), state

        parameters = gradients(values)
        return _functional(update, parameters, transformation.init(parameters), grads)

    return build


def device_floor(count: int) -> Running:
    """A pass that reads and writes ``count`` float32 numbers of the device's memory."""
    negated = jax.jit(jax.numpy.negative, donate_argnums=0)
    carried = [jax.numpy.ones(count)]

    def step() -> None:
        carried[:] = [negated(*carried)]

    return Running(step, lambda: jax.block_until_ready(carried))


def device_costs(running: Running, steps: int) -> tuple[int, None, None]:
    """The largest memory above the resident so far, as XLA's allocator knows it."""
    device = jax.devices()[0]
    for _ in range(steps):
        running.step()
    running.wait()
    memory = device.memory_stats()
    return memory["peak_bytes_in_use"] - memory["bytes_in_use"], None, None


def contenders(mode: str) -> list[Contender]:
    build = _keras_jit if mode == "jit" else _keras_eager
    found = [entry.contender(name, build(entry.make)) for name, entry in keras_optimizers().items()]
    if mode == "jit":
        peers = {
            "optax radam": lambda: optax.radam(1e-3),
            "optax nadam": lambda: optax.nadam(1e-3),
            "optax adam": lambda: optax.adam(1e-3),
        }
        found += [Entry(make).contender(name, _optax_jit(make)) for name, make in peers.items()]
    return found
