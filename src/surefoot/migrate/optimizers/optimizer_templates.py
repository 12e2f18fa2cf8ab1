"""Completes a file's optimizer with the arguments of the model's optimizer.

A checkpoint contains an optimizer's state and those arguments that were variables, but
neither its class nor the other arguments (Lookahead's period, epsilon, a schedule). They
are taken from the optimizer with which the user's code compiled the model.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import keras

import surefoot
from surefoot.base.averaging import AveragingOptimizer
from surefoot.migrate.errors import MigrationError
from surefoot.migrate.optimizers.optimizer_configs import ADDONS_OPTIMIZERS, WRAPPERS
from surefoot.migrate.readers.description import Config, SavedOptimizer

# Arguments of Keras 3 that the old classes lack.
NEW_ARGUMENTS = ("loss_scale_factor", "gradient_accumulation_steps")
CLASSES: dict[tuple[str, bool], Any] = {
    **{(cls.__name__, True): cls for cls in ADDONS_OPTIMIZERS},
    ("Nadam", True): surefoot.Nadam,
    **{(name, True): cls for name, cls in WRAPPERS.items()},
    ("SGD", True): keras.optimizers.SGD,
    ("Adam", True): keras.optimizers.Adam,
    ("RMSprop", True): keras.optimizers.RMSprop,
    ("SGD", False): keras.optimizers.SGD,
    ("Adam", False): keras.optimizers.Adam,
    ("AdamW", False): keras.optimizers.AdamW,
    ("RMSprop", False): keras.optimizers.RMSprop,
    ("Nadam", False): keras.optimizers.Nadam,
}
# By what a checkpoint tells the old classes apart, those first that it is taken for where it is
# one of several and no model says which.
ADAM = {"beta_1", "beta_2"}
RECTIFIED = ADAM | {"min_lr", "sma_threshold", "total_steps", "warmup_proportion", "weight_decay"}
REGULARIZED = {"l1_regularization_strength", "l2_regularization_strength"}
HYPERPARAMETERS = {
    "RectifiedAdam": RECTIFIED,
    "AdaBelief": RECTIFIED,
    "RMSprop": {"momentum", "rho"},
    "Adam": ADAM,
    "LazyAdam": ADAM,
    "AdamW": ADAM | {"weight_decay"},
    "LAMB": ADAM | {"weight_decay"},
    "NovoGrad": ADAM | {"weight_decay", "grad_averaging"},
    "Yogi": ADAM | REGULARIZED | {"epsilon"},
    "SGD": {"momentum"},
    "SGDW": {"momentum", "weight_decay"},
}
SLOTS = {
    "RectifiedAdam": {"m", "v", "vhat"},
    "RMSprop": {"rms", "momentum", "mg", "velocity", "average_gradient"},
    "Adam": {"m", "v", "vhat"},
    "Nadam": {"m", "v"},
    "SGD": {"m", "momentum"},
}
SLOTS |= dict.fromkeys(("AdaBelief", "LazyAdam", "AdamW", "NovoGrad"), SLOTS["Adam"])
SLOTS |= {"LAMB": SLOTS["Nadam"], "Yogi": SLOTS["Nadam"], "SGDW": {"momentum"}}
# Old classes for which a checkpoint contains all arguments except epsilon.
COMPLETE_EXCEPT_EPSILON = ("RectifiedAdam", "Nadam", "Adam")
EPSILON = 1e-7
# Variables that are not called as the arguments.
RENAMED = {"Yogi": {"beta_1": "beta1", "beta_2": "beta2"}}
LOOKALIKES = {"RectifiedAdam": "AdaBelief", "Adam": "LazyAdam"}


def model_optimizer(model: keras.Model) -> Any:
    """The optimizer that a model was compiled with, or None if it is Keras's default.

    `model.compile(loss=...)` creates an RMSprop with default arguments, which nobody chose.
    """
    optimizer: Any = getattr(model, "optimizer", None)
    default = keras.optimizers.RMSprop()
    # Its class depends on the backend, so it is compared with a new one.
    if type(optimizer) is type(default) and not optimizer.built:
        config = default.get_config()
        if {**optimizer.get_config(), "name": config["name"]} == config:
            return None
    return optimizer


def completed(
    saved: SavedOptimizer, template: Any, source: str
) -> tuple[SavedOptimizer, list[str]]:
    """The optimizer with all its arguments.

    Args:
        saved: The optimizer in the file.
        template: The optimizer that the model was compiled with, or None.
        source: The file, for errors.

    Returns:
        The completed optimizer, and notes.

    Raises:
        MigrationError: If file and model have different optimizers, or arguments are missing.
    """
    if saved.complete:
        inner = saved.config.get("optimizer")
        names = [saved.class_name]
        if isinstance(inner, dict):
            names.append(str(inner.get("class_name", "")).rsplit(">", 1)[-1])
    else:
        names = _inferred(saved, template, source)
        if names == ["Adam"] and not saved.legacy and isinstance(template, keras.optimizers.AdamW):
            names = ["AdamW"]  # which has the same state
    if template is not None:
        _check_classes(names, saved.legacy, template, source)
    if saved.complete:
        return saved, []
    if template is None:
        return _without_template(saved, names, source)
    config = _merged(template, names, saved.config, source)
    return dataclasses.replace(saved, class_name=names[0], config=config, complete=True), []


def _check_classes(names: list[str], legacy: bool, template: Any, source: str) -> None:
    given = [template, getattr(template, "inner_optimizer", None)]
    shown = _nested([type(part).__name__ for part in given if part is not None])
    for name, part in zip(names, given, strict=False):
        expected = CLASSES.get((name, legacy))
        if expected is None or not isinstance(part, expected):
            raise MigrationError(
                f"{source} has the state of the optimizer {_nested(names)}, but the model is "
                f"compiled with {shown}. Compile it with the same optimizer, or do not compile it."
            )


def _nested(names: list[str]) -> str:
    """Nested class names, such as ``"Lookahead(RectifiedAdam)"``."""
    return "(".join(names) + ")" * (len(names) - 1)


def _inferred(saved: SavedOptimizer, template: Any, source: str) -> list[str]:
    """The old class names, inferred from hyperparameters and slots.

    A checkpoint does not tell MovingAverage from SWA; the template does.
    """
    inner = saved.config.get("optimizer")
    slots = set(saved.slots)
    wrapper = []
    if inner:
        averages = type(template).__name__ if isinstance(template, AveragingOptimizer) else "SWA"
        wrapper = ["Lookahead" if "slow" in slots else averages]
        slots -= {"slow", "average"}
        known = set(inner["config"])
    else:
        known = set(saved.config)
    if saved.legacy:
        possible = known - {"learning_rate", "decay"}
        fitting = [n for n, has in HYPERPARAMETERS.items() if has == possible]
        own = type(getattr(template, "inner_optimizer", template) if inner else template)
        alike = [n for n in fitting if issubclass(own, CLASSES[n, True])]
        name = next(iter(alike or fitting), "")
        if name == "Adam" and "momentum_cache" in saved.scalars:
            name = "Nadam"
    else:
        slots.discard("average")
        name = "RMSprop" if "velocity" in slots else "Adam" if "v" in slots else "SGD"
        if "u_product" in saved.scalars:
            name = "Nadam"
    if not name or not slots <= SLOTS[name]:
        raise MigrationError(
            f"{source}: the state is that of none of the optimizers that can be converted. "
            f"Received: an optimizer with the hyperparameters {sorted(known)} and the slots "
            f"{sorted(slots)}. Accepted: {', '.join(sorted({known for known, _ in CLASSES}))}."
        )
    return [*wrapper, name]


def _without_template(
    saved: SavedOptimizer, names: list[str], source: str
) -> tuple[SavedOptimizer, list[str]]:
    config = saved.config
    whole = saved.legacy and len(names) == 1 and names[0] in COMPLETE_EXCEPT_EPSILON
    if not whole or "learning_rate" not in config:
        raise MigrationError(
            f"{source} is a checkpoint, which does not contain all arguments of its optimizer "
            f"{_nested(names)}. Compile the model with that optimizer first, or pass it: "
            "restore(..., optimizer=...). The state and the arguments in the file replace "
            "yours."
        )
    config = {**config, "epsilon": EPSILON}
    if names[0] == "RectifiedAdam":
        config["total_steps"] = int(config["total_steps"])
    if names[0] != "Nadam":
        config["amsgrad"] = "vhat" in saved.slots
    note = (
        f"epsilon={EPSILON} is assumed: a checkpoint does not contain it. If it was another value, "
        "compile the model with the optimizer before restoring."
    )
    if names[0] in LOOKALIKES:
        note += (
            f" The state is taken for that of {names[0]}; that of TensorFlow Addons' "
            f"{LOOKALIKES[names[0]]} looks the same."
        )
    return dataclasses.replace(saved, class_name=names[0], config=config, complete=True), [note]


def _merged(template: Any, names: list[str], stored: Config, source: str) -> Config:
    """The template's arguments with old names, replaced by the file's where it has them."""
    config = {k: v for k, v in template.get_config().items() if k not in NEW_ARGUMENTS}
    config.pop("tables", None)
    if names[0] in WRAPPERS:
        inner = _merged(template.inner_optimizer, names[1:], stored["optimizer"]["config"], source)
        arguments = inspect.signature(WRAPPERS[names[0]]).parameters
        own = {key: value for key, value in config.items() if key in arguments}
        return {**own, "optimizer": {"class_name": names[1], "config": inner}}
    if names[0] == "Nadam" and "schedule_decay" in config:
        config["decay"] = config.pop("schedule_decay")
    scheduled = isinstance(config.get("learning_rate"), dict)
    if "learning_rate" not in stored and not scheduled:
        raise MigrationError(
            f"{source}: the learning rate was a schedule, which a checkpoint does not contain. "
            f"Compile the model with it. Received: learning_rate={config.get('learning_rate')!r}."
        )
    for key, value in stored.items():
        if key == "current_learning_rate" or (key == "total_steps" and value != int(value)):
            continue
        name = RENAMED.get(names[0], {}).get(key, key)
        config[name] = int(value) if key == "total_steps" else value
    return config
