"""The report of a migration."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from surefoot.migrate.errors import MigrationError
from surefoot.migrate.layers.weight_matching import Pairing
from surefoot.migrate.optimizers.optimizer_state import StateTransfer
from surefoot.migrate.readers.description import SavedModel, SavedOptimizer

KINDS = {
    "h5": "whole model, HDF5",
    "keras": "whole model, Keras 2 .keras",
    "savedmodel": "SavedModel directory",
    "checkpoint": "tf.train.Checkpoint",
}


@dataclasses.dataclass
class Report:
    """The content of an old file and what it became.

    Attributes:
        source: The file.
        kind: A description of the kind of file.
        keras_version: The Keras version in the file, or empty.
        layers: For each layer: name, class, number of weights, number of parameters.
        weights: For each weight: its name in the file, the variable it was assigned to (empty
            after an inspection), its shape.
        optimizer: The old optimizer's class, or empty.
        new_optimizer: The class of the new optimizer, or empty.
        step: The number of updates done, or None if the file has no state.
        hyperparameters: The arguments of the optimizer in the file.
        state: The same as `weights`, for each part of the optimizer's state.
        by_structure: Old and new names of layers that were matched by order and shapes, not by
            name.
        left_out: Weights and variables that a partial restore left out, and what
            `weights_only` left out.
        notes: What was changed or left out, and why.
        problems: What is in the way of a migration, after an inspection.
        needs: What `custom_objects` must contain, by name.
        differences: How much each output differs from a recorded one; see `check`.
    """

    source: str
    kind: str
    keras_version: str
    layers: list[tuple[str, str, int, int]]
    weights: list[tuple[str, str, tuple[int, ...]]]
    optimizer: str = ""
    new_optimizer: str = ""
    step: int | None = None
    hyperparameters: dict[str, Any] = dataclasses.field(default_factory=dict)
    state: list[tuple[str, str, tuple[int, ...]]] = dataclasses.field(default_factory=list)
    by_structure: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    left_out: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    problems: list[str] = dataclasses.field(default_factory=list)
    needs: dict[str, str] = dataclasses.field(default_factory=dict)
    differences: dict[str, float] = dataclasses.field(default_factory=dict)

    @classmethod
    def of_file(cls, saved: SavedModel) -> Report:
        """A report of a file's content."""
        report = cls(
            source=saved.path,
            kind=KINDS[saved.kind],
            keras_version=saved.keras_version,
            layers=[
                (
                    layer.name or layer.attribute,
                    layer.class_name,
                    len(layer.weights),
                    sum(weight.value.size for weight in layer.weights),
                )
                for layer in saved.layers
            ],
            weights=[(w.key, "", tuple(w.value.shape)) for w in saved.weights()],
        )
        if saved.optimizer is not None:
            report.optimizer = _full_name(saved.optimizer)
            report.step = saved.optimizer.iterations
            report.hyperparameters = _flat(saved.optimizer.config)
            report.state = [
                (f"{slot} of {key}", "", tuple(value.shape))
                for slot, values in saved.optimizer.slots.items()
                for key, value in values.items()
            ]
            report.state += [
                (f"array {i} of the optimizer", "", tuple(value.shape))
                for i, value in enumerate(saved.optimizer.unnamed or ())
            ]
        return report

    def add_transfer(self, pairing: Pairing, optimizer: Any, state: StateTransfer | None) -> None:
        """Adds what became of the weights and of the optimizer's state."""
        self.weights = [(w.key, v.path, tuple(w.value.shape)) for w, v in pairing.pairs]
        self.by_structure = list(pairing.by_structure)
        self.left_out += [*pairing.unmatched_saved, *pairing.unmatched_model]
        if optimizer is not None:
            self.new_optimizer = new_name(optimizer)
        if state is not None:
            self.state = state.rows
            self.notes += state.notes
            self.left_out += state.left_out

    def add_problems(self, problems: Iterable[MigrationError]) -> None:
        """Adds what is in the way of a migration."""
        for problem in problems:
            self.problems.append(problem.reason)
            self.needs |= problem.needs

    def custom_objects(self) -> str:
        """`custom_objects` as Python code in which the user's classes are to be filled in."""
        lines = [f"    {name!r}: ...,  # {what}" for name, what in self.needs.items()]
        return "\n".join(["custom_objects = {", *lines, "}"]) if lines else ""

    def __str__(self) -> str:
        found = (
            f"{self.source}: {self.kind}, {len(self.layers)} layers, {len(self.weights)} weights"
        )
        lines = [found]
        if self.optimizer:
            step = "no state" if self.step is None else f"step {self.step}"
            became = f" -> {self.new_optimizer}" if self.new_optimizer else ""
            lines.append(f"optimizer {self.optimizer}{became}, {step}")
        lines += [f"left out: {entry}" for entry in self.left_out]
        lines += [f"in the way: {problem}" for problem in self.problems]
        return "\n".join([*lines, *self.notes, *filter(None, [self.custom_objects()])])


def new_name(optimizer: Any) -> str:
    """The name with package, such as `surefoot.RectifiedAdam`, and that of an inner optimizer."""
    cls = type(optimizer)
    package = "surefoot" if cls.__module__.startswith("surefoot") else "keras.optimizers"
    inner = getattr(optimizer, "inner_optimizer", None)
    return f"{package}.{cls.__name__}" + (f"({new_name(inner)})" if inner is not None else "")


def _full_name(saved: SavedOptimizer) -> str:
    inner = saved.config.get("optimizer")
    name = saved.class_name or "(class not in the file)"
    if isinstance(inner, dict) and inner.get("class_name"):
        name += f"({inner['class_name'].rsplit('>', 1)[-1]})"
    return name + ("" if saved.legacy else " (tf.keras 2.11 or later)")


def names_in(saved: Any) -> str:
    """The names of a file's losses or metrics."""
    if isinstance(saved, dict) and "class_name" in saved:
        config = saved.get("config")
        name = config.get("name") if isinstance(config, dict) else config
        return str(name or saved["class_name"])
    inner = saved.items() if isinstance(saved, dict) else enumerate(saved or ())
    if isinstance(saved, dict | list | tuple):
        return ", ".join(filter(None, (names_in(value) for _, value in inner)))
    return "" if saved is None else str(saved)


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if key == "optimizer" and isinstance(value, dict):
            flat |= {f"inner {k}": v for k, v in _flat(value.get("config") or {}).items()}
        elif isinstance(value, dict) and "class_name" in value:
            arguments = ", ".join(f"{k}={v}" for k, v in (value.get("config") or {}).items())
            flat[key] = f"{value['class_name']}({arguments})"
        elif value is not None:
            flat[key] = value
    return flat
