"""Decoupled weight decay for Keras's own optimizers, not multiplied by the learning rate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from surefoot import engines
from surefoot.arguments.checks import non_negative
from surefoot.arguments.schedules import evaluated, number_or_schedule, serialized
from surefoot.base.decay_lists import listed
from surefoot.base.optimizer import BaseOptimizer
from surefoot.variables.variable import exclusion_test, identity


class DecoupledWeightDecayExtension:
    """Mixin before one of Keras's optimizers, as in TensorFlow Addons.

    Before each update it multiplies variables by ``1 - weight_decay``. With a
    sparse gradient that is all rows of a table; the original decayed those of the
    gradient. Optimizers of this package decay weights in their own step:
    `surefoot.AdamW` and `surefoot.SGDW` are faster than Keras's with this mixin.

    Example:
        >>> import keras, surefoot
        >>> class AdagradW(surefoot.optimizers.DecoupledWeightDecayExtension,
        ...                keras.optimizers.Adagrad):
        ...     pass
        >>> weight = keras.Variable(1.0)
        >>> optimizer = AdagradW(weight_decay=0.25, learning_rate=0.0)
        >>> optimizer.apply([keras.ops.array(1.0)], [weight])
        >>> float(keras.ops.convert_to_numpy(weight))
        0.75

    Args:
        weight_decay: A number, which can be changed at any time, a schedule, or
            the dictionary of a serialized one.
        exclude_from_weight_decay: A list of regular expressions. A variable does
            not decay if one is found in its path or its name. Defaults to None.
        **kwargs: The arguments of the optimizer.

    Raises:
        TypeError: If the optimizer is one of this package, or an argument is of a
            wrong kind.
        ValueError: If ``weight_decay`` is out of range.
    """

    iterations: Any

    def __init__(
        self,
        weight_decay: Any,
        exclude_from_weight_decay: Iterable[str] | None = None,
        **kwargs: Any,
    ) -> None:
        if isinstance(self, BaseOptimizer):
            raise TypeError(
                "The optimizers of surefoot decay weights in their own step; use their argument "
                "`weight_decay`, `surefoot.AdamW` or `surefoot.SGDW`. "
                f"Received: the optimizer class {type(self).__name__}"
            )
        decay = number_or_schedule("weight_decay", weight_decay, non_negative)
        patterns = listed("exclude_from_weight_decay", exclude_from_weight_decay)
        self.__dict__.update(
            _decay=decay,
            _excluded_names=patterns,
            _excluded=exclusion_test(None, patterns),
            _decay_list=frozenset(),
        )
        super().__init__(**kwargs)
        # Compiled steps read it.
        self._decay_number = self.add_variable(  # type: ignore[attr-defined]
            (),
            initializer=keras.initializers.Constant(0.0 if callable(decay) else decay),
            dtype="float32",
            name="weight_decay",
        )

    @property
    def weight_decay(self) -> Any:
        """The weight decay, a number or a schedule."""
        return self.__dict__["_decay"]

    @weight_decay.setter
    def weight_decay(self, value: Any) -> None:
        if "_decay_number" not in self.__dict__:  # Keras's constructor sets its own
            return
        if callable(self.weight_decay):
            raise ValueError(
                "`weight_decay` is a schedule, which compiled steps hold fixed; make a new "
                f"optimizer. Received: weight_decay={value!r}"
            )
        self.__dict__["_decay"] = decay = non_negative("weight_decay", value)
        self._decay_number.assign(decay)

    def apply_gradients(
        self, grads_and_vars: Iterable[tuple[Any, Any]], decay_var_list: Any = None, **kwargs: Any
    ) -> Any:
        """Apply gradients to variables.

        Args:
            grads_and_vars: Pairs of gradient and variable.
            decay_var_list: The variables that decay. By default all that are not
                excluded. A compiled function holds it fixed.
            **kwargs: Those of the optimizer's method.

        Returns:
            What the optimizer's method returns.
        """
        self.__dict__["_decay_list"] = frozenset(map(identity, decay_var_list or ()))
        return super().apply_gradients(grads_and_vars, **kwargs)  # type: ignore[misc]

    def minimize(
        self, loss: Any, var_list: Any, grad_loss: Any = None, decay_var_list: Any = None
    ) -> Any:
        """Minimize ``loss``, a callable, by updating ``var_list``; see `apply_gradients`."""
        gradients, variables = engines.active().gradients(loss, var_list, grad_loss)
        pairs = zip(gradients, variables, strict=True)
        return self.apply_gradients(pairs, decay_var_list=decay_var_list)

    def _apply_weight_decay(self, variables: Any) -> None:
        decay = self.weight_decay
        number = evaluated(decay, self.iterations) if callable(decay) else self._decay_number
        chosen = self.__dict__["_decay_list"]
        for variable in variables:
            excluded = self.__dict__["_excluded"](variable)
            if identity(variable) in chosen if chosen else not excluded:
                kept = 1.0 - keras.ops.cast(number, variable.dtype)
                variable.assign(keras.ops.convert_to_tensor(variable) * kept)

    def get_config(self) -> dict[str, Any]:
        """The configuration that `from_config` reads."""
        return super().get_config() | {  # type: ignore[misc]
            "weight_decay": serialized(self.weight_decay),
            "exclude_from_weight_decay": self.__dict__["_excluded_names"],
        }


def extend_with_decoupled_weight_decay(base_optimizer: type) -> type:
    """A class with decoupled weight decay, made of one of Keras's optimizers.

    Example:
        >>> import keras, surefoot
        >>> AdagradW = surefoot.optimizers.extend_with_decoupled_weight_decay(
        ...     keras.optimizers.Adagrad
        ... )
        >>> AdagradW(weight_decay=0.01, learning_rate=0.1).get_config()["weight_decay"]
        0.01

    Args:
        base_optimizer: A subclass of `keras.optimizers.Optimizer`.

    Returns:
        A subclass of `DecoupledWeightDecayExtension` and of it.

    Raises:
        TypeError: If it is not such a class.
    """
    if not (
        isinstance(base_optimizer, type) and issubclass(base_optimizer, keras.optimizers.Optimizer)
    ):
        raise TypeError(
            "`base_optimizer` must be a class of `keras.optimizers.Optimizer`. "
            f"Received: base_optimizer={base_optimizer!r}"
        )
    bases = (DecoupledWeightDecayExtension, base_optimizer)
    return type("OptimizerWithDecoupledWeightDecay", bases, {})
