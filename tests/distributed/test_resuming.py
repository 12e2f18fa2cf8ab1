"""The documented scripts, killed with SIGKILL at a step, go on: also elsewhere, as if nothing was.

PyTorch's is in `test_torch_workers.py`.
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

import surefoot  # noqa: F401 - by which Keras finds the optimizers of a file
from distributed import launching
from distributed.comparing import TOLERANCE

SCRIPTS = Path(__file__).parents[2] / "docs" / "distributed"
LAUNCH = SCRIPTS / "launch.py"
TENSORFLOW = SCRIPTS / "train_tensorflow.py"
JAX = SCRIPTS / "train_jax.py"
STEPS = 24
LAST_KILL = 12
"""The run that is killed after this step has not ended when the kill arrives."""


def assert_goes_on(folder: Path, script: Path, step: int, before: list, after: list) -> None:
    """Hold a killed and resumed run against one on one device that went through."""
    through, killed = folder / "through.keras", folder / "killed.keras"
    launching.succeed(script, through, "--steps", STEPS)
    launching.kill_after(step, *before, killed, "--steps", STEPS)
    kept = int(keras.saving.load_model(killed).optimizer.iterations)
    assert step < kept < STEPS
    launching.succeed(*after, killed, "--steps", STEPS)
    expected, resumed = (keras.saving.load_model(path) for path in (through, killed))
    assert int(resumed.optimizer.iterations) == int(expected.optimizer.iterations) == STEPS
    for ours, theirs in zip(resumed.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, **TOLERANCE)


def a_step(seed: int) -> int:
    return int(np.random.default_rng(seed).integers(0, LAST_KILL))


SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.extended) for seed in range(1, 5))]


@pytest.mark.extended
@pytest.mark.backends("tensorflow")
@pytest.mark.parametrize("seed", range(5))
def test_workers_are_killed_and_replicas_go_on(tmp_path: Path, seed: int) -> None:
    workers = [LAUNCH, "--workers", 2, TENSORFLOW]
    assert_goes_on(tmp_path, TENSORFLOW, a_step(seed), workers, [TENSORFLOW, "--replicas", 3])


@pytest.mark.extended
@pytest.mark.backends("tensorflow")
def test_replicas_are_killed_and_workers_go_on(tmp_path: Path) -> None:
    workers = [LAUNCH, "--workers", 2, TENSORFLOW]
    assert_goes_on(tmp_path, TENSORFLOW, 5, [TENSORFLOW, "--replicas", 3], workers)


@pytest.mark.backends("jax")
@pytest.mark.parametrize("seed", SEEDS)
def test_devices_are_killed_and_others_go_on(tmp_path: Path, seed: int) -> None:
    many = [JAX, "--devices", 4, "--shard-state"]
    assert_goes_on(tmp_path, JAX, a_step(seed), many, [JAX, "--devices", 2])


@pytest.mark.extended
@pytest.mark.backends("jax")
@pytest.mark.parametrize("seed", range(3))
def test_processes_are_killed_and_devices_go_on(tmp_path: Path, seed: int) -> None:
    workers = [LAUNCH, "--workers", 2, JAX, "--devices", 2, "--shard-state"]
    assert_goes_on(tmp_path, JAX, a_step(seed), workers, [JAX, "--devices", 3])
