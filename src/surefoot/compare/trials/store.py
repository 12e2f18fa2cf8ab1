"""The trials on disk: one JSON object per line, written before the next trial starts.

The first line describes the run; a `start` line says what was asked for at each start, and `plan`
lines list the trials that were then wanted; then there is one line per trial. All else, the report
and Optuna's studies too, is made from them.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from surefoot.compare.errors import UsageError
from surefoot.compare.search.space import Setting

FILE = "trials.jsonl"
REPORT = ("report.html", "results.csv", "results.json")
"""The files that are made of it."""

FIRST_FRESH_SEED = 10_000
"""From here on are the seeds of the trials that confirm an optimizer's best learning rate."""

FORMAT = 1
# Trials are comparable only if these entries of the header are equal.
_IDENTITY = (
    *("task", "data_sha256", "model", "loss", "class_weight", "before_training"),
    *("metric", "steps", "batch_size", "schedule"),
    *("backend", "backend_version", "keras", "surefoot", "threads"),
)


_WORDS = {"before_training": "loss (and metric) of untrained models"}
# Machines of one precision differ in the rounding of float32 sums, by less than this.
_SAME = 1e-5


@dataclass(frozen=True, order=True)
class Trial:
    """A trial is identified by its optimizer's label, its hyperparameters and its seed.

    Attributes:
        length: The steps of one that is shorter than the others of its run, for halving; else 0.
    """

    optimizer: str
    learning_rate: float
    seed: int
    others: tuple[tuple[str, float], ...] = ()
    length: int = 0

    @property
    def setting(self) -> Setting:
        """The hyperparameters."""
        return Setting(self.learning_rate, self.others)

    @classmethod
    def at(cls, optimizer: str, setting: Setting, seed: int, length: int = 0) -> "Trial":
        """The trial of a setting."""
        return cls(optimizer, setting.learning_rate, seed, setting.others, length)

    @property
    def is_fresh(self) -> bool:
        """Whether its seed took no part in the choice of the learning rate."""
        return self.seed >= FIRST_FRESH_SEED


