"""Reads SavedModel directories that Keras 2 wrote."""

from __future__ import annotations

import pathlib
from typing import Any

from surefoot.migrate.errors import MigrationError
from surefoot.migrate.readers.checkpoint_reader import read_graph_optimizer
from surefoot.migrate.readers.description import (
    Config,
    SavedLayer,
    SavedModel,
    read_optimizer,
    short_class_name,
)
from surefoot.migrate.readers.hdf5_guard import first_line, parse_json
from surefoot.migrate.readers.lookup_tables import fill_from_savedmodel
from surefoot.migrate.readers.object_graph import ObjectGraph, import_tensorflow

METADATA = "keras_metadata.pb"
GRAPHS = "saved_model.pb"
PARTS = (METADATA, GRAPHS)
"""A directory with one of these files is a SavedModel."""


def read_savedmodel(path: str) -> SavedModel:
    """Reads model, loss and optimizer from a SavedModel directory of Keras 2.

    Args:
        path: The directory.

    Returns:
        Its content; without a configuration, if it is a model of the user's own class.

    Raises:
        MigrationError: If it is damaged or was not written by Keras 2.
    """
    folder = pathlib.Path(path)
    if not (folder / "variables").is_dir():
        raise MigrationError(
            f"{path} is not a complete SavedModel: `variables/` is missing. "
            f"Received: {sorted(entry.name for entry in folder.iterdir())}."
        )
    root = _read_metadata(folder)
    config = {"class_name": root.get("class_name"), "config": root.get("config")}
    graph = ObjectGraph(str(folder / "variables" / "variables"))
    entries = _entries(config, graph)
    if entries is not None:
        fill_from_savedmodel(folder, graph, config)
    names = None if entries is None else [entry["config"]["name"] for entry in entries]
    layers, nodes = graph.layers(graph.nodes[0], names)
    if entries is not None:
        layers = [
            SavedLayer(layer.name, short_class_name(entry["class_name"]), layer.weights)
            for layer, entry in zip(layers, entries, strict=True)
        ]
    training = root.get("training_config")
    saved = None
    if training and training.get("optimizer_config"):
        node = graph.child(graph.nodes[0], "optimizer")
        compiled = training["optimizer_config"]
        saved = read_optimizer(
            lambda: read_graph_optimizer(graph, node, layers, nodes, compiled), compiled, path
        )
    return SavedModel(
        path=path,
        kind="savedmodel",
        keras_version=str(root.get("keras_version") or "2"),
        config=None if entries is None else config,
        training=training,
        layers=tuple(layers),
        optimizer=saved,
    )


def _read_metadata(folder: pathlib.Path) -> Config:
    """What Keras wrote about the model.

    TensorFlow 2.5 and later have it in a file of its own, TensorFlow 2.0 to 2.4 in the object
    graph of `saved_model.pb`.
    """
    import_tensorflow(str(folder))
    file = folder / (METADATA if (folder / METADATA).is_file() else GRAPHS)
    try:
        content = file.read_bytes()
        found = _metadata_of_root(content, separate=file.name == METADATA)
    except Exception as error:  # protobuf's DecodeError moves between its versions.
        raise MigrationError(f"{file} is damaged ({first_line(error)}).") from error
    if not found:
        raise MigrationError(
            f"{folder} is a SavedModel without Keras's description of the model: neither in "
            f"`{METADATA}` (TensorFlow 2.5 and later) nor in `{GRAPHS}` (2.0 to 2.4). Only models "
            "that `model.save` wrote can be loaded, not those of `tf.saved_model.save` for another "
            f"object. Received: {sorted(entry.name for entry in folder.iterdir())}."
        )
    root = _without_wrappers(parse_json(found, str(file)))
    if not isinstance(root, dict):
        raise MigrationError(f"{file} does not describe the model.")
    return root


def _metadata_of_root(content: bytes, *, separate: bool) -> str:
    """The JSON about the outermost model, or an empty string."""
    if separate:
        from tensorflow.python.keras.protobuf import saved_metadata_pb2

        nodes = saved_metadata_pb2.SavedMetadata.FromString(content).nodes
        return next((node.metadata for node in nodes if node.node_path == "root"), "")
    from tensorflow.core.protobuf import saved_model_pb2

    graphs = saved_model_pb2.SavedModel.FromString(content).meta_graphs
    objects = graphs[0].object_graph_def.nodes if graphs else ()
    return objects[0].user_object.metadata if objects else ""


def _without_wrappers(value: Any) -> Any:
    """Converts tuples and shapes that TensorFlow wrapped for JSON to lists."""
    if isinstance(value, dict):
        if value.get("class_name") in ("__tuple__", "TensorShape") and "items" in value:
            return [_without_wrappers(item) for item in value["items"]]
        return {
            key: _without_wrappers(item) for key, item in value.items() if key != "shared_object_id"
        }
    if isinstance(value, list):
        return [_without_wrappers(item) for item in value]
    return value


def _entries(config: Config, graph: ObjectGraph) -> list[Config] | None:
    """The configurations of the numbered layers, or None for a model of the user's own class."""
    inner = config["config"]
    if not isinstance(inner, dict) or not isinstance(inner.get("layers"), list):
        return None
    return graph.numbered_entries(graph.nodes[0], config)
