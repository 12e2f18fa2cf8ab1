"""Finds the Keras 3 variable that each saved weight belongs to."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import keras

from surefoot.migrate.errors import MigrationError
from surefoot.migrate.layers.layer_weights import attributes_of, by_address, by_name
from surefoot.migrate.layers.object_paths import (
    PLACES,
    contained_layers,
    follow,
    numbered_layers,
)
from surefoot.migrate.readers.description import SavedLayer, SavedWeight
from surefoot.migrate.readers.keras_reader import snake_case


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

    Layers of a subclassed model are paired by the attributes, lists and dictionaries that they
    are in; other layers by name. Remaining layers with names that Keras chose (`dense_3`) are
    paired in order, if all their weights agree in name and shape. Within a layer, weights are
    paired by name, or by position if the file has no names.

    Args:
        saved: The file's layers.
        model: The model to be filled.

    Returns:
        The pairs, and what is unmatched; nothing is assigned.
    """
    pairing = Pairing()
    attributes = attributes_of(model)
    reached = set()
    others = []
    for layer in saved:
        if isinstance(attributes.get(layer.attribute), PLACES):
            reached |= {id(inner) for inner in contained_layers(attributes[layer.attribute])}
            _pair_along(layer.weights, attributes, pairing)
        else:
            others.append(layer)
    _pair_layers(others, [layer for layer in model.layers if id(layer) not in reached], pairing)
    paired = {id(variable) for _, variable in pairing.pairs}
    pairing.unmatched_model = [_shown_variable(v) for v in model.weights if id(v) not in paired]
    return pairing


def _pair_layers(saved: Sequence[SavedLayer], targets: Sequence[Any], pairing: Pairing) -> None:
    """Pairs layers by name, and what is left by structure."""
    own = {layer.name: layer for layer in targets if layer.weights}
    trusted = _names_to_trust(saved, own)
    left_saved = []
    left_model = dict(own)
    for layer in saved:
        target = own.get(layer.name) if layer.name in trusted else None
        if target is not None and target.name in left_model:
            if layer.weights:
                del left_model[target.name]
                _pair_layer(layer, target, pairing)
        elif layer.weights:
            left_saved.append(layer)
    _pair_by_structure(left_saved, list(left_model.values()), trusted, pairing)


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


def _same_structure(layer: SavedLayer, target: Any) -> bool:
    trial = Pairing()
    _pair_layer(layer, target, trial)
    return not trial.unmatched_saved and len(trial.pairs) == len(target.weights)


def _pair_layer(layer: SavedLayer, target: Any, pairing: Pairing) -> None:
    """Pairs the weights of one layer."""
    if any(weight.path for weight in layer.weights):
        _pair_along(layer.weights, target, pairing)
    else:
        _pair_own(layer.weights, target, list(target.weights), pairing)


def _pair_along(weights: Sequence[SavedWeight], start: Any, pairing: Pairing) -> None:
    """Pairs weights along their paths, and by name where the path ends inside a layer."""
    places: dict[tuple[str, ...], tuple[Any, list[SavedWeight]]] = {}
    reached = []
    for weight in weights:
        place, rest = follow(weight.path, start)
        if place is None:
            pairing.unmatched_saved.append(_shown(weight))
        elif isinstance(place, keras.Variable):
            reached.append(place)
            _pair(weight, place, pairing)
        elif not isinstance(place, keras.metrics.Metric):
            # Keras 3 has the variables of metrics not among a model's weights, and resets them.
            way = weight.path[: len(weight.path) - len(rest)]
            left = weight.below(len(way))
            places.setdefault(way, (place, []))[1].append(left)
    for way, (place, own) in places.items():
        below = [
            variable
            for other, (inner, _) in places.items()
            if len(other) > len(way) and other[: len(way)] == way
            for variable in inner.weights
        ]
        taken = {id(variable) for variable in [*reached, *below]}
        _pair_own(own, place, [v for v in place.weights if id(v) not in taken], pairing)


def _pair_own(
    weights: Sequence[SavedWeight], target: Any, variables: list[Any], pairing: Pairing
) -> None:
    """Pairs the weights of one layer with these variables, or none of them if they do not fit."""
    numbered = numbered_layers(weights) if isinstance(target, keras.Model) else None
    if numbered is not None:
        names = {layer.name for layer in target.layers if layer.weights}
        if {layer.name for layer in numbered} != names:
            # A checkpoint has only the names of variables, which need not begin with the layer's.
            numbered = [dataclasses.replace(layer, name="") for layer in numbered]
        _pair_layers(numbered, target.layers, pairing)
        return
    if any(weight.name for weight in weights):
        found = by_name(weights, variables)
    else:
        found = by_address(weights, target)
    if found is None or len(found) != len(variables):
        pairing.unmatched_saved += [_shown(weight) for weight in weights]
        return
    for weight, variable in found:
        _pair(weight, variable, pairing)


def _pair(weight: SavedWeight, variable: Any, pairing: Pairing) -> None:
    if tuple(weight.value.shape) == tuple(variable.shape):
        pairing.pairs.append((weight, variable))
    else:
        pairing.unmatched_saved.append(_shown(weight))


def _shown(weight: SavedWeight) -> str:
    return f"{weight.key} {tuple(weight.value.shape)}"


def _shown_variable(variable: Any) -> str:
    return f"{variable.path} {tuple(variable.shape)}"


def check_complete(pairing: Pairing, source: str, hint: str = "") -> None:
    """Raises an error unless every weight and every variable is matched.

    Args:
        pairing: The pairs.
        source: The file, for the error.
        hint: What else the reason may be.

    Raises:
        MigrationError: If something is unmatched; it lists both sides.
    """
    if not pairing.complete:
        raise MigrationError(
            f"{source} and the model do not match.\n"
            f"  In the file only: {', '.join(pairing.unmatched_saved) or 'nothing'}\n"
            f"  In the model only: {', '.join(pairing.unmatched_model) or 'nothing'}"
            + (f"\n{hint}" if hint else "")
        )
