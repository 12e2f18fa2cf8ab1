"""Experiments that are runs of `surefoot compare`, and their trials afterwards."""

from __future__ import annotations

import math
import shlex
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from evidence.claims import Estimate, Results, estimate
from evidence.experiment import FOLDER, Options

# Trials that are done survive a kill here; `--resume` goes on with them.
RUNS = FOLDER / "runs"
SEEDS = 3
# What a reader needs to repeat the run; times and the machine are left out, they change nothing.
_KEPT = (
    *("task", "description", "metric", "higher_is_better", "steps", "batch_size"),
    *("data_sha256", "task_facts", "backend", "backend_version", "keras", "surefoot", "python"),
)

Sweep = tuple[Sequence[str], str]
"""Optimizers and learning rates, as `surefoot compare` takes them."""


@dataclass(frozen=True)
class Comparison:
    """A run of `surefoot compare`.

    Args:
        name: Of the folder it is run in.
        task: As `surefoot compare` takes it.
        steps: Optimizer steps of a trial.
        sweeps: Run one after the other into the same folder.
        seeds: How many.
        facts: Further values worth recording, computed when the run is done.
    """

    name: str
    task: str
    steps: int
    sweeps: Sequence[Sweep]
    seeds: int = SEEDS
    facts: Callable[[], dict[str, Any]] = dict

    def command(self, sweep: Sweep) -> list[str]:
        """The arguments of `surefoot` for one sweep."""
        optimizers, rates = sweep
        arguments = ["compare", self.task, "--optimizers", *optimizers, "--learning-rates", rates]
        arguments += ["--search", "grid", "--schedule", "constant", "--fresh-seeds", "0"]
        return [*arguments, "--steps", str(self.steps), "--seeds", str(self.seeds)]

    def run(self, options: Options) -> Results:
        """Run what is missing and put the trials together; if there are none, say so.

        Raises:
            RuntimeError: If an optimizer could not be trained.
        """
        from surefoot.compare.trials.store import FILE, read

        folder = RUNS / self.name
        for sweep in self.sweeps if options.train else ():
            command = [sys.executable, "-m", "surefoot", *self.command(sweep), "--resume"]
            command += ["--out", str(folder), "--backend", "jax", "--jobs", str(options.jobs)]
            # One thread, so that sums are added up in the same order everywhere.
            command += ["--threads", "1"]
            if subprocess.run(command, check=False, cwd=FOLDER.parent).returncode:
                raise RuntimeError(f"surefoot compare failed; see {folder / 'workers.log'}")
        if not (folder / FILE).exists():
            return {"missing": self.planned}
        run = read(folder / FILE)
        # Points with a seed missing are left out: every mean is over the same seeds.
        seeds = Counter((trial.optimizer, trial.learning_rate) for trial in run.records)
        found = [
            {
                "optimizer": trial.optimizer,
                "learning_rate": trial.learning_rate,
                "seed": trial.seed,
                "result": run.records[trial]["result"],
            }
            for trial in sorted(run.records)
            if seeds[trial.optimizer, trial.learning_rate] == self.seeds
        ]
        return {
            "commands": [shlex.join(["surefoot", *self.command(sweep)]) for sweep in self.sweeps],
            **{name: run.header[name] for name in _KEPT},
            "facts": self.facts(),
            "missing": self.planned - len(found),
            "trials": found,
        }

    @property
    def planned(self) -> int:
        """How many trials the sweeps have, which do not overlap."""
        from surefoot.compare.search.learning_rates import parse_learning_rates

        points = [
            len(optimizers) * len(parse_learning_rates(rates)) for optimizers, rates in self.sweeps
        ]
        return self.seeds * sum(points)


class Trials:
    """The trials of recorded results, by optimizer, learning rate and seed.

    Args:
        results: Of an experiment.
        failed: What counts as the result of a trial that diverged.
    """

    def __init__(self, results: Results, failed: float) -> None:
        self.higher_is_better: bool = results["higher_is_better"]
        self._table: dict[str, dict[float, dict[int, float]]] = {}
        self.diverged: dict[tuple[str, float], int] = {}
        for trial in results["trials"]:
            label, rate, result = trial["optimizer"], trial["learning_rate"], trial["result"]
            rates = self._table.setdefault(label, {})
            value = failed if result is None else result
            rates.setdefault(rate, {})[trial["seed"]] = value
            key = label, rate
            self.diverged[key] = self.diverged.get(key, 0) + (result is None)

    @property
    def optimizers(self) -> list[str]:
        """All labels."""
        return list(self._table)

    def rates(self, optimizer: str | None = None) -> list[float]:
        """The learning rates tried with an optimizer, or with any."""
        labels = self._table if optimizer is None else [optimizer]
        return sorted({rate for label in labels for rate in self._table.get(label, {})})

    def at(self, optimizer: str, rate: float) -> list[float]:
        """The results in the order of the seeds."""
        by_seed = self._table[optimizer][rate]
        return [by_seed[seed] for seed in sorted(by_seed)]

    def estimate(self, optimizer: str, rate: float) -> Estimate | None:
        """Mean and interval over seeds, or `None` if that was not run."""
        if rate not in self._table.get(optimizer, {}):
            return None
        return estimate(self.at(optimizer, rate))

    def best_rate(self, optimizer: str) -> float:
        """The learning rate with the best mean."""
        sign = -1 if self.higher_is_better else 1
        return min(
            self._table[optimizer], key=lambda r: sign * statistics.fmean(self.at(optimizer, r))
        )

    def best(self, optimizer: str) -> list[float]:
        """The results at the best learning rate."""
        return self.at(optimizer, self.best_rate(optimizer))

    def advantage(self, one: Sequence[float], other: Sequence[float]) -> list[float]:
        """By how much `one` is better, seed by seed: seeds share initial weights and batches."""
        sign = 1 if self.higher_is_better else -1
        return [sign * (a - b) for a, b in zip(one, other, strict=True)]

    def good_range(self, optimizer: str, bound: float) -> list[tuple[float, float]]:
        """By seed, the ends of the learning rates around the best one that reach `bound`.

        Interpolated in the logarithm between the learning rates tried; an end that lies beyond
        them is the last one tried. A seed that never reaches the bound has a range of one point.
        """
        rates = self.rates(optimizer)
        centre = rates.index(self.best_rate(optimizer))
        sign = 1 if self.higher_is_better else -1
        ranges = []
        for seed in range(len(self.at(optimizer, rates[0]))):
            margin = [sign * (self.at(optimizer, rate)[seed] - bound) for rate in rates]
            logs = [math.log(rate) for rate in rates]
            low = _edge(logs[centre::-1], margin[centre::-1])
            high = _edge(logs[centre:], margin[centre:])
            ranges.append((math.exp(low), math.exp(high)))
        return ranges


def _edge(logs: Sequence[float], margin: Sequence[float]) -> float:
    """Where, going along `logs`, the margin falls below zero."""
    if margin[0] < 0:
        return logs[0]
    for i in range(1, len(logs)):
        if margin[i] < 0:
            share = margin[i - 1] / (margin[i - 1] - margin[i])
            return logs[i - 1] + share * (logs[i] - logs[i - 1])
    return logs[-1]
