"""Timing in turns: a contender's time means something only beside its neighbours' in time.

A machine runs now faster, now slower, by a factor of two. So the reference has a turn before and
after every other contender's, and what is kept is the ratio of neighbours, many times over.
"""

from __future__ import annotations

import gc
import math
import random
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.contenders import Running

WARM_BELOW = 0.005
"""Steps shorter than this many seconds fit into a cache that one untimed step must fill again."""


@dataclass(frozen=True)
class Timing:
    """Milliseconds per step and ratios to the reference, as quartiles over the rounds."""

    milliseconds: tuple[float, float, float]
    ratio: tuple[float, float, float]
    rounds: int


@dataclass
class _Turn:
    running: Running
    steps: int
    warm: bool

    def __call__(self) -> float:
        """Seconds per step of one turn."""
        if self.warm:
            self.running.step()
            self.running.wait()
        start = time.perf_counter()
        for _ in range(self.steps):
            self.running.step()
        self.running.wait()
        return (time.perf_counter() - start) / self.steps


def _turn(running: Running, period: int, seconds: float, warm_up: int) -> _Turn:
    """Warm a contender up, and see how many whole periods fill a turn."""
    for _ in range(warm_up):
        running.step()
    running.wait()
    estimate = min(_Turn(running, period, warm=False)() for _ in range(2))
    periods = max(1, math.ceil(seconds / (estimate * period)))
    return _Turn(running, periods * period, estimate < WARM_BELOW)


def _quartiles(values: list[float]) -> tuple[float, float, float]:
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def in_turns(
    reference: Running,
    contenders: Mapping[str, tuple[Running, int]],
    *,
    rounds: int,
    seconds: float,
    warm_up: int,
) -> dict[str, Timing]:
    """Time contenders against the reference, in turns.

    Args:
        reference: What the ratios are to.
        contenders: By name, who runs and after how many steps its work repeats.
        rounds: How often everyone has a turn.
        seconds: How long a turn is at the least.
        warm_up: Untimed steps at first: RAdam rectifies from the sixth on, compilers take the
            first.

    Returns:
        The timing of every contender.
    """
    before = _turn(reference, 1, seconds, warm_up)
    turns = {
        name: _turn(running, period, seconds, warm_up)
        for name, (running, period) in contenders.items()
    }
    spent: dict[str, list[float]] = {name: [] for name in turns}
    ratios: dict[str, list[float]] = {name: [] for name in turns}
    order = list(turns)
    shuffle = random.Random(0).shuffle
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            # Nobody always has the same predecessor, whose threads may still be settling.
            shuffle(order)
            earlier = before()
            for name in order:
                took = turns[name]()
                later = before()
                spent[name].append(1e3 * took)
                ratios[name].append(took / ((earlier + later) / 2))
                earlier = later
    finally:
        gc.enable()
    return {
        name: Timing(_quartiles(spent[name]), _quartiles(ratios[name]), rounds) for name in turns
    }
