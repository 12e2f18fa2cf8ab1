"""Trains the trials of each part of a comparison, shows how it goes, and writes the outcomes."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from rich.console import Console

from surefoot.compare.search.space import Setting
from surefoot.compare.search.studies import write_studies
from surefoot.compare.trials.engine import Engine
from surefoot.compare.trials.progress import Display
from surefoot.compare.trials.store import Run, Store, Trial


@dataclass
class Rounds:
    """Trains one round of trials after the other.

    Args:
        engine: Where the trials run.
        store: Where they are written.
        console: Where progress is shown.
        labels: The optimizers, in the order of the engine's request.

    Attributes:
        seconds, trained: Time spent on trials, and their number.
    """

    engine: Engine[Any]
    store: Store
    console: Console
    labels: list[str]
    seconds: float = field(default=0.0, init=False)
    trained: int = field(default=0, init=False)
    _failed: set[str] = field(default_factory=set, init=False)

    @property
    def run(self) -> Run:
        """All trials so far."""
        return self.store.run

    def train(
        self,
        part: str,
        wanted: Mapping[str, list[Setting]],
        seeds: list[int],
        what: str = "",
        length: int = 0,
    ) -> None:
        """Train what is not done yet.

        Args:
            part: Of the comparison.
            wanted: The settings of each optimizer.
            seeds: With which each setting is trained.
            what: This round, in words.
            length: The steps of a trial, if it is a short one.
        """
        trials = []
        for label, settings in wanted.items():
            if settings and label not in self._failed:
                self.store.plan(part, [label], settings, seeds, length)
                trials += _in_order(label, settings, seeds, length)
        if not trials:
            return
        done = {trial: found for trial in trials if (found := self.run.outcome(trial)) is not None}
        missing = [trial for trial in trials if trial not in done]
        display = self._display(trials, done, what, length)
        before = time.monotonic()
        with display.live():
            for event in self.engine.run(missing, self.labels):
                trial = event.trial
                if trial is None:
                    continue
                if event.kind == "started":
                    display.started(trial)
                elif event.kind == "progress":
                    display.stepped(trial, event.content)
                elif event.kind == "done":
                    ended = datetime.now().isoformat(timespec="milliseconds")
                    self.store.add(trial, {**event.content, "ended": ended})
                    display.finished(trial, event.content)
                elif event.kind == "failed":
                    message, traceback, dropped = event.content
                    self._failed.add(trial.optimizer)
                    self.store.add_failure(trial.optimizer, message)
                    display.failed(trial, dropped, message, traceback)
        self.seconds += time.monotonic() - before
        self.trained += len(missing)
        write_studies(self.run, self.store.path.parent)

    def _display(
        self, trials: list[Trial], done: Mapping[Trial, Any], what: str, length: int
    ) -> Display:
        header = self.run.header
        steps = length or header["steps"]
        display = Display(self.console, len(trials), len(done), steps, header["higher_is_better"])
        display.known(done.items())
        optimizers = len({trial.optimizer for trial in trials})
        self.console.print(
            f"{what or header['description'] or header['task']}\n{optimizers} optimizers, "
            f"{len(trials)} trials of {steps} steps on {header['backend']}"
            + (f"; {len(done)} of them are already done" if done else ""),
            highlight=False,
            soft_wrap=True,
        )
        return display


def _in_order(label: str, settings: list[Setting], seeds: list[int], length: int) -> list[Trial]:
    """A first look at all settings comes early, unless each would be compiled for every seed."""
    pairs = [(setting, seed) for seed in seeds for setting in settings]
    if any(setting.others for setting in settings):
        pairs = [(setting, seed) for setting in settings for seed in seeds]
    return [Trial.at(label, setting, seed, length) for setting, seed in pairs]
