"""Fused kernels against the plain rule, step by step, also where one hands over to the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import surefoot
import tolerances
from loops import BACKEND, EAGER_AND_COMPILED, Loop, to_numpy

# One that two threads share and no cache holds, an odd one, a scalar.
SHAPES = ((1024, 1040), (7, 3), ())
STEPS = 14

OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "radam": lambda: surefoot.RectifiedAdam(0.01),
    "radam_amsgrad": lambda: surefoot.RectifiedAdam(0.01, amsgrad=True, weight_decay=0.1),
    "radam_clipvalue": lambda: surefoot.RectifiedAdam(0.01, clipvalue=0.5),
    "nadam": lambda: surefoot.Nadam(0.01),
    "nadam_weight_decay": lambda: surefoot.Nadam(0.01, weight_decay=0.1, clipvalue=0.5),
    "ranger": lambda: surefoot.Ranger(0.01, sync_period=4),
}


def switch_to_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    if BACKEND == "torch":
        from surefoot.engines.torch import fused_kernels

        monkeypatch.setenv("SUREFOOT_LOOPS", "0")
        monkeypatch.setattr(fused_kernels, "kernel_for", lambda scalars: None)
    elif BACKEND == "jax":
        monkeypatch.setenv("SUREFOOT_LOOPS", "0")
    else:
        from surefoot.engines.tensorflow import jit_compile

        monkeypatch.setattr(jit_compile, "may_compile", lambda variables: False)


def change_on_the_way(optimizer: Any, step: int) -> None:
    """Hyperparameters that the kernels take, do not take, and take again."""
    if step == 8:
        optimizer.beta_2 = 0.99999  # whose complement float32 rounds by 0.1 %
    if step == 10:
        optimizer.beta_2, optimizer.weight_decay = 0.95, 0.2
    if step == 12:
        optimizer.weight_decay = 0.0
    if step == 13:
        optimizer.beta_1 = 0.0  # from where on the kernel of TensorFlow is less exact


def trajectory(name: str, mode: str) -> list[list[np.ndarray]]:
    random = np.random.default_rng(0)
    loop = Loop(OPTIMIZERS[name](), [random.normal(size=s) for s in SHAPES], mode=mode)
    moving = getattr(loop.optimizer, "inner_optimizer", loop.optimizer)
    seen = []
    for step in range(STEPS):
        change_on_the_way(loop.optimizer, step)
        loop.step([random.normal(size=s) for s in SHAPES])
        moments = [
            to_numpy(moving.get_slot(v, name)) for name in ("m", "v") for v in loop.variables
        ]
        seen.append([*loop.parameters, *moments])
    return seen


# With loops of ours, and with the kernels of the backend.
LOOPS = {"tensorflow": ["1", "0"], "jax": ["1"], "torch": ["1", "0"]}[BACKEND]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("loops", LOOPS)
@pytest.mark.parametrize("mode", EAGER_AND_COMPILED)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_fast_is_plain(name: str, mode: str, loops: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUREFOOT_LOOPS", loops)
    fast = trajectory(name, mode)
    switch_to_plain(monkeypatch)
    plain = trajectory(name, mode)
    largest = [0.0] * len(plain[0])  # so far: a value near zero has its roundings from before
    for step, (ours, right) in enumerate(zip(fast, plain, strict=True)):
        largest = [max(x, float(np.max(np.abs(b)))) for x, b in zip(largest, right, strict=True)]
        for a, b, scale in zip(ours, right, largest, strict=True):
            np.testing.assert_allclose(
                a, b, rtol=0, atol=tolerances.FUSED_KERNEL * scale, err_msg=f"step {step}"
            )


@pytest.mark.backends("torch")
@pytest.mark.parametrize(("name", "steps"), [("radam", STEPS - 7), ("nadam", STEPS - 3)])
def test_the_kernel_is_used(name: str, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain are RAdam's first five steps, two with a beta too near one, Nadam's without memory."""
    import torch

    monkeypatch.setenv("SUREFOOT_LOOPS", "0")
    calls = []
    kernel = torch._fused_adamw_

    def counted(*args: Any, **kwargs: Any) -> None:
        calls.append(sum(p.numel() for p in args[0]))
        kernel(*args, **kwargs)

    monkeypatch.setattr(torch, "_fused_adamw_", counted)
    trajectory(name, "eager")
    assert sum(calls) == steps * sum(int(np.prod(s)) for s in SHAPES)


@pytest.mark.backends("torch")
def test_storage_may_be_exchanged() -> None:
    """As `Module.to` and `load_state_dict(assign=True)` do: the parameter stays, its data not."""
    loop = Loop(surefoot.Nadam(0.1), [np.ones((3, 2))])
    loop.step([np.ones((3, 2))])
    tensor = loop.variables[0].value
    tensor.data = tensor.data.clone().t().contiguous().t()  # strided otherwise, too
    before = loop.parameters[0]
    loop.step([np.ones((3, 2))])
    assert np.all(loop.parameters[0] < before - 0.05)


@pytest.mark.backends("jax", "torch")  # Keras has no `stateless_apply` on TensorFlow
@pytest.mark.parametrize("name", ["radam", "nadam", "ranger"])
def test_stateless_apply_leaves_its_arguments_alone(name: str) -> None:
    variable = keras.Variable(np.ones((3, 2), "float32"))
    optimizer = OPTIMIZERS[name]()
    optimizer.build([variable])
    state = [v.value for v in optimizer.variables]
    parameters = [variable.value]
    gradient = keras.ops.ones((3, 2))
    for step in range(8):
        before = [np.array(to_numpy(x)) for x in (*parameters, *state)]
        new_parameters, new_state = optimizer.stateless_apply(state, [gradient], parameters)
        for was, now in zip(before, (*parameters, *state), strict=True):
            np.testing.assert_array_equal(was, to_numpy(now))
        goes_back = name == "ranger" and step % 4 == 3
        assert np.all((to_numpy(new_parameters[0]) < before[0]) != goes_back)
        parameters, state = new_parameters, new_state
    np.testing.assert_array_equal(to_numpy(variable), 1.0)


@pytest.mark.backends("tensorflow")
@pytest.mark.parametrize("compiled", [True, False])
def test_tracing_for_xla_is_noticed(compiled: bool) -> None:
    import tensorflow as tf

    from surefoot.engines.tensorflow import jit_compile

    seen = []

    @tf.function(jit_compile=compiled)
    def traced() -> None:
        seen.append(jit_compile.is_traced_for_xla())

    traced()
    assert seen == [compiled]


@pytest.mark.backends("tensorflow")
def test_eager_steps_take_gradients_of_changing_dtypes() -> None:
    """Their graph is called past the checks of `tf.function`."""
    exact = np.array([0.5, -2.0, 0.25])  # in float16, too
    loops = [Loop(surefoot.Nadam(0.1), [np.ones(3), np.ones(3)]) for _ in range(2)]
    for dtype in ("float32", "float16", "float32", "float64"):
        for loop, given in zip(loops, ("float32", dtype), strict=True):
            gradients = [keras.ops.array(exact, given), keras.ops.array(exact, "float32")]
            loop.optimizer.apply(gradients, loop.variables)
    np.testing.assert_array_equal(loops[0].parameters[0], loops[1].parameters[0])
    assert np.all(loops[0].parameters[0] != 1.0)
