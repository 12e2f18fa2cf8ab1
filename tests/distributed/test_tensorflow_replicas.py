"""Replicas of a MirroredStrategy on shards of a batch do what one does with all of it."""

from __future__ import annotations

import pytest

from distributed import problem
from distributed.comparing import Outcome, assert_same, assert_skipped, outcomes_of

pytestmark = pytest.mark.backends("tensorflow")

RUNS = [
    *(f"graph, {name}" for name in problem.OPTIMIZERS),
    *("fit, RectifiedAdam", "fit, Ranger", "skip, Nadam", "skip, Ranger"),
    *("eager, Ranger", "aggregated, Nadam"),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    return outcomes_of("tensorflow_replicas.py", tmp_path_factory.mktemp("mirrored"))


@pytest.mark.parametrize("name", RUNS)
def test_replicas_follow_one_worker(runs: dict[str, Outcome], name: str) -> None:
    assert_same(runs[f"{name}, mirrored"], runs[f"{name}, single"], name)
    assert not runs[f"{name}, mirrored"]["replicas differ"]


@pytest.mark.parametrize("name", ["skip, Nadam", "skip, Ranger"])
def test_a_nan_on_one_replica_skips_on_all(runs: dict[str, Outcome], name: str) -> None:
    assert_skipped(runs[f"{name}, mirrored"], problem.POISONED)


@pytest.mark.parametrize("name", RUNS)
def test_slots_live_with_their_variables(runs: dict[str, Outcome], name: str) -> None:
    devices = runs[f"{name}, mirrored"]["devices"]
    assert devices.shape[1] == 3
    assert {tuple(d[-5:] for d in row) for row in devices} == {("CPU:0", "CPU:1", "CPU:2")}


def test_a_compiled_step_runs_on_each_replica(runs: dict[str, Outcome]) -> None:
    kernels = runs["operations, all, mirrored"]["kernels"]
    assert sorted(d[-5:] for d in kernels) == ["CPU:0", "CPU:1", "CPU:2"]
