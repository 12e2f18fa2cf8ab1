"""Steps on fake CUDA tensors of PyTorch: nothing waits, and small tensors share their kernels.

Fake tensors have a shape, a dtype and a device, but no numbers: an operation that needs numbers on
the host is an error, and every operation can be seen. No kernel of ours runs on them, so these are
the steps of a machine without Triton, which need more operations than those with it.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest

import surefoot

pytestmark = pytest.mark.backends("torch")

Make = Callable[[], Any]

OPTIMIZERS: dict[str, Make] = {
    "RectifiedAdam": surefoot.RectifiedAdam,
    "RectifiedAdam, all options": lambda: surefoot.RectifiedAdam(
        0.1, weight_decay=0.1, amsgrad=True, clipvalue=1.0, decay=0.1, total_steps=10
    ),
    "RectifiedAdam, skipped": lambda: surefoot.RectifiedAdam(unrectified_update="skip"),
    "Nadam": surefoot.Nadam,
    "Nadam, schedules": lambda: surefoot.Nadam(
        keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9),
        weight_decay=keras.optimizers.schedules.PolynomialDecay(0.1, 10),
    ),
    "Nadam, global_clipnorm": lambda: surefoot.Nadam(global_clipnorm=1.0),
    "RectifiedAdam, clipnorm": lambda: surefoot.RectifiedAdam(clipnorm=1.0),
    "Nadam, skip": lambda: surefoot.Nadam(nonfinite="skip"),
    "AdaBelief": surefoot.AdaBelief,
    "SGDW": lambda: surefoot.SGDW(0.1, momentum=0.9, nesterov=True),
    "Yogi": surefoot.Yogi,
    "Ranger": surefoot.Ranger,
    "Ranger, skip": lambda: surefoot.Ranger(nonfinite="skip"),
    "SWA": lambda: surefoot.SWA(surefoot.Nadam()),
    "MovingAverage": lambda: surefoot.MovingAverage(surefoot.Nadam(), dynamic_decay=True),
    "Lookahead, skip inside": lambda: surefoot.Lookahead(surefoot.Nadam(nonfinite="skip")),
}

# The number of kernels of these grows with the number of tensors: Keras's moving average goes from
# variable to variable, and each has random numbers or a norm of its own.
GROWING: dict[str, Make] = {
    "use_ema": lambda: surefoot.Nadam(use_ema=True, ema_overwrite_frequency=None),
    "stochastic": lambda: surefoot.RectifiedAdam(low_precision="stochastic"),
    "LAMB": surefoot.LAMB,
    "NovoGrad": surefoot.NovoGrad,
}


@pytest.fixture
def fake_cuda() -> Iterator[Any]:
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.overrides import TorchFunctionMode

    class WithoutGuard(TorchFunctionMode):
        """This method alone asks for CUDA's library, which a build for CPUs has not."""

        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func is torch.Tensor.copy_:
                func = torch.ops.aten.copy_.default
            return func(*args, **(kwargs or {}))

    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        WithoutGuard(),
        keras.device("cuda:0"),
    ):
        yield torch


class Operations:
    """The operations in a `with` block that launch a kernel, and those that copy over devices."""

    def __init__(self, torch: Any) -> None:
        from torch.utils._python_dispatch import TorchDispatchMode

        kernels: collections.Counter[str] = collections.Counter()
        copies: list[str] = []

        class Watch(TorchDispatchMode):
            def __torch_dispatch__(
                self, func: Any, types: Any, args: Any = (), kwargs: Any = None
            ) -> Any:
                result = func(*args, **(kwargs or {}))
                leaves = torch.utils._pytree.tree_leaves((args, kwargs, result))
                devices = {x.device.type for x in leaves if isinstance(x, torch.Tensor)}
                if len(devices) > 1:
                    copies.append(str(func))
                if not func.is_view and func.namespace != "prim":
                    kernels[str(func)] += 1
                return result

        self.kernels, self.copies, self.watch = kernels, copies, Watch()


def operations(torch: Any, make: Make, tensors: int, dtype: str) -> Operations:
    """Those of a step of an optimizer that has made one before."""
    variables = [keras.Variable(np.ones((3, 2), "float32"), dtype=dtype) for _ in range(tensors)]
    kind = getattr(torch, dtype)
    gradients = [torch.ones(3, 2, device="cuda:0", dtype=kind) for _ in variables]
    optimizer = make()
    optimizer.build(variables)
    optimizer.apply(gradients, variables)
    found = Operations(torch)
    with found.watch:
        optimizer.apply(gradients, variables)
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_step_neither_waits_nor_grows(fake_cuda: Any, name: str, dtype: str) -> None:
    few = operations(fake_cuda, OPTIMIZERS[name], 2, dtype)
    assert few.copies == []
    many = operations(fake_cuda, OPTIMIZERS[name], 50, dtype)
    assert many.copies == []
    # To make room for a tensor is no work of the device.
    del few.kernels["aten.empty.memory_format"], many.kernels["aten.empty.memory_format"]
    assert many.kernels == few.kernels


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", GROWING)
def test_step_does_not_wait(fake_cuda: Any, name: str, dtype: str) -> None:
    assert operations(fake_cuda, GROWING[name], 3, dtype).copies == []


def test_watch_sees_what_keras_copies(fake_cuda: Any) -> None:
    """The check can fail: Keras's own counter copies a number to the device at each step."""
    counter = keras.Variable(0, dtype="int64", trainable=False)
    found = Operations(fake_cuda)
    with found.watch:
        counter.assign_add(1)
    assert found.copies != []


def test_variables_keep_their_slots_on_their_device(fake_cuda: Any) -> None:
    optimizer = surefoot.Ranger()
    with keras.device("cpu"):
        here = keras.Variable(np.ones(3, "float32"))
    there = keras.Variable(np.ones(3, "float32"))
    optimizer.build([here, there])
    for variable in (here, there):
        inner = optimizer.inner_optimizer
        slots = [optimizer.get_slot(variable, "slow"), *map(inner.get_slot, [variable] * 2, "mv")]
        assert {slot.value.device for slot in slots} == {variable.value.device}
