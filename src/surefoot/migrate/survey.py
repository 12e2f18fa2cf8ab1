"""Finds everything that is in the way of a migration, not only the first of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from surefoot.migrate.allowed import CustomObjects
from surefoot.migrate.compile_arguments import compile_arguments
from surefoot.migrate.errors import MigrationError, refusing_malformed, together
from surefoot.migrate.layers.model_builder import MAX_DEPTH, ModelBuilder, input_tensor
from surefoot.migrate.optimizers.optimizer_configs import OptimizerBuilder
from surefoot.migrate.readers.description import SavedModel, short_class_name


def survey(
    saved: SavedModel, custom_objects: CustomObjects, weights_only: bool = False
) -> list[MigrationError]:
    """The errors of each layer, loss and metric and of the optimizer, made one by one.

    Args:
        saved: The content of a file.
        custom_objects: The user's objects by name.
        weights_only: Whether loss, metrics and optimizer do not matter.

    Returns:
        The errors, each different one once.
    """
    problems: list[MigrationError] = []

    @contextlib.contextmanager
    def collecting(training: bool = False) -> Iterator[None]:
        try:
            with refusing_malformed(saved.path, training):
                yield
        except MigrationError as error:
            problems.append(error)

    builder = ModelBuilder(custom_objects)

    def try_layers(entry: Any, depth: int = 0) -> None:
        config = entry["config"]
        if isinstance(config.get("layers"), list) and depth < MAX_DEPTH:
            for inner in config["layers"]:
                with collecting():
                    try_layers(inner, depth + 1)
            if short_class_name(entry["class_name"]) != "Sequential":
                builder.model_class(entry)
        elif short_class_name(entry["class_name"]) == "InputLayer":
            input_tensor(config)
        else:
            builder.build(entry)

    if saved.config is not None:
        with collecting():
            try_layers(saved.config)
    if not weights_only:
        with collecting(training=True):
            found: list[MigrationError] = []
            compile_arguments(saved.training, None, custom_objects, found)
            for error in found:
                error.weights_only = True
            problems += found
        if saved.config is not None and saved.optimizer is not None:
            with collecting(training=True):
                OptimizerBuilder(custom_objects).build(saved.optimizer)
    return list({error.reason: error for error in problems}.values())


@contextlib.contextmanager
def naming_all(
    saved: SavedModel, custom_objects: CustomObjects, weights_only: bool
) -> Iterator[None]:
    """Replaces the first error by one that names everything that is in the way.

    Args:
        saved: The content of a file.
        custom_objects: The user's objects by name.
        weights_only: Whether loss, metrics and optimizer do not matter.

    Raises:
        MigrationError: If the body raises one.
    """
    try:
        yield
    except MigrationError as error:
        found = survey(saved, custom_objects, weights_only)
        if len(found) < 2:
            raise
        if all(error.reason != other.reason for other in found):
            found.append(error)
        raise together(found, saved.path) from error
