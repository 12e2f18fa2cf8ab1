"""Generated trainings: whatever happens to an optimizer, it agrees with the reference.

A training is a list of events: steps with gradients of any size, some missing, weights
assigned from outside, hyperparameters changed, the iterations set, state taken out and
put back in three ways, steps that are refused. After every event the variables equal
those of the float64 reference, or an error was raised and nothing has changed.
"""

from __future__ import annotations

import copy
import math
import os
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

import reference
import surefoot
from loops import BACKEND, Loop
from reference_base import Reference
from scenarios import f32

pytestmark = [
    pytest.mark.usefixtures("float64"),
    pytest.mark.filterwarnings("ignore:Gradients do not exist for variables"),
]

# Most where an example takes least; together 10,500.
EXTENDED = int(
    os.environ.get("SUREFOOT_EXAMPLES", {"torch": 6000, "jax": 3000, "tensorflow": 1500}[BACKEND])
)
SHAPES = ((), (3,), (0,), (2, 2), (2, 0, 3), (1,) * 7)
RELATIVE = {"float64": 1e-9, "float32": 2e-3}

# Squares of gradients of float32 variables stay within float32; beyond, see the test of extremes.
SIZES = {"float64": (-140, 140), "float32": (-17, 17)}


def numbers(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False, width=32)


betas = st.sampled_from([0.0, 0.5, f32(0.9), f32(0.99), f32(0.999), f32(0.9999)])
MOMENT_OPTIONS = {
    "learning_rate": numbers(0, 1),
    "beta_1": betas,
    "beta_2": betas,
    "epsilon": st.sampled_from([f32(1e-7), f32(1e-3), 1.0]),
    "weight_decay": st.sampled_from([0.0, 0.125, 0.5]),
}
OPTIONS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "RectifiedAdam": MOMENT_OPTIONS
    | {
        "amsgrad": st.booleans(),
        "sma_threshold": st.sampled_from([4.5, 5.0, 8.0]),
        "total_steps": st.integers(0, 8),
        "warmup_proportion": st.sampled_from([0.0, 0.25, 1.0]),
        "min_lr": st.sampled_from([0.0, 0.0078125]),
        "decay": st.sampled_from([0.0, 0.25]),
        "unrectified_update": st.sampled_from(["momentum", "skip"]),
    },
    "Nadam": MOMENT_OPTIONS | {"schedule_decay": st.sampled_from([0.0, f32(0.004), 1.0])},
    "Ranger": MOMENT_OPTIONS
    | {
        "amsgrad": st.booleans(),
        "sync_period": st.integers(1, 4),
        "slow_step_size": st.sampled_from([0.0, 0.25, 1.0]),
    },
}
SHARED = st.sampled_from(
    [
        {},
        {},
        {"clipnorm": 0.5},
        {"clipvalue": 0.25},
        {"global_clipnorm": 0.5},
        {"gradient_accumulation_steps": 2},
    ]
)
LIVE = ("learning_rate", "beta_1", "beta_2", "epsilon", "weight_decay")


@st.composite
def trainings(draw: st.DrawFn) -> dict[str, Any]:
    """Everything about one training: the optimizer, the variables, the events."""
    kind = draw(st.sampled_from(sorted(OPTIONS)))
    options = {name: draw(values) for name, values in OPTIONS[kind].items()} | draw(SHARED)
    dtype = draw(st.sampled_from(sorted(SIZES)))
    shapes = draw(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=3))
    low, high = SIZES[dtype]
    step = st.tuples(
        st.just("step"),
        st.integers(0, 2**32 - 1),  # the seed of the gradients
        st.integers(low, high),  # their power of ten
        st.sets(st.integers(0, 2)),  # the variables that have none
    )
    change = st.sampled_from(LIVE).flatmap(
        lambda name: st.tuples(st.just("change"), st.just(name), OPTIONS[kind][name])
    )
    event = st.one_of(
        step,
        step,
        step,
        change,
        st.tuples(st.just("assign"), st.integers(0, 2), numbers(-8, 8)),
        st.tuples(
            st.sampled_from(
                ["weights", "own_variables", "deepcopy", "wrong_weights", "reset_slow_weights"]
            )
        ),
    )
    return {
        "kind": kind,
        "options": options,
        "dtype": dtype,
        "shapes": shapes,
        "events": draw(st.lists(event, min_size=1, max_size=10)),
    }


def agree(loop: Loop, plain: Reference, origin: list[np.ndarray]) -> None:
    """Relative to the largest value on the way, because values may cancel."""
    for i, (ours, theirs) in enumerate(zip(loop.parameters, plain.parameters, strict=True)):
        origin[i] = np.maximum(origin[i], np.abs(theirs))
        bound = RELATIVE[loop.dtype] * np.max(origin[i], initial=1e-30)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=bound, err_msg=f"variable {i}")


