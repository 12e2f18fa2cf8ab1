"""Finds the Keras 3 variable that each saved weight belongs to."""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from surefoot.migrate.errors import MigrationError
from surefoot.migrate.readers.description import SavedLayer, SavedWeight
from surefoot.migrate.readers.keras_reader import snake_case

# Weights that have another name in Keras 3.
LEAF_NAMES = {"depthwise_kernel": "kernel"}
CONTAINERS = (list, tuple, dict)


@dataclasses.dataclass
class Pairing:
    """The variables that the saved weights belong to.

    Attributes:
        pairs: Pairs of saved weight and variable, in the file's order.
        by_structure: Old and new names of layers that were matched by order and shapes.
        unmatched_saved: Keys of weights without a variable.
        unmatched_model: Paths of variables without a weight.
    """

    pairs: list[tuple[SavedWeight, Any]] = dataclasses.field(default_factory=list)
    by_structure: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    unmatched_saved: list[str] = dataclasses.field(default_factory=list)
    unmatched_model: list[str] = dataclasses.field(default_factory=list)

    @property
    def by_key(self) -> dict[str, Any]:
        """The variables by `SavedWeight.key`."""
        return {weight.key: variable for weight, variable in self.pairs}

    @property
    def complete(self) -> bool:
        """Whether every weight and every variable is matched."""
        return not (self.unmatched_saved or self.unmatched_model)


def assign_weights(pairing: Pairing, model: keras.Model) -> None:
    """Assign the saved weights, and let layers compute again what they derive from theirs.

    An adapted `Normalization`, for one, divides by constants that it makes of its weights.
    """
    for weight, variable in pairing.pairs:
        variable.assign(weight.value)
    for layer in model._flatten_layers():
        finalize = getattr(layer, "finalize_state", None)
        if finalize is not None and layer.weights:
            finalize()


def pair_weights(saved: Sequence[SavedLayer], model: keras.Model) -> Pairing:
    """Pairs a file's weights with a model's variables, by name and then by structure.

    Layers are paired by name. Remaining layers with names that Keras chose (`dense_3`) are
    paired in order, if all their weights agree in name and shape. Within a layer, weights are
    paired by name, or by position if the file has no names.

    Args:
        saved: The file's layers.
        model: The model to be filled.

    Returns:
        The pairs, and what is unmatched; nothing is assigned.
    """
    pairing = Pairing()
    own = {layer.name: layer for layer in model.layers if layer.weights}
    attributes = {id(value): name for name, value in _attributes(model).items() if _is_layer(value)}
    by_attribute = {attributes.get(id(layer)): layer for layer in own.values()}
    trusted = _names_to_trust(saved, own)
    left_saved = []
    left_model = dict(own)
    for layer in saved:
        if layer.attribute:
            target = by_attribute.get(layer.attribute)
        else:
            target = own.get(layer.name) if layer.name in trusted else None
        if target is not None and target.name in left_model:
            if layer.weights:
                del left_model[target.name]
                _pair_layer(layer, target, pairing)
        elif layer.weights:
            left_saved.append(layer)
    _pair_by_structure(left_saved, list(left_model.values()), trusted, pairing)
    return pairing


def _names_to_trust(saved: Sequence[SavedLayer], own: dict[str, Any]) -> set[str]:
    """Names that mean the same layer on both sides.

    Keras numbers the layers of a whole process: `dense_1` may be a model's first layer in one
    process and its second in another. Such names are used only if all of them agree.
    """
    names = {layer.name for layer in saved if layer.weights}
    if names == set(own):
        return names
    automatic = {word for target in own.values() for word in _automatic_names(target)}
    automatic |= {snake_case(layer.class_name) for layer in saved if layer.class_name}
    return {name for name in names | set(own) if re.sub(r"_\d+$", "", name) not in automatic}


def _automatic_names(target: Any) -> set[str]:
    """The names that Keras gives to layers of a class, without numbers."""
    if isinstance(target, keras.Model):
        return {"model", "functional", "sequential", snake_case(type(target).__name__)}
    return {snake_case(type(target).__name__).removeprefix("fused_")}


