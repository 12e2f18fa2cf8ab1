"""Lookahead: k steps forward, one step back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, Unpack

import keras

from surefoot import engines
from surefoot.arguments import checks, keywords
from surefoot.arguments.checks import positive_whole_number, proportion
from surefoot.arguments.signatures import KerasArguments, Number
from surefoot.base import inner_optimizers, registration
from surefoot.base.wrapper import WrappingOptimizer, apply_unconstrained, inner_may_stay
from surefoot.engines import plain
from surefoot.rule.rounding import (
    AT_RANDOM,
    LOWER,
    NEAREST,
    SLOW,
    UPPER,
    step_halves,
    variable_key,
)
from surefoot.rule.update import Array, interpolated
from surefoot.state.attachment import require_attached
from surefoot.state.counter import updates_done
from surefoot.state.hyperparameters import Hyperparameter
from surefoot.state.measurement import measured
from surefoot.state.named_state import State, as_array, storable
from surefoot.variables.tracked import Assignment, Assignments
from surefoot.variables.variable import accumulator_dtype, distinct, identity, is_low_precision

FINALIZE = ("fast", "slow")
STORED = ("float32", "bfloat16")


class LookaheadArguments(KerasArguments, total=False):
    """The keywords of `Lookahead`."""

    finalize: Literal["fast", "slow"]
    slow_weights: Literal["float32", "bfloat16"]


class Lookahead(WrappingOptimizer):
    r"""Lookahead around any optimizer, as `tfa.optimizers.Lookahead` computed it.

    The inner optimizer moves the model's ("fast") weights. Every
    ``sync_period`` updates they are set back to a point between where they are
    and where the period began (Zhang et al., "Lookahead Optimizer: k steps
    forward, 1 step back", NeurIPS 2019, https://arxiv.org/abs/1907.08610):

    .. math::

        \phi \leftarrow \phi + \alpha (\theta - \phi), \qquad \theta \leftarrow \phi

    The slow weights :math:`\phi` start from the fast ones at the first update,
    and only the end of a period changes them afterwards, for the variables that
    have a gradient in that update. Other changes of the fast weights in between
    (clipping, normalization, pruning) count as part of their way. Call
    `reset_slow_weights` after loading other weights in the middle of a training.

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
        **kwargs: The keywords below.

    Keywords:
        ``finalize`` : default ``"fast"``
            Which weights the model has after ``fit``: the ``"fast"`` ones, as in
            the original, or the ``"slow"`` ones.
        ``slow_weights`` : default ``"float32"``
            How the slow weights are stored. In ``"bfloat16"`` they take half the
            memory, rounded at random as `RectifiedAdam`'s ``moments``, by its
            ``seed`` (0 if the inner optimizer has none).
        ``nonfinite`` : default ``"propagate"``
            What a NaN or infinite gradient does, see `RectifiedAdam`.
        ``shard_state`` : default False
            Split the slow weights over the devices, see `RectifiedAdam`.
        those of every Keras optimizer : defaults as in Keras
            ``clipnorm``, ``clipvalue``, ``global_clipnorm``, ``use_ema``,
            ``ema_momentum``, ``ema_overwrite_frequency``,
            ``loss_scale_factor``, ``gradient_accumulation_steps``. They
            are applied before the inner optimizer gets the gradients.

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
        inner = inner_optimizers.deserialized_optimizer(optimizer)
        for argument in ("learning_rate", "lr", "decay", "weight_decay"):
            if argument in options:
                raise ValueError(
                    f"`{argument}` is the inner optimizer's; set it there. "
                    f"Received: {argument}={options[argument]!r}"
                )
        checks.check_name(name)
        given = {"sync_period": sync_period, "slow_step_size": slow_step_size}
        accepted = {h.name: h.accept(given[h.name]) for h in Lookahead.own_hyperparameters()}
        handed_on = options.pop("nonfinite", "propagate"), options.pop("shard_state", False)
        finalize = checks.choice("finalize", options.pop("finalize", "fast"), FINALIZE)
        if finalize == "slow" and options.get("use_ema"):
            raise ValueError(
                "After `fit` a model has the slow weights or their average, not both. "
                "Received: finalize='slow', use_ema=True"
            )
        stored = checks.choice("slow_weights", options.pop("slow_weights", "float32"), STORED)
        base_arguments = keywords.take_base_arguments(type(self), options)
        super().__init__(0.0, name, accepted, base_arguments, *handed_on)
        self.inner_optimizer = inner
        self._finalize = finalize
        self._stored = stored

    @classmethod
    def own_hyperparameters(cls) -> list[Hyperparameter]:
        """Those that are not the inner optimizer's."""
        return [Lookahead.sync_period, Lookahead.slow_step_size]

    declared_hyperparameters = own_hyperparameters

    def build(self, variables: Any) -> None:
        """Create the slow weights, and build the inner optimizer."""
        if self.built:
            return
        variables = distinct(variables)
        super().build(variables)
        self.build_inner(variables)
        self.__dict__["_slow_initializations"] = Assignments()
        self.__dict__["_synchronizations"] = {}
        seed = getattr(self.inner_optimizer, "seed", 0)
        slow_form = AT_RANDOM if self._stored == "bfloat16" else NEAREST
        for index, fast in enumerate(variables):
            if getattr(fast, "overwrite_with_gradient", False):
                self.slots.skip(fast)
                continue
            slow = self.add_variable_from_reference(fast, "slow", dtype=self._slow_dtype(fast))
            engines.active().initialize_as_copy(slow, fast)
            master = self.inner_slot(fast, "master")
            key = variable_key(seed, index, lane=SLOW)
            # Past Keras's tracking, which would take the model's variables for ours.
            start = Assignment([slow], [fast, master], (slow_form,), key)
            self._slow_initializations.append(start)
            in_halves = master is not None and plain.is_lower_half(master)
            forms = {
                id(slow): slow_form,
                id(fast): UPPER if in_halves else NEAREST,
                id(master): LOWER if in_halves else NEAREST,
            }
            targets = [v for v in (master, fast, slow) if v is not None]
            targets.sort(key=is_low_precision)
            self._synchronizations[identity(fast)] = Assignment(
                targets, [fast, master, slow], tuple(forms[id(v)] for v in targets), key
            )
        self.__dict__["_all_synchronizations"] = Assignments(self._synchronizations.values())
        self.restore_pending_slots()

    def slot_dtypes(self, variable: Any) -> dict[str, str]:
        """The slots that this optimizer has for a variable, and their dtypes."""
        return super().slot_dtypes(variable) | {"slow": self._slow_dtype(variable)}

    def _slow_dtype(self, variable: Any) -> str:
        return "bfloat16" if self._stored == "bfloat16" else accumulator_dtype(variable)

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
        steps = keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(self.iterations))
        for variable in variables if steps > 0 else ():  # before, they are the fast ones
            variable.assign(storable(self.slots.of(variable)["slow"]))

    def reset_slow_weights(self) -> None:
        """Let the slow weights start anew from the model's present weights.

        Call it after loading other weights into the model in the middle of a
        training; before the first update that happens by itself.

        Example:
            >>> import keras, surefoot
            >>> weight = keras.Variable(3.0)
            >>> optimizer = surefoot.Lookahead(keras.optimizers.SGD(1.0), sync_period=2)
            >>> optimizer.apply([keras.ops.array(1.0)], [weight])
            >>> weight.assign(10.0) is not None
            True
            >>> optimizer.reset_slow_weights()
            >>> optimizer.apply([keras.ops.array(1.0)], [weight])  # 10 -> 9, and half the way to 10
            >>> float(keras.ops.stop_gradient(weight.value))
            9.5

        Raises:
            RuntimeError: On JAX, inside of an epoch of ``fit`` that holds the
                state outside of the variables, where no callback asks.
        """
        starts = self.__dict__.get("_slow_initializations", ())
        for variable in (v for start in starts for v in (*start.targets, *start.sources)):
            if variable is not None:
                require_attached(variable, "the slow weights")
        for start in starts:
            engines.active().initialize_as_copy(start.targets[0], start.sources[0])

    def finalize_variable_values(self, var_list: Any) -> None:
        """At the end of ``fit``: averages, or with ``finalize="slow"`` the slow weights."""
        super().finalize_variable_values(var_list)
        if self._finalize == "slow":
            self._put_slow_weights([v for v in var_list if "slow" in self.slots.of(v)])

    @property
    def finalize(self) -> str:
        """Which weights the model has after ``fit``, "fast" or "slow"."""
        return self._finalize

    # The step.

    def rule_state(self) -> list[Any]:
        """The slow weights, which only the rule writes, and the inner optimizer's."""
        return [*(start.targets[0] for start in self._slow_initializations), *super().rule_state()]

    @measured
    def _backend_update_step(
        self, grads: list[Any], trainable_variables: list[Any], learning_rate: Any
    ) -> None:
        del learning_rate
        engine, inner = engines.active(), self.inner_optimizer
        starts, ends, *scalars = engine.numbers(self, "lookahead", self._conditions)
        engine.assign_where(starts, self._slow_initializations, _fast_value, scalars)
        done = updates_done(inner) if inner_may_stay(inner) else None
        apply_unconstrained(inner, grads, trainable_variables)
        if done is not None:  # it may only have accumulated, or skipped
            moved = updates_done(inner) > done
            ends = keras.ops.logical_and(ends, moved)
            # Keras will count this step; take that back if it was none.
            dtype = keras.backend.standardize_dtype(self._iterations.dtype)
            self._iterations.assign_add(keras.ops.cast(moved, dtype) - 1)
        due = self._synchronizations_of(trainable_variables)
        engine.assign_where(ends, due, _synchronized, scalars)

    def _conditions(self) -> list[Array]:
        """Whether a training starts, and whether this update ends a period; and the scalars.

        These are the slow step size and, if slow weights are rounded, the halves of the step.
        """
        engine = engines.active()
        own = self.hyperparameters.named(engine.scalar(self.hyperparameters.variable))
        whole = engine.whole_number
        count, period = whole(self.inner_optimizer.iterations), whole(own["sync_period"])
        # Not of the count after the update, which float64 may not hold.
        ends = count % period == period - 1
        halves = step_halves(whole(self.iterations)) if self._stored == "bfloat16" else ()
        return [whole(self.iterations) == 0, ends, own["slow_step_size"], *halves]

    def _synchronizations_of(self, variables: list[Any]) -> list[Assignment]:
        """As in the original, a variable that has no gradient in this update stays as it is."""
        if self.are_all(variables):
            return self._all_synchronizations
        given = dict.fromkeys(map(identity, variables))
        return [self._synchronizations[key] for key in given if key in self._synchronizations]

    # Weights and configuration.

    def restore(self, state: State) -> None:
        """Take a ``state`` without mismatches; one without slow weights lets them start anew."""
        super().restore(state)
        if self.built and not any(name.startswith("slow|") for name in state):
            self.reset_slow_weights()

    def leading_weights(self) -> list[Any]:
        """None: in the original, only the iterations come before the slow weights."""
        return []

    def get_config(self) -> dict[str, Any]:
        """The configuration that `from_config` reads; ``optimizer`` is the inner one's."""
        config: dict[str, Any] = super().get_config()
        for key in ("learning_rate", "weight_decay"):
            config.pop(key, None)
        return config | {
            "optimizer": keras.saving.serialize_keras_object(self.inner_optimizer),
            "sync_period": self.hyperparameters.get(Lookahead.sync_period),
            "slow_step_size": self.hyperparameters.get(Lookahead.slow_step_size),
            "finalize": self.finalize,
            "slow_weights": self._stored,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Any:
        """Create a Lookahead from a config: ours, or TensorFlow Addons'.

        Args:
            config: What `get_config` returned, here or in the original. It is not changed.
            custom_objects: Names to objects, for an inner optimizer of the user's.

        Returns:
            An optimizer of this class.

        Raises:
            TypeError: If the config has an unknown entry.
            ValueError: If an entry is out of range.
        """
        with registration.also_known(custom_objects):
            return cls(**cls.default_inner_config() | config)

    @classmethod
    def default_inner_config(cls) -> dict[str, Any]:
        """What a config may leave out: `keras.optimizers.get` passes an empty one."""
        return {"optimizer": "RectifiedAdam"}


def _fast_value(
    xp: Any, exact: Callable[..., Any], scalars: Sequence[Any], fast: Any, master: Any
) -> Any:
    del xp, scalars
    return exact(fast, master)


def _synchronized(
    xp: Any, exact: Callable[..., Any], scalars: Sequence[Any], fast: Any, master: Any, slow: Any
) -> Any:
    """Where slow and fast weights meet at the end of a period."""
    return interpolated(xp, exact(slow, None), exact(fast, master), scalars[0])


registration.register(Lookahead, aliases=("Addons>Lookahead", "Lookahead"))
