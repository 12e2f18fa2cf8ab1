"""Triton's kernels, run by its interpreter on a CPU and compiled for GPUs that are not here.

The interpreter runs the text of a kernel on NumPy's arrays. `make test-gpu` runs them on a GPU.
"""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import ml_dtypes
import numpy as np
import pytest

import numpy_arrays
import surefoot
from family import ON_THE_RULE, made
from rule_loops import rule_loops, shadow_loops
from surefoot.base.shadow import _value_of_weight
from surefoot.engines.assignment_loops import assignment_loop
from surefoot.engines.compiler import triton_kernels
from surefoot.engines.compiler.loop import Loop
from surefoot.rule.rounding import NEAREST, Position
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


LOOPS = dict(rule_loops()) | {
    name: each for name, each in shadow_loops() if name.startswith("meet")
}


def columns_for(name: str, rng: np.random.Generator) -> list[list[np.ndarray]]:
    body, _, squares = LOOPS[name]
    columns = [[rng.normal(size=n) for n in SIZES] for _ in range(body.inputs)]
    for place, (column, form) in enumerate(zip(columns, body.stored, strict=True)):
        column[0][place :: len(columns)][: len(SPECIAL)] = SPECIAL
        if place in squares:
            column[:] = [np.abs(x) for x in column]
        if form == "int16":
            column[:] = [(x * 2**12).clip(-9999, 9999).astype("int16") for x in column]
        else:
            dtype = ml_dtypes.bfloat16 if form == "bfloat16" else body.dtype
            column[:] = [x.astype(dtype) for x in column]
    return columns


def widened(array: np.ndarray, body: Loop) -> np.ndarray:
    """An array as a loop sees it."""
    return array.astype("int32" if array.dtype == np.int16 else body.dtype)


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
@pytest.mark.parametrize("holds", [None, 0.0, 1.0])
@pytest.mark.parametrize("name", LOOPS)
def test_loop_is_the_rule_bit_for_bit(interpreter: None, name: str, holds: float | None) -> None:
    import torch

    from surefoot.engines.torch import gpu
    from surefoot.engines.torch.memory import table_of

    body, numbers, _ = LOOPS[name]
    body = body._replace(conditional=holds is not None)
    rng = np.random.default_rng(5)
    columns = columns_for(name, rng)
    dtypes = [getattr(torch, dtype) for dtype in body.stored]
    tensors = [
        [torch.tensor(widened(x, body)).to(dtype) for x in column]
        for column, dtype in zip(columns, dtypes, strict=True)
    ]
    table = table_of(tensors, None, dtypes)
    assert table is not None
    keys = np.arange(len(SIZES)) * 1_000_003 - 2_000_000
    placed = gpu.place(np.column_stack([table, keys]), torch.device("cpu"))
    assert placed is not None
    given = [torch.tensor(x, dtype=torch.float64) for x in numbers]
    if holds is not None:
        given = [torch.tensor(holds, dtype=torch.float64), *given]
    gpu.run(body, placed, given)
    rounded = [np.dtype(body.dtype).type(x) for x in numbers]
    for row in range(len(SIZES)):
        before = [widened(column[row], body) for column in columns]
        position = Position(int(keys[row]), np.arange(SIZES[row], dtype="int32"))
        with np.errstate(all="ignore"):
            new = body.function(numpy_arrays, rounded, before, position)
        for place, old in enumerate(before):
            moves = place < body.outputs and holds != 0.0
            wanted = new[place] if moves else old
            found = tensors[place][row].float().numpy()
            if body.dtype == "float64":
                found = tensors[place][row].numpy()
            if body.stored[place] == "int16":  # of what is not finite it means nothing
                found, wanted = found[np.isfinite(new[0])], wanted[np.isfinite(new[0])]
            np.testing.assert_array_equal(found, wanted)


def test_addresses_that_are_not_aligned(interpreter: None) -> None:
    """Views that begin anywhere are read and written where they are, and nowhere else."""
    import torch

    from surefoot.engines.torch import gpu
    from surefoot.engines.torch.memory import table_of

    both = ("float32", "float32")
    body = assignment_loop(_value_of_weight, both, (NEAREST,), (1, None), 0)
    whole = torch.zeros(4000)
    target, source = whole[1:3002], torch.arange(3001.0)
    table = table_of([[target], [source]])
    assert table is not None
    placed = gpu.place(np.column_stack([table, [0]]), torch.device("cpu"))
    assert placed is not None
    assert placed.alignment < 16
    gpu.run(body, placed, [torch.tensor(1.0)])
    assert torch.equal(target, source)
    assert not whole[0]
    assert not whole[3002:].any()


OTHERS = [o for o in ON_THE_RULE if o not in (surefoot.RectifiedAdam, surefoot.Nadam)]
OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "RectifiedAdam": lambda: surefoot.RectifiedAdam(
        0.01, decay=0.01, weight_decay=0.1, total_steps=50, warmup_proportion=0.1
    ),
    "skip": lambda: surefoot.RectifiedAdam(unrectified_update="skip", beta_2=0.9),
    "Nadam": surefoot.Nadam,
    "schedule": lambda: surefoot.Nadam(
        keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9), weight_decay=0.1
    ),
    "SGDW nesterov": lambda: surefoot.SGDW(0.01, momentum=0.9, nesterov=True),
    **{o.__name__: functools.partial(made, o, decay=0.01) for o in OTHERS},
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
    """To machine code that contracts no product with a sum, and reads 4 numbers at a time."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = triton_kernels.loop_kernel(LOOPS[name][0])
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
    reads = {"float64": ".v2.b64", "float32": ".v4.b32", "bfloat16": ".v2.b32", "int16": ".v2.b32"}
    wanted = collections.Counter(reads[dtype] for dtype in LOOPS[name][0].stored)
    for width, least in wanted.items():
        assert compiled.asm["ptx"].count(f"ld.global{width}") >= least