def _pair_by_structure(
    saved: list[SavedLayer], targets: list[Any], trusted: set[str], pairing: Pairing
) -> None:
    alike = len(saved) == len(targets) and all(
        (not layer.name or not {layer.name, target.name} & trusted)
        and _same_structure(layer, target)
        for layer, target in zip(saved, targets, strict=True)
    )
    if alike:
        for layer, target in zip(saved, targets, strict=True):
            pairing.by_structure.append((layer.name or layer.weights[0].name, target.name))
            _pair_layer(layer, target, pairing)
        return
    for layer in saved:
        pairing.unmatched_saved += [_shown(weight) for weight in layer.weights]
    for target in targets:
        pairing.unmatched_model += [_shown_variable(v) for v in target.weights]


def _same_structure(layer: SavedLayer, target: Any) -> bool:
    trial = Pairing()
    _pair_layer(layer, target, trial)
    return trial.complete


def _pair_layer(layer: SavedLayer, target: Any, pairing: Pairing) -> None:
    """Pairs the weights of one layer, or none of them if they do not fit."""
    variables = list(target.weights)
    by_address = not any(weight.name for weight in layer.weights)
    found = _by_address(layer, target) if by_address else _by_name(layer, variables)
    if found is None or len(found) != len(variables):
        pairing.unmatched_saved += [_shown(weight) for weight in layer.weights]
        pairing.unmatched_model += [_shown_variable(v) for v in variables]
        return
    for weight, variable in found:
        if tuple(weight.value.shape) != tuple(variable.shape):
            pairing.unmatched_saved.append(_shown(weight))
            pairing.unmatched_model.append(_shown_variable(variable))
        else:
            pairing.pairs.append((weight, variable))


def _by_name(layer: SavedLayer, variables: list[Any]) -> list[tuple[SavedWeight, Any]] | None:
    """Pairs by the shortest suffix of the names that is unique for each weight."""
    if len(layer.weights) != len(variables):
        return None
    names = [_parts(weight.name) for weight in layer.weights]
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
                    for weight, end in zip(layer.weights, left, strict=True)
                ]
    # The names are not unique, such as those of cells created in a loop: weights are paired in
    # order if every name and shape agrees.
    if all(
        name[-1] == path[-1] and tuple(weight.value.shape) == tuple(variable.shape)
        for name, path, weight, variable in zip(names, paths, layer.weights, variables, strict=True)
    ):
        return list(zip(layer.weights, variables, strict=True))
    return None


def _parts(name: str) -> tuple[str, ...]:
    parts = name.split("/")
    return (*parts[:-1], LEAF_NAMES.get(parts[-1], parts[-1]))


def _by_address(layer: SavedLayer, target: Any) -> list[tuple[SavedWeight, Any]] | None:
    variables = dict(_addresses(target, set()))
    if any(weight.address not in variables for weight in layer.weights):
        return None
    return [(weight, variables[weight.address]) for weight in layer.weights]


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
    for name, value in _attributes(layer).items():
        if _is_layer(value):
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


def _attributes(layer: Any) -> dict[str, Any]:
    """The attributes of a layer."""
    held = dict(vars(layer))
    # On the PyTorch backend a layer is a torch module, which stores inner modules separately.
    return {**held, **(held.get("_modules") or {})}


def _contained(value: Any) -> Iterator[tuple[str, Any]]:
    """Layers in a list, with the names that Keras 2 gave them in files."""
    used: dict[str, int] = defaultdict(lambda: -1)
    for item in value.values() if isinstance(value, dict) else value:
        if _is_layer(item):
            word = snake_case(type(item).__name__)
            used[word] += 1
            yield (f"{word}_{used[word]}" if used[word] else word), item


def _is_layer(value: Any) -> bool:
    return isinstance(value, keras.layers.Layer)


def _shown(weight: SavedWeight) -> str:
    return f"{weight.key} {tuple(weight.value.shape)}"


def _shown_variable(variable: Any) -> str:
    return f"{variable.path} {tuple(variable.shape)}"


def check_complete(pairing: Pairing, source: str) -> None:
    """Raises an error unless every weight and every variable is matched.

    Args:
        pairing: The pairs.
        source: The file, for the error.

    Raises:
        MigrationError: If something is unmatched; it lists both sides.
    """
    if not pairing.complete:
        raise MigrationError(
            f"{source} and the model do not match.\n"
            f"  In the file only: {', '.join(pairing.unmatched_saved) or 'nothing'}\n"
            f"  In the model only: {', '.join(pairing.unmatched_model) or 'nothing'}"
        )
