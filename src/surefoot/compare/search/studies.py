"""Optuna's view of a run: one study per optimizer, made from the trials on disk.

The trials are the truth. A study has one trial per setting, with the mean over the seeds of the
search as its value; it is what TPE learns from, and what Optuna's own tools open.
"""

import os
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from surefoot.compare.search.sampling import distributions, quiet
from surefoot.compare.search.space import Axis, Setting
from surefoot.compare.trials.store import Run

FILE = "optuna.log"
"""The file of the studies, beside that of the trials; a journal, as Optuna calls it."""


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
        found.add_trials(_trials(run, optimizer))
    return found


def _trials(run: Run, optimizer: str) -> list[FrozenTrial]:
    by_setting: dict[Setting, dict[str, dict[int, Any]]] = defaultdict(lambda: defaultdict(dict))
    shorter: dict[Setting, dict[int, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for trial, record in (run.short | run.records).items():
        if trial.optimizer != optimizer:
            continue
        found = by_setting[trial.setting]
        if trial.length:
            shorter[trial.setting][trial.length].append(record["result"])
        else:
            found["fresh seeds" if trial.is_fresh else "seeds"][trial.seed] = record["result"]
    # The fresh seeds took no part in the search, and have no trial without it.
    tried = run.tried(optimizer)
    searched = {setting: found for setting, found in by_setting.items() if setting in tried}
    axes = _axes(list(searched))
    whole = max((len(found["seeds"]) for found in searched.values()), default=0)
    return [
        _trial(axes, setting, found, shorter[setting], whole) for setting, found in searched.items()
    ]


def _axes(settings: Sequence[Setting]) -> list[Axis]:
    """The ranges that were tried, since Optuna takes no value outside of a range."""
    values = defaultdict(list)
    for setting in settings:
        for name, value in setting.to_dict().items():
            values[name].append(value)
    return [Axis(name, min(tried), max(tried)) for name, tried in values.items()]


def _trial(
    axes: Sequence[Axis],
    setting: Setting,
    found: Mapping[str, dict[int, Any]],
    shorter: Mapping[int, list[Any]],
    whole: int,
) -> FrozenTrial:
    values = setting.to_dict()
    own = [axis for axis in axes if axis.name in values]
    results = list(found["seeds"].values())
    # TPE takes what is pruned for worse than all that finished.
    is_complete = bool(results) and None not in results and len(results) == whole
    return create_trial(
        state=TrialState.COMPLETE if is_complete else TrialState.PRUNED,
        value=statistics.fmean(results) if is_complete else None,
        params={axis.sampled[0]: axis.to_sampled(values[axis.name]) for axis in own},
        distributions=distributions(own),
        intermediate_values={
            length: statistics.fmean(each) for length, each in shorter.items() if None not in each
        },
        user_attrs={name: {str(k): v for k, v in seeds.items()} for name, seeds in found.items()},
    )