@dataclass
class Run:
    """The content of a file of trials.

    Attributes:
        header: The settings that all trials share.
        starts: What was asked for at each start.
        plans: The trials that were wanted, and for which part of the run.
        records: The outcomes of the trials.
        short: Those of shorter trials, which are compared with each other only.
        failures: The reasons why optimizers could not be trained, by label.
    """

    header: dict[str, Any]
    starts: list[dict[str, Any]] = field(default_factory=list)
    plans: list[dict[str, Any]] = field(default_factory=list)
    records: dict[Trial, dict[str, Any]] = field(default_factory=dict)
    short: dict[Trial, dict[str, Any]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def planned(self) -> set[Trial]:
        """All trials that were wanted."""
        return {trial for plan in self.plans for trial in _trials(plan)}

    def outcome(self, trial: Trial) -> dict[str, Any] | None:
        """The outcome of a trial; `None` if it is not done."""
        return (self.short if trial.length else self.records).get(trial)

    def tried(self, optimizer: str) -> set[Setting]:
        """The settings of an optimizer that have an outcome in the search."""
        trials = (trial for trial in (*self.records, *self.short) if not trial.is_fresh)
        return {trial.setting for trial in trials if trial.optimizer == optimizer}

    def settings(self, optimizer: str, part: str) -> list[Setting]:
        """The settings that were wanted of an optimizer in a part of the run, in this order."""
        plans = [each for each in self.plans if each.get("part") == part]
        trials = [trial for plan in plans for trial in _trials(plan)]
        return list(dict.fromkeys(each.setting for each in trials if each.optimizer == optimizer))

    def last(self, name: str, default: Any = None) -> Any:
        """An entry of what was asked for at the last start."""
        return self.starts[-1].get(name, default) if self.starts else default


class Store:
    """Appends to a file of trials.

    Args:
        folder: The folder of the file.

    Attributes:
        run: What is in the file.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self.run = Run({})

    def start(self, header: Mapping[str, Any]) -> None:
        """Start a new file; an existing one and its report are renamed to a numbered name."""
        folder = self.path.parent
        folder.mkdir(parents=True, exist_ok=True)
        earlier = [file for name in (FILE, *REPORT) if (file := folder / name).exists()]
        number = 1
        while any(_numbered(file, number).exists() for file in earlier):
            number += 1
        for file in earlier:
            file.rename(_numbered(file, number))
        self.run = Run(dict(header))
        self._append({"kind": "run", "format": FORMAT, **header})

    def resume(self, header: Mapping[str, Any]) -> None:
        """Continue an existing file, or start a new one.

        Args:
            header: The header of the run to continue.

        Raises:
            UsageError: If the file belongs to a run with other settings; it names the difference.
        """
        if not has_run(self.path):
            self.start(header)
            return
        run = read(self.path)
        name = difference(run.header, header)
        if name is not None:
            raise UsageError(
                f"cannot resume {self.path}: its {_WORDS.get(name, name)} is "
                f"{run.header[name]!r}, and this run's is {header[name]!r}; choose another --out"
            )
        # Remove an incomplete last line, which a kill can leave behind.
        content = self.path.read_bytes()
        complete = content.rfind(b"\n") + 1
        if complete < len(content):
            with self.path.open("r+b") as file:
                file.truncate(complete)
        self.run = run

    def begin(self, asked: Mapping[str, Any]) -> None:
        """Write what is asked for at this start."""
        self._enter({"kind": "start", **asked})

    def plan(
        self,
        part: str,
        optimizers: list[str],
        settings: Iterable[Setting],
        seeds: list[int],
        length: int = 0,
    ) -> None:
        """Write which trials are wanted, and for which part of the run."""
        self._enter(
            {
                "kind": "plan",
                "part": part,
                "optimizers": optimizers,
                "settings": [setting.to_dict() for setting in settings],
                "seeds": seeds,
                **({"length": length} if length else {}),
            }
        )

    def add(self, trial: Trial, outcome: Mapping[str, Any]) -> None:
        """Write the outcome of a trial."""
        others: dict[str, Any] = {"others": dict(trial.others)} if trial.others else {}
        others |= {"length": trial.length} if trial.length else {}
        self._enter(
            {
                "kind": "trial",
                "optimizer": trial.optimizer,
                "learning_rate": trial.learning_rate,
                **others,
                "seed": trial.seed,
                **outcome,
            }
        )

    def add_failure(self, optimizer: str, message: str) -> None:
        """Write that an optimizer cannot be trained."""
        self._enter({"kind": "failure", "optimizer": optimizer, "message": message})

    def _enter(self, line: dict[str, Any]) -> None:
        self._append(line)
        _enter(self.run, line["kind"], {key: line[key] for key in line if key != "kind"})

    def _append(self, line: Mapping[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _numbered(file: Path, number: int) -> Path:
    return file.with_suffix(f".{number}{file.suffix}")


def difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """The first entry by which the headers of two runs say that their trials cannot be compared.

    Runs of before there was an entry do not have it.
    """
    common = (name for name in _IDENTITY if name in one and name in other)
    return next((name for name in common if not is_same(one[name], other[name])), None)


def is_same(one: Any, other: Any) -> bool:
    """Whether two facts about a run are the same, as far as machines agree on numbers."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=_SAME)
    return bool(one == other)


def has_run(path: Path) -> bool:
    """Whether the file exists and has a complete first line."""
    return path.is_file() and b"\n" in path.read_bytes()


def read(path: Path) -> Run:
    """Read a file of trials; an incomplete last line is ignored.

    Raises:
        UsageError: If there is no such file, or it is damaged.
    """
    if not path.is_file():
        raise UsageError(f"there is no run in {path.parent}: {path} does not exist")
    lines = path.read_text(encoding="utf-8").split("\n")
    # Complete lines end in a newline, so the last part is empty or incomplete.
    run: Run | None = None
    for number, line in enumerate(lines[:-1], start=1):
        try:
            entry = json.loads(line)
            kind = entry.pop("kind")
            if run is None:
                if kind != "run" or entry["format"] != FORMAT:
                    raise ValueError("the first line does not describe a run of this format")
                # The learning rate was constant before there was a choice.
                run = Run({"schedule": "constant", **entry})
            else:
                _enter(run, kind, entry)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"cannot read {path}, line {number}: {error}") from None
    if run is None:
        raise UsageError(f"cannot read {path}: it is empty")
    return run


def _enter(run: Run, kind: str, entry: dict[str, Any]) -> None:
    if kind == "plan":
        run.plans.append(entry)
    elif kind == "start":
        run.starts.append(entry)
    elif kind == "failure":
        run.failures[entry["optimizer"]] = entry["message"]
    elif kind == "trial":
        setting = Setting.of(
            {"learning_rate": entry.pop("learning_rate"), **entry.pop("others", {})}
        )
        trial = Trial.at(entry.pop("optimizer"), setting, entry.pop("seed"), entry.pop("length", 0))
        (run.short if trial.length else run.records)[trial] = entry
        run.failures.pop(trial.optimizer, None)
    else:
        raise ValueError(f"unknown kind of line {kind!r}")


def _trials(plan: dict[str, Any]) -> list[Trial]:
    # Older plans have learning rates only.
    settings = plan.get("settings") or [{"learning_rate": r} for r in plan["learning_rates"]]
    return [
        Trial.at(optimizer, Setting.of(setting), seed, plan.get("length", 0))
        for optimizer in plan["optimizers"]
        for setting in settings
        for seed in plan["seeds"]
    ]
