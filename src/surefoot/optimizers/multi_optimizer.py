"""MultiOptimizer: an optimizer for each part of a model."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Unpack

import keras

from surefoot.arguments import checks, keywords
from surefoot.arguments.signatures import KerasArguments
from surefoot.base import inner_optimizers, registration
from surefoot.base.composite import CompositeOptimizer
from surefoot.base.inner_step import apply_unconstrained
from surefoot.state.measurement import measured
from surefoot.variables.variable import distinct, identity, variable_path


class MultiOptimizerArguments(KerasArguments, total=False):
    """The keywords of `MultiOptimizer`."""


class MultiOptimizer(CompositeOptimizer):
    """Trains layers by different optimizers, as `tfa.optimizers.MultiOptimizer` does.

    Each optimizer moves the variables of its layers, such as those of a pretrained
    model more slowly than those of a new head. Variables of no pair stay as they
    are, and a warning names them. Those of several pairs are moved by each in turn.
    `keras.optimizers.MultiOptimizer` chooses by the paths of variables instead.

    Example:
        >>> import keras, surefoot
        >>> layers = [keras.layers.Dense(8), keras.layers.Dense(1)]
        >>> model = keras.Sequential([keras.Input((4,)), *layers])
        >>> slow, fast = surefoot.RectifiedAdam(1e-4), surefoot.RectifiedAdam(1e-2)
        >>> optimizer = surefoot.MultiOptimizer([(slow, layers[0]), (fast, layers[1:])])
        >>> model.compile(optimizer, loss="mse")

    Args:
        optimizers_and_layers: Pairs of an optimizer and a layer, a model or a list of
            them. An optimizer may be in one pair only. Defaults to None.
        optimizer_specs: In its place, for files: dictionaries with an ``"optimizer"``,
            or its config, and the names of its ``"weights"``. Defaults to None.
        name: Name of the optimizer. Defaults to ``"MultiOptimizer"``.
        **kwargs: The keywords below.

    Keywords:
        ``nonfinite`` : default ``"propagate"``
            What a NaN or infinite gradient does, see `RectifiedAdam`.
        ``shard_state`` : default False
            Has no effect here; set it in the optimizers inside.
        those of every Keras optimizer : defaults as in Keras
            ``clipnorm``, ``clipvalue``, ``global_clipnorm``, ``use_ema``,
            ``ema_momentum``, ``ema_overwrite_frequency``,
            ``loss_scale_factor``, ``gradient_accumulation_steps``. They
            are applied before the optimizers inside get the gradients.

    Raises:
        RuntimeError: If not exactly one of the first two arguments is given.
        TypeError: If an argument is unknown or of a wrong kind.
        ValueError: If an optimizer is in two pairs, or scales the loss by itself.
    """

    def __init__(
        self,
        optimizers_and_layers: Iterable[Sequence[Any]] | None = None,
        optimizer_specs: Iterable[Mapping[str, Any]] | None = None,
        name: str = "MultiOptimizer",
        **kwargs: Unpack[MultiOptimizerArguments],
    ):
        if (optimizers_and_layers is None) == (optimizer_specs is None):
            raise RuntimeError("Must specify one of `optimizers_and_layers` or `optimizer_specs`.")
        options: dict[str, Any] = {**kwargs}
        checks.check_name(name)
        if optimizers_and_layers is not None:
            pairs = [
                _pair(entry) for entry in _entries("optimizers_and_layers", optimizers_and_layers)
            ]
        else:
            pairs = [_spec(entry) for entry in _entries("optimizer_specs", optimizer_specs)]
        parts = [inner_optimizers.deserialized_optimizer(part) for part, _ in pairs]
        _check_parts(parts)
        handed_on = options.pop("nonfinite", "propagate"), options.pop("shard_state", False)
        base_arguments = keywords.take_base_arguments(type(self), options)
        super().__init__(0.0, name, {}, base_arguments, *handed_on)
        self._parts = parts
        # Past Keras's tracking, which would take the layers for parts of the optimizer.
        self.__dict__["_chosen"] = [chosen for _, chosen in pairs]

    def parts(self) -> dict[str, Any]:
        """The optimizers; none while Keras's constructor runs."""
        return {f"optimizer_{i}.": part for i, part in enumerate(getattr(self, "_parts", ()))}

    @property
    def optimizers(self) -> list[Any]:
        """The optimizers, in the order of their pairs."""
        return list(getattr(self, "_parts", ()))

    @property
    def optimizer_specs(self) -> list[dict[str, Any]]:
        """Each ``"optimizer"`` with the names of its ``"weights"``."""
        return [
            {"optimizer": part, "weights": _names(chosen)}
            for part, chosen in zip(self.optimizers, self._chosen, strict=True)
        ]

    @property
    def learning_rate(self) -> Any:
        """An error, since each of `optimizers` has its own.

        Raises:
            AttributeError: Always, except in a step of Keras, which hands it on unused.
        """
        if self.__dict__.get("_is_stepping"):
            return self._learning_rate
        raise AttributeError(self._no_rate())

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        raise AttributeError(f"{self._no_rate()} Received: {value!r}")

    def _no_rate(self) -> str:
        return (
            f"The optimizer '{self.name}' has no learning rate of its own. Use those of its parts, "
            "such as `optimizer.optimizers[0].learning_rate`."
        )

    def build(self, variables: Any) -> None:
        """Build each optimizer for its variables."""
        if self.built:
            return
        variables = distinct(variables)
        super().build(variables)
        owners = [_owned(chosen, variables) for chosen in self._chosen]
        for part, own in zip(self.optimizers, owners, strict=True):
            if own and not part.built:
                part.build([v for v in variables if identity(v) in own])
                inner_optimizers.restore_pending(part)
        self.__dict__["_owners"] = owners
        resting = [v for v in variables if not any(identity(v) in own for own in owners)]
        for variable in variables:
            self.slots.skip(variable)
        if resting:
            warnings.warn(
                f"No optimizer of '{self.name}' trains {', '.join(map(variable_path, resting))}: "
                "they stay as they are. If you mean it, set `trainable = False` on their layers.",
                stacklevel=2,
            )
        self.restore_pending_slots()

    @measured
    def _backend_update_step(
        self, grads: list[Any], trainable_variables: list[Any], learning_rate: Any
    ) -> None:
        del learning_rate
        for part, own in zip(self.optimizers, self._owners, strict=True):
            pairs = [
                (gradient, variable)
                for gradient, variable in zip(grads, trainable_variables, strict=True)
                if identity(variable) in own
            ]
            if pairs:  # as in the original, an optimizer without a gradient does not step
                gradients, variables = map(list, zip(*pairs, strict=True))
                apply_unconstrained(part, gradients, variables)

    def step_rates(self, learning_rate: Any) -> dict[str, Any]:
        """NaN: there is no one rate."""
        del learning_rate
        return {"effective_learning_rate": float("nan")}

    def get_config(self) -> dict[str, Any]:
        """The configuration that `from_config` reads."""
        specs = [
            spec | {"optimizer": keras.saving.serialize_keras_object(spec["optimizer"])}
            for spec in self.optimizer_specs
        ]
        return super().get_config() | {"optimizers_and_layers": None, "optimizer_specs": specs}

    @classmethod
    def default_inner_config(cls) -> dict[str, Any]:
        """What a config may leave out: `keras.optimizers.get` passes an empty one."""
        return {"optimizer_specs": []}