def happen(event: tuple[Any, ...], loop: Loop, plain: Reference) -> None:
    """One event, to the optimizer and to the reference."""
    what, *details = event
    optimizer = loop.optimizer
    if what == "step":
        seed, power, missing = details
        random = np.random.default_rng(seed)
        gradients = [
            None if i in missing else np.asarray(f32_array(random.normal(size=p.shape), power))
            for i, p in enumerate(plain.parameters)
        ]
        if all(g is None for g in gradients):
            with pytest.raises(ValueError, match=r"[Nn]o gradients"):
                loop.step(gradients)
            return
        loop.step(gradients)
        plain.apply(gradients)
    elif what == "change":
        name, value = details
        setattr(optimizer, name, value)
        setattr(getattr(plain, "inner", plain), name, value)
    elif what == "assign":
        index, value = details
        if index < len(loop.variables):
            parameter = plain.parameters[index]
            loop.variables[index].assign(np.full(parameter.shape, value, loop.dtype))
            parameter[...] = value
    elif optimizer.built:
        happen_to_state(what, loop, plain)


def happen_to_state(what: str, loop: Loop, plain: Reference) -> None:
    """An event that leaves the state as it is, or starts a part of it anew."""
    optimizer = loop.optimizer
    if what == "reset_slow_weights":
        if isinstance(plain, reference.Lookahead):
            optimizer.reset_slow_weights()
            for slow, fast in zip(plain.slot["slow"], plain.parameters, strict=True):
                slow[...] = fast
    elif what == "weights":
        optimizer.set_weights(optimizer.get_weights())
    elif what == "own_variables":
        store: dict[str, np.ndarray] = {}
        optimizer.save_own_variables(store)
        optimizer.load_own_variables(store)
    elif what == "deepcopy":
        loop.optimizer = copy.deepcopy(optimizer)
    elif what == "wrong_weights":
        with pytest.raises(ValueError, match=r"weight"):
            optimizer.set_weights([w * 0 + 7 for w in optimizer.get_weights()][:-1])


def f32_array(values: np.ndarray, power: int) -> np.ndarray:
    """The values at a power of ten, to float32's digits, so that every dtype holds them."""
    return np.float32(values).astype(float) * math.pow(10.0, power)


def run(training: dict[str, Any]) -> None:
    kind, options = training["kind"], training["options"]
    build = reference.ranger if kind == "Ranger" else getattr(reference, kind)
    random = np.random.default_rng(0)
    start = [np.float32(random.normal(size=s)).astype(float) for s in training["shapes"]]
    plain = build(start, **options)
    loop = Loop(getattr(surefoot, kind)(**options), start, dtype=training["dtype"])
    largest = [np.abs(p) for p in start]
    for event in training["events"]:
        happen(event, loop, plain)
        agree(loop, plain, largest)


common = {
    "deadline": None,
    "suppress_health_check": list(hypothesis.HealthCheck),
    "print_blob": True,
}


STEPS = [("step", seed, 0, set()) for seed in range(4)]
ACCUMULATING = {
    "kind": "Nadam",
    "options": {"learning_rate": 0.125, "gradient_accumulation_steps": 2},
    "dtype": "float32",
    "shapes": [(3,), ()],
}
# In the call that updates, one variable has no gradient: what it has accumulated must wait.
MISSING_AT_THE_UPDATE = ACCUMULATING | {"events": [STEPS[0], ("step", 1, 0, {0}), *STEPS[2:]]}
# Weights put back as they are change nothing, also between two calls of one accumulation.
WEIGHTS_BETWEEN_THE_CALLS = ACCUMULATING | {"events": [STEPS[0], ("weights",), *STEPS[1:]]}
# Without memory, the rounding of a large moment must not remain in the small one that follows.
AFTER_A_SPIKE = {
    "kind": "Nadam",
    "options": {"learning_rate": 1.0, "beta_1": 0.0, "beta_2": 0.0},
    "dtype": "float32",
    "shapes": [()],
    "events": [("step", 0, 3, set()), ("step", 0, 0, set())],
}


@hypothesis.settings(max_examples=40, derandomize=True, **common)
@hypothesis.example(MISSING_AT_THE_UPDATE)
@hypothesis.example(WEIGHTS_BETWEEN_THE_CALLS)
@hypothesis.example(AFTER_A_SPIKE)
@hypothesis.given(trainings())
def test_sample_of_trainings(training: dict[str, Any]) -> None:
    run(training)


@pytest.mark.extended
@hypothesis.settings(max_examples=EXTENDED, **common)
@hypothesis.given(trainings())
def test_many_trainings(training: dict[str, Any]) -> None:
    run(training)
