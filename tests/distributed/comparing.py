"""Holds the outcome of many workers against the outcome of one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from distributed import launching

# Sums in another order: a few roundings of float32, carried through the steps.
TOLERANCE = {"rtol": 2e-5, "atol": 2e-6}

# A last bit of float32 may decide between two neighbours in bfloat16.
IN_BFLOAT16 = {"rtol": 2.0**-7, "atol": 5e-4}

Outcome = dict[str, np.ndarray]


def outcomes(saved: Mapping[str, np.ndarray]) -> dict[str, Outcome]:
    """What a script saved, by the name of the run."""
    found: dict[str, Outcome] = {}
    for key in saved:
        run, _, name = key.partition("; ")
        found.setdefault(run, {})[name] = saved[key]
    return found


def assert_same(many: Outcome, one: Outcome, run: str = "") -> None:
    """Every step's weights, the state afterwards, and what was skipped."""
    tolerance = IN_BFLOAT16 if "bfloat16" in run else TOLERANCE
    trajectory = one["trajectory"]
    assert np.isfinite(trajectory).all()
    assert np.abs(np.diff(trajectory, axis=0)).max() > 1e-3  # it was trained
    for step, (ours, theirs) in enumerate(zip(many["trajectory"], trajectory, strict=True)):
        np.testing.assert_allclose(ours, theirs, err_msg=f"step {step}", **tolerance)
    states = {key for key in one if key.startswith("state ")}
    assert states
    assert states == {key for key in many if key.startswith("state ")}
    for key in states:
        np.testing.assert_allclose(many[key], one[key], err_msg=key, **tolerance)
    assert many["skipped"] == one["skipped"]


def assert_skipped(many: Outcome, steps: Iterable[int]) -> None:
    """These steps, which a NaN reached, and no others were left out."""
    steps = list(steps)
    assert many["skipped"] == len(steps)
    for step in steps:
        assert np.array_equal(many["trajectory"][step], many["trajectory"][step - 1])


def outcomes_of(script: str, folder: Path) -> dict[str, Outcome]:
    """Run a script of many runs, which saves them all into one file."""
    output = folder / "outcomes.npz"
    launching.succeed(script, output)
    with np.load(output) as saved:
        return outcomes(saved)
