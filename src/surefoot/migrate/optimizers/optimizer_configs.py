"""Builds the new optimizer from the old optimizer's arguments."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras

import surefoot
from surefoot.legacy_api.heirs import heir
from surefoot.migrate.allowed import CustomObjects, construct, make_object
from surefoot.migrate.errors import MigrationError
from surefoot.migrate.optimizers.addons_tables import ADDONS_TABLES
from surefoot.migrate.optimizers.legacy_rmsprop import LegacyRMSprop
from surefoot.migrate.optimizers.table_optimizers import (
    TableAdam,
    TableKerasNadam,
    TableLegacyRMSprop,
    TableMomentumRMSprop,
    TableMomentumSGD,
    TableNadam,
    TableRectifiedAdam,
    TableRMSprop,
)
from surefoot.migrate.readers.description import (
    Config,
    SavedOptimizer,
    is_legacy_optimizer,
    short_class_name,
)

REMOVED_ARGUMENTS = ("jit_compile", "is_legacy_optimizer")
CLIPPING = ("clipnorm", "clipvalue", "global_clipnorm")


ADDONS_OPTIMIZERS: list[Any] = [
    cls
    for name in surefoot.optimizers.__all__
    if keras.saving.get_registered_object(f"Addons>{name}") is (cls := getattr(surefoot, name))
    and cls is not surefoot.Lookahead
]
"""Those of TensorFlow Addons whose arguments here are the same."""

# For a model with embeddings: the class that updates their tables as the original did.
FOR_TABLES: dict[type, type] = {
    surefoot.RectifiedAdam: TableRectifiedAdam,
    surefoot.Nadam: TableNadam,
    keras.optimizers.Adam: TableAdam,
    keras.optimizers.Nadam: TableKerasNadam,
    keras.optimizers.RMSprop: TableRMSprop,
    LegacyRMSprop: TableLegacyRMSprop,
    **ADDONS_TABLES,
}
# Optimizers of TensorFlow Addons around one other.
WRAPPERS: dict[str, type] = {
    "Lookahead": surefoot.Lookahead,
    "MovingAverage": surefoot.MovingAverage,
    "SWA": surefoot.SWA,
}
NAMES_TABLES = (
    TableRectifiedAdam,
    TableNadam,
    TableMomentumSGD,
    TableMomentumRMSprop,
    *ADDONS_TABLES.values(),
)


class OptimizerBuilder:
    """Builds the Keras 3 optimizer that computes the same as an old one.

    Args:
        custom_objects: The user's learning rate schedules by name.
        tables: Names (`table_name`) of the model's embeddings; empty for most models.
    """

    def __init__(self, custom_objects: CustomObjects, tables: Sequence[str] = ()) -> None:
        self.custom_objects = custom_objects
        self.tables = list(tables)
        self.notes: list[str] = []
        self._makers: dict[tuple[str, bool], Callable[[Config], Any]] = {
            **{
                (cls.__name__, True): functools.partial(self._construct, cls)
                for cls in ADDONS_OPTIMIZERS
            },
            **{(n, True): functools.partial(self._wrapper, c) for n, c in WRAPPERS.items()},
            ("MultiOptimizer", True): self._multi_optimizer,
            ("Nadam", True): self._nadam,
            ("SGD", True): self._legacy_sgd,
            ("Adam", True): lambda c: self._construct(keras.optimizers.Adam, self._undecayed(c)),
            ("RMSprop", True): self._legacy_rmsprop,
            ("SGD", False): lambda c: self._newer(keras.optimizers.SGD, c),
            ("Adam", False): lambda c: self._newer(keras.optimizers.Adam, c),
            ("AdamW", False): self._newer_adamw,
            ("RMSprop", False): lambda c: self._newer(keras.optimizers.RMSprop, c),
            ("Nadam", False): self._newer_nadam,
        }

    def build(self, saved: SavedOptimizer) -> Any:
        """Build the optimizer; its variables are not built yet.

        Args:
            saved: The old optimizer, with all its arguments.

        Returns:
            A Keras optimizer.

        Raises:
            MigrationError: If its class or an argument is not supported.
        """
        if saved.problem is not None and saved.class_name in ("", *(n for n, _ in self._makers)):
            raise saved.problem
        config = saved.config
        if saved.class_name == "NovoGrad" and "vhat" in saved.slots:
            config = {**config, "amsgrad": True}  # which its config left out
        return self._build(saved.class_name, config, saved.legacy)

    def _build(self, name: str, config: Config, legacy: bool) -> Any:
        if (name, legacy) not in self._makers:
            accepted = sorted(known for known, old in self._makers if old == legacy)
            kind = "TensorFlow Addons and optimizers.legacy" if legacy else "tf.keras 2.11 to 2.15"
            found = heir("optimizers", name) if legacy else None
            raise MigrationError(
                f"The file's optimizer cannot be converted. Received: {name!r}. "
                f"Accepted: {', '.join(accepted)} of {kind}."
                + (f" What became of it: {found}." if found else "")
            )
        config = {key: value for key, value in config.items() if key not in REMOVED_ARGUMENTS}
        for key in CLIPPING:
            if config.get(key) is None:
                config.pop(key, None)
        for key in ("learning_rate", "weight_decay"):
            if isinstance(config.get(key), dict):
                config[key] = schedule(config[key], self.custom_objects)
        return self._makers[name, legacy](config)

    def _construct(self, cls: type, config: Config) -> Any:
        if self.tables:
            cls = FOR_TABLES.get(cls, cls)
            clipped = [key for key in CLIPPING if config.get(key) is not None]
            if clipped:
                self.notes.append(
                    f"{clipped[0]}: TensorFlow clips the gradient of an embedding before the rows "
                    "of repeated tokens are summed, as the original did; JAX and PyTorch clip "
                    "afterwards."
                )
        if cls in NAMES_TABLES:
            config = {**config, "tables": self.tables}
        return construct(cls, config)

    def _nadam(self, config: Config) -> Any:
        self.notes.append(
            "Nadam: the old `decay` was its momentum schedule and is now `schedule_decay`."
        )
        config = dict(config)
        config["schedule_decay"] = config.pop("decay", 0.004)
        return self._construct(surefoot.Nadam, config)

    def _wrapper(self, cls: type, config: Config) -> Any:
        config = dict(config)
        inner = config.pop("optimizer", None)
        if not isinstance(inner, dict) or "class_name" not in inner:
            raise MigrationError(f"{cls.__name__} has no inner optimizer. Received: {inner!r}.")
        name = short_class_name(inner.get("registered_name") or inner["class_name"])
        if name in WRAPPERS or name == "MultiOptimizer":
            # Inside of two, the original's innermost one did not count its steps.
            raise MigrationError(f"A {name} inside a {cls.__name__} cannot be converted.")
        arguments = dict(inner["config"])
        for key in CLIPPING:
            # The originals did not use the inner optimizer's clipping.
            value = arguments.pop(key, None)
            if value is not None:
                self.notes.append(
                    f"{cls.__name__}: {key}={value} of the inner {name} was left out; TensorFlow "
                    f"Addons never applied it. To apply it, set it in {cls.__name__}."
                )
        made = self._build(name, arguments, is_legacy_optimizer(arguments))
        return construct(cls, {"optimizer": made, **config})

    def _multi_optimizer(self, config: Config) -> Any:
        self.notes.append(
            "MultiOptimizer: TensorFlow Addons did not save the state of the optimizers inside. It "
            "starts anew, as it did when TensorFlow Addons loaded such a file."
        )
        specs = []
        for spec in config.get("optimizer_specs") or ():
            inner = spec["optimizer"]
            name = short_class_name(inner.get("registered_name") or inner["class_name"])
            made = self._build(name, inner["config"], is_legacy_optimizer(inner["config"]))
            specs.append({"optimizer": made, "weights": spec["weights"]})
        return construct(surefoot.MultiOptimizer, {**config, "optimizer_specs": specs})

    def _undecayed(self, config: Config) -> Config:
        """The arguments with `decay` converted to a schedule."""
        config = dict(config)
        decay = config.pop("decay", 0.0)
        if decay:
            rate = config["learning_rate"]
            config["learning_rate"] = inverse_time_decay(rate, decay)
            self.notes.append(
                f"{config.get('name')}: decay={decay:.6g} became the learning rate schedule "
                f"InverseTimeDecay({rate:.6g}, decay_steps=1, decay_rate={decay:.6g}), which "
                "computes the same; Keras 3 has no `decay`."
            )
        return config

    def _legacy_sgd(self, config: Config) -> Any:
        tables = self.tables and config.get("momentum")
        cls = TableMomentumSGD if tables else keras.optimizers.SGD
        return self._construct(cls, self._undecayed(config))

    def _legacy_rmsprop(self, config: Config) -> Any:
        config = self._undecayed(config)
        if config.get("momentum"):
            cls = TableMomentumRMSprop if self.tables else keras.optimizers.RMSprop
            return self._construct(cls, config)
        self.notes.append(
            "RMSprop: without momentum, the old one added epsilon to the root, like "
            "surefoot.migrate.LegacyRMSprop; keras.optimizers.RMSprop adds it under the root."
        )
        return self._construct(LegacyRMSprop, config)

    def _newer(self, cls: type, config: Config) -> Any:
        config = dict(config)
        if not config.get("use_ema"):
            config.pop("ema_overwrite_frequency", None)
            config.pop("ema_momentum", None)
        return self._construct(cls, config)

    def _newer_adamw(self, config: Config) -> Any:
        # Adam with weight decay is the same, and has a class for embeddings.
        return self._newer(keras.optimizers.Adam if self.tables else keras.optimizers.AdamW, config)

    def _newer_nadam(self, config: Config) -> Any:
        self.notes.append(
            "Nadam of tf.keras 2.11 and later: in compiled code it updated its momentum product "
            "once per variable; Keras 3 updates it once per step. The first steps differ, later "
            "ones hardly."
        )
        return self._newer(keras.optimizers.Nadam, config)


def schedule(saved: Config, custom_objects: CustomObjects) -> Any:
    """A learning rate schedule from its configuration."""
    config = {k: v for k, v in (saved.get("config") or {}).items() if v is not None}
    return make_object("learning rate schedule", {**saved, "config": config}, custom_objects)


def inverse_time_decay(learning_rate: Any, decay: float) -> Any:
    """OptimizerV2's combination of `learning_rate` and `decay`, as a schedule."""
    if not isinstance(learning_rate, int | float):
        raise MigrationError(
            "A learning rate schedule together with `decay` cannot be converted for this "
            f"optimizer. Received: learning_rate={type(learning_rate).__name__}, decay={decay}."
        )
    return keras.optimizers.schedules.InverseTimeDecay(learning_rate, 1, decay)
