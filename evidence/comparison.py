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
from surefoot.compare.search.learning_rates import parse_learning_rates
from surefoot.compare.trials.store import FILE, FIRST_FRESH_SEED, Trial, read

# Trials that are done survive a kill here; `--resume` goes on with them.
RUNS = FOLDER / "runs"
SEEDS = 3
# What a reader needs to repeat the run; times and the machine are left out, they change nothing.
_KEPT = (
    *("task", "description", "metric", "higher_is_better", "steps", "batch_size", "schedule"),
    *("data_sha256", "task_facts", "backend", "backend_version", "keras", "surefoot", "python"),
)

Sweep = tuple[Sequence[str], str]
"""Optimizers and learning rates, as `surefoot compare` takes them."""


@dataclass(frozen=True)
class Protocol:
    """How `surefoot compare` searches, and which seeds count; its options of these names."""

    search: str
    schedule: str
    fresh_seeds: int


CONSTANT = Protocol("grid", "constant", 0)
"""Constant learning rates, and the seeds that choose an optimizer's best one also judge it."""
SCHEDULED = Protocol("qmc", "cosine", 10)
"""What `surefoot compare` does by default: warmup and decay, and fresh seeds alone judge."""


@dataclass(frozen=True)
class Comparison:
    """A run of `surefoot compare`.

    Args:
        name: Of the folder it is run in.
        task: As `surefoot compare` takes it.
        steps: Optimizer steps of a trial.
        sweeps: Run one after the other into the same folder.
        seeds: How many the search has.
        protocol: How it is searched and judged.
        facts: Further values worth recording, computed when the run is done.
    """

    name: str
    task: str
    steps: int
    sweeps: Sequence[Sweep]
    seeds: int = SEEDS
    protocol: Protocol = CONSTANT
    facts: Callable[[], dict[str, Any]] = dict

    def command(self, sweep: Sweep) -> list[str]:
        """The arguments of `surefoot` for one sweep."""
        optimizers, rates = sweep
        arguments = ["compare", self.task, "--optimizers", *optimizers, "--learning-rates", rates]
        protocol = self.protocol
        arguments += ["--search", protocol.search, "--schedule", protocol.schedule]
        arguments += ["--fresh-seeds", str(protocol.fresh_seeds)]
        return [*arguments, "--steps", str(self.steps), "--seeds", str(self.seeds)]

    def run(self, options: Options) -> Results:
        """Run what is missing and put the trials together; if there are none, say so.

        Raises:
            RuntimeError: If an optimizer could not be trained.
        """
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
        counts = Counter(map(_point, run.records))
        found = [
            {
                "optimizer": trial.optimizer,
                "learning_rate": trial.learning_rate,
                "seed": trial.seed,
                "result": run.records[trial]["result"],
            }
            for trial in sorted(run.records)
            if counts[_point(trial)]
            == (self.protocol.fresh_seeds if trial.is_fresh else self.seeds)
        ]
        # Learning rates beyond a range, where a best one was at its edge.
        beyond = {
            label: [each.learning_rate for each in run.settings(label, "extension")]
            for label in sorted({trial.optimizer for trial in run.records})
        }
        planned = self.planned + self.seeds * sum(map(len, beyond.values()))
        return {
            "commands": [shlex.join(["surefoot", *self.command(sweep)]) for sweep in self.sweeps],
            **{name: run.header[name] for name in _KEPT},
            "beyond": sorted({rate for rates in beyond.values() for rate in rates}),
            "facts": self.facts(),
            "missing": planned - len(found),
            "trials": found,
        }

    @property
    def planned(self) -> int:
        """How many trials the sweeps have, which do not overlap, without those beyond a range."""
        return sum(
            len(optimizers)
            * (self.seeds * len(parse_learning_rates(rates)) + self.protocol.fresh_seeds)
            for optimizers, rates in self.sweeps
        )


def _point(trial: Trial) -> tuple[str, float, bool]:
    return trial.optimizer, trial.learning_rate, trial.is_fresh


_Table = dict[str, dict[float, dict[int, float]]]
"""Results by optimizer, learning rate and seed."""


class Trials:
    """The trials of recorded results, by optimizer, learning rate and seed.

    Args:
        results: Of an experiment.
        failed: What counts as the result of a trial that diverged.

    Attributes:
        diverged: How many trials did, by optimizer and learning rate.
    """

    def __init__(self, results: Results, failed: float) -> None:
        self.higher_is_better: bool = results["higher_is_better"]
        self._searched: _Table = {}
        self._fresh: _Table = {}
        self.diverged: Counter[tuple[str, float]] = Counter()
        for trial in results["trials"]:
            label, rate, result = trial["optimizer"], trial["learning_rate"], trial["result"]
            is_fresh = trial["seed"] >= FIRST_FRESH_SEED
            by_rate = (self._fresh if is_fresh else self._searched).setdefault(label, {})
            by_rate.setdefault(rate, {})[trial["seed"]] = failed if result is None else result
            self.diverged[label, rate] += result is None

    @property
    def optimizers(self) -> list[str]:
        """All labels."""
        return list(self._searched)

    @property
    def has_fresh_seeds(self) -> bool:
        """Whether optimizers were trained again at their best learning rates."""
        return bool(self._fresh)

    def rates(self, optimizer: str | None = None) -> list[float]:
        """The learning rates tried with an optimizer, or with any."""
        labels = self._searched if optimizer is None else [optimizer]
        return sorted({rate for label in labels for rate in self._searched.get(label, {})})

    def at(self, optimizer: str, rate: float) -> list[float]:
        """The results of the search in the order of the seeds."""
        return _in_order(self._searched[optimizer][rate])

    def estimate(self, optimizer: str, rate: float) -> Estimate | None:
        """Mean and interval over seeds, or `None` if that was not run."""
        if rate not in self._searched.get(optimizer, {}):
            return None
        return estimate(self.at(optimizer, rate))

    def best_rate(self, optimizer: str) -> float:
        """The learning rate with the best mean in the search."""
        sign = -1 if self.higher_is_better else 1
        return min(
            self._searched[optimizer], key=lambda r: sign * statistics.fmean(self.at(optimizer, r))
        )

    def is_at_edge(self, optimizer: str) -> bool:
        """Whether the best learning rate is the lowest or highest of several tried."""
        rates = self.rates(optimizer)
        return len(rates) > 1 and self.best_rate(optimizer) in (rates[0], rates[-1])

    def best(self, optimizer: str) -> list[float]:
        """The results at the best learning rate: those of fresh seeds alone, if there are any.

        Raises:
            KeyError: If there are, but not at this learning rate.
        """
        return _in_order((self._fresh or self._searched)[optimizer][self.best_rate(optimizer)])

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


def _in_order(by_seed: dict[int, float]) -> list[float]:
    return [by_seed[seed] for seed in sorted(by_seed)]


def _edge(logs: Sequence[float], margin: Sequence[float]) -> float:
    """Where, going along `logs`, the margin falls below zero."""
    if margin[0] < 0:
        return logs[0]
    for i in range(1, len(logs)):
        if margin[i] < 0:
            share = margin[i - 1] / (margin[i - 1] - margin[i])
            return logs[i - 1] + share * (logs[i] - logs[i - 1])
    return logs[-1]
