"""Takes the bounds that a `Discretization` layer has learned out of its summary of the data.

Keras 2 saved the summary as a weight; in Keras 3 the bounds are an argument.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from surefoot.migrate.errors import MigrationError
from surefoot.migrate.readers.description import Array, Config, SavedModel, short_class_name


def with_learned_bounds(saved: SavedModel) -> SavedModel:
    """Writes learned bounds into the configurations of the layers.

    Args:
        saved: The content of a file, whose configuration is changed.

    Returns:
        The content without the weights that are arguments now.

    Raises:
        MigrationError: If a summary is not one.
    """
    entries = ((saved.config or {}).get("config") or {}).get("layers") or ()
    learned = {
        entry["config"]["name"]: entry["config"]
        for entry in entries
        if short_class_name(entry["class_name"]) == "Discretization"
    }
    layers = []
    for layer in saved.layers:
        if layer.name in learned and layer.weights:
            config = learned[layer.name]
            if config.get("bin_boundaries") is None:
                config["bin_boundaries"] = _bounds(layer.weights[0].value, config)
                config["num_bins"] = None
            layers.append(dataclasses.replace(layer, weights=()))
        else:
            layers.append(layer)
    return dataclasses.replace(saved, layers=tuple(layers))


def _bounds(summary: Array, config: Config) -> list[float]:
    """What Keras computes of a summary: values in order and how often each was seen."""
    bins = config.get("num_bins")
    if summary.ndim != 2 or summary.shape[0] != 2 or not isinstance(bins, int) or bins < 2:
        raise MigrationError(
            f"Layer {config.get('name')!r}: no bounds can be computed for num_bins={bins!r} from "
            f"a summary of the shape {summary.shape}."
        )
    values, counts = summary.astype("float32")
    share = 1.0 / bins
    if len(values) * share >= 1:
        seen = np.cumsum(counts)
        values = np.interp(share + np.arange(0.0, 1.0, share), seen / seen[-1], values)
    return [float(value) for value in values.astype("float32")[:-1]]
