"""Optuna's view of a run: one study per optimizer, made from the trials on disk.

The trials are the truth. A study has one trial per setting, with the mean over the seeds of the
search as its value; it is what TPE learns from, and what Optuna's own tools open.
"""

import os
import statistics
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from surefoot.compare.search.sampling import distributions, quiet
from surefoot.compare.search.space import Axis, Setting
from surefoot.compare.trials.store import Run, Trial

FILE = "optuna.log"
"""The file of the studies, beside that of the trials; a journal, as Optuna calls it."""


Outcomes = dict[Trial, dict[str, Any]]
# What Optuna's tools show of a study.
_FACTS = ("task", "description", "backend", "steps", "batch_size")


def write_studies(run: Run, folder: Path) -> Path:
    """Write the studies of all optimizers, in place of what was there before."""
    new = folder / f"{FILE}.new"
    new.unlink(missing_ok=True)
    with quiet():
        storage = JournalStorage(JournalFileBackend(str(new)))
        for optimizer in dict.fromkeys(trial.optimizer for trial in run.records):
            study(run, optimizer, optimizer, storage)
    # A dashboard that reads it meanwhile sees the old file or the new one.
    path = folder / FILE
    os.replace(new, path)
    return path


def study(run: Run, optimizer: str, name: str | None = None, storage: Any = None) -> optuna.Study:
    """The study of an optimizer.

    Args:
        run: The trials.
        optimizer: Its label.
        name: Of the study.
        storage: Optuna's; by default it is in memory.
    """
    higher = run.header["higher_is_better"]
    direction = StudyDirection.MAXIMIZE if higher else StudyDirection.MINIMIZE
    with quiet():
        found = optuna.create_study(study_name=name, storage=storage, direction=direction)
        found.set_metric_names([run.header["metric"]])
        for fact in _FACTS:
            found.set_user_attr(fact, run.header[fact])
        found.add_trials(_trials(run, optimizer))
    return found


def _trials(run: Run, optimizer: str) -> list[FrozenTrial]:
    # The fresh seeds took no part in the search, and have no trial without it.
    tried = run.tried(optimizer)
    by_setting: dict[Setting, Outcomes] = defaultdict(dict)
    for trial, record in (run.short | run.records).items():
        if trial.optimizer == optimizer and trial.setting in tried:
            by_setting[trial.setting][trial] = record
    axes = _axes(list(by_setting))
    most = max((len(_results(found)) for found in by_setting.values()), default=0)
    return [_trial(axes, setting, found, most) for setting, found in by_setting.items()]


def _results(found: Outcomes) -> list[Any]:
    """The results of the search, of runs that were not cut short."""
    return [found[trial]["result"] for trial in found if not (trial.length or trial.is_fresh)]


def _axes(settings: Sequence[Setting]) -> list[Axis]:
    """The ranges that were tried, since Optuna takes no value outside of a range."""
    values = defaultdict(list)
    for setting in settings:
        for name, value in setting.to_dict().items():
            values[name].append(value)
    return [Axis(name, min(tried), max(tried)) for name, tried in values.items()]


def _trial(axes: Sequence[Axis], setting: Setting, found: Outcomes, most: int) -> FrozenTrial:
    values = setting.to_dict()
    own = [axis for axis in axes if axis.name in values]
    results = _results(found)
    # TPE takes what is pruned for worse than all that finished.
    is_complete = bool(results) and None not in results and len(results) == most
    shorter, seeds = {}, {}
    for each, record in found.items():
        result = record["result"]
        if not each.length:
            name = f"{'fresh ' * each.is_fresh}seed {each.seed}"
            seeds[name] = "diverged" if result is None else result
        elif result is not None:
            shorter[each.length] = result
    trial = create_trial(
        state=TrialState.COMPLETE if is_complete else TrialState.PRUNED,
        value=statistics.fmean(results) if is_complete else None,
        params={axis.sampled[0]: axis.to_sampled(values[axis.name]) for axis in own},
        distributions=distributions(own),
        intermediate_values=shorter,
        user_attrs=seeds,
    )
    ended = [datetime.fromisoformat(each["ended"]) for each in found.values() if "ended" in each]
    if ended:
        trained = sum(each["steps"] * each["seconds_per_step"] for each in found.values())
        trial.datetime_complete = max(ended)
        trial.datetime_start = max(ended) - timedelta(seconds=trained)
    return trial
