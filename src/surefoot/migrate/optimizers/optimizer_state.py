"""Transfers an old optimizer's state to the new one, variable by variable."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

import surefoot
from surefoot.base.averaging import AVERAGE
from surefoot.base.moment_optimizer import MomentOptimizer
from surefoot.base.optimizer import BaseOptimizer
from surefoot.base.shadow import ShadowOptimizer
from surefoot.migrate.errors import MigrationError
from surefoot.migrate.layers.weight_matching import Pairing
from surefoot.migrate.readers.description import Array, SavedLayer, SavedOptimizer

# Old slot names to Keras 3's. (surefoot's optimizers use the old names.)
KERAS_SLOTS: dict[type, dict[str, str]] = {
    keras.optimizers.SGD: {"m": "momentum", "momentum": "momentum"},
    keras.optimizers.Adam: {"m": "momentum", "v": "velocity", "vhat": "velocity_hat"},
    keras.optimizers.Nadam: {"m": "momentum", "v": "velocity"},
    keras.optimizers.RMSprop: {
        "rms": "velocity",
        "velocity": "velocity",
        "momentum": "momentum",
        "mg": "average_gradient",
        "average_gradient": "average_gradient",
    },
}
MANAGED = MomentOptimizer
"""Optimizers with the original's slots by the original's names."""


class StateTransfer:
    """The assignments that transfer an optimizer's state, checked before any is made.

    Args:
        saved: The old optimizer.
        optimizer: The new one; it is built here for the model's trainable variables.
        model: The model.
        pairing: The variable of each saved weight.
        layers: The file's layers; their order is that of unnamed state.
        source: The file, for errors.
        partial: Whether state of unmatched weights is left out.

    Raises:
        MigrationError: If some state does not fit; it lists it, and nothing was assigned.
    """

    def __init__(
        self,
        saved: SavedOptimizer,
        optimizer: Any,
        model: keras.Model,
        pairing: Pairing,
        layers: Sequence[SavedLayer],
        source: str,
        partial: bool = False,
    ) -> None:
        self.rows: list[tuple[str, str, tuple[int, ...]]] = []
        self.notes: list[str] = []
        self.left_out: list[str] = []
        self._assignments: list[Callable[[], None]] = []
        self._saved, self._optimizer, self._source = saved, optimizer, source
        if not saved.has_state:
            return
        self._trainable = list(model.trainable_variables)
        if not self._trainable:
            raise MigrationError(f"{source}: the model has no trainable variable.")
        optimizer.build(self._trainable)
        slots = saved.slots
        if saved.unnamed is not None:
            slots = _sort_unnamed(saved, _file_order(layers, pairing, model), source)
        self._plan_slots(slots, pairing, partial)
        self._plan_step()
        self._plan_scalars()

    def assign(self) -> None:
        """Makes the assignments."""
        for assignment in self._assignments:
            assignment()

    def _plan_slots(
        self, slots: Mapping[str, Mapping[str, Array]], pairing: Pairing, partial: bool
    ) -> None:
        by_key = pairing.by_key
        trainable = {id(variable) for variable in self._trainable}
        problems = []
        restored: dict[int, Any] = {}
        filled: set[int] = set()
        for slot, values in slots.items():
            if self._has_no_effect(slot):
                self.notes.append(f"Slot {slot!r} was left out: without momentum it has no effect.")
                restored |= {id(by_key[key]): by_key[key] for key in values if key in by_key}
                continue
            for key, value in values.items():
                variable = by_key.get(key)
                if variable is None or id(variable) not in trainable:
                    problems.append(f"{slot} of {key}")
                    continue
                target = self._slot(variable, slot)
                if target is None or tuple(target.shape) != tuple(value.shape):
                    problems.append(f"{slot} of {key} {tuple(value.shape)}")
                    continue
                restored[id(variable)] = variable
                filled.add(id(target))
                is_mean = isinstance(self._optimizer, surefoot.SWA) and slot == AVERAGE
                unbegun = is_mean and not value.any()  # there it is the negative zero
                self._plan(target.assign, -np.abs(value) if unbegun else value)
                self.rows.append((f"{slot} of {key}", target.path, tuple(value.shape)))
        missing = [
            target.path
            for variable in restored.values()
            for target in self._all_slots(variable)
            if id(target) not in filled
        ]
        if (problems or missing) and not partial:
            raise MigrationError(
                f"{self._source}: the optimizer's state does not fit "
                f"{type(self._optimizer).__name__} on this model.\n"
                f"  In the file only: {', '.join(problems) or 'nothing'}\n"
                f"  In the optimizer only: {', '.join(missing) or 'nothing'}"
            )
        self.left_out += [*problems, *missing]
        if slots:
            fresh = [v.path for v in self._trainable if id(v) not in restored]
            if fresh:
                self.notes.append(
                    f"The file has no state for {', '.join(fresh)}, which was never trained; its "
                    "state starts at zero."
                )

    def _plan(self, write: Callable[[Any], Any], value: Any) -> None:
        self._assignments.append(lambda: write(value))

    def _has_no_effect(self, slot: str) -> bool:
        """Whether a slot is unused: tf.keras 2.11's SGD saved a velocity even without momentum."""
        return slot == "m" and getattr(self._optimizer, "momentum", None) == 0.0

    def _slot(self, variable: Any, slot: str) -> Any:
        owner = self._optimizer
        if isinstance(owner, ShadowOptimizer):
            if slot == owner.SHADOW:
                return owner.get_slot(variable, slot)
            owner = owner.inner_optimizer
        if isinstance(owner, MANAGED):
            return owner.get_slot(variable, slot) if slot in owner.get_slot_names() else None
        return _keras_slot(owner, variable, slot)

    def _all_slots(self, variable: Any) -> list[Any]:
        """Every slot that the new optimizer has for a variable."""
        owner = self._optimizer
        wraps = isinstance(owner, ShadowOptimizer)
        found = [self._slot(variable, owner.SHADOW)] if wraps else []
        inner = owner.inner_optimizer if wraps else owner
        if isinstance(inner, MANAGED):
            names = [name for name in inner.get_slot_names() if name != "master"]
        else:
            kinds = next(kinds for cls, kinds in KERAS_SLOTS.items() if isinstance(inner, cls))
            # One old name for each slot.
            names = [*{kind: name for name, kind in kinds.items()}.values(), "average"]
        found += [self._slot(variable, name) for name in names]
        return [slot for slot in found if slot is not None]

    def _plan_step(self) -> None:
        step = self._saved.iterations
        optimizer = self._optimizer
        if isinstance(optimizer, surefoot.MultiOptimizer):  # whose parts start anew
            self._plan(optimizer._iterations.assign, step)
        elif isinstance(optimizer, BaseOptimizer):
            self._plan(lambda value: setattr(optimizer, "iterations", value), step)
        else:
            self._plan(optimizer.iterations.assign, step)
        self.rows.append(("step", "iterations", ()))

    def _plan_scalars(self) -> None:
        owner = self._optimizer
        if isinstance(owner, ShadowOptimizer):
            owner = owner.inner_optimizer
        step = self._saved.iterations or 0
        if isinstance(owner, surefoot.Nadam):
            cache = self._saved.scalars.get("momentum_cache")
            if cache is None:
                raise MigrationError(f"{self._source}: Nadam's momentum cache is missing.")
            self._plan(lambda value: _set_momentum_cache(owner, value), cache)
            self.rows.append(("momentum_cache", "momentum_cache", ()))
        elif isinstance(owner, keras.optimizers.Nadam):
            product = self._saved.scalars.get("u_product")
            if product is None:
                product = math.prod(
                    owner.beta_1 * (1 - 0.5 * 0.96**t) for t in range(1, min(step, 10_000) + 1)
                )
            self._plan(owner._u_product.assign, product)
            self.rows.append(("u_product", "u_product", ()))


