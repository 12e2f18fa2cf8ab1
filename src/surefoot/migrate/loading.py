"""Reads an old file of any kind and creates a Keras 3 model from it."""

from __future__ import annotations

import dataclasses
import os
import warnings
from typing import Any, Literal, overload

import h5py
import keras

from surefoot.migrate.allowed import CustomObjects
from surefoot.migrate.compile_arguments import compile_arguments
from surefoot.migrate.errors import (
    LeftOutWarning,
    MigrationError,
    MissingOptimizerStateWarning,
    refusing_malformed,
)
from surefoot.migrate.layers.model_builder import ModelBuilder
from surefoot.migrate.layers.weight_matching import assign_weights, check_complete, pair_weights
from surefoot.migrate.optimizers.loss_scaling import with_loss_scale
from surefoot.migrate.optimizers.optimizer_configs import OptimizerBuilder
from surefoot.migrate.optimizers.optimizer_state import StateTransfer
from surefoot.migrate.optimizers.table_optimizers import find_tables
from surefoot.migrate.readers.checkpoint_reader import checkpoint_prefix, read_checkpoint
from surefoot.migrate.readers.description import SavedModel
from surefoot.migrate.readers.h5_reader import read_h5
from surefoot.migrate.readers.keras_reader import read_keras
from surefoot.migrate.readers.learned_bounds import with_learned_bounds
from surefoot.migrate.readers.savedmodel_reader import PARTS, read_savedmodel
from surefoot.migrate.report import Report, names_in
from surefoot.migrate.survey import naming_all, survey

ZIP_START = b"PK"
# Arguments of `compile` in `.keras` files that say how to run a step, not what it computes.
HOW_TO_RUN = {"run_eagerly": False, "steps_per_execution": 1, "jit_compile": False}
Path = str | os.PathLike[str]


def read(path: Path, model_name: str = "model", optimizer_name: str = "optimizer") -> SavedModel:
    """Reads an old file; its content determines its kind.

    Args:
        path: A `.h5` or `.keras` file, a SavedModel directory, or a checkpoint's prefix.
        model_name: The attribute of the model in a checkpoint.
        optimizer_name: The attribute of the optimizer in a checkpoint.

    Returns:
        The content of the file.

    Raises:
        FileNotFoundError: If there is nothing at the path.
        MigrationError: If it is of another kind, or damaged.
    """
    name = os.fspath(path)
    with refusing_malformed(name):
        return with_learned_bounds(_read(name, model_name, optimizer_name))


def _read(name: str, model_name: str, optimizer_name: str) -> SavedModel:
    if os.path.isfile(name):
        with open(name, "rb") as file:
            start = file.read(4)
        if start.startswith(ZIP_START):
            return read_keras(name)
        if h5py.is_hdf5(name):
            return read_h5(name)
    if os.path.isdir(name) and any(os.path.exists(os.path.join(name, part)) for part in PARTS):
        return read_savedmodel(name)
    prefix = checkpoint_prefix(name)
    if prefix is not None:
        return read_checkpoint(prefix, model_name, optimizer_name)
    if not os.path.exists(name):
        raise FileNotFoundError(f"There is no file, directory or checkpoint {name}")
    raise MigrationError(
        f"{name} is neither a `.h5` nor a `.keras` file, nor a SavedModel directory, nor a "
        "checkpoint; or it is truncated."
    )


def inspect(path: Path, custom_objects: CustomObjects | None = None) -> Report:
    """Reports the content of an old file without building a model.

    Args:
        path: As for `load_model`, or a checkpoint's prefix.
        custom_objects: As for `load_model`; the report says what else is needed.

    Returns:
        A report with layers, weights, optimizer, step and hyperparameters, and with what is in
        the way of a migration.

    Raises:
        FileNotFoundError: If there is nothing at the path.
        MigrationError: If it cannot be read.
    """
    saved = read(path)
    report = Report.of_file(saved)
    report.add_problems(survey(saved, dict(custom_objects or {})))
    return report


@overload
def load_model(
    path: Path,
    custom_objects: CustomObjects | None = None,
    *,
    weights_only: bool = False,
    return_report: Literal[False] = False,
) -> keras.Model: ...


@overload
def load_model(
    path: Path,
    custom_objects: CustomObjects | None = None,
    *,
    weights_only: bool = False,
    return_report: Literal[True],
) -> tuple[keras.Model, Report]: ...


