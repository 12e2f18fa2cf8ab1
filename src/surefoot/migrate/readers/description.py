"""The content of an old file, in one form for all kinds of files.

Readers create a `SavedModel`; all later parts (building, matching, reporting) use only
these classes and do not depend on the file format.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy.typing as npt

from surefoot.migrate.errors import MigrationError, UnsafeFileError, refusing_malformed

INITIAL_SCALE, GROWTH_STEPS = 2.0**15, 2000
"""Defaults of a `LossScaleOptimizer`."""

LOOKUPS = ("TextVectorization", "StringLookup", "IntegerLookup")
"""Layers that have a vocabulary. It is an argument of theirs, not a weight."""

Array = npt.NDArray[Any]
Config = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class SavedWeight:
    """One array of a layer.

    Attributes:
        key: Its unique name within the file.
        name: The variable's name in the originals, with scopes and without `:0`, such as
            `"gru/gru_cell/kernel"`. Empty if the file has no names.
        address: Its position in a file without names: names of inner layers or attributes,
            starting from the layer, then its index in the list of that object.
        value: The array.
        path: Where an object graph has it: the attributes, positions in lists and keys of
            dictionaries that lead to it from its layer. Empty in other files.
    """

    key: str
    name: str
    address: tuple[str | int, ...]
    value: Array
    path: tuple[str, ...] = ()

    def below(self, levels: int = 1) -> SavedWeight:
        """The same weight, as seen from as many objects further down its path."""
        return dataclasses.replace(self, path=self.path[levels:])


@dataclasses.dataclass(frozen=True)
class SavedLayer:
    """A layer of the outermost model with all weights in it.

    Attributes:
        name: The layer's name, or empty if the file has none.
        class_name: Its class, or empty if the file has none.
        weights: Its weights in the file's order.
        attribute: The attribute of a subclassed model that contains it, otherwise empty. It
            may be a list or dictionary of layers.
    """

    name: str
    class_name: str
    weights: tuple[SavedWeight, ...]
    attribute: str = ""


@dataclasses.dataclass(frozen=True)
class LossScale:
    """The arguments of a `LossScaleOptimizer`.

    Attributes:
        scale: The factor of the loss; only SavedModels and checkpoints have the last one.
        growth_steps: After how many finite steps it is doubled; None for a fixed scale.
    """

    scale: float
    growth_steps: int | None


@dataclasses.dataclass(frozen=True)
class SavedOptimizer:
    """An optimizer with its state.

    Attributes:
        class_name: The original's class without package, such as `"Lookahead"`, or empty
            if the file does not contain it (a checkpoint).
        config: Its arguments; for a checkpoint only those that were variables.
        complete: Whether `config` has all arguments.
        legacy: Whether it is an OptimizerV2 (TensorFlow Addons, `optimizers.legacy`)
            rather than one of tf.keras 2.11's newer classes.
        iterations: The number of updates done, or None if the file has no state.
        slots: For each slot name, the array of each weight, by `SavedWeight.key`.
        scalars: State that belongs to no variable, such as Nadam's `momentum_cache`.
        unnamed: The state in the original's order, if the file has no names for it.
        loss_scale: How a `LossScaleOptimizer` around it scaled the loss, if there was one.
        problem: Why it cannot be read, or None. Then only `class_name` may be known.
    """

    class_name: str
    config: Config
    complete: bool
    legacy: bool
    iterations: int | None
    slots: Mapping[str, Mapping[str, Array]] = dataclasses.field(default_factory=dict)
    scalars: Mapping[str, float] = dataclasses.field(default_factory=dict)
    unnamed: tuple[Array, ...] | None = None
    loss_scale: LossScale | None = None
    problem: MigrationError | None = None

    @property
    def has_state(self) -> bool:
        """Whether the file contains state, not only arguments."""
        return self.iterations is not None


@dataclasses.dataclass(frozen=True)
class SavedModel:
    """The content of an old file that is used.

    Attributes:
        path: The file.
        kind: `"h5"`, `"keras"`, `"savedmodel"` or `"checkpoint"`.
        keras_version: The Keras version in the file, or empty.
        config: The model's `{"class_name": ..., "config": ...}`, or None (a checkpoint).
        training: The serialized loss, metrics and loss weights, or None.
        layers: The outermost model's layers in their order.
        optimizer: The optimizer, or None for a model that was not compiled.
        hint: What an error says about weights that do not fit a model, otherwise empty.
    """

    path: str
    kind: str
    keras_version: str
    config: Config | None
    training: Config | None
    layers: tuple[SavedLayer, ...]
    optimizer: SavedOptimizer | None
    hint: str = ""

    def weights(self) -> Iterator[SavedWeight]:
        """All weights, layer by layer."""
        for layer in self.layers:
            yield from layer.weights


def read_optimizer(
    read: Callable[[], SavedOptimizer | None], config: object, source: str
) -> SavedOptimizer | None:
    """An optimizer; one that cannot be read has a `problem`, and the rest of the file is used.

    Args:
        read: Reads it.
        config: Its configuration in the file, if there is one.
        source: The file, for errors.

    Returns:
        What `read` returns, or an optimizer with a `problem`.
    """
    try:
        with refusing_malformed(source, training=True):
            return read()
    except UnsafeFileError:
        raise
    except MigrationError as error:
        name = config.get("class_name") if isinstance(config, dict) else None
        return SavedOptimizer(
            short_class_name(str(name or "")), {}, False, True, None, problem=error
        )


def short_class_name(registered: str) -> str:
    """`"Addons>RectifiedAdam"` -> `"RectifiedAdam"`."""
    return registered.rsplit(">", 1)[-1]


def is_legacy_optimizer(config: Mapping[str, Any]) -> bool:
    """Whether a serialized optimizer is an OptimizerV2; newer classes have these entries."""
    return "jit_compile" not in config and "is_legacy_optimizer" not in config


def without_loss_scale(saved: Config) -> tuple[Config, LossScale | None]:
    """Take the optimizer out of the `LossScaleOptimizer` that every mixed_float16 model had.

    Args:
        saved: A serialized optimizer.

    Returns:
        It, or the one inside of it; and how the loss was scaled.

    Raises:
        MigrationError: If there is none inside of it.
    """
    if not short_class_name(saved["class_name"]).startswith("LossScaleOptimizer"):
        return saved, None
    config = saved["config"]
    inner = config.get("inner_optimizer", config.get("optimizer"))
    if not isinstance(inner, dict) or not isinstance(inner.get("config"), dict):
        raise MigrationError(f"A LossScaleOptimizer has no inner optimizer. Received: {config!r}.")
    if "class_name" not in inner or str(inner["class_name"]).startswith("LossScaleOptimizer"):
        raise MigrationError(f"Not the inner optimizer of a LossScaleOptimizer: {inner!r}.")
    growth_steps = config.get("dynamic_growth_steps") if config.get("dynamic", True) else None
    return inner, LossScale(float(config.get("initial_scale") or INITIAL_SCALE), growth_steps)
