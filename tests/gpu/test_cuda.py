"""Steps on a GPU: the numbers of the CPU, without a wait, in CUDA graphs, on mixed devices.

`make test-gpu` runs it, in an environment with a build of the backend for CUDA.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import surefoot
from surefoot.engines.compiler.loop import Obstacle

pytestmark = [
    pytest.mark.backends("torch"),
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype"),
]
torch = pytest.importorskip("torch")

SHAPES = [(64, 64), (17,), (5, 3, 2), (1,), (4096,), (300, 200), (2048,), (7,)]
STEPS = 20
# Of weights of size 1 that move by 0.01 a step; PyTorch's roots differ in the last digit.
TOLERANCES = {"float64": 1e-11, "float32": 3e-6, "bfloat16": 2e-2}
"""bfloat16: also of moments, where that digit can decide to which neighbour a number is rounded."""

Make = Callable[[], Any]
OPTIMIZERS: dict[str, Make] = {
    "RectifiedAdam": lambda: surefoot.RectifiedAdam(0.01),
    "RectifiedAdam, all options": lambda: surefoot.RectifiedAdam(
        0.01, weight_decay=0.1, clipvalue=0.1, amsgrad=True, total_steps=10, decay=0.01
    ),
    "RectifiedAdam, skipped": lambda: surefoot.RectifiedAdam(0.01, unrectified_update="skip"),
    "Nadam": lambda: surefoot.Nadam(0.01),
    "Nadam, schedule": lambda: surefoot.Nadam(
        keras.optimizers.schedules.PolynomialDecay(0.02, 30, 0.01), weight_decay=0.01
    ),
    "Nadam, skip": lambda: surefoot.Nadam(0.01, nonfinite="skip", global_clipnorm=1.0),
    "Ranger": lambda: surefoot.Ranger(0.01),
    "Ranger, skip": lambda: surefoot.Ranger(0.01, nonfinite="skip", sync_period=3),
    "clipnorm": lambda: surefoot.RectifiedAdam(0.01, clipnorm=0.3),
    "use_ema": lambda: surefoot.Nadam(0.01, use_ema=True),
    "bfloat16 moments": lambda: surefoot.RectifiedAdam(0.01, moments="bfloat16", amsgrad=True),
    "Ranger, all in bfloat16": lambda: surefoot.Ranger(
        0.01, moments="bfloat16", slow_weights="bfloat16"
    ),
}
SKIPPING = {"Nadam, skip", "Ranger, skip"}

REPEATING = {
    *("RectifiedAdam", "RectifiedAdam, skipped", "Nadam", "Ranger"),
    *("bfloat16 moments", "Ranger, all in bfloat16"),
}
"""Without clipping, schedules, conditions or averages of Keras."""

# These ask the device: Keras's own optimizers and its accumulation are as they are.
WAITING: dict[str, Make] = {
    "accumulation": lambda: surefoot.Nadam(0.01, gradient_accumulation_steps=3),
    "Lookahead of Keras's Adam": lambda: surefoot.Lookahead(keras.optimizers.Adam(0.01)),
    "nonfinite": lambda: surefoot.Nadam(0.01, nonfinite="raise"),
}


def weights(dtype: str) -> list[Any]:
    rng = np.random.default_rng(1)
    return [keras.Variable(rng.normal(size=s).astype("float64"), dtype=dtype) for s in SHAPES]


def gradients(step: int, dtype: str, device: str, *, nan: bool) -> list[Any]:
    rng = np.random.default_rng(step)
    found = [
        torch.tensor(0.1 * rng.normal(size=s), dtype=getattr(torch, dtype)).to(device)
        for s in SHAPES
    ]
    if nan and step in (4, 7):
        found[0][0, 0] = float("nan")
    return found


def trained(
    name: str, make: Make, dtype: str, device: str, *, strict: bool = False
) -> tuple[Any, list[np.ndarray]]:
    """The optimizer after some steps, and all variables."""
    with keras.device(device):
        variables, optimizer = weights(dtype), make()
        for step in range(STEPS):
            given = gradients(step, dtype, device, nan=name in SKIPPING)
            torch.cuda.set_sync_debug_mode("error" if strict and step > 1 else "default")
            try:
                optimizer.apply(given, variables)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        return optimizer, everything(optimizer, variables)


def everything(optimizer: Any, variables: list[Any]) -> list[np.ndarray]:
    """The values of all variables; the lower halves of masters mean nothing by themselves."""
    state = [v for v in optimizer.variables if str(v.dtype) != "int16"]
    return values([*variables, *state])


def values(variables: list[Any]) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(v.value).astype("float64") for v in variables]


def tolerance_of(name: str, dtype: str) -> str:
    if "bfloat16" in name:
        return "bfloat16"
    return "float32" if "schedule" in name and dtype == "float64" else dtype


def assert_alike(one: list[np.ndarray], other: list[np.ndarray], dtype: str) -> None:
    for x, y in zip(one, other, strict=True):
        np.testing.assert_allclose(y, x, rtol=TOLERANCES[dtype], atol=TOLERANCES[dtype])


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_step_is_that_of_the_cpu_and_does_not_wait(name: str, dtype: str) -> None:
    _, wanted = trained(name, OPTIMIZERS[name], dtype, "cpu")
    optimizer, found = trained(name, OPTIMIZERS[name], dtype, "cuda", strict=True)
    assert_alike(wanted, found, tolerance_of(name, dtype))
    assert optimizer.skipped_steps == (2 if name in SKIPPING else 0)


@pytest.mark.parametrize("name", WAITING)
def test_what_waits_has_the_numbers_of_the_cpu(name: str) -> None:
    _, wanted = trained(name, WAITING[name], "float32", "cpu")
    assert_alike(wanted, trained(name, WAITING[name], "float32", "cuda")[1], "float32")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_plain_operations_without_triton(monkeypatch: Any, name: str) -> None:
    from surefoot.engines.torch import gpu

    monkeypatch.setattr(gpu, "obstacle", lambda device: Obstacle("the test has none"))
    _, wanted = trained(name, OPTIMIZERS[name], "float32", "cpu")
    _, found = trained(name, OPTIMIZERS[name], "float32", "cuda", strict=True)
    assert_alike(wanted, found, tolerance_of(name, "float32"))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_cuda_graph(name: str) -> None:
    """Steps before a graph, replays, and steps after it are one training."""
    _, wanted = trained(name, OPTIMIZERS[name], "float32", "cpu")
    with keras.device("cuda"):
        variables, optimizer = weights("float32"), OPTIMIZERS[name]()
        held = gradients(0, "float32", "cuda", nan=False)
        graph = torch.cuda.CUDAGraph()

        def put(step: int) -> None:
            new = gradients(step, "float32", "cuda", nan=name in SKIPPING)
            torch._foreach_copy_(held, new)

        beside = torch.cuda.Stream()
        with torch.cuda.stream(beside):
            for step in range(3):
                put(step)
                optimizer.apply(held, variables)
        torch.cuda.synchronize()
        with torch.cuda.graph(graph):
            optimizer.apply(held, variables)
        for step in range(3, 15):
            put(step)
            graph.replay()
        for step in range(15, STEPS):
            put(step)
            optimizer.apply(held, variables)
        found = everything(optimizer, variables)
        assert_alike(wanted, found, tolerance_of(name, "float32"))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_that_repeat(name: str) -> None:
    """With gradients that stay where they are, kernels are launched again."""
    _, wanted = trained(name, OPTIMIZERS[name], "float32", "cpu")
    with keras.device("cuda"):
        variables, optimizer = weights("float32"), OPTIMIZERS[name]()
        held = gradients(0, "float32", "cuda", nan=False)
        for step in range(STEPS):
            torch._foreach_copy_(held, gradients(step, "float32", "cuda", nan=name in SKIPPING))
            torch.cuda.set_sync_debug_mode("error" if step > 1 else "default")
            try:
                optimizer.apply(held, variables)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        repeats = any(key == "repeated step" for key in optimizer.eager_steps)
        assert repeats == (name in REPEATING)
        found = everything(optimizer, variables)
    assert_alike(wanted, found, tolerance_of(name, "float32"))


@pytest.mark.parametrize("name", ["RectifiedAdam, all options", "Nadam", "Ranger"])
def test_a_part_of_the_variables_on_the_cpu(name: str) -> None:
    _, wanted = trained(name, OPTIMIZERS[name], "float32", "cpu")
    variables: list[Any] = []
    for i, value in enumerate(weights("float32")):
        with keras.device("cpu" if i % 2 else "cuda"):
            variables.append(keras.Variable(keras.ops.convert_to_numpy(value.value)))
    optimizer = OPTIMIZERS[name]()
    for step in range(STEPS):
        given = gradients(step, "float32", "cpu", nan=False)
        pairs = zip(given, variables, strict=True)
        optimizer.apply([g.to(v.value.device) for g, v in pairs], variables)
    assert_alike(wanted[: len(SHAPES)], values(variables), "float32")


def test_fit_with_mixed_float16() -> None:
    """Keras wraps the optimizer into a `LossScaleOptimizer`, which decides on the host."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(256, 8)).astype("float32"), rng.normal(size=(256, 1))
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(16, "relu", dtype="mixed_float16"), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    optimizer = keras.optimizers.LossScaleOptimizer(surefoot.Ranger(0.01), initial_scale=2.0**10)
    model.compile(optimizer, "mse")
    first, *_, last = model.fit(x, y, epochs=5, verbose=0).history["loss"]
    assert last < first
    assert int(optimizer.inner_optimizer.iterations) == 40


