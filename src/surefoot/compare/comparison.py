"""A comparison from start to end: the search, its extension, and the fresh seeds that decide."""

import math
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from surefoot.compare.errors import UsageError
from surefoot.compare.formatting import join
from surefoot.compare.search.sampling import quasi_random, suggest
from surefoot.compare.search.space import Axis, Setting, Space
from surefoot.compare.search.studies import study
from surefoot.compare.settings import Settings, refuse_duplicates
from surefoot.compare.statistics.analysis import summarize
from surefoot.compare.trials.engine import Engine, Request
from surefoot.compare.trials.rounds import Rounds
from surefoot.compare.trials.store import FILE, FIRST_FRESH_SEED, Run, Store, Trial, has_run, read

# Of a budget, what the search leaves to the learning rates beyond an optimum at the edge.
_RESERVED = 0.25
# Without a budget, so many learning rates are tried beyond the range; at each time two of a side.
_MOST_BEYOND = 4
_BEYOND_AT_ONCE = 2
# So many settings are tried before the time of the others is known.
_FIRST_SETTINGS = 2

# Successive halving cuts no run to less than an eighth: what is best there says little.
_MOST_HALVINGS = 3

Start = Callable[[Request, int | None, Path], Engine[Any]]
"""Starts an engine for a request, with the threads of the run that is resumed, and a log."""


def carry_out(
    settings: Settings, start: Start, folder: Path, console: Console, *, resume: bool
) -> Run:
    """Run a comparison.

    Args:
        settings: What is asked for.
        start: Starts the engine.
        folder: Where the trials are written.
        console: Where progress is shown.
        resume: Whether to go on with the run in the folder.

    Raises:
        UsageError: If the request cannot be carried out.
    """
    # The number of threads decides the order of sums, so it stays the same.
    resumed = resume and has_run(folder / FILE)
    threads = read(folder / FILE).header["threads"] if resumed else None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}") from None
    request = Request(
        *(settings.task, settings.steps, settings.optimizers, settings.added),
        *(settings.schedule, settings.varied, settings.target),
    )
    with start(request, threads, folder.resolve() / "workers.log") as engine:
        with console.status("importing Keras and creating the task"):
            facts = engine.prepare()
        names = ("labels", "own_schedules", "varied", "target_of")
        begun = {name: facts.pop(name) for name in names}
        counting = facts.pop("count_steps")
        if counting and settings.halving == "steps":
            raise UsageError(
                f"--halving steps trains for fewer steps, and {join(counting)} would not know of "
                "it, since its schedule is its own: give it one by +warmup, +cosine or +linear, or "
                "use --halving seeds"
            )
        refuse_duplicates(begun["labels"])
        default_rates = facts.pop("learning_rates")
        space = Space.parse(settings.learning_rates or default_rates, settings.varied)
        kind = settings.kind(space)
        settings.affordable(len(begun["labels"]))
        store = Store(folder)
        header = {
            **facts,
            "schedule": settings.schedule,
            "backend": settings.backend,
            "threads": engine.threads,
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}",
        }
        if resume:
            store.resume(header)
        else:
            store.start(header)
        target = settings.target if isinstance(settings.target, float) else None
        begun |= {"request": settings.asked, "search": kind, "target": target}
        begun |= {"range": None if space.is_list else [space.rates[0], space.rates[-1]]}
        store.begin(begun)
        trainer = Rounds(engine, store, console, begun["labels"])
        comparison = _Comparison(settings, space, kind, trainer)
        comparison.search()
        comparison.extend()
        comparison.confirm()
    return store.run


