"""Lookahead: k steps forward, one step back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, Unpack

import keras

from surefoot import engines
from surefoot.arguments import checks
from surefoot.arguments.checks import positive_whole_number, proportion
from surefoot.arguments.signatures import KerasArguments, Number
from surefoot.base import registration
from surefoot.base.shadow import ShadowOptimizer
from surefoot.rule.update import Array, interpolated
from surefoot.state.hyperparameters import Hyperparameter
from surefoot.state.named_state import as_array, storable

FINALIZE = ("fast", "slow")
STORED = ("float32", "bfloat16")


class LookaheadArguments(KerasArguments, total=False):
    """The keywords of `Lookahead`."""

    finalize: Literal["fast", "slow"]
    slow_weights: Literal["float32", "bfloat16"]


class Lookahead(ShadowOptimizer):
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
        finalize = checks.choice("finalize", options.pop("finalize", "fast"), FINALIZE)
        if finalize == "slow" and options.get("use_ema"):
            raise ValueError(
                "After `fit` a model has the slow weights or their average, not both. "
                "Received: finalize='slow', use_ema=True"
            )
        stored = checks.choice("slow_weights", options.pop("slow_weights", "float32"), STORED)
        given = {"sync_period": sync_period, "slow_step_size": slow_step_size}
        super().__init__(optimizer, name, given, options)
        self._finalize = finalize
        self._stored = stored

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
        self.reset_shadow()

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

    SHADOW = "slow"

    @property
    def period(self) -> int:
        """``sync_period``, as an int."""
        return int(self.sync_period)

    def shadow_targets(self, variable: Any, master: Any, shadow: Any) -> list[Any]:
        """Fast and slow weights, which meet at the end of a period."""
        return [v for v in (master, variable, shadow) if v is not None]

    def rounds_shadow(self) -> bool:
        """Whether slow weights are stored in bfloat16."""
        return self._stored == "bfloat16"

    def shadow_numbers(
        self, iterations: Any, hyperparameters: dict[str, Array], xp: Any
    ) -> Sequence[Array]:
        """Whether this update ends a period; the slow step size."""
        del xp
        whole = engines.active().whole_number
        count, period = whole(iterations), whole(hyperparameters["sync_period"])
        # Not of the count after the update, which float64 may not hold.
        return count % period == period - 1, hyperparameters["slow_step_size"]

    @staticmethod
    def shadow_value(
        xp: Any,
        exact: Callable[..., Any],
        scalars: Sequence[Any],
        variable: Any,
        master: Any,
        shadow: Any,
    ) -> Any:
        """Where slow and fast weights meet at the end of a period."""
        return interpolated(xp, exact(shadow, None), exact(variable, master), scalars[0])

    def get_config(self) -> dict[str, Any]:
        """The configuration that `from_config` reads; ``optimizer`` is the inner one's."""
        own = {"finalize": self.finalize, "slow_weights": self._stored}
        return super().get_config() | own


registration.register(Lookahead, aliases=("Addons>Lookahead", "Lookahead"))
