"""Devices of a `keras.distribution` on shards of a batch do what one does with all of it."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from distributed import launching, problem
from distributed.comparing import TOLERANCE, Outcome, assert_same, assert_skipped, outcomes_of

pytestmark = pytest.mark.backends("jax")

JITTED = [f"jit, {name}" for name in problem.OPTIMIZERS]
SKIPPED = ["skip, Nadam", "skip, Ranger"]
SHARDED = ["sharded, Nadam", "sharded, Ranger", "sharded, accumulating"]
OTHERS = ["fit, Ranger", "sharded fit, Ranger", "eager, Nadam", "sharded eager, Ranger"]
KINDS = ("data", "model")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    return outcomes_of("jax_devices.py", tmp_path_factory.mktemp("devices"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [*JITTED, *SKIPPED, *SHARDED, *OTHERS])
def test_devices_follow_one(runs: dict[str, Outcome], name: str, kind: str) -> None:
    assert_same(runs[f"{name}, {kind}"], runs[f"{name}, single"], name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SKIPPED)
def test_a_nan_on_one_device_skips_on_all(runs: dict[str, Outcome], name: str, kind: str) -> None:
    assert_skipped(runs[f"{name}, {kind}"], problem.POISONED)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [*JITTED, *SKIPPED, "fit, Ranger", "eager, Nadam"])
def test_slots_have_the_layout_of_their_variable(
    runs: dict[str, Outcome], name: str, kind: str
) -> None:
    placed = runs[f"{name}, {kind}"]["placed as variable"]
    assert len(placed)
    assert set(placed[:, 2]) == {"True"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [*JITTED, *SKIPPED])
def test_the_step_gathers_no_tensor(runs: dict[str, Outcome], name: str, kind: str) -> None:
    many = runs[f"{name}, {kind}"]
    assert many["sums"] > 0  # of gradients: the program is one of several devices
    assert not len(many["gathered"])


@pytest.mark.parametrize("name", SHARDED)
def test_sharded_state_takes_its_part_of_the_memory(runs: dict[str, Outcome], name: str) -> None:
    """Four devices: a quarter of everything but the one bias of three elements."""
    whole, part = (runs[f"{name}, {k}"]["bytes on a device"] for k in ("single", "data"))
    slots = whole // (4 * problem.WEIGHTS)
    undivided = 4 * slots * problem.OUTPUTS
    assert part == (whole - undivided) // 4 + undivided
    split_twice = runs[f"{name}, model"]["bytes on a device"]
    assert split_twice < whole // 2


@pytest.mark.parametrize("name", ["sharded fit, Ranger", "sharded eager, Ranger"])
def test_state_stays_sharded_outside_of_ones_own_jit(runs: dict[str, Outcome], name: str) -> None:
    compiled = runs["sharded, Ranger, data"]["bytes on a device"]
    assert runs[f"{name}, data"]["bytes on a device"] == compiled


def test_sharded_state_is_never_gathered(runs: dict[str, Outcome]) -> None:
    """What is gathered are the new weights, each of them once; its moments would be twice that."""
    gathered = runs["sharded, Nadam, data"]["gathered"]
    assert sum(gathered) == problem.WEIGHTS - problem.OUTPUTS


def test_processes_follow_one(tmp_path: Path) -> None:
    scripts = Path(__file__).parents[2] / "docs" / "distributed"
    script, steps = scripts / "train_jax.py", ("--steps", 4)
    one, many = tmp_path / "one.keras", tmp_path / "many.keras"
    launching.succeed(script, one, *steps)
    launching.succeed(scripts / "launch.py", "--workers", 2, script, many, *steps)
    expected, ours = (keras.saving.load_model(path) for path in (one, many))
    assert int(ours.optimizer.iterations) == int(expected.optimizer.iterations) == 4
    for weight, other in zip(ours.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(weight, other, **TOLERANCE)
