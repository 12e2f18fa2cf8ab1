"""The programs of steps for accelerators that are not here: nothing in them asks the host.

On JAX a step is lowered for CUDA; on TensorFlow its graph is looked at. SUREFOOT_LOOPS=0 leaves a
step to the backend here, as where variables are on another device than the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest

import surefoot

Make = Callable[[], Any]
OPTIMIZERS: dict[str, Make] = {
    "RectifiedAdam": lambda: surefoot.RectifiedAdam(
        weight_decay=0.1, amsgrad=True, clipvalue=1.0, decay=0.1, total_steps=10
    ),
    "Nadam": lambda: surefoot.Nadam(
        keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9), global_clipnorm=1.0
    ),
    "Ranger": surefoot.Ranger,
    "skip": lambda: surefoot.Ranger(nonfinite="skip"),
    "stochastic": lambda: surefoot.Nadam(low_precision="stochastic"),
    "use_ema": lambda: surefoot.RectifiedAdam(use_ema=True, ema_overwrite_frequency=2),
    "accumulation": lambda: surefoot.Ranger(gradient_accumulation_steps=2),
}


def raising() -> Any:
    """Asks the host, to raise an error that names the variable: the checks can fail."""
    return surefoot.Nadam(nonfinite="raise")


@pytest.fixture(autouse=True)
def left_to_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUREFOOT_LOOPS", "0")


def built(make: Make, dtype: str) -> tuple[Any, list[Any]]:
    variables = [keras.Variable(np.ones((3, 2), "float32"), dtype=dtype) for _ in range(3)]
    optimizer = make()
    optimizer.build(variables)
    return optimizer, variables


def program(platform: str, make: Make, dtype: str) -> str:
    import jax

    optimizer, variables = built(make, dtype)
    step = jax.jit(lambda values, state, grads: optimizer.stateless_apply(state, grads, values))
    values = [v.value for v in variables]
    state = [v.value for v in optimizer.variables]
    lowered = step.trace(values, state, values).lower(lowering_platforms=(platform,))
    return str(lowered.as_text())


@pytest.mark.backends("jax")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_program_for_cuda_calls_nobody(name: str, dtype: str) -> None:
    lines = program("cuda", OPTIMIZERS[name], dtype).splitlines()
    calls = [line for line in lines if "custom_call" in line]
    # Random numbers have a kernel of XLA's own on a GPU.
    assert [line for line in calls if "cu_threefry2x32" not in line] == []


@pytest.mark.backends("jax")
def test_program_calls_the_host_to_raise() -> None:
    # JAX lowers such a program only for the platform at hand.
    assert "callback" in program("cpu", raising, "float32")


HOST_OPERATIONS = {"Assert", "EagerPyFunc", "Print", "PrintV2", "PyFunc", "PyFuncStateless"}


def nodes_of(make: Make, dtype: str) -> Iterator[Any]:
    import tensorflow as tf

    optimizer, variables = built(make, dtype)
    gradients = [tf.ones((3, 2), dtype) for _ in variables]
    step = tf.function(lambda: optimizer.apply(gradients, variables), autograph=False)
    graph = step.get_concrete_function().graph.as_graph_def()
    yield from graph.node
    for function in graph.library.function:
        yield from function.node_def


@pytest.mark.backends("tensorflow")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_graph_has_nothing_for_the_host(name: str, dtype: str) -> None:
    nodes = list(nodes_of(OPTIMIZERS[name], dtype))
    assert nodes
    assert [node.name for node in nodes if node.op in HOST_OPERATIONS] == []


@pytest.mark.backends("tensorflow")
def test_graph_has_an_assertion_to_raise() -> None:
    assert any(node.op == "Assert" for node in nodes_of(raising, "float32"))
