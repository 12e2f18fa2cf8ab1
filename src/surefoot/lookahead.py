"""Lookahead: k steps forward, one step back."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any, Unpack

import keras

from surefoot import arguments, engines, foreign, registration
from surefoot.hyperparameters import Hyperparameter, positive_whole_number, proportion
from surefoot.managed import apply_unconstrained
from surefoot.measurement import measured
from surefoot.rule import interpolated
from surefoot.signatures import LookaheadArguments, Number
from surefoot.slots import Assignment, as_array, is_low_precision
from surefoot.wrapping import WrappingOptimizer

PROBES_PER_VARIABLE = 3
FINALIZE = ("fast", "slow")


class Lookahead(WrappingOptimizer):
    r"""Lookahead around any optimizer, as `tfa.optimizers.Lookahead` computed it.

    The inner optimizer moves the model's ("fast") weights. Every
    ``sync_period`` updates they are set back to a point between where they are
    and where the period began (Zhang et al., "Lookahead Optimizer: k steps
    forward, 1 step back", NeurIPS 2019, https://arxiv.org/abs/1907.08610):

    .. math::

        \phi \leftarrow \phi + \alpha (\theta - \phi), \qquad \theta \leftarrow \phi

    Weights that are loaded into the model in between are carried on, not
    pulled back as by the original: the slow weights :math:`\phi` are taken
    from them, and a period of their own begins.

    Example:
    >>> import keras, surefoot
    >>> weight = keras.Variable(3.0)
    >>> sgd = keras.optimizers.SGD(learning_rate=1.0)
    >>> optimizer = surefoot.Lookahead(sgd, sync_period=2, slow_step_size=0.5)
    >>> for _ in range(2):  # 3 -> 2 -> 1, and half the way back to 3
    ...     optimizer.apply([keras.ops.array(1.0)], [weight])
    >>> float(keras.ops.stop_gradient(weight.value))
    2.0

    Args:
        optimizer: The inner optimizer: an object, a name that
            `keras.optimizers.get` knows, or a config.
        sync_period: Number of updates in a period, at least 1. Defaults to 6.
        slow_step_size: :math:`\alpha`, in [0, 1]. Defaults to 0.5.
        name: Name of the optimizer. Defaults to ``"Lookahead"``.
        **kwargs: ``finalize``: which weights the model has after ``fit``, its own
            (``"fast"``, default, as in the original) or the ``"slow"`` ones.
            ``nonfinite``, and for the slow weights ``shard_state``, see
            `RectifiedAdam`. Further what every Keras optimizer takes, applied
            before the inner optimizer sees a gradient: ``clipnorm``,
            ``clipvalue``, ``global_clipnorm``, ``use_ema``, ``ema_momentum``,
            ``ema_overwrite_frequency``, ``loss_scale_factor``,
            ``gradient_accumulation_steps``.

    Raises:
        TypeError: If ``optimizer`` is no optimizer, or an argument is unknown.
        ValueError: If an argument is out of range, or belongs to the inner
            optimizer.
    """

    sync_period = Hyperparameter(positive_whole_number, whole=True)
    slow_step_size = Hyperparameter(proportion)

    def __init__(
        self,
        optimizer: Any,
        sync_period: Number = 6,
        slow_step_size: Number = 0.5,
        name: str = "Lookahead",
        **kwargs: Unpack[LookaheadArguments],
    ):
        options: dict[str, Any] = {**kwargs}
        inner = foreign.deserialized_optimizer(optimizer)
        for argument in ("learning_rate", "lr", "decay", "weight_decay"):
            if argument in options:
                raise ValueError(
                    f"`{argument}` is the inner optimizer's; set it there. "
                    f"Received: {argument}={options[argument]!r}"
                )
        arguments.check_name(name)
        given = {"sync_period": sync_period, "slow_step_size": slow_step_size}
        accepted = {h.name: h.accept(given[h.name]) for h in Lookahead.own_hyperparameters()}
        nonfinite = options.pop("nonfinite", "propagate")
        shard_state = options.pop("shard_state", False)
        finalize = arguments.choice("finalize", options.pop("finalize", "fast"), FINALIZE)
        if finalize == "slow" and options.get("use_ema"):
            raise ValueError(
                "After `fit` a model has the slow weights or their average, not both. "
                "Received: finalize='slow', use_ema=True"
            )
        base_arguments = arguments.take_base_arguments(type(self), options)
        super().__init__(0.0, name, accepted, base_arguments, nonfinite, shard_state)
        self.inner_optimizer = inner
        self._finalize = finalize

    @classmethod
    def own_hyperparameters(cls) -> list[Hyperparameter]:
        """Those that are not the inner optimizer's."""
        return [Lookahead.sync_period, Lookahead.slow_step_size]

    declared_hyperparameters = own_hyperparameters

    def build(self, variables: Any) -> None:
        """Create the slow weights, and build the inner optimizer."""
        if self.built:
            return
        variables = list(variables)
        super().build(variables)
        self.build_inner(variables)
        for variable in variables:
            if getattr(variable, "overwrite_with_gradient", False):
                self.slots.skip(variable)
                continue
            slow = self.add_variable_from_reference(variable, "slow")
            engines.active().initialize_as_copy(slow, variable)
        # Past Keras's tracking, which would take the model's variables for ours.
        self.__dict__["_probes"] = [
            v for v in variables if "slow" in self.slots.of(v) and math.prod(v.shape) > 0
        ]
        followed = [
            (variable, self.slots.of(variable)["slow"], self.inner_slot(variable, "master"))
            for variable in variables
            if "slow" in self.slots.of(variable)
        ]
        self.__dict__["_starts"] = [
            Assignment([slow], [fast, master]) for fast, slow, master in followed
        ]
        self.__dict__["_ways_back"] = [
            Assignment(
                sorted((v for v in (master, fast, slow) if v is not None), key=is_low_precision),
                [fast, master, slow],
            )
            for fast, slow, master in followed
        ]
        self._last_seen = self._add_unregistered(
            shape=(len(self._probes), PROBES_PER_VARIABLE), dtype="float32", name="last_seen"
        )
        self.slots.add_late("last_seen", self._last_seen)
        engines.active().initialize(self._last_seen, self._samples)
        self.restore_pending_slots()

    def _samples(self) -> Any:
        """A few elements of each variable, to notice values that came from outside."""
        return engines.active().samples(self._probes, PROBES_PER_VARIABLE)

    # The slow weights in the model.

    @contextlib.contextmanager
    def slow_weights(self) -> Iterator[None]:
        """Put the slow weights into the model while a ``with`` block runs.

        The paper's author recommends to evaluate with them. Afterwards the fast
        weights are back, bit for bit. Do not train inside the block.

        Example:
        >>> import keras, surefoot
        >>> weight = keras.Variable(3.0)
        >>> optimizer = surefoot.Lookahead(keras.optimizers.SGD(1.0))
        >>> optimizer.apply([keras.ops.array(1.0)], [weight])
        >>> with optimizer.slow_weights():
        ...     float(keras.ops.stop_gradient(weight.value))
        3.0
        >>> float(keras.ops.stop_gradient(weight.value))
        2.0

        Yields:
            Nothing.

        Raises:
            ValueError: If the optimizer has not been built.
        """
        if not self.built:
            raise ValueError("There are no slow weights before the optimizer is built.")
        fast = [v for v in self._trainable_variables if "slow" in self.slots.of(v)]
        values = [as_array(v) for v in fast]
        self._put_slow_weights(fast)
        try:
            yield
        finally:
            for variable, value in zip(fast, values, strict=True):
                variable.assign(value)

    def _put_slow_weights(self, variables: list[Any]) -> None:
        loaded = engines.active().differs(self._last_seen, self._samples())
        if not bool(keras.ops.convert_to_numpy(loaded)):  # else they are not of these weights
            for variable in variables:
                slow = self.slots.of(variable)["slow"]
                variable.assign(as_array(slow))

    def finalize_variable_values(self, var_list: Any) -> None:
        """At the end of ``fit``: averages, or with ``finalize="slow"`` the slow weights."""
        super().finalize_variable_values(var_list)
        if self._finalize == "slow":
            self._put_slow_weights([v for v in var_list if "slow" in self.slots.of(v)])
            self._last_seen.assign(self._samples())

    @property
    def finalize(self) -> str:
        """Which weights the model has after ``fit``: "fast" or "slow"."""
        return self._finalize

    # The step.

    def rule_state(self) -> list[Any]:
        """The slow weights, which only the rule writes, and the inner optimizer's."""
        return [*(start.targets[0] for start in self._starts), *super().rule_state()]

    def inline_apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """The update itself, traced or executed where it stands."""
        super().inline_apply(grads, trainable_variables)
        # After constraints and averages, which may change the weights, too.
        self._last_seen.assign(self._samples())

    @measured
    def _backend_update_step(
        self, grads: list[Any], trainable_variables: list[Any], learning_rate: Any
    ) -> None:
        del learning_rate
        engine = engines.active()
        own = self.hyperparameters.named(engine.scalar(self.hyperparameters.variable))
        period = own["sync_period"]

        def stepped_back(fast: Any, master: Any, slow: Any) -> Any:
            fast = engine.exact_value(fast, master)
            slow_step_size = engine.like(own["slow_step_size"], fast)
            return interpolated(engine.array_namespace(), slow, fast, slow_step_size)

        inner = self.inner_optimizer
        done = engine.scalar(inner.iterations)
        # Weights that were loaded begin a new period of their own; the way
        # back would lead towards weights that are no longer meant.
        loaded = engine.differs(self._last_seen, self._samples())
        engine.assign_where((done == 0.0) | loaded, self._starts, engine.exact_value)
        apply_unconstrained(inner, grads, trainable_variables)
        now_done = engine.scalar(inner.iterations)
        # The inner optimizer may only have accumulated, or skipped.
        moved = now_done > done
        engine.assign_where(moved & (now_done % period == 0.0), self._ways_back, stepped_back)
        # Keras will count this step; take that back if it was none.
        dtype = keras.backend.standardize_dtype(self._iterations.dtype)
        self._iterations.assign_add(keras.ops.cast(moved, dtype) - 1)

    # Weights and configuration.

    def leading_weights(self) -> list[Any]:
        """None: in the original, only the iterations come before the slow weights."""
        return []

    def set_weights(self, weights: Any) -> None:
        """Set the state from a list as `get_weights` returned it; see `RectifiedAdam`.

        The slow weights given belong to the model's weights as they are now.
        """
        super().set_weights(weights)
        self._last_seen.assign(self._samples())

    def get_config(self) -> dict[str, Any]:
        """The configuration that `from_config` reads; ``optimizer`` is the inner one's."""
        config: dict[str, Any] = super().get_config()
        for key in ("learning_rate", "weight_decay"):
            config.pop(key, None)
        return config | {
            "optimizer": keras.saving.serialize_keras_object(self.inner_optimizer),
            "sync_period": self.sync_period,
            "slow_step_size": self.slow_step_size,
            "finalize": self.finalize,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Any:
        """Create a Lookahead from a config: ours, or TensorFlow Addons'.

        Args:
            config: What `get_config` returned, here or in the original. It is
                not changed.
            custom_objects: Names to objects, for an inner optimizer of the user's.

        Returns:
            An optimizer of this class.

        Raises:
            TypeError: If the config has an unknown entry.
            ValueError: If an entry is out of range.
        """
        with keras.saving.custom_object_scope(custom_objects or {}):
            return cls(**cls.default_inner_config() | config)

    @classmethod
    def default_inner_config(cls) -> dict[str, Any]:
        """What a config may leave out: `keras.optimizers.get` passes an empty one."""
        return {"optimizer": "RectifiedAdam"}


registration.register(Lookahead, aliases=("Addons>Lookahead", "Lookahead"))
