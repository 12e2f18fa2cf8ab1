"""What is asked of a comparison, on the command line or in Python, checked without Keras."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from surefoot.compare.errors import UsageError
from surefoot.compare.search.expression import parse, parse_list
from surefoot.compare.search.schedule import SCHEDULES, Schedule
from surefoot.compare.search.space import Space, parse_varied
from surefoot.compare.trials.backend import choose_backend
from surefoot.compare.trials.store import FILE, has_run, read
from surefoot.compare.trials.worker_options import positive

SEARCHES = ("qmc", "tpe", "grid")
HALVINGS = ("seeds", "steps")
DEFAULTS: dict[str, Any] = {
    **{"task": "digits", "optimizers": None, "learning_rates": None, "search": None, "vary": ()},
    **{"schedule": "cosine", "seeds": 3, "fresh_seeds": 10, "steps": None, "backend": None},
    **{"budget": None, "target": None, "halving": None, "add": ()},
}
"""What is asked for where nothing is given; a resumed run asks for what it asked for before."""

_SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Budget:
    """How much may be trained, all optimizers together: so many trials, or for so long."""

    trials: int | None = None
    seconds: float | None = None

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Read the option `--budget`.

        Raises:
            UsageError: If it is neither a number of trials nor a time.

        Example:
            >>> from surefoot.compare.settings import Budget
            >>> Budget.parse("1.5h").seconds, Budget.parse("200").trials
            (5400.0, 200)
        """
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
        if match and float(match[1]) > 0:
            return cls(seconds=float(match[1]) * _SECONDS[match[2]])
        if text.isdecimal() and int(text) > 0:
            return cls(trials=int(text))
        raise UsageError(
            f"--budget must be a time, like 90s, 30m or 2h, or a number of trials. "
            f"Received: {text!r}"
        )


