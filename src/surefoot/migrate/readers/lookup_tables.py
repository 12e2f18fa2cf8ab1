"""Finds the vocabularies of lookup layers, and writes them into the layers' configurations.

Keras 2 left a vocabulary that a layer had learned by `adapt` out of its configuration. A `.keras`
archive has it as a text file, a SavedModel as constants with which a function fills the table.
"""

from __future__ import annotations

import math
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from surefoot.migrate.errors import MigrationError
from surefoot.migrate.readers.archive import ModelArchive
from surefoot.migrate.readers.description import LOOKUPS, Config, short_class_name
from surefoot.migrate.readers.hdf5_guard import GuardedHDF5, first_line
from surefoot.migrate.readers.object_graph import Node, ObjectGraph

INNER = "_lookup_layer"
OLD_INNER, TABLES = (INNER, "_index_lookup_layer"), ("lookup_table", "_table")
IDF = "idf_weights"
# Types by their numbers in TensorFlow's files: how the bytes are read, and the field of the values.
INTEGERS = {3: ("<i4", "int_val"), 9: ("<i8", "int64_val")}
STRING = 7

Place = tuple[str, ...]
Children = Callable[[Config, Place], Iterator[tuple[str, Config]]]


def fill_from_archive(
    archive: ModelArchive, guarded: GuardedHDF5, model: Config, children: Children
) -> None:
    """Fills in the vocabularies that an archive has as text files.

    Args:
        archive: The archive.
        guarded: Its arrays.
        model: The model's `{"class_name": ..., "config": ...}`.
        children: Gives the path in the archive and the entry of each layer of a model.

    Raises:
        MigrationError: If a vocabulary does not have as many words as the layer says.
    """
    for place, entry in _lookups(model, children, ()):
        config = entry["config"]
        file = "/".join(("assets", *place, "vocabulary.txt"))
        if not archive.has(file):
            continue
        words = archive.read(file).decode("utf-8").split("\n")
        # One word a line: a word that has a line break in it cannot be told from two.
        if len(words) != config.get("vocabulary_size", len(words)):
            raise MigrationError(
                f"{archive.path}: the vocabulary of layer {config.get('name')!r} has {len(words)} "
                f"lines for {config['vocabulary_size']} words. Pass the layer with its vocabulary: "
                f"custom_objects={{{config.get('name')!r}: YourLayer}}."
            )
        numbers = short_class_name(entry["class_name"]) == "IntegerLookup"
        config["vocabulary"] = [int(word) for word in words] if numbers else words
        group = guarded.group("/".join((*place, "vars")))
        if group is not None and IDF in group:
            config[IDF] = guarded.array(group, IDF).tolist()[: len(words)]


def fill_from_savedmodel(folder: pathlib.Path, graph: ObjectGraph, model: Config) -> None:
    """Fills in the vocabularies that a SavedModel has as constants.

    Args:
        folder: The SavedModel.
        graph: The objects of its checkpoint, which has the weights of the words.
        model: The model's `{"class_name": ..., "config": ...}`.

    Raises:
        MigrationError: If `saved_model.pb` is damaged.
    """

    def children(entry: Config, place: Place) -> Iterator[tuple[str, Config]]:
        node = _node(graph, place)
        inner = [] if node is None else graph.numbered_entries(node, entry)
        return ((f"layer-{i}", layer) for i, layer in enumerate(inner))

    found = list(_lookups(model, children, ()))
    if not found:
        return
    from tensorflow.core.protobuf import saved_model_pb2

    file = folder / "saved_model.pb"
    try:
        saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
        calls = saved.meta_graphs[0]
    except Exception as error:  # protobuf's DecodeError moves between its versions.
        raise MigrationError(f"{file} is damaged ({first_line(error)}).") from error
    for place, entry in found:
        config = entry["config"]
        words = _table(graph, place) or _words(calls, place, str(file))
        if words:
            config["vocabulary"] = words
            node = _node(graph, (*place, INNER)) or _node(graph, place)
            held = None if node is None else graph.child(node, IDF)
            if held is not None and held.key is not None:
                # Keras puts the weight of unknown words first.
                config[IDF] = graph.value(held).tolist()[1 : len(words) + 1]


