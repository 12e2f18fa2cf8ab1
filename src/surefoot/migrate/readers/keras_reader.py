"""Reads a `.keras` archive written by Keras 2.

Its weights have no names: the path of each consists of the class names of its layers, such
as `_layer_checkpoint_dependencies/dense_1/vars/0` for the kernel of the second Dense.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

import h5py

from surefoot.migrate.errors import MigrationError
from surefoot.migrate.readers.archive import CONFIG, METADATA, WEIGHTS, ModelArchive
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
from surefoot.migrate.readers.h5_reader import class_names
from surefoot.migrate.readers.hdf5_guard import GuardedHDF5, parse_json
from surefoot.migrate.readers.lookup_tables import fill_from_archive, is_lookup

LAYERS = "_layer_checkpoint_dependencies"
VARIABLES = "vars"
NAMED_OPTIMIZERS = {name.lower(): name for name in ("Adam", "AdamW", "Nadam", "RMSprop", "SGD")}
BY_CLASS = "by class: "
"""Begins the part of an address that is a layer's class and number in its model, not a name."""


def read_keras(path: str) -> SavedModel:
    """Reads model, loss and optimizer from a Keras 2 `.keras` archive.

    Args:
        path: The file.

    Returns:
        Its content. Keras 2 did not write the state of an OptimizerV2 in this format, so
        such an optimizer has only its arguments.

    Raises:
        MigrationError: If it is not such a file, damaged, or written by Keras 3.
    """
    with ModelArchive(path) as archive:
        metadata = parse_json(archive.read(METADATA), f"{path}: {METADATA}")
        config = parse_json(archive.read(CONFIG), f"{path}: {CONFIG}")
        version = str(metadata.get("keras_version", ""))
        if not version.startswith("2."):
            raise MigrationError(
                f"{path} was not written by Keras 2; `keras.models.load_model` reads it. "
                f"Received: keras_version={version!r}."
            )
        weights = archive.read(WEIGHTS)
        with GuardedHDF5(io.BytesIO(weights), f"{path}: {WEIGHTS}", len(weights)) as guarded:
            classes = class_names(config)
            layers = tuple(
                SavedLayer(name, classes[name], tuple(_layer_weights(guarded, name, group, entry)))
                for name, entry, group in _layer_groups(guarded, guarded.file, config)
            )
            fill_from_archive(archive, guarded, config, _places)
            compiled = config.get("compile_config")
            given = compiled if isinstance(compiled, dict) else {}
            optimizer = read_optimizer(
                lambda: _read_optimizer(guarded, compiled), given.get("optimizer"), path
            )
    return SavedModel(
        path=path,
        kind="keras",
        keras_version=version,
        config=config,
        training=compiled,
        layers=layers,
        optimizer=optimizer,
    )


def snake_case(class_name: str) -> str:
    """A class name as Keras 2 wrote it in names: `Conv2DTranspose` -> `conv2d_transpose`."""
    word = re.sub(r"\W+", "", class_name)
    word = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", word)
    return re.sub("([a-z])([A-Z])", r"\1_\2", word).lower()


def _layer_groups(
    guarded: GuardedHDF5, parent: h5py.Group, config: Config
) -> Iterator[tuple[str, Config, h5py.Group | None]]:
    """Name, configuration and HDF5 group of each layer of a model, numbered as in Keras 2."""
    groups = parent.get(LAYERS)
    expected = set()
    for key, entry in _numbered_entries(config):
        expected.add(key)
        yield entry["config"]["name"], entry, None if groups is None else groups.get(key)
    surplus = [] if groups is None else sorted(set(groups) - expected)
    if surplus:
        raise MigrationError(
            f"{guarded.name} contains weights of layers that the configuration does not have: "
            f"{surplus}. The configuration has {sorted(expected)}."
        )


def _numbered_entries(config: Config) -> Iterator[tuple[str, Config]]:
    entries = config["config"]["layers"]
    if short_class_name(config["class_name"]) == "Sequential":
        # Keras 2 did not count a Sequential model's input among its layers.
        entries = [e for e in entries if short_class_name(e["class_name"]) != "InputLayer"]
    used: dict[str, int] = {}
    for entry in entries:
        word = snake_case(short_class_name(entry["class_name"]))
        used[word] = used.get(word, -1) + 1
        yield (f"{word}_{used[word]}" if used[word] else word), entry


def _places(model: Config, _: tuple[str, ...]) -> Iterator[tuple[str, Config]]:
    return ((f"{LAYERS}/{key}", entry) for key, entry in _numbered_entries(model))


def _layer_weights(
    guarded: GuardedHDF5, layer: str, group: h5py.Group | None, entry: Config
) -> Iterator[SavedWeight]:
    if group is None:
        return
    for address, value in _walk(guarded, group, entry):
        where = "/".join(map(str, address))
        yield SavedWeight(key=f"{layer}: {where}", name="", address=address, value=value)


def _walk(
    guarded: GuardedHDF5, group: h5py.Group, entry: Config
) -> Iterator[tuple[tuple[str | int, ...], Array]]:
    own = group.get(VARIABLES)
    if own is not None and not is_lookup(entry):
        for i in range(len(own)):
            yield (i,), guarded.array(own, str(i))
    config: dict[str, Any] = entry.get("config") or {}
    if LAYERS in group and not isinstance(config.get("layers"), list):
        # The model is in a layer of the user's own, whose configuration need not tell of it.
        for word, inner_group in group[LAYERS].items():
            for address, value in _walk(guarded, inner_group, {}):
                yield (BY_CLASS + word, *address), value
    elif LAYERS in group:
        for name, inner, inner_group in _layer_groups(guarded, group, entry):
            if inner_group is not None:
                for address, value in _walk(guarded, inner_group, inner):
                    yield (name, *address), value
    for name in sorted(set(group) - {VARIABLES, LAYERS}):
        if isinstance(group[name], h5py.Group) and not is_lookup(entry):
            inner_entry = config.get(name)
            known = inner_entry if isinstance(inner_entry, dict) else {}
            for address, value in _walk(guarded, group[name], known):
                yield (name, *address), value


def _read_optimizer(guarded: GuardedHDF5, compiled: Config | None) -> SavedOptimizer | None:
    if not compiled or not compiled.get("optimizer"):
        return None
    saved = compiled["optimizer"]
    if str(saved).lower() in NAMED_OPTIMIZERS:
        # `compile("adam")`: a class of tf.keras 2.11 and later with its default arguments.
        saved = {"class_name": NAMED_OPTIMIZERS[saved.lower()], "config": {"jit_compile": True}}
    if not isinstance(saved, dict):
        raise MigrationError(
            f"{guarded.name}: the optimizer is not a configuration. Received: {saved!r}."
        )
    saved, loss_scale = without_loss_scale(saved)
    group = guarded.group(f"optimizer/{VARIABLES}")
    values = []
    if group is not None:
        values = [guarded.array(group, str(i)) for i in range(len(group))]
    if len(values) == 1 and not values[0].any():
        # Before its first step an optimizer had only its step count.
        values = []
    return SavedOptimizer(
        class_name=short_class_name(saved.get("registered_name") or saved["class_name"]),
        config=saved["config"],
        complete=True,
        legacy=is_legacy_optimizer(saved["config"]),
        iterations=int(values[0]) if values else None,
        unnamed=tuple(values[1:]) if values else None,
        loss_scale=loss_scale,
    )
