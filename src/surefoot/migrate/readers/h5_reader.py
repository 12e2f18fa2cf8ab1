"""Reads a whole model saved as `.h5` by Keras 2."""

from __future__ import annotations

import os

from surefoot.migrate.errors import MigrationError
from surefoot.migrate.readers.description import (
    Array,
    Config,
    SavedLayer,
    SavedModel,
    SavedOptimizer,
    SavedWeight,
    is_legacy_optimizer,
    read_optimizer,
    short_class_name,
    without_loss_scale,
)
from surefoot.migrate.readers.hdf5_guard import GuardedHDF5
from surefoot.migrate.readers.slot_names import sort_named_state


def read_h5(path: str) -> SavedModel:
    """Reads model, loss and optimizer from a `.h5` file.

    Args:
        path: The file.

    Returns:
        Its content.

    Raises:
        MigrationError: If it is not such a file, or damaged.
    """
    with GuardedHDF5(path, path, os.path.getsize(path)) as guarded:
        config = guarded.json("model_config")
        if config is None:
            raise MigrationError(
                f"{path} contains no model: it has no `model_config`. A file of weights "
                "(`save_weights`) is not enough; save the whole model, or restore a checkpoint."
            )
        version = guarded.file.attrs.get("keras_version", "")
        training = guarded.json("training_config")
        layers = _read_layers(guarded, config)
        optimizer = read_optimizer(
            lambda: _read_optimizer(guarded, training, layers),
            (training or {}).get("optimizer_config"),
            path,
        )
    return SavedModel(
        path=path,
        kind="h5",
        keras_version=version.decode() if isinstance(version, bytes) else str(version),
        config=config,
        training=training,
        layers=layers,
        optimizer=optimizer,
    )


def _read_layers(guarded: GuardedHDF5, config: Config) -> tuple[SavedLayer, ...]:
    root = guarded.group("model_weights")
    if root is None:
        raise MigrationError(f"{guarded.name} has no `model_weights`; it is not a whole model.")
    classes = class_names(config)
    layers = []
    for layer_name in guarded.names(root, "layer_names"):
        group = root.get(layer_name)
        if group is None:
            raise MigrationError(f"{guarded.name}: layer {layer_name!r} is listed but missing.")
        weights = tuple(
            SavedWeight(
                key=f"{layer_name}: {name}",
                name=name.split(":")[0],
                address=(),
                value=guarded.array(group, name),
            )
            for name in guarded.names(group, "weight_names")
        )
        layers.append(SavedLayer(layer_name, classes.get(layer_name, ""), weights))
    return tuple(layers)


def class_names(config: Config) -> dict[str, str]:
    """The class of each layer of the outermost model, by layer name."""
    try:
        return {
            entry["config"]["name"]: short_class_name(entry["class_name"])
            for entry in config["config"]["layers"]
        }
    except (KeyError, TypeError) as error:
        raise MigrationError(
            "The model is neither Sequential nor Functional: its configuration has no list of "
            "layers. Build a subclassed model with your code and restore it with "
            "`surefoot.migrate.restore(path, model)`."
        ) from error


def _read_optimizer(
    guarded: GuardedHDF5, training: Config | None, layers: tuple[SavedLayer, ...]
) -> SavedOptimizer | None:
    if not training or not training.get("optimizer_config"):
        return None
    saved, loss_scale = without_loss_scale(training["optimizer_config"])
    named: list[tuple[str, Array]] = []
    group = guarded.group("optimizer_weights")
    if group is not None:
        named = [
            (name.split(":")[0], guarded.array(group, name))
            for name in guarded.names(group, "weight_names")
        ]
    legacy = is_legacy_optimizer(saved["config"])
    state = sort_named_state(named, layers, legacy, guarded.name)
    return SavedOptimizer(
        class_name=short_class_name(saved["class_name"]),
        config=saved["config"],
        complete=True,
        legacy=legacy,
        iterations=state.iterations,
        slots=state.slots,
        scalars=state.scalars,
        loss_scale=loss_scale,
    )
