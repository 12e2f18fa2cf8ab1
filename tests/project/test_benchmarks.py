"""The benchmark: its tensors are the models', its floor is a true step, and it runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import floor, shapes

ROOT = Path(__file__).parents[2]
FLOAT32_STEP = 2e-6
"""A few roundings of float32, relative to the parameters' size of one."""

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    ("name", "tensors", "parameters"),
    [("resnet50", 161, 25_557_032), ("gpt2", 148, 124_439_808), ("small", 200, 819_200)],
)
def test_sets_are_those_of_the_models(name: str, tensors: int, parameters: int) -> None:
    made = shapes.SETS[name]()
    assert len(made) == tensors
    assert shapes.parameters(made) == parameters


@pytest.mark.parametrize("amsgrad", [False, True])
def test_floor_makes_a_true_step(amsgrad: bool) -> None:
    size = floor.PIECE + 7  # The second piece is a short one.
    rng = np.random.default_rng(3)
    p, g, m, v, vhat = (np.abs(rng.standard_normal(size, dtype=np.float32)) for _ in range(5))
    m_new = 0.9 * m.astype(float) + 0.1 * g
    v_new = 0.99 * v.astype(float) + 0.01 * g.astype(float) ** 2
    vhat_new = np.maximum(vhat, v_new)
    root = np.sqrt(vhat_new if amsgrad else v_new)
    p_new = p - 0.5 * m_new / (root + 1e-3)
    scalars = tuple(np.float32(x) for x in (0.5, 0.1, 0.01, 1e-3))
    if amsgrad:
        floor.amsgrad_kernel(p, g, m, v, vhat, *scalars)
        np.testing.assert_allclose(vhat, vhat_new, atol=FLOAT32_STEP)
    else:
        floor.adam_kernel(p, g, m, v, *scalars)
    np.testing.assert_allclose(m, m_new, atol=FLOAT32_STEP)
    np.testing.assert_allclose(v, v_new, atol=FLOAT32_STEP)
    # The quotient is as large as its denominator is small.
    np.testing.assert_allclose(p, p_new, rtol=1e-4, atol=FLOAT32_STEP)


def test_it_runs_and_writes_its_tables(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--backend", "jax", "--set", "small"]
    command += ["--mode", "jit", "--rounds", "1", "--seconds", "0.001", f"--output={tmp_path}"]
    command += ["--measure", "step", "probe", "--contender", "RectifiedAdam"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    results = json.loads((tmp_path / "speed.json").read_text())
    step, probe = results["records"]
    assert (step["contender"], step["set"], step["mode"]) == ("RectifiedAdam", "small", "jit")
    assert step["ratio"][1] > 0
    assert probe["first_step"] > 0
    assert "| jit | **RectifiedAdam** |" in (tmp_path / "speed.md").read_text()
