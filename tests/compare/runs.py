"""Runs of made-up results, for tests of what is concluded from results."""

from collections.abc import Mapping, Sequence

from surefoot.compare.trials.store import Run, Trial

HEADER = {
    **{"task": "made-up", "description": "Made-up results.", "metric": "validation accuracy"},
    **{"higher_is_better": True, "near_best": None, "target": None, "steps": 40, "batch_size": 8},
    **{"data_sha256": "0" * 64, "task_facts": {"a fact": "</script><b>"}, "backend": "jax"},
    **{"backend_version": "0", "keras": "3", "threads": 1, "surefoot": "0", "python": "3"},
    **{"machine": "none", "schedule": "constant"},
}

Results = Mapping[str, Mapping[float, Sequence[float | None]]]


def made_up(results: Results, **header: object) -> Run:
    """A run with the given result per optimizer, learning rate and seed; `None` diverged.

    Results rise along a straight line from 0 at the start.
    """
    run = Run({**HEADER, **header})
    for optimizer, rates in results.items():
        seeds = max(map(len, rates.values()))
        run.plans.append(
            {
                "optimizers": [optimizer],
                "learning_rates": list(rates),
                "seeds": list(range(seeds)),
            }
        )
        for rate, values in rates.items():
            for seed, value in enumerate(values):
                run.records[Trial(optimizer, rate, seed)] = record(value)
    return run


def record(result: float | None) -> dict[str, object]:
    """A trial as it stands on disk."""
    steps = [0, 10, 20, 30, 40]
    values = [None if result is None else result * step / 40 for step in steps]
    values[0] = 0.0
    losses = [None if value is None else 2.0 - value for value in values]
    return {
        "status": "diverged" if result is None else "finished",
        "steps": 40,
        "seconds_per_step": 0.01,
        "result": result,
        "curve": {
            "step": steps,
            "train_loss": [None, *losses[1:]],
            "validation_loss": losses,
            "result": values,
        },
    }