def load_model(
    path: Path,
    custom_objects: CustomObjects | None = None,
    *,
    weights_only: bool = False,
    return_report: bool = False,
) -> keras.Model | tuple[keras.Model, Report]:
    """Loads a whole model that TensorFlow 2's Keras saved, ready to continue training.

    The model consists of Keras 3 layers and is compiled with an optimizer that has the old
    one's hyperparameters, state and step count. No code in the file is run.

    Args:
        path: A `.h5` file, a Keras 2 `.keras` file, or a SavedModel directory (which needs
            TensorFlow installed, on every backend).
        custom_objects: Your own layers, losses, metrics and schedules by class or function
            name. A layer's name is accepted, too, with a layer that replaces it, for example
            a Lambda.
        weights_only: Whether optimizer, loss and metrics are left out; the model is not
            compiled then.
        return_report: Whether to return a report, too.

    Returns:
        The model; with `return_report`, the model and a `Report`.

    Raises:
        FileNotFoundError: If there is nothing at the path.
        MigrationError: If the file cannot be converted; it names everything that is in the way.

    Warns:
        LeftOutWarning: If `weights_only` leaves something out.
        MissingOptimizerStateWarning: If the file contains the optimizer but not its state.
            Keras 2 never wrote an OptimizerV2's state into `.keras`.

    Example:
        >>> import surefoot.migrate
        >>> try:
        ...     surefoot.migrate.load_model("nowhere.h5")
        ... except FileNotFoundError as error:
        ...     print(error)
        There is no file, directory or checkpoint nowhere.h5
    """
    saved = read(path)
    if saved.config is None:
        what = "a checkpoint: it contains weights, not a model"
        if saved.kind == "savedmodel":
            what = "a model of a class of your own, or one with a layer that has no configuration"
        raise MigrationError(
            f"{saved.path} is {what}. Build the model with your code and call "
            "`surefoot.migrate.restore(path, model)`."
        )
    known = dict(custom_objects or {})
    optimizer: Any = None
    transfer: StateTransfer | None = None
    report = Report.of_file(saved)
    builder = ModelBuilder(known)
    with naming_all(saved, known, weights_only):
        with refusing_malformed(saved.path):
            model = builder.build(saved.config)
        report.notes += builder.notes
        if weights_only:
            saved = without_training(saved, report, "Compile the model before you train it.")
        with refusing_malformed(saved.path, training=True):
            arguments = compile_arguments(saved.training, model, known)
            if saved.optimizer is not None:
                optimizers = OptimizerBuilder(known, find_tables(model))
                optimizer = optimizers.build(saved.optimizer)
                report.notes += optimizers.notes
    pairing = pair_weights(saved.layers, model)
    check_complete(pairing, saved.path)
    if saved.optimizer is not None:
        with refusing_malformed(saved.path, training=True):
            transfer = StateTransfer(
                saved.optimizer, optimizer, model, pairing, saved.layers, saved.path
            )
    assign_weights(pairing, model)
    if optimizer is not None and transfer is not None:
        transfer.assign()
        optimizer = with_loss_scale(optimizer, saved, model, report.notes)
        model.compile(optimizer=optimizer, **arguments)
        report.left_out += [
            f"compile's {key}={value}"
            for key, default in HOW_TO_RUN.items()
            if (value := (saved.training or {}).get(key)) is not None and value != default
        ]
        warn_without_state(saved, report)
    report.add_transfer(pairing, optimizer, transfer)
    return (model, report) if return_report else model


def without_training(saved: SavedModel, report: Report, then: str) -> SavedModel:
    """The content without optimizer, loss and metrics; a warning and the report name them."""
    left_out = []
    if saved.optimizer is not None:
        left_out.append(f"the optimizer {report.optimizer} with its state")
    left_out += [
        f"{key} {value}"
        for key in ("loss", "metrics", "weighted_metrics")
        if (value := names_in((saved.training or {}).get(key)))
    ]
    if left_out:
        report.left_out += left_out
        note = (
            f"{saved.path}: only the weights were loaded. Left out: {'; '.join(left_out)}. {then}"
        )
        warnings.warn(note, LeftOutWarning, stacklevel=3)
    return dataclasses.replace(saved, training=None, optimizer=None)


def warn_without_state(saved: SavedModel, report: Report) -> None:
    """Warns that training starts at step 0 if a file has no optimizer state."""
    if saved.optimizer is None or saved.optimizer.has_state:
        return
    why = (
        "Keras 2 never wrote the state of such an optimizer into .keras files; to continue where "
        "training stopped, save the model as .h5, as a SavedModel or in a checkpoint"
        if saved.kind == "keras" and saved.optimizer.legacy
        else "it was saved before its first step"
    )
    note = (
        f"{saved.path} has no state of its optimizer {saved.optimizer.class_name} ({why}). "
        "Training starts at step 0 with its hyperparameters."
    )
    report.notes.append(note)
    warnings.warn(note, MissingOptimizerStateWarning, stacklevel=3)
