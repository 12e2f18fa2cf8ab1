"""Pairs the weights of one layer with its variables, by their names or places."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from surefoot.migrate.readers.description import SavedWeight
from surefoot.migrate.readers.keras_reader import snake_case

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
    # order if every name and shape agrees.
    if all(
        name[-1] == path[-1] and tuple(weight.value.shape) == tuple(variable.shape)
        for name, path, weight, variable in zip(names, paths, weights, variables, strict=True)
    ):
        return list(zip(weights, variables, strict=True))
    return None


def _parts(name: str) -> tuple[str, ...]:
    parts = name.split("/")
    return (*parts[:-1], LEAF_NAMES.get(parts[-1], parts[-1]))


def by_address(weights: Sequence[SavedWeight], target: Any) -> list[tuple[SavedWeight, Any]] | None:
    """Pairs by the place in a `.keras` file, which has no names."""
    variables = dict(_addresses(target, set()))
    if any(weight.address not in variables for weight in weights):
        return None
    return [(weight, variables[weight.address]) for weight in weights]


def _addresses(layer: Any, above: set[int]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """The address of each variable: inner layers' names or attributes, then its index."""
    if id(layer) in above:
        return
    above = above | {id(layer)}
    if isinstance(layer, keras.Model):
        for inner in layer.layers:
            for address, variable in _addresses(inner, above):
                yield (inner.name, *address), variable
        return
    inner_layers: list[tuple[tuple[str, ...], Any]] = []
    for name, value in attributes_of(layer).items():
        if is_layer(value):
            inner_layers.append(((name,), value))
        elif isinstance(value, CONTAINERS) and not name.startswith("_"):
            inner_layers += [((name, word), item) for word, item in _contained(value)]
    below = {id(v) for _, inner in inner_layers for v in inner.weights}
    own = [v for v in layer.weights if id(v) not in below]
    for i, variable in enumerate(own):
        yield (i,), variable
    for prefix, inner in inner_layers:
        for address, variable in _addresses(inner, above):
            yield (*prefix, *address), variable


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
