"""Every option on its own and together, against the NumPy reference after every step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tolerances
from loops import EAGER_AND_COMPILED, MODES, Loop, to_numpy
from scenarios import SCENARIOS, Scenario, scenario

pytestmark = pytest.mark.filterwarnings("ignore:Gradients do not exist for variables")

# These take every way through the engines: fused kernels or not, every state, None gradients.
# What there is to the engines, the first optimizers show; of the others each goes through once.
FIRST = ("RectifiedAdam", "Nadam", "Ranger")
THROUGH_THE_ENGINES = [
    s
    for s in SCENARIOS
    if s.name.split("-")[1]
    in ("plain", *(("amsgrad", "changed", "gradient_missing") if s.kind in FIRST else ()))
]
# The other options run in one mode each, in turns, so that over the optimizers each meets
# several: what they change are the scalars and gradients that all modes share. Those of the later
# optimizers, whose scalars are made of the same formulas, run on one backend each.
OTHERS = [s for s in SCENARIOS if s not in THROUGH_THE_ENGINES]


def of(run: Scenario, mode: str, *marks: pytest.MarkDecorator) -> Any:
    return pytest.param(run, mode, id=f"{run.name}-{mode}", marks=marks)


IN_FLOAT64 = [of(run, mode) for run in THROUGH_THE_ENGINES for mode in MODES] + [
    of(run, MODES[i % len(MODES)], *([] if run.kind in FIRST else [pytest.mark.sampled(3)]))
    for i, run in enumerate(OTHERS)
]
IN_FLOAT32 = [s for s in THROUGH_THE_ENGINES if s.name.split("-")[1] in ("plain", "amsgrad")]


def follow(run: Scenario, dtype: str, mode: str) -> None:
    start = run.start()
    loop = Loop(run.optimizer(), start, dtype=dtype, mode=mode)
    plain = run.reference(start)
    for step in range(1, run.steps + 1):
        run.change(step, loop.optimizer, plain)
        gradients = run.gradients(step)
        loop.step([None if g is None else g * run.scale for g in gradients])
        plain.apply(gradients)
        agree(loop.parameters, plain.parameters, start, dtype, step)
    assert int(to_numpy(loop.optimizer.iterations)) == plain.updates
    for name in plain.all_slots():
        zeros = [np.zeros_like(x) for x in plain.slot[name]]
        agree(loop.slot(name), plain.slot[name], zeros, dtype, run.steps)
    if plain.use_ema:
        loop.optimizer.finalize_variable_values(loop.variables)
        agree(loop.parameters, plain.average, start, dtype, run.steps)


def agree(
    now: list[np.ndarray], right: list[np.ndarray], start: list[np.ndarray], dtype: str, step: int
) -> None:
    for i, (ours, theirs, origin) in enumerate(zip(now, right, start, strict=True)):
        bound = (
            tolerances.REFERENCE_FLOAT64
            if dtype == "float64"
            else tolerances.float32_bound(origin, theirs, step)
        )
        np.testing.assert_allclose(
            ours, theirs, rtol=bound, atol=bound, err_msg=f"variable {i} after step {step}"
        )


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("run", "mode"), IN_FLOAT64)
def test_float64(run: Scenario, mode: str) -> None:
    follow(run, "float64", mode)


@pytest.mark.sampled(len(MODES))
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("run", IN_FLOAT32, ids=lambda run: run.name)
def test_float32(run: Scenario, mode: str) -> None:
    follow(run, "float32", mode)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("mode", EAGER_AND_COMPILED)
def test_iterations_assigned_on_the_way(mode: str) -> None:
    run = scenario("RectifiedAdam-warmup", options={"total_steps": 60, "learning_rate": 0.125})
    start = run.start()
    loop = Loop(run.optimizer(), start, dtype="float64", mode=mode)
    plain = run.reference(start)
    # ours has float32 defaults of beta_1, ...: the reference takes them as they are read
    for name in ("beta_1", "beta_2", "epsilon", "warmup_proportion"):
        setattr(plain, name, getattr(loop.optimizer, name))
    for step in range(1, 9):
        if step == 5:
            loop.optimizer.iterations = plain.updates = 40
        loop.step(run.gradients(step))
        plain.apply(run.gradients(step))
        agree(loop.parameters, plain.parameters, start, "float64", step)
    assert int(to_numpy(loop.optimizer.iterations)) == 44
