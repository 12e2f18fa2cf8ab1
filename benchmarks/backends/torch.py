"""PyTorch: eager, as Keras's trainer calls it, compiled, or a CUDA graph; beside `torch.optim`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import keras
import torch

from benchmarks.contenders import Build, Contender, Entry, Running, Tensors, keras_optimizers

DEVICE = os.environ.get("KERAS_TORCH_DEVICE", "cpu")
WARM_UP = 8
"""Steps before a graph is captured; RAdam rectifies from the sixth on."""


def gradients(arrays: Tensors) -> list[torch.Tensor]:
    return [torch.from_numpy(array).to(DEVICE) for array in arrays]


def _wait() -> None:
    """On a CPU a step is over when its call returns."""
    if DEVICE != "cpu":
        torch.cuda.synchronize()


def _running(mode: str, step: Callable[[], Any]) -> Running:
    if mode == "compile":
        step = torch.compile(step)
    if mode != "cuda graph":
        return Running(step, _wait)
    beside = torch.cuda.Stream()
    with torch.cuda.stream(beside):
        for _ in range(WARM_UP):
            step()
    _wait()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()

    held = [step]  # and so what the graph reads and writes

    def replay() -> None:
        assert held
        graph.replay()

    return Running(replay, _wait)


def _keras(mode: str, make: Callable[[], Any]) -> Build:
    def build(values: Tensors, grads: Any) -> Running:
        variables = [keras.Variable(value) for value in values]
        optimizer = make()
        optimizer.build(variables)

        @torch.no_grad()
        def step() -> None:
            optimizer.apply(grads, variables)

        return _running(mode, step)

    return build


def _torch_optim(
    mode: str, make: Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]
) -> Build:
    def build(values: Tensors, grads: Any) -> Running:
        parameters = [torch.nn.Parameter(torch.tensor(value, device=DEVICE)) for value in values]
        for parameter, gradient in zip(parameters, grads, strict=True):
            parameter.grad = gradient
        return _running(mode, make(parameters).step)

    return build


def device_floor(count: int) -> Running:
    """A copy of ``count`` float32 numbers in the device's memory."""
    source = torch.ones(count, device=DEVICE)
    target = torch.empty_like(source)
    return Running(lambda: target.copy_(source), _wait)


def device_costs(running: Running, steps: int) -> tuple[int, float, float]:
    """Bytes above the resident, and kernels started and waits of the host in a step."""
    resident = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    for _ in range(steps):
        running.step()
    peak = torch.cuda.max_memory_allocated() - resident
    running.wait()
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(steps):
            running.step()
    events = [event.name for event in profile.events()]
    launches = sum("Launch" in name or "MemcpyAsync" in name for name in events)
    return peak, launches / steps, sum("Synchronize" in name for name in events) / steps


def contenders(mode: str) -> list[Contender]:
    optim = torch.optim
    graph = {"capturable": True} if mode == "cuda graph" else {}

    def peer(kind: Any, **options: Any) -> Callable[[list[torch.nn.Parameter]], Any]:
        return lambda parameters: kind(parameters, **options, **graph)

    peers = {
        "torch RAdam": peer(optim.RAdam, foreach=False),
        "torch RAdam foreach": peer(optim.RAdam, foreach=True),
        "torch NAdam": peer(optim.NAdam, foreach=False),
        "torch NAdam foreach": peer(optim.NAdam, foreach=True),
        "torch Adam foreach": peer(optim.Adam, foreach=True),
        "torch Adam fused": peer(optim.Adam, fused=True),
    }
    own = keras_optimizers()
    if mode == "cuda graph":  # Keras's own cannot be captured: they copy numbers to the device
        own = {name: entry for name, entry in own.items() if entry.ours}
    return [
        *(entry.contender(name, _keras(mode, entry.make)) for name, entry in own.items()),
        *(Entry(make).contender(name, _torch_optim(mode, make)) for name, make in peers.items()),
    ]
