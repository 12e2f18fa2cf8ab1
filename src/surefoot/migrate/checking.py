"""Compares what a migrated model computes with what the original computed."""

from __future__ import annotations

import os
import zipfile
from typing import Any

import keras
import numpy as np

from surefoot.migrate.errors import DifferentOutputsError, MigrationError
from surefoot.migrate.readers.description import Array

TOLERANCE = 1e-4
Path = str | os.PathLike[str]


def check(model: keras.Model, recorded: Path, tolerance: float = TOLERANCE) -> dict[str, float]:
    """Compares a model's outputs with recorded ones of the original.

    Args:
        model: The migrated model.
        recorded: A `.npz` file with the arrays `input_0`, `input_1`, ... and the outputs that
            the original computed for them, `output_0`, `output_1`, ...
        tolerance: The largest difference allowed, as a fraction of the largest absolute value
            of an output.

    Returns:
        The difference of each output, as such a fraction.

    Raises:
        FileNotFoundError: If there is no such file.
        DifferentOutputsError: If an output differs more than that, or has another shape.
        MigrationError: If the file does not contain such arrays, or they do not fit the model.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.ReLU()])
        >>> np.savez("check.npz", input_0=[[-1.0, 2.0]], output_0=[[0.0, 2.0]])
        >>> check(model, "check.npz")
        {'output_0': 0.0}
        >>> os.remove("check.npz")
    """
    if not tolerance >= 0:
        raise MigrationError(f"The tolerance must not be negative. Received: {tolerance}.")
    inputs, expected = _read(recorded)
    outputs = [
        keras.ops.convert_to_numpy(output)
        for output in keras.tree.flatten(_call(model, inputs, recorded))
    ]
    if len(outputs) != len(expected):
        raise DifferentOutputsError(
            f"The model has {len(outputs)} outputs, {os.fspath(recorded)} has {len(expected)}."
        )
    differences, wrong = {}, []
    for i, (output, wanted) in enumerate(zip(outputs, expected, strict=True)):
        if output.shape != wanted.shape:
            wrong.append(f"output_{i} has the shape {output.shape} instead of {wanted.shape}")
            continue
        differences[f"output_{i}"] = difference = _difference(output, wanted)
        if not difference <= tolerance:
            wrong.append(f"output_{i} differs by {difference:.2g} of its largest value")
    if wrong:
        raise DifferentOutputsError(
            "The migrated model does not compute what the original computed: "
            f"{'; '.join(wrong)}. Accepted: at most {tolerance:g}."
        )
    return differences


def _read(recorded: Path) -> tuple[list[Array], list[Array]]:
    name = os.fspath(recorded)
    try:
        with open(name, "rb") as file:
            arrays = dict(np.lib.npyio.NpzFile(file, allow_pickle=False))
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise MigrationError(f"{name} cannot be read as a .npz file ({error}).") from error
    found = [
        [arrays[f"{kind}_{i}"] for i in range(len(arrays)) if f"{kind}_{i}" in arrays]
        for kind in ("input", "output")
    ]
    if not all(found) or sum(map(len, found)) != len(arrays):
        raise MigrationError(
            f"{name} must contain arrays input_0, input_1, ... and output_0, output_1, ... "
            f"Received: {sorted(arrays)}."
        )
    return found[0], found[1]


def _call(model: keras.Model, inputs: list[Array], recorded: Path) -> Any:
    try:
        structure: Any = model.input
    except (AttributeError, ValueError):  # a subclassed model
        structure = inputs if len(inputs) > 1 else inputs[0]
    if len(keras.tree.flatten(structure)) != len(inputs):
        raise MigrationError(
            f"The model has {len(keras.tree.flatten(structure))} inputs, {os.fspath(recorded)} "
            f"has {len(inputs)}."
        )
    try:
        return model(keras.tree.pack_sequence_as(structure, inputs), training=False)
    except (ValueError, TypeError) as error:
        raise MigrationError(
            f"The model does not accept the inputs in {os.fspath(recorded)}. Received the shapes "
            f"{[array.shape for array in inputs]}. ({error})"
        ) from error


def _difference(output: Array, wanted: Array) -> float:
    """The largest difference as a fraction of the largest wanted value; NaN equals NaN."""
    output, wanted = output.astype("float64"), wanted.astype("float64")
    if not wanted.size or np.array_equal(output, wanted, equal_nan=True):
        return 0.0
    different = ~((output == wanted) | (np.isnan(output) & np.isnan(wanted)))
    largest = np.abs(wanted[np.isfinite(wanted)]).max(initial=0.0)
    difference = np.abs(output[different] - wanted[different]).max()
    return float(difference / largest) if largest and np.isfinite(difference) else float("inf")
