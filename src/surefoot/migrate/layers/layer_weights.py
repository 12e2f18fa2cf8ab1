"""Pairs the weights of one layer with its variables, by their names or places."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from surefoot.migrate.readers.description import SavedWeight
from surefoot.migrate.readers.keras_reader import BY_CLASS, snake_case

# Weights that have another name in Keras 3.
LEAF_NAMES = {"depthwise_kernel": "kernel"}
CONTAINERS = (list, tuple, dict)


def by_name(
    weights: Sequence[SavedWeight], variables: list[Any]
) -> list[tuple[SavedWeight, Any]] | None:
    """Pairs by the shortest suffix of the names that is unique for each weight."""
    if len(weights) != len(variables):
        return None
    names = [_parts(weight.name) for weight in weights]
    paths = [_parts(variable.path) for variable in variables]
    for simplify in (lambda part: part, lambda part: re.sub(r"_\d+$", "", part)):
        simple_names = [tuple(map(simplify, n)) for n in names]
        simple_paths = [tuple(map(simplify, p)) for p in paths]
        for length in range(1, max(map(len, names), default=1) + 1):
            left = [name[-length:] for name in simple_names]
            right = [path[-length:] for path in simple_paths]
            if len(set(left)) == len(left) and sorted(left) == sorted(right):
                return [
                    (weight, variables[right.index(end)])
                    for weight, end in zip(weights, left, strict=True)
                ]
    # The names are not unique, such as those of cells created in a loop: weights are paired in
    # order if every name and shape agrees. Keras 2 listed what is not trained at the end.
    trained_first = sorted(variables, key=lambda variable: not variable.trainable)
    for order in (variables, trained_first):
        if all(
            name[-1] == _parts(variable.path)[-1]
            and tuple(weight.value.shape) == tuple(variable.shape)
            for name, weight, variable in zip(names, weights, order, strict=True)
        ):
            return list(zip(weights, order, strict=True))
    return None


def _parts(name: str) -> tuple[str, ...]:
    parts = name.split("/")
    return (*parts[:-1], LEAF_NAMES.get(parts[-1], parts[-1]))


def by_address(weights: Sequence[SavedWeight], target: Any) -> list[tuple[SavedWeight, Any]] | None:
    """Pairs by the place in a `.keras` file, which has no names."""
    found = [(weight, _at(target, weight.address)) for weight in weights]
    unique = {id(variable) for _, variable in found if variable is not None}
    return found if len(unique) == len(found) else None


def _at(layer: Any, address: tuple[str | int, ...]) -> Any:
    """The variable at an address: inner layers' names or attributes, then its index, or None."""
    *parts, index = address
    place = layer
    for part in map(str, parts):
        if isinstance(place, CONTAINERS):
            place = dict(_contained(place)).get(part)
        elif isinstance(place, keras.Model) and part.startswith(BY_CLASS):
            place = dict(_contained(place.layers)).get(part.removeprefix(BY_CLASS))
        else:
            inner = place.layers if isinstance(place, keras.Model) else ()
            named = {layer.name: layer for layer in inner}
            place = named.get(part, attributes_of(place).get(part))
        if not isinstance(place, (keras.layers.Layer, *CONTAINERS)):
            return None
    if not is_layer(place) or not isinstance(index, int):
        return None
    below = {
        id(variable)
        for inner in place._flatten_layers(include_self=False)
        for variable in inner.weights
    }
    own = [variable for variable in place.weights if id(variable) not in below]
    return own[index] if index < len(own) else None


def attributes_of(layer: Any) -> dict[str, Any]:
    """The attributes of a layer."""
    held = dict(vars(layer))
    # On the PyTorch backend a layer is a torch module, which stores inner modules separately.
    return {**held, **(held.get("_modules") or {})}


def _contained(value: Any) -> Iterator[tuple[str, Any]]:
    """Layers in a list, with the names that Keras 2 gave them in files."""
    used: dict[str, int] = defaultdict(lambda: -1)
    for item in value.values() if isinstance(value, dict) else value:
        if is_layer(item):
            word = snake_case(type(item).__name__)
            used[word] += 1
            yield (f"{word}_{used[word]}" if used[word] else word), item


def is_layer(value: Any) -> bool:
    """Whether it is a layer or a model."""
    return isinstance(value, keras.layers.Layer)