def _set_momentum_cache(optimizer: surefoot.Nadam, value: float) -> None:
    weights = optimizer.get_weights()
    weights[1] = np.asarray(value, "float64")
    optimizer.set_weights(weights)


def _keras_slot(optimizer: Any, variable: Any, slot: str) -> Any:
    """A slot of a Keras optimizer, found by its name: variable path and kind of slot."""
    names = next(names for cls, names in KERAS_SLOTS.items() if isinstance(optimizer, cls))
    kind = "average" if slot == "average" else names.get(slot)
    if kind is None:
        return None
    trainable = list(optimizer._trainable_variables)
    alike = [v for v in trainable if v.path == variable.path]
    wanted = f"{variable.path.replace('/', '_')}_{kind}"
    found = [v for v in optimizer.variables if v.name == wanted]
    position = next(i for i, v in enumerate(alike) if v is variable)
    return found[position] if len(found) == len(alike) else None


def _file_order(layers: Sequence[SavedLayer], pairing: Pairing, model: keras.Model) -> list[str]:
    """Keys of the trainable weights in Keras 2's order."""
    key_of = {id(variable): weight.key for weight, variable in pairing.pairs}
    order = []
    for layer in layers:
        keys = {weight.key for weight in layer.weights}
        # Within a layer the orders are the same; the order of layers is that of the file.
        order += [
            key_of[id(variable)]
            for variable in model.trainable_variables
            if key_of.get(id(variable)) in keys
        ]
    return order


def _sort_unnamed(
    saved: SavedOptimizer, order: list[str], source: str
) -> dict[str, dict[str, Array]]:
    """Slots for state that is stored in the original's order, without names."""
    config = saved.config
    columns: list[tuple[str, ...]] = [("average",)] if config.get("use_ema") else []
    if saved.class_name == "SGD":
        columns += [("m",)]
    elif saved.class_name in ("Adam", "AdamW", "Nadam"):
        columns += [("m", "v"), *([("vhat",)] if config.get("amsgrad") else [])]
    elif saved.class_name == "RMSprop":
        columns += [("velocity",)]
        columns += [("momentum",)] if config.get("momentum") else []
        columns += [("average_gradient",)] if config.get("centered") else []
    expected = [(slot, key) for column in columns for key in order for slot in column]
    values = saved.unnamed or ()
    if len(values) != len(expected):
        raise MigrationError(
            f"{source}: the optimizer's state does not fit the model's {len(order)} trainable "
            f"weights. Received: {len(values)} arrays for {len(expected)} ({order})."
        )
    slots: dict[str, dict[str, Array]] = {}
    for (slot, key), value in zip(expected, values, strict=True):
        slots.setdefault(slot, {})[key] = value
    return slots