def test_saving_on_a_gpu_and_going_on(tmp_path: Any) -> None:
    """The file of a model on the GPU continues bit for bit."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 8)).astype("float32"), rng.normal(size=(64, 1)).astype("float32")
    model = keras.Sequential([keras.layers.Dense(4), keras.layers.Dense(1)])
    model.compile(surefoot.Ranger(0.01), "mse")
    model.fit(x, y, epochs=3, verbose=0)
    model.save(tmp_path / "model.keras")
    other = keras.saving.load_model(tmp_path / "model.keras")
    for one in (model, other):
        one.fit(x, y, epochs=3, shuffle=False, verbose=0)
    for one, two in zip(values(model.variables), values(other.variables), strict=True):
        np.testing.assert_array_equal(one, two)


def test_many_gradients_in_turn() -> None:
    """Tables of addresses are renewed; those that are in use stay."""
    with keras.device("cuda"):
        variables, optimizer = weights("float32"), surefoot.RectifiedAdam(0.01)
        kept = []
        for step in range(100):
            kept.append(gradients(step, "float32", "cuda", nan=False))
            optimizer.apply(kept[-1], variables)
        found = values(variables)
    with keras.device("cpu"):
        variables, optimizer = weights("float32"), surefoot.RectifiedAdam(0.01)
        for step in range(100):
            optimizer.apply(gradients(step, "float32", "cpu", nan=False), variables)
        assert_alike(values(variables), found, "float32")


def test_step_path_is_the_kernel() -> None:
    assert surefoot.engines.active().step_path().reason == "nothing is in its way"
