"""Every recorded run of the originals, after every step, in every way this backend runs."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import golden
import surefoot
import tolerances
from loops import BACKEND, COMPILED, EAGER_AND_COMPILED, MODES, Loop, to_numpy
from reference_base import Reference

pytestmark = pytest.mark.filterwarnings(
    "ignore:Gradients do not exist for variables", "ignore:No optimizer of 'MultiOptimizer'"
)

CASES = golden.CASES if BACKEND == "tensorflow" else golden.DENSE


def ids(case: golden.Case) -> str:
    return case.name


def built_from(case: golden.Case) -> keras.optimizers.Optimizer:
    return getattr(surefoot, case.optimizer).from_config(case.config)


def bound_of(
    case: golden.Case, dtype: str, start: np.ndarray, now: np.ndarray, steps: int
) -> float:
    if dtype == case.dtype == "float64":
        return tolerances.GOLDEN_FLOAT64
    return tolerances.float32_bound(start, now, steps)


def follow(case: golden.Case, dtype: str, mode: str) -> Loop:
    """Run the case, held against the recording after every step; returns the finished loop."""
    loop = Loop(built_from(case), case.start(), dtype=dtype, mode=mode, names=case.variables)
    for step in range(1, case.steps + 1):
        loop.step(case.gradients(step))
        for name, now, recorded, start in zip(
            case.variables, loop.parameters, case.parameters(step), case.start(), strict=True
        ):
            bound = bound_of(case, dtype, start, recorded, step)
            np.testing.assert_allclose(
                now, recorded, rtol=0, atol=bound, err_msg=f"{name} after step {step}"
            )
    return loop


def levels(run: Reference) -> list[Reference]:
    """A reference and those inside it."""
    found = [run]
    while hasattr(found[-1], "inner"):
        found.append(found[-1].inner)
    return found


@pytest.mark.once
@pytest.mark.parametrize("case", golden.CASES, ids=ids)
def test_reference_follows_the_recording(case: golden.Case) -> None:
    def agree(now: np.ndarray, recorded: np.ndarray, start: np.ndarray, steps: int) -> None:
        bound = bound_of(case, "float64", start, recorded, steps)
        atol = min(bound, tolerances.GOLDEN_REFERENCE) if case.dtype == "float64" else bound
        np.testing.assert_allclose(now, recorded, rtol=0, atol=atol)

    run = golden.reference_of(case)
    for step in range(1, case.steps + 1):
        run.apply(case.gradients(step))
        for trio in zip(run.parameters, case.parameters(step), case.start(), strict=True):
            agree(*trio, step)
    recorded_slots = case.slots() | case.slots("inner_slot")
    holders = {name: one for one in reversed(levels(run)) for name in one.slot}
    assert recorded_slots.keys() == holders.keys()
    for name, slots in recorded_slots.items():
        for trio in zip(holders[name].slot[name], slots, case.start(), strict=True):
            agree(*trio, case.steps)


# One case for every layout of the state and every kernel. In float64 these go through eager and
# compiled steps and one of the other modes. The rest, which differ from them in scalars and
# gradients, are eager or compiled, in turns. The reference is for every optimizer in every mode.
KINDS = (
    *("radam_default", "radam_amsgrad", "radam_warmup_weight_decay", "radam_sparse_amsgrad_wd"),
    *("nadam_default", "nadam_sparse"),
    *("lookahead_radam_k", "lookahead_sgd_momentum", "lookahead_adam", "lookahead_radam_sparse"),
    *("moving_average_sgd", "moving_average_radam_sparse", "swa_sgd", "swa_radam_sparse"),
)


def modes_of(case: golden.Case, turn: int) -> tuple[str, ...]:
    if case.name in KINDS:
        others = MODES[len(EAGER_AND_COMPILED) :]
        return EAGER_AND_COMPILED + others[turn % 3 :][:1]
    return EAGER_AND_COMPILED[turn % len(EAGER_AND_COMPILED) :][:1]


IN_FLOAT64 = [
    pytest.param(case, mode, id=f"{case.name}-{mode}")
    for turn, case in enumerate(CASES)
    for mode in modes_of(case, turn)
]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("case", "mode"), IN_FLOAT64)
def test_float64(case: golden.Case, mode: str) -> None:
    """Variables after every step; at the end slots, and weights in the originals' order."""
    loop = follow(case, "float64", mode)
    bounds = [
        bound_of(case, "float64", *both, case.steps)
        for both in zip(case.start(), case.parameters(case.steps), strict=True)
    ]
    for name, recorded in case.slots().items():
        for now, then, bound in zip(loop.slot(name), recorded, bounds, strict=True):
            np.testing.assert_allclose(now, then, rtol=0, atol=bound)
    weights = loop.optimizer.get_weights()
    recorded = case.weights()
    if not recorded:  # the original's order is another one there
        return
    assert [w.shape for w in weights] == [w.shape for w in recorded]
    assert weights[0] == case.steps
    for i, (now, then) in enumerate(zip(weights, recorded, strict=True)):
        np.testing.assert_allclose(now, then, rtol=1e-6, atol=max(bounds), err_msg=f"weight {i}")


