"""The trials of a run, put together by optimizer, setting and seed."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from surefoot.compare.search.space import Setting
from surefoot.compare.trials.store import Run

Records = dict[int, dict[str, Any]]
"""The outcomes by seed."""


@dataclass(frozen=True)
class Outcomes:
    """The outcomes of an optimizer.

    Attributes:
        searched: Of the search, by setting.
        fresh: Of the seeds that took no part in it.
        eligible: Those of `searched` of which one may be called the best.
        tried: All settings, also those of which there are short trials only.
        every: All outcomes.
    """

    searched: Mapping[Setting, Records]
    fresh: Mapping[Setting, Records]
    eligible: Mapping[Setting, Records]
    tried: Collection[Setting]
    every: list[dict[str, Any]]


def all_outcomes(run: Run) -> dict[str, Outcomes]:
    """The outcomes of each optimizer."""
    labels = sorted({trial.optimizer for trial in (*run.records, *run.short)})
    return {label: _outcomes(run, label) for label in labels}


def results_of(records: Records) -> dict[int, float]:
    """The results by seed, without those that diverged."""
    found = {seed: record["result"] for seed, record in records.items()}
    return {seed: result for seed, result in found.items() if result is not None}


def _outcomes(run: Run, label: str) -> Outcomes:
    searched: dict[Setting, Records] = defaultdict(dict)
    fresh: dict[Setting, Records] = defaultdict(dict)
    own = {x: run.records[x] for x in sorted(run.records) if x.optimizer == label}
    for trial, record in own.items():
        (fresh if trial.is_fresh else searched)[trial.setting][trial.seed] = record
    # What was left behind by halving has too few seeds to be called the best.
    is_halved = run.last("request", {}).get("halving")
    least = max(map(len, searched.values()), default=0) if is_halved else 0
    return Outcomes(
        searched=searched,
        fresh=fresh,
        eligible={setting: each for setting, each in searched.items() if len(each) >= least},
        tried=run.tried(label),
        every=[*own.values(), *(run.short[x] for x in run.short if x.optimizer == label)],
    )
