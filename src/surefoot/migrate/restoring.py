"""Restores weights and optimizer state into a model that the user's code has built."""

from __future__ import annotations

from typing import Any

import keras

from surefoot.migrate.allowed import CustomObjects
from surefoot.migrate.compile_arguments import compile_arguments
from surefoot.migrate.errors import MigrationError, refusing_malformed
from surefoot.migrate.layers.weight_matching import (
    Pairing,
    assign_weights,
    check_complete,
    pair_weights,
)
from surefoot.migrate.loading import Path, read, warn_without_state, without_training
from surefoot.migrate.optimizers.loss_scaling import with_loss_scale
from surefoot.migrate.optimizers.optimizer_configs import OptimizerBuilder
from surefoot.migrate.optimizers.optimizer_state import StateTransfer
from surefoot.migrate.optimizers.optimizer_templates import completed, model_optimizer
from surefoot.migrate.optimizers.table_optimizers import find_tables
from surefoot.migrate.readers.description import SavedModel
from surefoot.migrate.report import Report


def restore(
    path: Path,
    model: keras.Model,
    *,
    optimizer: Any = None,
    custom_objects: CustomObjects | None = None,
    partial: bool = False,
    weights_only: bool = False,
    model_name: str = "model",
    optimizer_name: str = "optimizer",
) -> Report:
    """Restores a file of TensorFlow 2's Keras into a Keras 3 model that you have built.

    Weights are matched by layer and name, and by structure if Keras chose the layers' names.
    A new optimizer with the old one's hyperparameters, state and step count becomes
    `model.optimizer`. The model keeps the loss and metrics that it was compiled with.
    Everything is checked before anything is changed.

    Args:
        path: A `.h5` or `.keras` file, a SavedModel directory, or the prefix of a
            `tf.train.Checkpoint` or of `model.save_weights` (`"folder/ckpt"` for
            `folder/ckpt.index`).
        model: A built Keras 3 model. For a checkpoint, compile it with the optimizer (as in
            the old code), since a checkpoint does not contain all of an optimizer's arguments.
        optimizer: The optimizer to use instead of the model's: its class must match the
            file's, and it supplies the arguments that the file does not contain.
        custom_objects: Your own losses, metrics and schedules by name.
        partial: Whether weights and variables without a counterpart are left out instead of
            being an error.
        weights_only: Whether the file's optimizer is left out. The model keeps its own.
        model_name: The name of the model in `tf.train.Checkpoint(model=...)`. A file of
            `model.save_weights` has none: it is recognized, unless the model has an attribute
            `model`; then pass `""`.
        optimizer_name: The name of the optimizer in `tf.train.Checkpoint(optimizer=...)`.

    Returns:
        A report of what was restored and what was left out.

    Raises:
        FileNotFoundError: If there is nothing at the path.
        MigrationError: If file and model do not match; it lists both sides, and the model is
            unchanged.

    Warns:
        LeftOutWarning: If `weights_only` leaves something out.
        MissingOptimizerStateWarning: If the file contains the optimizer but not its state.

    Example:
        >>> import keras, surefoot.migrate
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> try:
        ...     surefoot.migrate.restore("nowhere/ckpt", model)
        ... except FileNotFoundError as error:
        ...     print(error)
        There is no file, directory or checkpoint nowhere/ckpt
    """
    saved = read(path, model_name, optimizer_name)
    if not model.built or not model.weights:
        raise MigrationError(
            f"The model {model.name!r} has no weights yet. Build it first: add an Input, or "
            "call it on a batch."
        )
    known = dict(custom_objects or {})
    pairing = pair_weights(saved.layers, model)
    if not partial:
        check_complete(pairing, saved.path, saved.hint)
    elif not pairing.pairs:
        raise MigrationError(f"{saved.path} and the model have no weight in common.")
    report = Report.of_file(saved)
    new: Any = None
    transfer: StateTransfer | None = None
    if weights_only:
        saved = without_training(saved, report, "If it is compiled, the model keeps its own.")
    else:
        with refusing_malformed(saved.path, training=True):
            new, transfer = _optimizer(saved, model, optimizer, known, pairing, report, partial)
            arguments = _compile_arguments(saved, model, known)
    assign_weights(pairing, model)
    if new is not None and transfer is not None:
        transfer.assign()
        new = with_loss_scale(new, saved, model, report.notes)
        model.compile(**{**arguments, "optimizer": new})
        warn_without_state(saved, report)
    report.add_transfer(pairing, new, transfer)
    return report


def _optimizer(
    saved: SavedModel,
    model: keras.Model,
    given: Any,
    custom_objects: CustomObjects,
    pairing: Pairing,
    report: Report,
    partial: bool,
) -> tuple[Any, StateTransfer | None]:
    template = given if given is not None else model_optimizer(model)
    if isinstance(template, keras.optimizers.LossScaleOptimizer):
        template = template.inner_optimizer
    if saved.optimizer is None:
        if template is not None and not partial:
            raise MigrationError(
                f"{saved.path} has no optimizer, but the model is compiled with "
                f"{type(template).__name__}."
            )
        return None, None
    if saved.optimizer.problem is not None:
        raise saved.optimizer.problem
    complete, notes = completed(saved.optimizer, template, saved.path)
    builder = OptimizerBuilder(custom_objects, find_tables(model))
    new = builder.build(complete)
    report.notes += [*notes, *builder.notes]
    transfer = StateTransfer(complete, new, model, pairing, saved.layers, saved.path, partial)
    return new, transfer


def _compile_arguments(
    saved: SavedModel, model: keras.Model, custom_objects: CustomObjects
) -> dict[str, Any]:
    """The model's own loss and metrics, or else the file's."""
    own = getattr(model, "_compile_config", None)
    if model.compiled and own is not None:
        return dict(own.config)
    return compile_arguments(saved.training, model, custom_objects)
