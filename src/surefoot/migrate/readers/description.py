"""What an old file holds, in one form whatever kind of file it was.

Readers make a `SavedModel`; everything after them (building, matching, reporting)
knows only these classes, never a file format.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]
Config = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class SavedWeight:
    """One array of a layer.

    Attributes:
        key: What names it within its file; unique there.
        name: The variable's own name as the originals wrote it, with scopes and without
            `:0`, such as `"gru/gru_cell/kernel"`. Empty where the file has no names.
        address: Where a file without names keeps it: names of inner layers or attributes
            from the layer down, then its place in that object's own list.
        value: The numbers.
    """

    key: str
    name: str
    address: tuple[str | int, ...]
    value: Array


@dataclasses.dataclass(frozen=True)
class SavedLayer:
    """A layer of the outermost model with all weights below it.

    Attributes:
        name: The layer's name, or empty where the file has none.
        class_name: Its class, or empty where the file has none.
        weights: Its weights in the file's order.
        attribute: The attribute of a subclassed model that holds it, otherwise empty.
    """

    name: str
    class_name: str
    weights: tuple[SavedWeight, ...]
    attribute: str = ""


@dataclasses.dataclass(frozen=True)
class SavedOptimizer:
    """An optimizer with its state.

    Attributes:
        class_name: The original's class without package, such as `"Lookahead"`, or empty
            where the file does not say (a checkpoint).
        config: Its arguments; in a checkpoint only those that were variables there.
        complete: Whether `config` is all of it.
        legacy: Whether it is an OptimizerV2 (TensorFlow Addons, `optimizers.legacy`)
            rather than one of tf.keras 2.11's newer classes.
        iterations: Updates done so far, or None where the file has no state at all.
        slots: For each slot name, the array of each weight, by `SavedWeight.key`.
        scalars: State that belongs to no variable, such as Nadam's `momentum_cache`.
        unnamed: The state in the original's order, where the file has no names for it.
    """

    class_name: str
    config: Config
    complete: bool
    legacy: bool
    iterations: int | None
    slots: Mapping[str, Mapping[str, Array]] = dataclasses.field(default_factory=dict)
    scalars: Mapping[str, float] = dataclasses.field(default_factory=dict)
    unnamed: tuple[Array, ...] | None = None

    @property
    def has_state(self) -> bool:
        """Whether the file holds more than the arguments."""
        return self.iterations is not None


@dataclasses.dataclass(frozen=True)
class SavedModel:
    """Everything of an old file that is used.

    Attributes:
        path: The file.
        kind: `"h5"`, `"keras"`, `"savedmodel"` or `"checkpoint"`.
        keras_version: What the file says wrote it, or empty.
        config: The model's `{"class_name": ..., "config": ...}`, or None (a checkpoint).
        training: Loss, metrics and loss weights as they were serialized, or None.
        layers: The outermost model's layers in its order.
        optimizer: The optimizer, or None for a model that was not compiled.
    """

    path: str
    kind: str
    keras_version: str
    config: Config | None
    training: Config | None
    layers: tuple[SavedLayer, ...]
    optimizer: SavedOptimizer | None

    def weights(self) -> Iterator[SavedWeight]:
        """All weights, layer by layer."""
        for layer in self.layers:
            yield from layer.weights


def short_class_name(registered: str) -> str:
    """`"Addons>RectifiedAdam"` -> `"RectifiedAdam"`."""
    return registered.rsplit(">", 1)[-1]


def is_legacy_optimizer(config: Mapping[str, Any]) -> bool:
    """Whether a serialized optimizer is an OptimizerV2: the newer ones say of themselves."""
    return "jit_compile" not in config and "is_legacy_optimizer" not in config
