"""The recorded trajectories of the original optimizers, read from ``tests/data``."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import reference
from reference_base import LISTS, Gradient, Number, Reference, Rows

DIRECTORY = Path(__file__).parent / "data" / "trajectories"


@dataclass(frozen=True)
class Case:
    """One recorded run: how it was configured, and where it was after every step."""

    name: str
    optimizer: str
    steps: int
    sparse: bool
    slot_names: tuple[str, ...]
    recorded_config: dict[str, Any]
    dtype: str = "float64"

    @property
    def config(self) -> dict[str, Any]:
        """The originals' ``get_config()``, a copy of its own for each caller."""
        return copy.deepcopy(self.recorded_config)

    @cached_property
    def _arrays(self) -> dict[str, np.ndarray]:
        with np.load(DIRECTORY / f"{self.name}.npz") as data:
            return dict(data)

    @property
    def variables(self) -> list[str]:
        """Names of the variables, in the order they were handed to the optimizer."""
        return [key.removeprefix("start/") for key in self._arrays if key.startswith("start/")]

    def start(self) -> list[np.ndarray]:
        """Parameters before the first step."""
        return [self._arrays[f"start/{v}"] for v in self.variables]

    def gradients(self, step: int) -> list[Gradient]:
        """Gradients of the given step, counted from 1."""
        return [self._gradient(f"grad/{step}/{v}") for v in self.variables]

    def _gradient(self, name: str) -> Gradient:
        if f"{name}/indices" in self._arrays:
            return Rows(self._arrays[f"{name}/indices"], self._arrays[f"{name}/values"])
        return self._arrays.get(name)

    def parameters(self, step: int) -> list[np.ndarray]:
        """Parameters after the given step, counted from 1."""
        return [self._arrays[f"param/{step}/{v}"] for v in self.variables]

    def slots(self, kind: str = "slot") -> dict[str, list[np.ndarray]]:
        """Slots after the last step by name; kind "inner_slot" for those inside Lookahead."""
        names = dict.fromkeys(k.split("/")[1] for k in self._arrays if k.startswith(f"{kind}/"))
        return {n: [self._arrays[f"{kind}/{n}/{v}"] for v in self.variables] for n in names}

    def weights(self) -> list[np.ndarray]:
        """What ``get_weights()`` returned after the last step."""
        count = sum(key.startswith("weights/") for key in self._arrays)
        return [self._arrays[f"weights/{i}"] for i in range(count)]


def _read_index() -> list[Case]:
    indices = [json.loads(path.read_text()) for path in sorted(DIRECTORY.glob("*.json"))]
    return [
        Case(
            name=entry["name"],
            optimizer=entry["optimizer"],
            steps=entry["steps"],
            sparse=entry["sparse"],
            slot_names=tuple(entry["slot_names"]),
            recorded_config=entry["config"],
            dtype=entry.get("dtype", "float64"),
        )
        for index in indices
        for entry in index["cases"]
    ]


CASES = _read_index()
DENSE = [case for case in CASES if not case.sparse]
SPARSE = [case for case in CASES if case.sparse]


def _number(entry: float | dict[str, Any]) -> Number:
    if isinstance(entry, dict):
        schedule = entry["config"]
        if "step_size" in schedule:
            scales = {"Triangular2": lambda x: 0.5 ** (x - 1), "Triangular": lambda x: 1.0}
            name = entry["class_name"].removesuffix("CyclicalLearningRate")
            return reference.cyclical(
                schedule["initial_learning_rate"],
                schedule["maximal_learning_rate"],
                schedule["step_size"],
                scales.get(name, lambda x: schedule["gamma"] ** x),
                schedule["scale_mode"] == "cycle",
            )
        return reference.exponential_decay(
            schedule["initial_learning_rate"], schedule["decay_steps"], schedule["decay_rate"]
        )
    return entry


def reference_of(case: Case) -> Reference:
    """The NumPy reference set up as the recorded run was."""
    return _reference_from(case.optimizer, case.config, case.start(), case.variables)


def _reference_from(
    kind: str, config: dict[str, Any], start: list[np.ndarray], variables: list[str]
) -> Reference:
    def inside(inner: dict[str, Any]) -> Reference:
        return _reference_from(inner["class_name"], inner["config"], start, variables)

    del config["name"]
    if kind == "MultiOptimizer":
        parts = [
            (inside(spec["optimizer"]), {variables.index(w.split(":")[0]) for w in spec["weights"]})
            for spec in config["optimizer_specs"]
        ]
        return reference.MultiOptimizer(parts)
    if "optimizer" in config:
        return getattr(reference, kind)(inside(config.pop("optimizer")), **config)
    if kind == "Nadam":
        config["schedule_decay"] = config.pop("decay")
    elif kind in ("SGD", "Adam") and (config.pop("decay") or config.pop("amsgrad", False)):
        raise ValueError(f"the reference's {kind} has neither decay nor amsgrad")
    for name in ("learning_rate", "weight_decay"):
        if name in config:
            config[name] = _number(config[name])
    for name, ours in LISTS.items():
        if name in config:
            config[ours] = _matching(variables, config.pop(name))
    return getattr(reference, kind)(start, **config)


def _matching(variables: list[str], patterns: list[str] | None) -> frozenset[int]:
    """The positions of the variables whose name matches one of the patterns."""
    return frozenset(
        i for i, name in enumerate(variables) for p in patterns or () if re.search(p, name)
    )
