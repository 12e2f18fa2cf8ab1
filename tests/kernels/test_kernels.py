"""Triton's kernels, run by its interpreter on a CPU and compiled for GPUs that are not here.

The interpreter runs the text of a kernel on NumPy's arrays. `make test-gpu` runs them on a GPU.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest

import surefoot
from surefoot.base.shadow import _value_of_weight
from surefoot.engines import loops
from surefoot.engines.compiler import triton_kernels
from surefoot.engines.compiler.loop import Loop
from surefoot.rule.update import StepScalars

pytestmark = pytest.mark.backends("torch")

SIZES = (5000, 17, triton_kernels.BLOCK, 1, 2 * triton_kernels.BLOCK, 0)
SPECIAL = (np.inf, -np.inf, np.nan, 0.0, -0.0, 1e-30, 1e30)
SCALARS_TOLERANCE = 1e-14
"""Some roundings of float64, in which scalars are computed."""


@pytest.fixture
def interpreter(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    triton_kernels._compiled.cache_clear()
    triton_kernels.loop_kernel.cache_clear()
    triton_kernels.scalars_kernel.cache_clear()
    yield
    triton_kernels._compiled.cache_clear()
    triton_kernels.loop_kernel.cache_clear()
    triton_kernels.scalars_kernel.cache_clear()


def rule_loops() -> Iterator[tuple[str, Loop]]:
    for dtype, amsgrad, nesterov, clips in itertools.product(
        ("float32", "float64"), *[(False, True)] * 3
    ):
        name = f"{dtype}{' amsgrad' * amsgrad}{' nesterov' * nesterov}{' clips' * clips}"
        yield name, loops.rule_loop(dtype, amsgrad, nesterov, clips)


MEET = surefoot.Lookahead.shadow_value
LOOPS = dict(rule_loops()) | {
    f"lookahead {dtype}": Loop(
        loops._assigned(surefoot.Lookahead.shadow_value, 2, (0, None, 1)),
        dtype,
        1,
        2,
        2,
        conditional=True,
    )
    for dtype in ("float32", "float64")
}


def scalars_for(body: Loop) -> list[float]:
    """Scalars of a step, in their order, as many as the loop reads."""
    step = StepScalars(0.1, 0.001, 0.02, 0.01, 1.3, 1e-7, 1.0, 0.001)
    bound = 0.7
    for nesterov, clips in itertools.product((False, True), repeat=2):
        fields = step if nesterov else step._replace(gradient_weight=None)
        found = [x for x in (*fields, bound if clips else None) if x is not None]
        if body.function == loops.rule_loop(body.dtype, body.inputs == 5, nesterov, clips).function:
            return found
    return [0.5]


def columns_for(body: Loop, rng: np.random.Generator) -> list[list[np.ndarray]]:
    columns = [[rng.normal(size=n).astype(body.dtype) for n in SIZES] for _ in range(body.inputs)]
    for place, column in enumerate(columns):
        column[0][place :: len(columns)][: len(SPECIAL)] = SPECIAL
        if 2 <= place < len(columns) - 1:  # second moments
            column[:] = [np.abs(x) for x in column]
    return columns


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
@pytest.mark.parametrize("holds", [None, 0.0, 1.0])
@pytest.mark.parametrize("name", LOOPS)
def test_loop_is_the_rule_bit_for_bit(interpreter: None, name: str, holds: float | None) -> None:
    import torch

    from surefoot.engines.torch import gpu
    from surefoot.engines.torch.memory import table_of

    body = LOOPS[name]._replace(conditional=holds is not None)
    rng = np.random.default_rng(5)
    columns = columns_for(body, rng)
    tensors = [[torch.tensor(x) for x in column] for column in columns]
    table = table_of(tensors)
    assert table is not None
    placed = gpu.place(table, torch.device("cpu"))
    assert placed is not None
    numbers = scalars_for(body)
    given = [torch.tensor(x, dtype=torch.float64) for x in numbers]
    if holds is not None:
        given = [torch.tensor(holds, dtype=torch.float64), *given]
    gpu.run(body, placed, given)
    rounded = [np.dtype(body.dtype).type(x) for x in numbers]
    for row in range(len(SIZES)):
        before = [column[row] for column in columns]
        with np.errstate(all="ignore"):
            new = body.function(np, rounded, before)
        for place, old in enumerate(before):
            moves = place < body.outputs and holds != 0.0
            wanted = new[place] if moves else old
            np.testing.assert_array_equal(tensors[place][row].numpy(), wanted)


def test_addresses_that_are_not_aligned(interpreter: None) -> None:
    """Views that begin anywhere are read and written where they are, and nowhere else."""
    import torch

    from surefoot.engines.torch import gpu
    from surefoot.engines.torch.memory import table_of

    body = Loop(loops._assigned(_value_of_weight, 1, (1, None)), "float32", 0, 2, 1)
    whole = torch.zeros(4000)
    target, source = whole[1:3002], torch.arange(3001.0)
    table = table_of([[target], [source]])
    assert table is not None
    placed = gpu.place(table, torch.device("cpu"))
    assert placed is not None
    assert placed.alignment == 4
    gpu.run(body._replace(conditional=True), placed, [torch.tensor(1.0)])
    assert torch.equal(target, source)
    assert not whole[0]
    assert not whole[3002:].any()


OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "RectifiedAdam": lambda: surefoot.RectifiedAdam(
        0.01, decay=0.01, weight_decay=0.1, total_steps=50, warmup_proportion=0.1
    ),
    "skip": lambda: surefoot.RectifiedAdam(unrectified_update="skip", beta_2=0.9),
    "Nadam": surefoot.Nadam,
    "schedule": lambda: surefoot.Nadam(
        keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9), weight_decay=0.1
    ),
}


@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value", "ignore:overflow")
@pytest.mark.parametrize("holds", [None, 0.0, 1.0])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_scalars_are_those_of_the_host(interpreter: None, name: str, holds: float | None) -> None:
    import torch

    from surefoot.engines.torch import gpu, gpu_scalars

    optimizer = OPTIMIZERS[name]()
    optimizer.build([keras.Variable(np.ones(3, "float32"))])
    kept: dict[Any, Any] = {}
    for step in (1, 2, 3, 4, 5, 6, 7, 20, 60, 999, 5000, 10**6):
        optimizer.iterations = step - 1
        before = optimizer.get_weights()
        with torch.no_grad():
            wanted = optimizer.current_scalars(optimizer.learning_rate)
            after = optimizer.get_weights()
            optimizer.set_weights(before)

            def compute(optimizer: Any = optimizer) -> Any:
                return optimizer.current_scalars(optimizer.learning_rate)

            if holds is None:
                found = gpu_scalars.numbers(kept, "scalars", torch.device("cpu"), compute)
            else:
                with gpu.where(torch.tensor(holds)):
                    found = gpu_scalars.numbers(kept, "scalars", torch.device("cpu"), compute)
        for field, one, other in zip(StepScalars._fields, wanted, found, strict=True):
            if one is None:
                assert other is None
                continue
            np.testing.assert_allclose(
                float(other), float(one), rtol=SCALARS_TOLERANCE, err_msg=f"{field}, {step}"
            )
        expected = before if holds == 0.0 else after
        for one, other in zip(expected, optimizer.get_weights(), strict=True):
            np.testing.assert_allclose(other, one, rtol=SCALARS_TOLERANCE)
    assert len(kept) == (name != "schedule")  # whose value is computed anew at each step


def test_conditions_of_lookahead(interpreter: None) -> None:
    import torch

    from surefoot.engines.torch import gpu_scalars

    optimizer = surefoot.Ranger(sync_period=3)
    optimizer.build([keras.Variable(np.ones(3, "float32"))])
    for step in (0, 1, 2, 3, 5, 6, 2**40 - 1, 2**53 - 1):
        optimizer.iterations = step
        found = gpu_scalars.numbers({}, "slow", torch.device("cpu"), optimizer._numbers)
        assert [float(x) for x in found] == [step == 0, (step + 1) % 3 == 0, 0.5]


def test_numbers_of_averages(interpreter: None) -> None:
    import torch

    from surefoot.engines.torch import gpu_scalars

    mean = surefoot.SWA(surefoot.Nadam(), start_averaging=2, average_period=3)
    moving = surefoot.MovingAverage(surefoot.Nadam(), 0.75, start_step=2, dynamic_decay=True)
    for optimizer in (mean, moving):
        optimizer.build([keras.Variable(np.ones(3, "float32"))])
    for step in (0, 1, 2, 4, 5, 8, 40, 2**40 + 1):
        for optimizer, due, weight in (
            (mean, step >= 2 and (step - 2) % 3 == 0, 3 / (max(step - 2, 0) + 3)),
            (moving, True, 1.0 if step < 2 else max(0.25, 9 / (step + 8))),
        ):
            optimizer.iterations = step
            found = gpu_scalars.numbers({}, "average", torch.device("cpu"), optimizer._numbers)
            right = [float(step == 0), float(due), weight]
            assert [float(x) for x in found] == pytest.approx(right, rel=SCALARS_TOLERANCE)


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("name", LOOPS)
def test_it_compiles_for_gpus(name: str, capability: int) -> None:
    """To machine code that contracts no product with a sum, and reads 16 bytes at a time."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = triton_kernels.loop_kernel(LOOPS[name])
    source = ASTSource(
        kernel,
        signature={
            "table": "*i64",
            "programs": "*i32",
            "scalars": "*fp64",
            "ALIGNMENT": "constexpr",
            "BLOCK": "constexpr",
        },
        constexprs={"ALIGNMENT": 16, "BLOCK": triton_kernels.BLOCK},
    )
    options = {"num_warps": triton_kernels.WARPS, "enable_fp_fusion": False}
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    assert compiled.asm["cubin"]
    assert "fma." not in compiled.asm["ptx"]
    wide = ".v4.b32" if "float32" in name else ".v2.b64"
    assert compiled.asm["ptx"].count(f"ld.global{wide}") >= LOOPS[name].inputs