@pytest.mark.sampled(3)
@pytest.mark.parametrize("case", CASES, ids=ids)
def test_float32(case: golden.Case) -> None:
    follow(case, "float32", COMPILED)


@pytest.mark.backends("jax")
@pytest.mark.usefixtures("float64")
def test_float32_variables_where_jax_has_float64() -> None:
    (case,) = (c for c in CASES if c.name == "lookahead_ranger_full")
    follow(case, "float32", "jit")


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("case", [case for case in CASES if case.name in KINDS], ids=ids)
def test_recorded_weights_continue_the_recording(case: golden.Case) -> None:
    """The originals' weights, taken over by ``set_weights``, are the state they name."""
    loop = Loop(built_from(case), case.parameters(case.steps), dtype="float64")
    loop.optimizer.build(loop.variables)
    loop.optimizer.set_weights(case.weights())
    assert int(to_numpy(loop.optimizer.iterations)) == case.steps
    for name, recorded in case.slots().items():
        for now, then in zip(loop.slot(name), recorded, strict=True):
            np.testing.assert_array_equal(now, then)
    run = golden.reference_of(case)
    for step in range(1, case.steps + 1):
        run.apply(case.gradients(step))
    for step in (1, 2, 3):
        loop.step(case.gradients(step))
        run.apply(case.gradients(step))
        for now, then, start in zip(loop.parameters, run.parameters, case.start(), strict=True):
            atol = bound_of(case, "float64", start, then, case.steps)
            np.testing.assert_allclose(now, then, rtol=0, atol=atol)


@pytest.mark.once
@pytest.mark.parametrize("case", golden.CASES, ids=ids)
def test_config_says_what_was_recorded(case: golden.Case) -> None:
    config = case.config
    optimizer = getattr(surefoot, case.optimizer).from_config(config)
    assert config == case.config, "from_config changed the dictionary it was given"
    written = optimizer.get_config()
    if "optimizer" in config:
        assert optimizer.inner_optimizer.get_config() == written["optimizer"]["config"]
    if case.optimizer == "Nadam":
        config["schedule_decay"] = config.pop("decay")
    assert_config_has(written, config)


def assert_config_has(written: dict, recorded: dict) -> None:
    for name, value in recorded.items():
        if name == "decay" and not value and name not in written:
            continue  # Keras's own SGD and Adam know no decay
        if isinstance(value, dict):
            assert written[name]["class_name"] == value["class_name"]
            given = {k: v for k, v in value["config"].items() if v is not None}
            assert_config_has(written[name]["config"], given)
        elif name == "optimizer_specs":
            for ours, theirs in zip(written[name], value, strict=True):
                assert_config_has(ours, theirs)
        elif isinstance(value, float) and not isinstance(value, bool):
            np.testing.assert_allclose(written[name], value, rtol=1e-12, err_msg=name)
        else:
            assert written[name] == value, name


@pytest.mark.once
def test_every_recording_is_listed() -> None:
    on_disk = {path.stem for path in golden.DIRECTORY.glob("*.npz")}
    assert on_disk == {case.name for case in golden.CASES}
