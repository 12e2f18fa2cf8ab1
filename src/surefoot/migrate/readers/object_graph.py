"""Reads models and optimizers from the object graph of a TensorFlow checkpoint.

A checkpoint records which object contains which, so weights and slots are found by the objects
that they belong to, not by their names. Only this module needs TensorFlow.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import Any

from surefoot.migrate.errors import MigrationError, MissingTensorFlowError
from surefoot.migrate.readers.description import (
    Array,
    Config,
    SavedLayer,
    SavedWeight,
    short_class_name,
)
from surefoot.migrate.readers.hdf5_guard import MAX_DEPTH, first_line

GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
VALUE = "VARIABLE_VALUE"
TABLE = "table"
# Attributes of a saved model or layer that are not its layers and weights.
NOT_WEIGHTS = {
    "optimizer",
    "keras_api",
    "signatures",
    "variables",
    "trainable_variables",
    "non_trainable_variables",
    "regularization_losses",
    "compiled_loss",
    "compiled_metrics",
    "loss_tracker",
    "metrics",
    "save_counter",
    # The state of random numbers, which Keras 3 draws in another way.
    "_random_generator",
    # Of a lookup layer; they are arguments of the new one.
    "idf_weights",
    "num_documents",
}


def import_tensorflow(path: str) -> Any:
    """Imports TensorFlow; an error says why it is needed."""
    # Without this, TensorFlow prints messages about its build.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        import tensorflow
    except ImportError as error:
        raise MissingTensorFlowError(
            f"{path} is a TensorFlow SavedModel or checkpoint. Reading it needs TensorFlow with "
            "every backend of Keras: install `tensorflow-cpu`. Files saved as .h5 or .keras do "
            "not need it."
        ) from error
    return tensorflow


@dataclasses.dataclass(frozen=True)
class Node:
    """An object of a checkpoint with its children by attribute and its slots."""

    number: int
    children: dict[str, int]
    name: str
    key: str | None
    slots: tuple[tuple[int, str, int], ...]
    table: str | None = None


class ObjectGraph:
    """The objects of a checkpoint and their arrays."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        tensorflow = import_tensorflow(prefix)
        from tensorflow.core.protobuf import trackable_object_graph_pb2

        try:
            self._reader = tensorflow.train.load_checkpoint(prefix)
            self._check_sizes(tensorflow)
            shapes = self._reader.get_variable_to_shape_map()
            if GRAPH_KEY not in shapes:
                raise MigrationError(
                    f"{prefix} is a checkpoint in the format of TensorFlow 1, without an object "
                    "graph, so it is unknown which weight belongs to which layer. Save it with "
                    "`tf.train.Checkpoint(model=..., optimizer=...)`."
                )
            graph = trackable_object_graph_pb2.TrackableObjectGraph.FromString(
                self._reader.get_tensor(GRAPH_KEY)
            )
        except MigrationError:
            raise
        except (
            Exception
        ) as error:  # TensorFlow and protobuf raise many exceptions for damaged data.
            raise MigrationError(
                f"{prefix} cannot be read as a checkpoint: it is truncated, damaged or of another "
                f"kind ({first_line(error)})."
            ) from error
        self.nodes = [_node(i, saved) for i, saved in enumerate(graph.nodes)]
        known = range(len(self.nodes))
        for node in self.nodes:
            linked = [*node.children.values(), *(n for a, _, b in node.slots for n in (a, b))]
            if any(number not in known for number in linked):
                raise MigrationError(f"{prefix}: the object graph is damaged.")

    def _check_sizes(self, tensorflow: Any) -> None:
        """Check that the data files are not smaller than the index says."""
        folder, stem = os.path.split(self.prefix)
        held = sum(
            part.stat().st_size
            for part in pathlib.Path(folder or ".").iterdir()
            if part.name.startswith(f"{stem}.data-")
        )
        types = self._reader.get_variable_to_dtype_map()
        declared = 0
        for key, shape in self._reader.get_variable_to_shape_map().items():
            size = types[key].size or 1
            for length in shape:
                size *= length
            declared += 0 if types[key] == tensorflow.string else size
        if declared > held:
            raise MigrationError(
                f"{self.prefix}: the index declares {declared} bytes, the data files have {held}; "
                "the checkpoint is truncated."
            )

    def child(self, node: Node, name: str) -> Node | None:
        """The child of a node, or None."""
        return self.nodes[node.children[name]] if name in node.children else None

    def value(self, node: Node) -> Array:
        """The array of a variable."""
        try:
            return self._reader.get_tensor(node.key)
        except Exception as error:  # as above
            raise MigrationError(
                f"{self.prefix}: {node.name} cannot be read ({first_line(error)})."
            ) from error

    def table(self, node: Node) -> tuple[list[Any], list[Any]]:
        """What a table looks up, and what it finds; nothing if the node is no table."""
        if node.table is None:
            return [], []
        try:
            words, numbers = (
                self._reader.get_tensor(f"{node.table}-{part}").tolist()
                for part in ("keys", "values")
            )
            return [w.decode() if isinstance(w, bytes) else w for w in words], numbers
        except Exception as error:  # as above
            raise MigrationError(
                f"{self.prefix}: a vocabulary cannot be read ({first_line(error)})."
            ) from error

    def count_layers(self, model: Node) -> int:
        """How many layers a Sequential or Functional model has, otherwise 0."""
        return len([name for name in model.children if name.startswith("layer-")])

    def numbered_entries(self, model: Node, config: Config) -> list[Config]:
        """The configurations of a model's layers, as they are numbered in the graph.

        Args:
            model: The model's node.
            config: Its `{"class_name": ..., "config": {"layers": ...}}`.

        Returns:
            The entries of the layers; an input may be among them that the model does not list.
        """
        entries = list(config["config"]["layers"])
        if short_class_name(config["class_name"] or "") != "Sequential":
            return entries
        entries = [e for e in entries if short_class_name(e["class_name"]) != "InputLayer"]
        if self.count_layers(model) == len(entries) + 1:
            # TensorFlow before 2.2 counted the input, of which the configuration says nothing.
            return [{"class_name": "InputLayer", "config": {"name": ""}}, *entries]
        return entries

    def layers(self, model: Node, names: list[str] | None) -> tuple[list[SavedLayer], list[Node]]:
        """The layers of a model.

        Args:
            model: The model's node.
            names: The layers' names in order, if there is a configuration.

        Returns:
            The layers, and the node of each weight in the order of `SavedModel.weights`.
        """
        # Keras 2 numbers the layers of Sequential and Functional models; in a subclassed model
        # they are attributes.
        count = self.count_layers(model)
        numbered = [f"layer-{i}" for i in range(count)]
        plain = [
            name
            for name in model.children
            if name not in NOT_WEIGHTS and not name.startswith("layer_with_weights-")
        ]
        if names is not None and len(names) != count:
            raise MigrationError(
                f"{self.prefix}: the configuration has {len(names)} layers, the saved objects "
                f"{count}."
            )
        starts = numbered or plain
        missing = [name for name in starts if name not in model.children]
        if missing:
            raise MigrationError(f"{self.prefix}: {missing[0]} is missing.")
        layers, nodes = [], []
        variables = self._variables(model, starts)
        for i, attribute in enumerate(starts):
            layer = self.nodes[model.children[attribute]]
            found = variables[attribute]
            above = () if numbered else (attribute,)
            nodes_found = [node for node, _ in found]
            if names is not None:
                name = names[i]
            elif any(child.startswith("layer-") for child in layer.children):
                name = ""
            else:
                # The weights of a `Normalization` are named without their layer.
                first = nodes_found[0].name if found and numbered else ""
                name = first.split("/")[0] if "/" in first else ""
            weights = tuple(
                SavedWeight(
                    key=f"{name or attribute}: {node.name}#{node.number}"
                    if numbered
                    else "/".join((*above, *path)),
                    name=node.name,
                    address=(),
                    value=self.value(node),
                    path=(*above, *path),
                )
                for node, path in found
            )
            if weights or names is not None:
                layers.append(SavedLayer(name, "", weights, "" if numbered else attribute))
                nodes.extend(nodes_found)
        return layers, nodes

    def _variables(
        self, model: Node, starts: list[str]
    ) -> dict[str, list[tuple[Node, tuple[str, ...]]]]:
        """The variables below some children of a model, and their paths from there.

        Each has the shortest path that leads to it, since objects may also refer back.
        """
        found: dict[str, list[tuple[tuple[int, ...], Node, tuple[str, ...]]]] = {}
        visited = {model.number}
        level: list[tuple[str, Node, tuple[str, ...], tuple[int, ...]]] = [
            (name, self.nodes[model.children[name]], (), ()) for name in starts
        ]
        for _ in range(MAX_DEPTH):
            inner = []
            for start, node, path, order in level:
                if node.number in visited:
                    continue
                visited.add(node.number)
                if node.key is not None:
                    found.setdefault(start, []).append((order, node, path))
                inner += [
                    (start, self.nodes[number], (*path, name), (*order, i))
                    for i, (name, number) in enumerate(node.children.items())
                    if name not in NOT_WEIGHTS
                ]
            level = inner
        if level:
            raise MigrationError(
                f"{self.prefix}: objects are nested more than {MAX_DEPTH} deep at "
                f"{'/'.join(level[0][2][:4])}."
            )
        # In the order in which the objects were created.
        return {
            start: [(node, path) for _, node, path in sorted(found.get(start, ()), key=_order)]
            for start in starts
        }


def _order(found: tuple[tuple[int, ...], Node, tuple[str, ...]]) -> tuple[int, ...]:
    return found[0]


def _node(number: int, saved: Any) -> Node:
    value = next((a for a in saved.attributes if a.name == VALUE), None)
    table = next((a.checkpoint_key for a in saved.attributes if a.name == TABLE), None)
    return Node(
        number=number,
        children={child.local_name: child.node_id for child in saved.children},
        name=value.full_name if value is not None else "",
        key=value.checkpoint_key if value is not None else None,
        slots=tuple(
            (slot.original_variable_node_id, slot.slot_name, slot.slot_variable_node_id)
            for slot in saved.slot_variables
        ),
        table=table,
    )
