"""Reads `tf.train.Checkpoint(model=..., optimizer=...)` and files of `model.save_weights`."""

from __future__ import annotations

import dataclasses
import os
import pathlib

from surefoot.migrate.errors import MigrationError
from surefoot.migrate.readers.description import (
    GROWTH_STEPS,
    Array,
    Config,
    LossScale,
    SavedLayer,
    SavedModel,
    SavedOptimizer,
    is_legacy_optimizer,
    read_optimizer,
    short_class_name,
    without_loss_scale,
)
from surefoot.migrate.readers.object_graph import Node, ObjectGraph
from surefoot.migrate.readers.slot_names import sort_named_state

DEFAULT_MODEL = "model"
# Under which names Lookahead, and MovingAverage and SWA have the optimizer inside.
INNER = ("lh_base_optimizer", "awg_optimizer")


def read_checkpoint(prefix: str, model: str, optimizer: str) -> SavedModel:
    """Reads a checkpoint's model and optimizer.

    Args:
        prefix: The checkpoint's prefix, such as `"folder/ckpt"` for `folder/ckpt.index`.
        model: The attribute of the model: `"model"` for `Checkpoint(model=...)`. If this
            default is missing, or empty, the checkpoint is read as one of `model.save_weights`.
        optimizer: The attribute of the optimizer.

    Returns:
        Its content, without configuration and loss, which checkpoints do not have.

    Raises:
        MigrationError: If it is damaged, or the attributes do not exist.
    """
    graph = ObjectGraph(prefix)
    root = graph.nodes[0]
    model_node = graph.child(root, model) if model else root
    hint = ""
    if model_node is None and model == DEFAULT_MODEL:
        model_node = root
        hint = (
            f"The checkpoint has no object {model!r}, so it was read as one that "
            "`model.save_weights` wrote. If `tf.train.Checkpoint` wrote it, choose the model with "
            f"model_name=... from {sorted(root.children)}."
        )
    if model_node is None:
        raise MigrationError(
            f"{prefix} has no object {model!r}; it has {sorted(root.children)}. Choose the model "
            "with model_name=..."
        )
    layers, nodes = graph.layers(model_node, None)
    optimizer_node = graph.child(root, optimizer) or graph.child(model_node, optimizer)
    saved = None
    if optimizer_node is not None:
        saved = read_optimizer(
            lambda: read_graph_optimizer(graph, optimizer_node, layers, nodes, None), None, prefix
        )
    return SavedModel(prefix, "checkpoint", "", None, None, tuple(layers), saved, hint)


def checkpoint_prefix(path: str) -> str | None:
    """The checkpoint prefix for a path: a prefix, an index file or a directory."""
    if path.endswith(".index") and os.path.isfile(path):
        return path.removesuffix(".index")
    if os.path.isfile(f"{path}.index"):
        return path
    if os.path.isdir(path):
        found = sorted(pathlib.Path(path).glob("*.index"))
        if len(found) == 1:
            return str(found[0]).removesuffix(".index")
        if found:
            raise MigrationError(
                f"{path} contains several checkpoints; choose one: "
                f"{[str(f).removesuffix('.index') for f in found]}."
            )
    return None


def read_graph_optimizer(
    graph: ObjectGraph,
    node: Node | None,
    layers: list[SavedLayer],
    nodes: list[Node],
    saved: Config | None,
) -> SavedOptimizer:
    """Reads an optimizer from an object graph.

    Args:
        graph: The graph.
        node: The optimizer's object, or None if there is none.
        layers: The model's layers.
        nodes: The object of each weight in them.
        saved: The optimizer's configuration, which a SavedModel has.

    Returns:
        The optimizer.
    """
    saved, loss_scale = (None, None) if saved is None else without_loss_scale(saved)
    arguments = saved["config"] if saved is not None else {}
    if node is None:
        # Keras writes no object for an optimizer that has done no step.
        return SavedOptimizer(
            short_class_name(saved["class_name"]) if saved else "",
            arguments,
            saved is not None,
            is_legacy_optimizer(arguments),
            None,
            loss_scale=loss_scale,
        )
    loss_scale = _present_scale(graph, node, loss_scale)
    legacy = "_iterations" not in node.children
    hyperparameters = _scalars(graph, node)
    inside = (graph.child(node, name) for name in INNER)
    inner = next((found for found in inside if found is not None), None)
    iterations = hyperparameters.pop("iter", hyperparameters.pop("_iterations", None))
    scalars = {
        name: hyperparameters.pop(stored)
        for stored, name in (("momentum_cache", "momentum_cache"), ("_u_product", "u_product"))
        if stored in hyperparameters
    }
    keys = {
        n.number: weight.key
        for n, weight in zip(nodes, (w for layer in layers for w in layer.weights), strict=True)
    }
    slots: dict[str, dict[str, Array]] = {}
    if legacy:
        for owner in (node, inner):
            for variable, slot, stored in owner.slots if owner else ():
                if variable in keys:
                    slots.setdefault(slot, {})[keys[variable]] = graph.value(graph.nodes[stored])
    else:
        held = graph.child(node, "_variables")
        numbers = sorted(held.children.items(), key=lambda c: int(c[0])) if held else []
        named = [(graph.nodes[n].name, graph.value(graph.nodes[n])) for _, n in numbers]
        slots = sort_named_state(named, layers, False, graph.prefix).slots
    if saved is None:
        arguments = {name.removeprefix("_"): value for name, value in hyperparameters.items()}
        if inner is not None:
            arguments = {"optimizer": {"class_name": "", "config": _scalars(graph, inner)}}
    return SavedOptimizer(
        class_name=short_class_name(saved["class_name"]) if saved else "",
        config=arguments,
        complete=saved is not None,
        legacy=legacy,
        iterations=None if iterations is None else int(iterations),
        slots=slots,
        scalars=scalars,
        loss_scale=loss_scale,
    )


def _present_scale(graph: ObjectGraph, node: Node, known: LossScale | None) -> LossScale | None:
    """The scale of the loss at the end, where that was not fixed."""
    held = graph.child(node, "loss_scale")
    scale = None if held is None else _scalars(graph, held).get("current_loss_scale")
    if scale is None:
        return known
    return dataclasses.replace(known or LossScale(scale, GROWTH_STEPS), scale=scale)


def _scalars(graph: ObjectGraph, node: Node) -> dict[str, float]:
    """An optimizer's single numbers: its hyperparameters, its step, its momentum cache."""
    found = {}
    for name, number in node.children.items():
        held = graph.nodes[number]
        if held.key is not None:
            value = graph.value(held)
            if value.shape == ():
                found[name] = value.item()
    return found
