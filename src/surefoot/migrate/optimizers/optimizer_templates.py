"""Which optimizer a restored model gets: the file's, checked against the model's own.

A checkpoint holds an optimizer's state and those arguments that were variables, but not
its class nor the other arguments (Lookahead's period, epsilon, a schedule). Those come
from the optimizer that the user's code compiled the model with.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

import surefoot
from surefoot.migrate.errors import MigrationError
from surefoot.migrate.readers.description import Config, SavedOptimizer

# Arguments of Keras 3 that the old classes did not have.
NEW_ARGUMENTS = ("loss_scale_factor", "gradient_accumulation_steps")
CLASSES: dict[tuple[str, bool], Any] = {
    ("RectifiedAdam", True): surefoot.RectifiedAdam,
    ("Nadam", True): surefoot.Nadam,
    ("Lookahead", True): surefoot.Lookahead,
    ("SGD", True): keras.optimizers.SGD,
    ("Adam", True): keras.optimizers.Adam,
    ("RMSprop", True): keras.optimizers.RMSprop,
    ("SGD", False): keras.optimizers.SGD,
    ("Adam", False): keras.optimizers.Adam,
    ("RMSprop", False): keras.optimizers.RMSprop,
    ("Nadam", False): keras.optimizers.Nadam,
}
# Old classes all of whose arguments but epsilon are in a checkpoint.
NEARLY_WHOLE = ("RectifiedAdam", "Nadam", "Adam")
EPSILON = 1e-7


def model_optimizer(model: keras.Model) -> Any:
    """The optimizer a model was compiled with, unless it is the one that Keras puts there.

    `model.compile(loss=...)` alone makes an RMSprop with default arguments; nobody chose it.
    """
    optimizer: Any = getattr(model, "optimizer", None)
    default = keras.optimizers.RMSprop()
    # Its class is the backend's own, so it is compared with another made the same way.
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
        saved: What the file has.
        template: The optimizer the model was compiled with, or None.
        source: The file, for errors.

    Returns:
        The optimizer, complete, and notes.

    Raises:
        MigrationError: If file and model have different optimizers, or arguments are missing.
    """
    if saved.complete:
        inner = saved.config.get("optimizer")
        names = [saved.class_name]
        if isinstance(inner, dict):
            names.append(str(inner.get("class_name", "")).rsplit(">", 1)[-1])
    else:
        names = _inferred(saved)
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
                f"{source} has the state of the optimizer {_nested(names)}, the model is compiled "
                f"with {shown}. Compile the model with the same optimizer, or not at all."
            )


def _nested(names: list[str]) -> str:
    """Classes as they are written one in the other: ``"Lookahead(RectifiedAdam)"``."""
    return "(".join(names) + ")" * (len(names) - 1)


def _inferred(saved: SavedOptimizer) -> list[str]:
    """The old class, told by the hyperparameters and the slots it had."""
    inner = saved.config.get("optimizer")
    names = ["Lookahead"] if inner else []
    known = set(inner["config"] if inner else saved.config)
    if saved.legacy:
        marks = {
            "RectifiedAdam": "sma_threshold",
            "RMSprop": "rho",
            "Adam": "beta_1",
            "SGD": "momentum",
        }
        name = next((name for name, mark in marks.items() if mark in known), "")
        if "momentum_cache" in saved.scalars:
            name = "Nadam"
    else:
        slots = set(saved.slots) - {"average"}
        name = "RMSprop" if "velocity" in slots else "Adam" if "v" in slots else "SGD"
        if "u_product" in saved.scalars:
            name = "Nadam"
    return [*names, name]


def _without_template(
    saved: SavedOptimizer, names: list[str], source: str
) -> tuple[SavedOptimizer, list[str]]:
    config = saved.config
    whole = saved.legacy and len(names) == 1 and names[0] in NEARLY_WHOLE
    if not whole or "learning_rate" not in config:
        raise MigrationError(
            f"{source} is a checkpoint, which does not hold all arguments of its optimizer "
            f"{_nested(names)}. Compile the model with that optimizer first, or pass it: "
            "restore(..., optimizer=...). Its state and the arguments that are in the file "
            "replace yours."
        )
    config = {**config, "epsilon": EPSILON}
    if names[0] == "RectifiedAdam":
        config["total_steps"] = int(config["total_steps"])
    if names[0] != "Nadam":
        config["amsgrad"] = "vhat" in saved.slots
    note = (
        f"epsilon={EPSILON} is assumed: a checkpoint does not hold it. If it was another, compile "
        "the model with the optimizer before restoring."
    )
    return dataclasses.replace(saved, class_name=names[0], config=config, complete=True), [note]


def _merged(template: Any, names: list[str], stored: Config, source: str) -> Config:
    """The template's arguments in the old classes' terms, the file's in their place."""
    config = {k: v for k, v in template.get_config().items() if k not in NEW_ARGUMENTS}
    config.pop("tables", None)
    if names[0] == "Lookahead":
        inner = _merged(template.inner_optimizer, names[1:], stored["optimizer"]["config"], source)
        own = {k: config[k] for k in ("name", "sync_period", "slow_step_size")}
        return {**own, "optimizer": {"class_name": names[1], "config": inner}}
    if names[0] == "Nadam" and "schedule_decay" in config:
        config["decay"] = config.pop("schedule_decay")
    scheduled = isinstance(config.get("learning_rate"), dict)
    if "learning_rate" not in stored and not scheduled:
        raise MigrationError(
            f"{source}: the learning rate was a schedule, which a checkpoint does not hold. "
            f"Compile the model with it. Received: learning_rate={config.get('learning_rate')!r}."
        )
    for key, value in stored.items():
        if key == "current_learning_rate" or (key == "total_steps" and value != int(value)):
            continue
        config[key] = int(value) if key == "total_steps" else value
    return config
