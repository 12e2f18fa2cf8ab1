"""Runs of a trainer, from beginning to end."""

from surefoot.compare.search.expression import parse
from surefoot.compare.search.registry import resolve
from surefoot.compare.trials.trial import Outcome, Trainer, Training


def finish(training: Training) -> Outcome:
    while True:
        try:
            next(training)
        except StopIteration as end:
            return end.value


def run(trainer: Trainer, expression: str, learning_rate: float, seed: int) -> Outcome:
    return finish(trainer.run(resolve(parse(expression)), learning_rate, seed))
