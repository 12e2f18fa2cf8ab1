"""Chooses the settings to try, by Optuna.

Quasi-random points cover a range evenly however many there are, and are the same for every
optimizer. TPE looks at the results so far, and so each optimizer's points are its own.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution

from surefoot.compare.search.space import Axis, Setting

# Of a thousand seeds, one whose first 3 to 16 points leave the smallest gaps in one dimension: at
# most twice those of even spacing.
_SEED = 718


def quasi_random(axes: Sequence[Axis], count: int) -> list[Setting]:
    """The first points of a scrambled Sobol sequence.

    Args:
        axes: What is searched.
        count: How many points; more of them begin with the same.

    Example:
        >>> from surefoot.compare.search.sampling import quasi_random
        >>> from surefoot.compare.search.space import Axis
        >>> few, more = (quasi_random([Axis("learning_rate", 1e-4, 1.0)], n) for n in (2, 4))
        >>> more[:2] == few, all(1e-4 <= each.learning_rate <= 1 for each in more)
        (True, True)
    """
    with quiet():
        sampler = optuna.samplers.QMCSampler(
            scramble=True, seed=_SEED, warn_independent_sampling=False
        )
        study = optuna.create_study(sampler=sampler)
        # Before Optuna has seen the space in a first trial, it does not draw from the sequence.
        return [_setting(axes, study.ask(distributions(axes)).params) for _ in range(count + 1)][1:]


def suggest(axes: Sequence[Axis], study: optuna.Study) -> Setting:
    """What TPE would try next, given the trials of a study, which stays as it is."""
    with quiet():
        before = study.get_trials(deepcopy=False)
        # The seed follows from the trials, so that a resumed run goes on as it would have.
        sampler = optuna.samplers.TPESampler(seed=_SEED + len(before), n_startup_trials=1)
        copy = optuna.create_study(sampler=sampler, direction=study.direction)
        copy.add_trials(before)
        return _setting(axes, copy.ask(distributions(axes)).params)


def distributions(axes: Sequence[Axis]) -> dict[str, BaseDistribution]:
    """The axes as Optuna has them."""
    return {
        name: FloatDistribution(low, high, log=True)
        for name, low, high in (axis.sampled for axis in axes)
    }


def _setting(axes: Sequence[Axis], params: dict[str, float]) -> Setting:
    return Setting.of({axis.name: axis.from_sampled(params[axis.sampled[0]]) for axis in axes})


@contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's messages, among them that its quasi-random sampler is experimental."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