@dataclass(frozen=True)
class Settings:
    """A request for a comparison, checked as far as that can be done without Keras.

    Attributes:
        task: A task's name, or a `Task`.
        target: A result, or an optimizer whose result is the target.
        asked: The same as plain values, for a resumed run.
    """

    task: Any
    optimizers: tuple[str, ...] | None
    added: tuple[str, ...]
    learning_rates: str | None
    search: str | None
    varied: tuple[str, ...]
    schedule: str
    seeds: int
    fresh_seeds: int
    steps: int | None
    backend: str
    budget: Budget | None
    target: float | str | None
    halving: str | None
    asked: dict[str, Any]

    @classmethod
    def read(cls, given: Mapping[str, Any], before: Mapping[str, Any]) -> "Settings":
        """Check a request.

        Args:
            given: Values by the names in `DEFAULTS`; `None` where nothing is given.
            before: What the run that is resumed asked for.

        Raises:
            UsageError: If a value cannot be used, or two contradict each other.
        """
        asked = {
            name: next((v for v in (given.get(name), before.get(name)) if v is not None), default)
            for name, default in DEFAULTS.items()
        }
        asked["add"] = [*before.get("add", ()), *(given.get("add") or ())]
        optimizers = None if asked["optimizers"] is None else _expressions(asked["optimizers"])
        budget, target = asked["budget"], asked["target"]
        fresh, steps = str(asked["fresh_seeds"]), asked["steps"]
        asked["backend"] = choose_backend(asked["backend"])
        settings = cls(
            task=asked["task"],
            optimizers=optimizers,
            added=tuple(x for x in _expressions(asked["add"]) if x not in (optimizers or ())),
            learning_rates=asked["learning_rates"],
            search=_one_of("--search", asked["search"], (None, *SEARCHES)),
            varied=tuple(asked["vary"]),
            schedule=_one_of("--schedule", asked["schedule"], SCHEDULES),
            seeds=positive("--seeds", str(asked["seeds"])),
            fresh_seeds=0 if fresh == "0" else positive("--fresh-seeds", fresh),
            steps=None if steps is None else positive("--steps", str(steps)),
            backend=asked["backend"],
            budget=None if budget is None else Budget.parse(str(budget)),
            target=None if target is None else _target(str(target)),
            halving=_one_of("--halving", asked["halving"] or None, (None, *HALVINGS)),
            asked={name: value for name, value in asked.items() if name != "task"}
            | ({"task": asked["task"]} if isinstance(asked["task"], str) else {}),
        )
        parse_varied(settings.varied)
        if settings.learning_rates is not None:
            settings.kind(Space.parse(settings.learning_rates, settings.varied))
        return settings

    def kind(self, space: Space) -> str:
        """How settings are searched in a space.

        Raises:
            UsageError: If the options contradict each other.
        """
        kind = self.search or ("grid" if space.is_list else "qmc")
        if kind != "grid" and space.is_list:
            raise UsageError(
                f"--search {kind} needs a range of learning rates, LOW:HIGH:COUNT. Received: a list"
            )
        refused = {
            "--vary": kind == "grid" and space.varied,
            "--budget": (kind == "grid" or self.halving) and self.budget,
            "--halving": kind == "tpe" and self.halving,
        }
        for option, is_refused in refused.items():
            if is_refused:
                halved = " and --halving" if self.halving else ""
                raise UsageError(
                    f"{option} does not go with --search {kind}{halved}: a grid is of learning "
                    f"rates and as large as it is, halving needs all settings at once"
                )
        return kind

    def affordable(self, optimizers: int) -> int:
        """How many settings of each of so many optimizers a budget of trials allows.

        Raises:
            UsageError: If that is not a single one.
        """
        if self.budget is None or self.budget.trials is None:
            return 0
        count = (self.budget.trials // optimizers - self.fresh_seeds) // self.seeds
        if count < 1:
            raise UsageError(
                f"--budget must be {optimizers * (self.seeds + self.fresh_seeds)} trials or more, "
                f"for one setting of each optimizer with all seeds. "
                f"Received: --budget {self.budget.trials}"
            )
        return count


def check_folder(folder: Path, *, resume: bool, add: object, overwrite: bool) -> bool:
    """Whether the run in a folder is gone on with.

    Raises:
        UsageError: If there is a run that would be overwritten, or none to add to.
    """
    exists = has_run(folder / FILE)
    if add and not exists:
        raise UsageError(f"--add needs a run to add to; there is none in {folder}")
    if overwrite and (resume or add):
        raise UsageError("--overwrite starts anew, --resume and --add go on; give one of them")
    if exists and not (resume or add or overwrite):
        raise UsageError(
            f"{folder} holds a run; go on with it by --resume, replace it by --overwrite, or "
            f"choose another folder by --out"
        )
    return bool(resume or add)


def asked_before(folder: Path) -> dict[str, Any]:
    """What the run in a folder asked for, if there is one."""
    if not has_run(folder / FILE):
        return {}
    run = read(folder / FILE)
    return {"backend": run.header["backend"], "schedule": run.header["schedule"]} | dict(
        run.last("request", {})
    )


def refuse_duplicates(names: Sequence[str]) -> None:
    """Refuse a list in which an optimizer occurs twice.

    Raises:
        UsageError: If one does.
    """
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise UsageError(f"the same optimizer is given twice: {', '.join(duplicates)}")


def _expressions(texts: Sequence[str]) -> tuple[str, ...]:
    expressions = parse_list(list(texts))
    for expression in expressions:
        Schedule.of(expression.modifiers)
    names = tuple(map(str, expressions))
    refuse_duplicates(names)
    return names


def _one_of(option: str, value: Any, known: Sequence[Any]) -> Any:
    if value not in known:
        names = ", ".join(each for each in known if each is not None)
        raise UsageError(f"unknown {option} {value!r}; known are {names}")
    return value


def _target(text: str) -> float | str:
    try:
        value = float(text)
    except ValueError:
        return str(parse(text))
    if not math.isfinite(value):
        raise UsageError(f"--target must be a finite number or an optimizer. Received: {text!r}")
    return value
