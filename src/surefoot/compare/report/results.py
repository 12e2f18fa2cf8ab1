"""Writes `results.csv` and `results.json`: all numbers of a comparison, for other programs."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from surefoot.compare.statistics.analysis import steps_to_target
from surefoot.compare.statistics.summary import Summary
from surefoot.compare.statistics.verdict import verdict
from surefoot.compare.trials.store import Run

CSV_COLUMNS = (
    *("task", "backend", "optimizer", "learning_rate", "seed", "status", "steps", "result"),
    *("validation_loss", "train_loss", "steps_to_target", "seconds_to_target"),
    "seconds_per_step",
)


def trial_rows(run: Run, summary: Summary) -> list[dict[str, Any]]:
    """One row of numbers for each trial, in the columns of `results.csv`."""
    rows = []
    for trial in sorted(run.records):
        record = run.records[trial]
        steps = (
            None
            if summary.target is None
            else steps_to_target(record, summary.target, summary.higher_is_better)
        )
        per_step = record["seconds_per_step"]
        rows.append(
            {
                "task": run.header["task"],
                "backend": run.header["backend"],
                "optimizer": trial.optimizer,
                **trial.setting.to_dict(),
                "seed": trial.seed,
                "status": record["status"],
                "steps": record["steps"],
                "result": record["result"],
                "validation_loss": record["curve"]["validation_loss"][-1],
                "train_loss": record["curve"]["train_loss"][-1],
                "steps_to_target": steps,
                "seconds_to_target": None if steps is None else steps * per_step,
                "seconds_per_step": per_step,
            }
        )
    return rows


def section(run: Run, summary: Summary) -> dict[str, Any]:
    """One run as plain values: header, verdict, summary, and trials with curves."""
    trials = [
        {**row, "curve": run.records[trial]["curve"]}
        for trial, row in zip(sorted(run.records), trial_rows(run, summary), strict=True)
    ]
    return {
        "run": run.header,
        "verdict": verdict(summary),
        "summary": summary.to_dict(),
        "trials": trials,
    }


def write_results(folder: Path, sections: Sequence[dict[str, Any]]) -> None:
    """Write both files into `folder`; `None` is an empty field in CSV and `null` in JSON."""
    with (folder / "results.csv").open("w", newline="", encoding="utf-8") as file:
        write_csv(file, sections)
    text = json.dumps({"sections": sections}, allow_nan=False, indent=1)
    (folder / "results.json").write_text(text + "\n", encoding="utf-8")


def write_csv(file: TextIO, sections: Sequence[dict[str, Any]]) -> None:
    """Write one row per trial of all sections."""
    trials = [row for each in sections for row in each["trials"]]
    # Hyperparameters that were searched have columns of their own, after the others.
    more = sorted({name for row in trials for name in row} - {*CSV_COLUMNS, "curve"})
    writer = csv.DictWriter(file, [*CSV_COLUMNS, *more], extrasaction="ignore")
    writer.writeheader()
    writer.writerows(trials)
