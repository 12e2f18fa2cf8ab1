"""Follows the attributes that a checkpoint records into the objects of a Keras 3 model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import keras

from surefoot.migrate.layers.layer_weights import CONTAINERS, attributes_of, is_layer
from surefoot.migrate.readers.description import SavedLayer, SavedWeight

# What Keras 2 called the layers of a Sequential or Functional model.
NUMBERED = re.compile(r"layer(_with_weights)?-\d+")
# What an attribute may be that leads to variables.
PLACES = (keras.layers.Layer, keras.metrics.Metric, keras.Variable, *CONTAINERS)
OWN_PACKAGES = ("keras", "surefoot")


def follow(path: Sequence[str], start: Any) -> tuple[Any, tuple[str, ...]]:
    """Follows a path of attributes, list positions and dictionary keys as far as it leads.

    Args:
        path: The names, from `start` on.
        start: A layer, a model, or a list or dictionary of such objects.

    Returns:
        The variable or metric at the end of the path and nothing left; or the last layer on the
        way and the rest of the path. The inside of Keras's own layers is not followed, because
        it may have changed; their weights have names. None if there is no layer on the way.
    """
    place, rest = (start, tuple(path)) if is_layer(start) else (None, tuple(path))
    at = start
    for i, word in enumerate(path):
        at = None if _is_keras_layer(at) else _inside(at, word)
        if isinstance(at, keras.Variable | keras.metrics.Metric):
            return at, ()
        if is_layer(at):
            place, rest = at, tuple(path[i + 1 :])
        elif not isinstance(at, CONTAINERS):
            break
    return place, rest


def numbered_layers(weights: Sequence[SavedWeight]) -> list[SavedLayer] | None:
    """The layers of a Sequential or Functional model that the weights are in, or None.

    Args:
        weights: The weights, whose paths start inside the model.

    Returns:
        Its layers in order; their weights' paths start inside them.
    """
    groups: dict[str, list[SavedWeight]] = {}
    for weight in weights:
        if not weight.path or not NUMBERED.fullmatch(weight.path[0]):
            return None
        groups.setdefault(weight.path[0], []).append(weight.below())
    return [SavedLayer(_scope(group[0]), "", tuple(group)) for group in groups.values()]


def contained_layers(value: Any) -> list[Any]:
    """The layers in a list or dictionary and in those inside of it."""
    if is_layer(value):
        return [value]
    if not isinstance(value, CONTAINERS):
        return []
    items = value.values() if isinstance(value, dict) else value
    return [layer for item in items for layer in contained_layers(item)]


def _scope(weight: SavedWeight) -> str:
    return weight.name.split("/")[0] if "/" in weight.name else ""


def _is_keras_layer(value: Any) -> bool:
    return is_layer(value) and (
        type(value).__module__.split(".")[0] in OWN_PACKAGES or isinstance(value, keras.Sequential)
    )


def _inside(value: Any, word: str) -> Any:
    if isinstance(value, dict):
        return value.get(word)
    if isinstance(value, list | tuple):
        return value[int(word)] if word.isdecimal() and int(word) < len(value) else None
    return attributes_of(value).get(word)
