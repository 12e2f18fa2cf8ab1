"""PyTorch: eager, as the Keras trainer calls it, beside `torch.optim`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import torch

from benchmarks.contenders import Build, Contender, Entry, Running, Tensors, keras_optimizers


def gradients(arrays: Tensors) -> list[torch.Tensor]:
    return [torch.from_numpy(array) for array in arrays]


def _wait() -> None:
    """On a CPU a step is over when its call returns."""


def _keras(make: Callable[[], Any]) -> Build:
    def build(values: Tensors, grads: Any) -> Running:
        variables = [keras.Variable(value) for value in values]
        optimizer = make()
        optimizer.build(variables)

        @torch.no_grad()
        def step() -> None:
            optimizer.apply(grads, variables)

        return Running(step, _wait)

    return build


def _torch_optim(make: Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]) -> Build:
    def build(values: Tensors, grads: Any) -> Running:
        parameters = [torch.nn.Parameter(torch.tensor(value)) for value in values]
        for parameter, gradient in zip(parameters, grads, strict=True):
            parameter.grad = gradient
        return Running(make(parameters).step, _wait)

    return build


def contenders(mode: str) -> list[Contender]:
    del mode  # There is one.
    optim = torch.optim
    peers = {
        "torch RAdam": optim.RAdam,
        "torch RAdam foreach": lambda parameters: optim.RAdam(parameters, foreach=True),
        "torch NAdam": optim.NAdam,
        "torch NAdam foreach": lambda parameters: optim.NAdam(parameters, foreach=True),
        "torch Adam fused": lambda parameters: optim.Adam(parameters, fused=True),
    }
    return [
        *(entry.contender(name, _keras(entry.make)) for name, entry in keras_optimizers().items()),
        *(Entry(make).contender(name, _torch_optim(make)) for name, make in peers.items()),
    ]