@dataclass
class _Comparison:
    settings: Settings
    space: Space
    kind: str
    trainer: Rounds

    def __post_init__(self) -> None:
        self.labels = self.trainer.labels
        self.seeds = list(range(self.settings.seeds))
        names = self.trainer.run.last("varied")
        self.axes: dict[str, list[Axis]] = {
            label: [x for x in self.space.axes if x.name in ("learning_rate", *names[label])]
            for label in self.labels
        }

    def search(self) -> None:
        """Try as many settings of each optimizer as are asked for or allowed."""
        done = 0
        while (count := self._next_count(done)) > 0:
            proposed = {label: self._propose(label, done, count) for label in self.labels}
            if self.settings.halving:
                self._halve(proposed)
            else:
                self.trainer.train("search", proposed, self.seeds)
            done += count

    def extend(self) -> None:
        """While an optimum is at the edge, try learning rates beyond it, with each optimizer."""
        what = "further learning rates, because a best one is the lowest or highest tried"
        beyond = {x: self.trainer.run.settings(x, "extension") for x in self.labels}
        rates = list(dict.fromkeys(each.learning_rate for x in beyond.values() for each in x))
        while True:
            # An optimizer that was added later has not been tried at the earlier ones.
            for label, best in self._chosen().items():
                known = {each.learning_rate for each in beyond[label]}
                new = [rate for rate in rates if rate not in known]
                beyond[label] += [replace(best, learning_rate=rate) for rate in new]
            missing = {x: [s for s in beyond[x] if self._is_missing(x, s)] for x in self.labels}
            self.trainer.train("extension", missing, self.seeds, what)
            further = [rate for rate in self._beyond(len(rates)) if rate not in rates]
            if not further:
                return
            rates += further

    def _is_missing(self, label: str, setting: Setting) -> bool:
        trials = [Trial.at(label, setting, seed) for seed in self.seeds]
        return any(trial not in self.trainer.run.records for trial in trials)

    def confirm(self) -> None:
        """Train each optimizer again at its best setting, with seeds that had no part in it."""
        if self.space.count > 1 and self.settings.fresh_seeds:
            seeds = [FIRST_FRESH_SEED + i for i in range(self.settings.fresh_seeds)]
            chosen = {label: [setting] for label, setting in self._chosen().items()}
            what = "each at its best setting, with fresh seeds"
            self.trainer.train("confirmation", chosen, seeds, what)

    def _chosen(self) -> dict[str, Setting]:
        return {
            each.label: each.best.setting
            for each in summarize(self.trainer.run).optimizers
            if each.best is not None and each.label in self.labels
        }

    def _beyond(self, tried: int) -> list[float]:
        """The next learning rates beyond the edge, if an optimum is there and they are allowed."""
        at_edge = {
            each.best.learning_rate: [x.learning_rate for x in self.trainer.run.tried(each.label)]
            for each in summarize(self.trainer.run).optimizers
            if each.is_at_edge and each.best is not None and each.label in self.labels
        }
        for count in range(_BEYOND_AT_ONCE, 0, -1):
            found = [self.space.beyond(own, [rate], count) for rate, own in at_edge.items()]
            rates = sorted({rate for each in found for rate in each})
            if len(rates) <= self._allowed_beyond(tried):
                return rates
        return []

    def _allowed_beyond(self, tried: int) -> int:
        budget = self.settings.budget
        if budget is None:
            return _MOST_BEYOND - tried
        if budget.trials is not None:
            searched = max(len(self.trainer.run.settings(x, "search")) for x in self.labels)
            return self._affordable() - searched - tried
        return self._fitting(1.0)

    def _next_count(self, done: int) -> int:
        """How many further settings of each optimizer are tried, before it is asked again."""
        budget, total = self.settings.budget, self.space.count
        if budget is not None and budget.seconds is not None:
            if done < _FIRST_SETTINGS or not self.trainer.trained:
                return _FIRST_SETTINGS
            count = min(self._fitting(1 - _RESERVED), done)
        else:
            if budget is not None:
                total = math.ceil(self._affordable() * (1 - _RESERVED))
            count = total - done
        # TPE has to see the results of one setting before it chooses the next.
        start = min(math.ceil(total / 2), count)
        if self.kind == "tpe":
            return start if not done else min(count, 1)
        return count

    def _affordable(self) -> int:
        """How many settings of each optimizer a budget of trials allows."""
        return self.settings.affordable(len(self.labels))

    def _fitting(self, share: float) -> int:
        """How many settings of each optimizer fit into what is left of the time."""
        assert self.settings.budget is not None
        each = self.trainer.seconds / max(self.trainer.trained, 1) * len(self.labels)
        left = share * (self.settings.budget.seconds or 0) - self.trainer.seconds
        return int((left - each * self.settings.fresh_seeds) / max(each * len(self.seeds), 1e-9))

    def _propose(self, label: str, done: int, count: int) -> list[Setting]:
        if self.kind == "grid":
            return [Setting(rate) for rate in self.space.rates[done : done + count]]
        if self.kind == "qmc" or not done:
            return quasi_random(self.axes[label], done + count)[done:]
        # A resumed run goes on with what it has chosen before.
        known = self.trainer.run.settings(label, "search")[done : done + count]
        return known or [suggest(self.axes[label], study(self.trainer.run, label))]

    def _halve(self, proposed: Mapping[str, list[Setting]]) -> None:
        """With each further seed, or for twice as long, go on with the better half."""
        left = dict(proposed)
        by_steps = self.settings.halving == "steps"
        lengths = self._lengths(max(map(len, left.values()))) if by_steps else []
        # Short runs have the first seed only: what they leave behind is far from the best.
        rungs = [(self.seeds[:1], length) for length in lengths]
        rungs += [(self.seeds, 0)] if by_steps else [([seed], 0) for seed in self.seeds]
        for i, (seeds, length) in enumerate(rungs):
            what = f"successive halving, {i + 1} of {len(rungs)}"
            self.trainer.train("search", left, seeds, what, length)
            judged = seeds if by_steps else self.seeds[: i + 1]
            left = {x: self._better_half(x, found, judged, length) for x, found in left.items()}

    def _lengths(self, count: int) -> list[int]:
        """The steps of the short runs, so that two of so many settings are left in the end."""
        steps: int = self.trainer.run.header["steps"]
        halvings = min((count - 1).bit_length() - 1, _MOST_HALVINGS)
        lengths = {math.ceil(steps / 2**i) for i in range(1, halvings + 1)}
        return sorted(lengths - {steps})

    def _better_half(
        self, label: str, settings: Sequence[Setting], seeds: Sequence[int], length: int
    ) -> list[Setting]:
        sign = -1 if self.trainer.run.header["higher_is_better"] else 1
        means = {}
        for setting in settings:
            trials = [Trial.at(label, setting, seed, length) for seed in seeds]
            records = [self.trainer.run.outcome(trial) for trial in trials]
            results = [record["result"] for record in records if record is not None]
            if results and None not in results:
                means[setting] = sign * statistics.fmean(results)
        return sorted(means, key=means.__getitem__)[: math.ceil(len(settings) / 2)]
