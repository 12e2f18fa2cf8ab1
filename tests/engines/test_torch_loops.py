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

    from surefoot.engines.compiler import llvm
    from surefoot.engines.torch import fused_kernels, loop_runner
    from surefoot.engines.torch.memory import table_of

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
    run = loop_runner.run

    def counted(body: Any, selection: Any, scalars: Any) -> None:
        rows.append(sum(selection.served))
        run(body, selection, scalars)

    monkeypatch.setattr(loop_runner, "run", counted)
    return rows


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_step_is_one_loop(name: str, runs: list[int]) -> None:
    loop = Loop(OPTIMIZERS[name](), [np.ones((3, 2)), np.ones(5), np.ones(())])
    for _ in range(7):
        loop.step([np.ones((3, 2)), np.ones(5), np.ones(())])
    assert runs == [3] * 7


def test_the_ends_of_periods_are_loops(runs: list[int]) -> None:
    loop = Loop(surefoot.Ranger(0.1, sync_period=3), [np.ones((3, 2)), np.ones(5)])
    for _ in range(6):
        loop.step([np.ones((3, 2)), np.ones(5)])
    first = 2  # takes the slow weights from the fast ones, too
    assert runs == [2] * (first + 1 + 2 + 1 + 1 + 2)


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


def shared(kind: str) -> list[list[Any]]:
    """Columns of tensors that a loop must not take."""
    memory = torch.arange(12.0)
    ones = torch.ones(6)
    return {
        "another shape": [[ones], [torch.ones(5)]],
        "shapes of one size": [[torch.ones(3, 2)], [torch.ones(2, 3)]],
        "another dtype": [[ones], [ones.double()]],
        "of no such dtype": [[ones.int()], [ones.int() + 1]],
        "strided": [[torch.ones(3, 2)], [torch.ones(2, 3).t()]],
        "negative": [[ones], [torch._neg_view(torch.ones(6))]],
        "zeros that are nowhere": [[ones], [torch._efficientzerotensor((6,))]],
        "sparse": [[torch.ones(3, 2)], [torch.ones(3, 2).to_sparse()]],
        "on no device": [[ones], [torch.ones(6, device="meta")]],
        "the same memory": [[memory[:6]], [memory[:6]]],
        "shifted by one": [[memory[:6]], [memory[1:7]]],
        "shared by two rows": [[memory[:6], memory[3:9]], [ones, torch.ones(6)]],
    }[kind]


KINDS = (
    *("another shape", "shapes of one size", "another dtype", "of no such dtype", "strided"),
    *("negative", "zeros that are nowhere", "sparse", "on no device"),
    *("the same memory", "shifted by one", "shared by two rows"),
)


