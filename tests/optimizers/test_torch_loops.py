"""Loops on PyTorch: where they run, and that they touch no memory that is not theirs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import surefoot
import tolerances
from loops import BACKEND, Loop, to_numpy, without_loops

if BACKEND == "torch":
    import torch

    from surefoot.engines import machine_code, torch_kernels, torch_loops

pytestmark = pytest.mark.backends("torch")

OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "radam": lambda: surefoot.RectifiedAdam(0.1, clipvalue=0.5, weight_decay=0.1),
    "radam_amsgrad": lambda: surefoot.RectifiedAdam(0.1, amsgrad=True),
    "nadam": lambda: surefoot.Nadam(0.1),
}


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each loop that ran had."""
    rows: list[int] = []
    run = torch_loops.Table.run

    def counted(table: Any, *arguments: Any) -> None:
        rows.append(len(table._words))
        run(table, *arguments)

    monkeypatch.setattr(torch_loops.Table, "run", counted)
    return rows


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_step_is_one_loop(name: str, runs: list[int]) -> None:
    loop = Loop(OPTIMIZERS[name](), [np.ones((3, 2)), np.ones(5), np.ones(())])
    for _ in range(7):
        loop.step([np.ones((3, 2)), np.ones(5), np.ones(())])
    assert runs == [3] * 7


def test_ways_back_are_loops(runs: list[int]) -> None:
    loop = Loop(surefoot.Ranger(0.1, sync_period=3), [np.ones((3, 2)), np.ones(5)])
    for _ in range(6):
        loop.step([np.ones((3, 2)), np.ones(5)])
    first = 2  # takes the slow weights from the fast ones, too
    assert runs == [2] * (first + 1 + 2 + 1 + 1 + 2)


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_threads_share_the_numbers_of_all_rows(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = (5, 3_000_001, 0, 1, 700_000, 2)
    random = np.random.default_rng(0)
    values = [random.normal(size=n).astype("float32") for n in sizes]
    tensors = [torch.tensor(x) for x in values]
    others = [2.0 * t for t in tensors]
    assert (3_700_009 // 7) > 1 << 19  # that as many threads are worth it
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    rows = [torch_loops.Row([a], [b], []) for a, b in zip(tensors, others, strict=True)]
    assert torch_loops.run(lambda a, b: [a * 0.5 + b], rows)
    for value, tensor, other in zip(values, tensors, others, strict=True):
        np.testing.assert_array_equal(tensor.numpy(), value * np.float32(2.5))
        np.testing.assert_array_equal(other.numpy(), value * np.float32(2.0))


def transposed(tensor: torch.Tensor) -> None:
    tensor.data = tensor.data.t()  # in the same memory


def moved(tensor: torch.Tensor) -> None:
    tensor.data = tensor.data.clone()


@pytest.mark.parametrize("change", ["transposed", "moved"])
@pytest.mark.parametrize("of", ["parameter", "moment"])
def test_memory_may_change_between_steps(of: str, change: str) -> None:
    value = np.random.default_rng(0).normal(size=(3, 3))
    seen = []
    for own in ("1", "0"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SUREFOOT_LOOPS", own)
            loop = Loop(surefoot.Nadam(0.1), [value])
            loop.step([value])
            variable = loop.variables[0]
            slot = loop.optimizer.get_slot(variable, "m")
            {"transposed": transposed, "moved": moved}[change](
                (variable if of == "parameter" else slot).value
            )
            for _ in range(2):
                loop.step([value**2])
            seen.append([loop.parameters[0], to_numpy(slot)])
    for ours, right in zip(*seen, strict=True):
        np.testing.assert_allclose(ours, right, rtol=tolerances.FUSED_KERNEL)


@pytest.mark.parametrize("shape", [(5,), (2, 3), (3, 3)])
def test_no_memory_behind_a_gradient_is_read(shape: tuple[int, ...]) -> None:
    """Optimizers refuse such gradients before; a loop would not notice."""
    table = torch_loops.Table([[torch.ones(3, 2)]], 1)
    assert table.locate([[torch.ones(3, 2)]])
    assert not table.locate([[torch.ones(shape)]])


def unusual(kind: str) -> Any:
    gradient = torch.full((3, 2), 0.5)
    if kind == "strided":
        return torch.full((2, 3), 0.5).t()
    if kind == "expanded":
        return torch.full((1, 2), 0.5).expand(3, 2)
    if kind == "float64":
        return gradient.double()
    if kind == "sparse":
        return gradient.to_sparse()
    return gradient.as_subclass(type("Tagged", (torch.Tensor,), {}))


@pytest.mark.parametrize("kind", ["strided", "expanded", "float64", "sparse", "subclass"])
def test_gradients_that_loops_do_not_take(kind: str) -> None:
    loops = [Loop(surefoot.Nadam(0.1), [np.ones((3, 2))]) for _ in range(2)]
    for _ in range(3):
        loops[0].optimizer.apply([unusual(kind)], loops[0].variables)
        loops[1].step([np.full((3, 2), 0.5)])
    np.testing.assert_allclose(
        loops[0].parameters[0], loops[1].parameters[0], rtol=tolerances.FUSED_KERNEL
    )


def test_tensors_without_memory_are_left_alone() -> None:
    """Wrapped by `torch.func`, they look as any other."""
    optimizer = surefoot.Nadam(0.1)
    variable = keras.Variable(np.ones((3, 2), "float32"))
    optimizer.build([variable])

    def step(gradient: torch.Tensor) -> torch.Tensor:
        optimizer.apply([gradient], [variable])
        return gradient.sum()

    with pytest.raises(RuntimeError, match="Batching rule not implemented"):
        torch.func.vmap(step)(torch.ones(4, 3, 2))


def test_autograd_knows_that_values_have_changed() -> None:
    variable = keras.Variable(np.ones((3, 2), "float32"))
    loss = (variable.value**3).sum()
    surefoot.Nadam(0.1).apply([torch.ones((3, 2))], [variable])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("reason", ["not installed", "switched off"])
def test_without_loops_the_kernel_does_it(
    reason: str, runs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    kernel = torch_kernels.update
    monkeypatch.setattr(
        torch_kernels, "update", lambda *given: calls.append(1) is None and kernel(*given)
    )
    with without_loops(reason, pytest.fail, machine_code._llvm):
        loop = Loop(surefoot.Nadam(0.1), [np.ones((3, 2))])
        loop.step([np.ones((3, 2))])
    assert (calls, runs) == ([1], [])