def _entries(name: str, given: Any) -> list[Any]:
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        raise TypeError(f"`{name}` must be a list. Received: {name}={given!r}")
    return list(given)


def _pair(entry: Any) -> tuple[Any, list[Any]]:
    """An optimizer and its layers."""
    wanted = (
        "`optimizers_and_layers` must hold pairs of an optimizer and a layer, a model or a list of "
        "them. Received: "
    )
    if not isinstance(entry, list | tuple) or len(entry) != 2:
        raise TypeError(f"{wanted}{entry!r}")
    optimizer, given = entry
    layers = list(given) if isinstance(given, list | tuple) else [given]
    for layer in layers:
        if not isinstance(layer, keras.layers.Layer):
            raise TypeError(f"{wanted}{layer!r} (of type {type(layer).__name__})")
    return optimizer, layers


def _spec(entry: Any) -> tuple[Any, list[Any]]:
    """An optimizer, or its config, and the names of its variables."""
    is_spec = isinstance(entry, Mapping) and {"optimizer", "weights"} <= entry.keys()
    if not is_spec or not all(isinstance(name, str) for name in entry["weights"]):
        raise TypeError(
            "`optimizer_specs` must hold dictionaries with an 'optimizer' and the names of its "
            f"'weights'. Received: {entry!r}"
        )
    return entry["optimizer"], list(entry["weights"])


def _check_parts(parts: list[Any]) -> None:
    if len({id(part) for part in parts}) < len(parts):
        raise ValueError(
            "An optimizer can be in one pair only; give it a list of layers. Received: "
            f"{', '.join(part.name for part in parts)}"
        )
    for part in parts:
        scales = isinstance(part, keras.optimizers.LossScaleOptimizer) or part.loss_scale_factor
        if scales:
            raise ValueError(
                "An optimizer in a MultiOptimizer cannot scale the loss, which all of them share; "
                "set `loss_scale_factor` of the MultiOptimizer, or put it into a "
                f"`keras.optimizers.LossScaleOptimizer`. Received: {type(part).__name__}"
            )


def _names(chosen: list[Any]) -> list[str]:
    """The names of the variables that belong to a pair: it has them, or layers."""
    return [
        name
        for one in chosen
        for name in ([one] if isinstance(one, str) else map(variable_path, one.weights))
    ]


def _owned(chosen: list[Any], variables: list[Any]) -> set[int | str]:
    """Which of ``variables`` belong to a pair.

    Those of a layer do. A name is the path of a variable, or as in the original the end of it. Or
    the path is the end of the name: it begins with the model only in some ways of building that.
    """
    found = {identity(v) for one in chosen if not isinstance(one, str) for v in one.weights}
    names = [one.partition(":")[0] for one in chosen if isinstance(one, str)]
    paths = {identity(v): variable_path(v) for v in variables}
    for name in names:
        exact = {key for key, path in paths.items() if path == name}
        found |= exact or {
            key
            for key, path in paths.items()
            if path.endswith(f"/{name}") or name.endswith(f"/{path}")
        }
    return found & paths.keys()


registration.register(MultiOptimizer, aliases=("Addons>MultiOptimizer",))