def _lookups(model: Config, children: Children, place: Place) -> Iterator[tuple[Place, Config]]:
    """Place and entry of each lookup layer that has no vocabulary, in inner models, too."""
    for name, entry in children(model, place):
        config = entry.get("config")
        here = (*place, *name.split("/"))
        if not isinstance(config, dict):
            continue
        if isinstance(config.get("layers"), list):
            yield from _lookups(entry, children, here)
        elif is_lookup(entry) and not config.get("vocabulary"):
            yield here, entry


def is_lookup(entry: Config) -> bool:
    """Whether an entry describes a lookup layer."""
    return short_class_name(str(entry.get("class_name"))) in LOOKUPS


def _node(graph: ObjectGraph, place: Place) -> Node | None:
    node: Node | None = graph.nodes[0]
    for name in place:
        node = None if node is None else graph.child(node, name)
    return node


def _table(graph: ObjectGraph, place: Place) -> list[Any]:
    """The words of a table in the checkpoint, where TensorFlow 2.3 to 2.8 had it."""
    for way in (*((inner,) for inner in OLD_INNER), ()):
        for name in TABLES:
            node = _node(graph, (*place, *way, name))
            words, numbers = ([], []) if node is None else graph.table(node)
            if words:
                return _in_order(words, numbers, place, graph.prefix)
    return []


def _words(calls: Any, place: Place, source: str) -> list[Any]:
    """The words of a table in the order of their numbers, or none if the file lacks them."""
    objects = calls.object_graph_def

    def below(number: int, name: str) -> int:
        found = (c.node_id for c in objects.nodes[number].children if c.local_name == name)
        return next(found, -1)

    try:
        number = 0
        for name in place:
            number = below(number, name)
        inner = below(number, INNER)
        table = below(number if inner < 0 else inner, "lookup_table")
        initialize = below(table, "_initialize")
        if min(number, table, initialize) < 0:
            return []
        (name,) = objects.nodes[initialize].function.concrete_functions
        # The table itself, what is looked up, and what is found.
        _, keys, values = objects.concrete_functions[name].bound_inputs
        constants = {node.name: node for node in calls.graph_def.node if node.op == "Const"}
        looked_up, found = (
            _array(constants[objects.nodes[n].constant.operation].attr["value"].tensor)
            for n in (keys, values)
        )
    except (ValueError, KeyError, IndexError, UnicodeDecodeError) as error:
        raise MigrationError(
            f"{source}: the vocabulary of layer {'/'.join(place)} cannot be read "
            f"({type(error).__name__}: {first_line(error)})."
        ) from error
    return _in_order(looked_up, found, place, source)


def _in_order(keys: list[Any], values: list[Any], place: Place, source: str) -> list[Any]:
    """The words in the order of their numbers, which must be without gaps."""
    words, numbers = keys, values
    if any(isinstance(number, str) for number in numbers):
        words, numbers = values, keys  # of a layer that looks numbers up, to find words
    found = dict(zip(numbers, words, strict=False))
    order = sorted(found)
    if not order or len(words) != len(order) or order[-1] - order[0] + 1 != len(words):
        raise MigrationError(
            f"{source}: the vocabulary of layer {'/'.join(place)} has gaps or numbers twice."
        )
    return [found[number] for number in order]


def _array(tensor: Any) -> list[Any]:
    """The values of a tensor, all of which must be in the file."""
    size = math.prod(dimension.size for dimension in tensor.tensor_shape.dim)
    if tensor.dtype == STRING:
        values = [word.decode("utf-8") for word in tensor.string_val]
    else:
        kind, field = INTEGERS[tensor.dtype]
        content = tensor.tensor_content
        values = np.frombuffer(content, kind).tolist() if content else [*getattr(tensor, field)]
    if len(values) != size:
        raise ValueError(f"{len(values)} values for {size}")
    return values
