"""Object graphs made to do harm: refused, or read as far as they are sound."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from migrate.legacy_files import RECORDED
from migrate.test_subclassed import Containers, built
from surefoot.migrate import MigrationError, restore

GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"

pytestmark = pytest.mark.once


def with_graph(folder: pathlib.Path, change: Callable[[Any], None]) -> str:
    """A copy of a recorded checkpoint with another object graph."""
    import tensorflow as tf
    from tensorflow.core.protobuf import trackable_object_graph_pb2

    reader = tf.train.load_checkpoint(str(RECORDED / "containers_weights" / "ckpt"))
    arrays = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    graph = trackable_object_graph_pb2.TrackableObjectGraph.FromString(arrays[GRAPH_KEY])
    change(graph)
    arrays[GRAPH_KEY] = np.array(graph.SerializeToString(), object)
    prefix = str(folder / "ckpt")
    tf.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=list(arrays),
        shape_and_slices=[""] * len(arrays),
        tensors=[tf.constant(value) for value in arrays.values()],
    )
    return prefix


def place(graph: Any, *names: str) -> Any:
    node = graph.nodes[0]
    for name in names:
        child = next(c for c in node.children if c.local_name == name)
        node = graph.nodes[child.node_id]
    return node


def chain(graph: Any) -> None:
    for i in range(100_000):
        node = graph.nodes.add()
        node.children.add(node_id=len(graph.nodes), local_name=str(i))
    graph.nodes.add()
    graph.nodes[0].children.add(node_id=len(graph.nodes) - 1, local_name="end")
    start = len(graph.nodes) - 100_001
    place(graph, "blocks").children.add(node_id=start, local_name="2")


def outside(graph: Any) -> None:
    place(graph, "blocks", "0").children.add(node_id=10**6, local_name="third")


def negative(graph: Any) -> None:
    place(graph, "blocks", "0").children.add(node_id=-1, local_name="third")


def swapped(graph: Any) -> None:
    place(graph, "stem").children[0].local_name = "-1"


def another_key(graph: Any) -> None:
    place(graph, "blocks", "0", "first", "kernel").attributes[0].checkpoint_key = "nothing"


@pytest.mark.parametrize("change", [chain, outside, negative, swapped, another_key])
def test_a_graph_that_leads_astray(change: Callable[[Any], None], tmp_path: pathlib.Path) -> None:
    model = built(Containers())
    before = model.get_weights()
    with pytest.raises(MigrationError):
        restore(with_graph(tmp_path, change), model)
    for ours, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, old)


def test_a_graph_that_goes_in_circles(tmp_path: pathlib.Path) -> None:
    def circle(graph: Any) -> None:
        place(graph, "blocks", "0").children.add(node_id=0, local_name="owner")

    model: keras.Model = built(Containers())
    assert restore(with_graph(tmp_path, circle), model).step == 10
