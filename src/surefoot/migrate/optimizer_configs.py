"""Builds the optimizer that continues what an old one did, from the old one's arguments."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras

import surefoot
from surefoot.migrate.allowed import CustomObjects, construct, make_object
from surefoot.migrate.description import (
    Config,
    SavedOptimizer,
    is_legacy_optimizer,
    short_class_name,
)
from surefoot.migrate.errors import MigrationError
from surefoot.migrate.legacy_rmsprop import LegacyRMSprop

NO_LONGER = ("jit_compile", "is_legacy_optimizer")
CLIPPING = ("clipnorm", "clipvalue", "global_clipnorm")


@dataclasses.dataclass
class NewOptimizer:
    """An optimizer made from an old one's arguments, and what there is to say of it."""

    optimizer: keras.optimizers.Optimizer
    notes: list[str] = dataclasses.field(default_factory=list)


def build_optimizer(saved: SavedOptimizer, custom_objects: CustomObjects) -> NewOptimizer:
    """The Keras 3 optimizer that computes what the saved one did.

    Args:
        saved: The old optimizer, with all its arguments.
        custom_objects: The user's learning rate schedules by name.

    Returns:
        The optimizer, not yet built for variables.

    Raises:
        MigrationError: If it is of a class that is not brought over, or an argument is not.
    """
    return _build(saved.class_name, saved.config, saved.legacy, custom_objects)


def _build(name: str, config: Config, legacy: bool, custom_objects: CustomObjects) -> NewOptimizer:
    makers: dict[tuple[str, bool], Callable[[Config, CustomObjects], NewOptimizer]] = {
        ("RectifiedAdam", True): _rectified_adam,
        ("Lookahead", True): _lookahead,
        ("Nadam", True): _nadam,
        ("SGD", True): lambda c, o: _legacy(keras.optimizers.SGD, c, o),
        ("Adam", True): lambda c, o: _legacy(keras.optimizers.Adam, c, o),
        ("RMSprop", True): _legacy_rmsprop,
        ("SGD", False): lambda c, o: _newer(keras.optimizers.SGD, c, o),
        ("Adam", False): lambda c, o: _newer(keras.optimizers.Adam, c, o),
        ("RMSprop", False): lambda c, o: _newer(keras.optimizers.RMSprop, c, o),
        ("Nadam", False): _newer_nadam,
    }
    if (name, legacy) not in makers:
        raise MigrationError(
            f"The file's optimizer is not one that is brought over. Received: {name!r}. Accepted: "
            f"{', '.join(sorted({known for known, _ in makers}))}."
        )
    config = {key: value for key, value in config.items() if key not in NO_LONGER}
    for key in CLIPPING:
        if config.get(key) is None:
            config.pop(key, None)
    for key in ("learning_rate", "weight_decay"):
        if isinstance(config.get(key), dict):
            config[key] = schedule(config[key], custom_objects)
    return makers[name, legacy](config, custom_objects)


def schedule(saved: Config, custom_objects: CustomObjects) -> Any:
    """A learning rate schedule from its configuration."""
    config = {k: v for k, v in (saved.get("config") or {}).items() if v is not None}
    return make_object("learning rate schedule", {**saved, "config": config}, custom_objects)


def _rectified_adam(config: Config, _: CustomObjects) -> NewOptimizer:
    return NewOptimizer(construct(surefoot.RectifiedAdam, config))


def _nadam(config: Config, _: CustomObjects) -> NewOptimizer:
    config = dict(config)
    config["schedule_decay"] = config.pop("decay", 0.004)
    return NewOptimizer(
        construct(surefoot.Nadam, config),
        ["Nadam: the old `decay` was its momentum schedule and is `schedule_decay` now."],
    )


def _lookahead(config: Config, custom_objects: CustomObjects) -> NewOptimizer:
    config = dict(config)
    inner = config.pop("optimizer", None)
    if not isinstance(inner, dict) or "class_name" not in inner:
        raise MigrationError(f"Lookahead has no inner optimizer. Received: {inner!r}.")
    name = short_class_name(inner.get("registered_name") or inner["class_name"])
    if name == "Lookahead":
        raise MigrationError("A Lookahead inside a Lookahead is not brought over.")
    made = _build(name, inner["config"], is_legacy_optimizer(inner["config"]), custom_objects)
    return NewOptimizer(
        construct(surefoot.Lookahead, {"optimizer": made.optimizer, **config}), made.notes
    )


def _legacy(cls: type, config: Config, _: CustomObjects) -> NewOptimizer:
    config, notes = dict(config), []
    decay = config.pop("decay", 0.0)
    if decay:
        config["learning_rate"] = inverse_time_decay(config["learning_rate"], decay)
        notes.append(
            f"{cls.__name__}: decay={decay:.6g} became the learning rate schedule "
            f"InverseTimeDecay({config['learning_rate'].initial_learning_rate:.6g}, decay_steps=1, "
            f"decay_rate={decay:.6g}), which computes the same; Keras 3 has no `decay`."
        )
    return NewOptimizer(construct(cls, config), notes)


def inverse_time_decay(learning_rate: Any, decay: float) -> Any:
    """What OptimizerV2 made of `learning_rate` and `decay`, as a schedule."""
    if not isinstance(learning_rate, int | float):
        raise MigrationError(
            "A learning rate schedule together with `decay` is not brought over for this optimizer. "
            f"Received: learning_rate={type(learning_rate).__name__}, decay={decay}."
        )
    return keras.optimizers.schedules.InverseTimeDecay(learning_rate, 1, decay)


def _legacy_rmsprop(config: Config, custom_objects: CustomObjects) -> NewOptimizer:
    if config.get("momentum"):
        return _legacy(keras.optimizers.RMSprop, config, custom_objects)
    made = _legacy(LegacyRMSprop, config, custom_objects)
    made.notes.append(
        "RMSprop: without momentum, the old one added epsilon after the root; "
        "surefoot.migrate.LegacyRMSprop does so too, keras.optimizers.RMSprop does not."
    )
    return made


def _newer(cls: type, config: Config, _: CustomObjects) -> NewOptimizer:
    config = dict(config)
    if not config.get("use_ema"):
        config.pop("ema_overwrite_frequency", None)
        config.pop("ema_momentum", None)
    return NewOptimizer(construct(cls, config))


def _newer_nadam(config: Config, custom_objects: CustomObjects) -> NewOptimizer:
    made = _newer(keras.optimizers.Nadam, config, custom_objects)
    made.notes.append(
        "Nadam of tf.keras 2.11 and later: compiled, it multiplied its momentum product once for "
        "every variable; Keras 3's multiplies it once a step. The first steps differ, later ones "
        "hardly."
    )
    return made