@pytest.mark.parametrize("when", ["at first", "after others"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_loop_must_not_take(kind: str, when: str) -> None:
    columns = shared(kind)
    if when == "after others":  # of which something is remembered
        others = [[torch.ones(t.shape, dtype=t.dtype) for t in columns[0]] for _ in columns[1:]]
        unfit = kind in ("of no such dtype", "shared by two rows")
        assert (table_of([columns[0], *others]) is None) == unfit
    assert table_of(columns) is None
    assert table_of([[torch.ones(6)], [torch.ones(6)]]) is not None


@pytest.mark.parametrize("own", ["1", "0"])
@pytest.mark.parametrize("kind", ["gone", "shorter", "longer", "empty"])
@pytest.mark.parametrize("of", ["parameter", "m", "master"])
def test_a_tensor_that_lost_its_memory_is_an_error(
    of: str, kind: str, own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by offloading; and nothing has moved."""
    monkeypatch.setenv("SUREFOOT_LOOPS", own)
    dtype = "bfloat16" if of == "master" else "float32"
    variables = [keras.Variable(np.ones(6), dtype=d) for d in (dtype, "float32")]
    optimizer = surefoot.Nadam(0.1)
    gradients = [torch.ones(6), torch.ones(6)]
    optimizer.apply(gradients, variables)
    variable = variables[0]
    tensor = variable.value if of == "parameter" else optimizer.get_slot(variable, of).value
    other = to_numpy(variables[1]).copy()
    if kind == "gone":
        tensor.data = tensor.data.clone()
        tensor.untyped_storage().resize_(0)
    else:
        tensor.data = torch.ones(
            {"shorter": 5, "longer": 600, "empty": 0}[kind], dtype=tensor.dtype
        )
    with pytest.raises(RuntimeError, match=r"memory of a tensor is gone|must have one shape"):
        optimizer.apply(gradients, variables)
    np.testing.assert_array_equal(to_numpy(variables[1]), other)


@pytest.mark.parametrize("own", ["1", "0"])
@pytest.mark.parametrize("make", [surefoot.RectifiedAdam, surefoot.Nadam, surefoot.Ranger])
def test_gradients_that_are_not_what_is_in_memory(
    make: Any, own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negations behind a conjugate, and zeros that are nowhere, bit for bit as plain ones."""
    monkeypatch.setenv("SUREFOOT_LOOPS", own)
    pairs = [
        (torch._neg_view(torch.tensor([1.0, -2.0])), torch.tensor([-1.0, 2.0])),
        (torch._efficientzerotensor((2,)), torch.zeros(2)),
        (torch.tensor([3.0, 1.0 + 2.0j]).conj().imag, torch.tensor([0.0, -2.0])),
    ]
    variables = [keras.Variable(np.ones(2, "float32")) for _ in range(2)]
    optimizers = [make(0.1), make(0.1)]
    for step in range(9):
        for variable, optimizer, gradient in zip(
            variables, optimizers, pairs[step % 3], strict=True
        ):
            optimizer.apply([gradient], [variable])
        np.testing.assert_array_equal(*map(to_numpy, variables))


def test_a_gradient_may_be_the_parameter_itself() -> None:
    own, other = (keras.Variable(np.ones((3, 2), "float32") * 2) for _ in range(2))
    optimizers = surefoot.Nadam(0.1), surefoot.Nadam(0.1)
    for _ in range(3):
        optimizers[0].apply([own.value.detach()], [own])
        optimizers[1].apply([other.value.detach().clone()], [other])
    np.testing.assert_allclose(to_numpy(own), to_numpy(other), rtol=tolerances.FUSED_KERNEL)


@pytest.mark.parametrize("name", [*OPTIMIZERS, "ranger"])
def test_torch_compile_breaks_its_graph_at_a_step(name: str) -> None:
    """What it traces must be operations; the step runs as it is, and comes out the same."""
    make = OPTIMIZERS.get(name, lambda: surefoot.Ranger(0.1, sync_period=2))
    variables = [keras.Variable(np.ones(5, "float32")) for _ in range(2)]
    optimizers = make(), make()
    for optimizer, variable in zip(optimizers, variables, strict=True):
        optimizer.build([variable])

    @torch.compile(backend="eager")
    def step(gradient: torch.Tensor) -> torch.Tensor:
        optimizers[0].apply([2.0 * gradient], [variables[0]])
        return gradient + variables[0].value.detach().sum()

    for _ in range(7):
        gradient = torch.linspace(-1.0, 1.0, 5)
        seen = step(gradient)
        optimizers[1].apply([2.0 * gradient], [variables[1]])
        np.testing.assert_array_equal(*map(to_numpy, variables))
        np.testing.assert_allclose(seen, gradient + float(to_numpy(variables[1]).sum()), rtol=1e-6)


@pytest.mark.extended
# PyTorch's own compiler warns of other parts of PyTorch.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("make", [surefoot.RectifiedAdam, surefoot.Ranger])
def test_fit_with_jit_compile(make: Any) -> None:
    x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
    weights = []
    for jit_compile in (True, False):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile(make(0.05), "mse", jit_compile=jit_compile)
        model.fit(x, x[:, :1], batch_size=8, epochs=2, verbose=0, shuffle=False)
        weights.append(model.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


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

    with pytest.raises(RuntimeError, match=r"vmap|Batching rule not implemented"):
        torch.func.vmap(step)(torch.ones(4, 3, 2))


@pytest.mark.parametrize("own", ["1", "0"])
def test_autograd_knows_that_values_have_changed(own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUREFOOT_LOOPS", own)
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
    kernel = fused_kernels.update
    monkeypatch.setattr(
        fused_kernels, "update", lambda *given: calls.append(1) is None and kernel(*given)
    )
    with without_loops(reason, pytest.fail, llvm._llvm):
        loop = Loop(surefoot.Nadam(0.1), [np.ones((3, 2))])
        loop.step([np.ones((3, 2))])
    assert (calls, runs) == ([1], [])
