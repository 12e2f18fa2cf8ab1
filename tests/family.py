"""All optimizers of the package, made without knowing them: tests of what holds for each."""

from __future__ import annotations

import inspect
from typing import Any

import keras

import surefoot
from scenario import Scenario
from scenarios import SCENARIOS
from surefoot.base.moment_optimizer import MomentOptimizer

OPTIMIZERS: list[Any] = [getattr(surefoot.optimizers, name) for name in surefoot.optimizers.__all__]

ON_THE_RULE = [optimizer for optimizer in OPTIMIZERS if issubclass(optimizer, MomentOptimizer)]


def required_arguments(optimizer: type) -> dict[str, Any]:
    """A value for each argument without a default."""
    if hasattr(optimizer, "default_inner_config"):  # then it can be made from an empty config
        return {}
    empty = inspect.Parameter.empty
    return {
        p.name: 0.01
        for p in inspect.signature(optimizer).parameters.values()
        if p.default is empty and p.kind is p.POSITIONAL_OR_KEYWORD
    }


def made(optimizer: Any, **options: Any) -> keras.optimizers.Optimizer:
    """An optimizer of this class with its defaults."""
    given = required_arguments(optimizer) | options
    return optimizer(**given) if given else optimizer.from_config({})


def plain_scenario(optimizer: type) -> Scenario:
    """The first scenario of an optimizer."""
    return next(s for s in SCENARIOS if s.kind == optimizer.__name__)
