"""Converts the loss and the metrics that Keras 2 saved to Keras 3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from surefoot.migrate.allowed import (
    CustomObjects,
    accepted_arguments,
    construct,
    custom_object,
    find_class,
    find_function,
)
from surefoot.migrate.errors import MigrationError
from surefoot.migrate.losses import saved_whole
from surefoot.migrate.readers.description import Config, short_class_name

# Keras 2 replaced "auto" when the loss was used; `fit` used this reduction.
REDUCTIONS = {"auto": "sum_over_batch_size"}
# Metrics of TensorFlow Addons that Keras 3 has, too. (Of an RSquare, files lack an argument.)
ADDONS_METRICS = {"Addons>F1Score": "F1Score", "Addons>FBetaScore": "FBetaScore"}
WRAPPERS = ("MeanMetricWrapper", "LossFunctionWrapper", "SumOverBatchSizeMetricWrapper")


def compile_arguments(
    training: Config | None,
    model: keras.Model | None,
    custom_objects: CustomObjects,
    problems: list[MigrationError] | None = None,
) -> Config:
    """Loss, loss weights and metrics for `model.compile`.

    Args:
        training: The file's training configuration, of any kind of file.
        model: The new model, whose output names the metrics refer to.
        custom_objects: The user's losses and metrics by name.
        problems: Where errors are collected; without it, the first one is raised.

    Returns:
        Keyword arguments for `compile`, without the optimizer.

    Raises:
        MigrationError: If Keras 3 lacks a loss or metric.
    """
    training = training or {}
    outputs = list(getattr(model, "output_names", None) or ["output"])

    def collecting(make: Callable[[Any, CustomObjects], Any], saved: Any) -> Any:
        try:
            return make(saved, custom_objects)
        except MigrationError as error:
            if problems is None:
                raise
            problems.append(error)

    def loss(saved: Any) -> Any:
        return collecting(_loss, saved)

    def metric(saved: Any) -> Any:
        return collecting(_metric, saved)

    return {
        "loss": _nested(training.get("loss"), loss),
        "loss_weights": training.get("loss_weights"),
        "metrics": _metrics(training.get("metrics"), metric, outputs),
        "weighted_metrics": _metrics(training.get("weighted_metrics"), metric, outputs),
    }


def _nested(saved: Any, make: Callable[[Any], Any]) -> Any:
    if isinstance(saved, dict) and "class_name" not in saved:
        return {name: _nested(value, make) for name, value in saved.items()}
    if isinstance(saved, list):
        return [_nested(value, make) for value in saved]
    return None if saved is None else make(saved)


def _metrics(saved: Any, make: Callable[[Any], Any], outputs: list[str]) -> Any:
    if not saved:
        return None
    # A whole-model file lists the metrics per output, [None] for none.
    per_output = isinstance(saved, list) and all(isinstance(m, list) for m in saved)
    if per_output and len(saved) == len(outputs):
        saved = dict(zip(outputs, saved, strict=True))
    elif per_output:
        saved = [m for inner in saved for m in inner]
    if isinstance(saved, dict) and "class_name" not in saved:
        listed = {
            name: [m for m in (value if isinstance(value, list) else [value]) if m is not None]
            for name, value in saved.items()
        }
        if len(outputs) == 1 and set(listed) == set(outputs):
            return [make(m) for m in listed[outputs[0]]]
        return {
            name: [make(_without_prefix(m, name)) for m in ms] for name, ms in listed.items() if ms
        }
    return [make(m) for m in (saved if isinstance(saved, list) else [saved]) if m is not None]


def _without_prefix(saved: Any, output: str) -> Any:
    """Remove the output's name from the metric's; Keras adds it again."""
    if isinstance(saved, dict) and isinstance(saved.get("config"), dict):
        name = saved["config"].get("name")
        if isinstance(name, str):
            return {**saved, "config": {**saved["config"], "name": name.removeprefix(f"{output}_")}}
    return saved


def _loss(saved: Any, custom_objects: CustomObjects) -> Any:
    if isinstance(saved, dict) and not isinstance(saved.get("config"), str):
        name = saved.get("registered_name") or saved["class_name"]
        config = dict(saved.get("config") or {})
        if short_class_name(name) in WRAPPERS:
            return _loss(config["fn"], custom_objects)
        own = custom_object(name, custom_objects) is not None
        cls = find_class("loss", name, custom_objects)
        if own:
            return construct(cls, config)
        config["reduction"] = REDUCTIONS.get(
            config.get("reduction", "auto"), config.get("reduction")
        )
        config.pop("fn", None)
        return saved_whole(construct(cls, config), config)
    return _named("loss", saved, custom_objects, keras.losses.get)


def _metric(saved: Any, custom_objects: CustomObjects) -> Any:
    if isinstance(saved, dict) and not isinstance(saved.get("config"), str):
        name = saved.get("registered_name") or saved["class_name"]
        config = dict(saved.get("config") or {})
        if short_class_name(name) in WRAPPERS:
            fn = _named("metric", config["fn"], custom_objects, None)
            return keras.metrics.MeanMetricWrapper(fn, name=config.get("name"))
        own = custom_object(name, custom_objects) is not None
        if not own:
            name = ADDONS_METRICS.get(str(name), name)
        cls = find_class("metric", name, custom_objects)
        if not own:
            known = accepted_arguments(cls)
            config = {key: value for key, value in config.items() if key in known}
        made = construct(cls, config)
        return made if own else saved_whole(made, config)
    return _named("metric", saved, custom_objects, lambda name: name)


def _named(
    kind: str, saved: Any, custom_objects: CustomObjects, resolve: Callable[[str], Any] | None
) -> Any:
    if isinstance(saved, dict) and saved.get("class_name") == "function":
        saved = saved["config"]
    if not isinstance(saved, str):
        raise MigrationError(f"Not a configuration of a {kind}. Received: {saved!r}.")
    short = short_class_name(saved)
    own = custom_object(saved, custom_objects)
    if own is not None:
        return own() if isinstance(own, type) else own
    known = find_function(kind, short, {})
    if resolve is None and known is not None:
        return known
    try:
        getter = keras.losses.get if kind == "loss" else keras.metrics.get
        found = getter(short)
    except (ValueError, TypeError):
        found = None
    if found is None and short not in ("accuracy", "acc", "crossentropy", "ce"):
        raise MigrationError(f"Keras 3 has no {kind} {saved!r}.", needs={short: f"your {kind}"})
    return short if resolve is not None else found
