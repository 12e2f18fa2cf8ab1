"""The base of the family: the moments, the learning rate, and the step.

A subclass says which hyperparameters it has and turns a step number into
`StepScalars`; see `surefoot.optimizers.nadam` for a whole example. Everything else is
here or below: this module keeps the moments and calls the engine of the
backend in use, which applies `surefoot.rule.update` to all variables at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from surefoot import engines
from surefoot.arguments import checks, keywords
from surefoot.arguments.schedules import is_rounding_of, serialized
from surefoot.base import registration
from surefoot.base.moment_slots import MomentSlots
from surefoot.rule.rounding import step_halves
from surefoot.rule.update import Array, StepScalars
from surefoot.state.measurement import measured
from surefoot.variables.tracked import Tracked

LOW_PRECISION = ("master", "stochastic", "nearest")
MOMENTS = ("float32", "bfloat16")


class MomentOptimizer(MomentSlots):
    """An optimizer whose step is `surefoot.rule.update` with scalars of its own.

    Subclasses declare their `Hyperparameter`s as class attributes and implement
    `step_scalars`. They call ``super().__init__`` with one value for each.

    Args:
        learning_rate: Number, schedule, serialized schedule or callable.
        name: Name of the optimizer.
        hyperparameters: A value for every declared hyperparameter.
        amsgrad: Whether to keep the running maximum of the second moment.
        **kwargs: ``lr`` (alias of ``learning_rate``); ``low_precision``,
            ``moments``, ``seed``, ``lazy``, ``nonfinite`` and ``shard_state`` as
            the subclasses document them; and what every Keras optimizer takes.

    Raises:
        TypeError: If an argument is of a wrong kind, or unknown.
        ValueError: If an argument is out of range, or two contradict.
    """

    def __init__(
        self,
        learning_rate: Any,
        name: str,
        hyperparameters: dict[str, Any],
        *,
        amsgrad: bool = False,
        **kwargs: Any,
    ):
        learning_rate = keywords.resolve_learning_rate(type(self), learning_rate, kwargs)
        checks.check_name(name)
        checks.check_flag("amsgrad", amsgrad)
        low_precision = checks.choice(
            "low_precision", kwargs.pop("low_precision", "master"), LOW_PRECISION
        )
        moments = checks.choice("moments", kwargs.pop("moments", "float32"), MOMENTS)
        seed = checks.check_seed(kwargs.pop("seed", 0))
        lazy = checks.check_flag("lazy", kwargs.pop("lazy", False)) if self.takes_lazy() else False
        if lazy and not engines.active().SPARSE_GRADIENTS:
            raise ValueError(
                "`lazy=True` is for sparse gradients, which this backend does not have: "
                f"Keras's embeddings give dense ones on {keras.backend.backend()}. "
                "Received: lazy=True"
            )
        if lazy and kwargs.get("gradient_accumulation_steps"):
            raise ValueError(
                "`lazy=True` cannot be kept up under gradient accumulation, whose sums are dense. "
                f"Received: lazy=True, gradient_accumulation_steps="
                f"{kwargs['gradient_accumulation_steps']!r}"
            )
        nonfinite = kwargs.pop("nonfinite", "propagate")
        shard_state = kwargs.pop("shard_state", False)
        base_arguments = keywords.take_base_arguments(type(self), kwargs)
        accepted = {
            h.name: h.accept(hyperparameters[h.name]) for h in self.declared_hyperparameters()
        }
        self.__dict__.update(
            _amsgrad=bool(amsgrad),
            _excluded=None,
            _low_precision=low_precision,
            _moments=moments,
            _lazy=lazy,
            _seed=seed,
            _given_rate=learning_rate,
            tracked_variables=[],
        )
        super().__init__(learning_rate, name, accepted, base_arguments, nonfinite, shard_state)

    # Subclass interface.

    def step_scalars(
        self, step: Array, learning_rate: Array, hyperparameters: dict[str, Array], xp: Any
    ) -> StepScalars:
        """The scalars of update number ``step``, counted from 1.

        Args:
            step: Number of the update, a float scalar of the scalar dtype.
            learning_rate: The learning rate of this update, its schedule and
                ``weight_decay``'s already evaluated.
            hyperparameters: The declared hyperparameters as stored: decay
                rates as ``one_minus_...``.
            xp: The array namespace to compute in.

        Returns:
            `StepScalars`. State that a subclass advances once a step (Nadam's
            momentum product) is assigned here.
        """
        raise NotImplementedError

    # The step.

    def _apply_weight_decay(self, variables: Any) -> None:
        """Nothing: the rule decays weights, by the rate of this very step."""
        del variables

    @measured
    def _backend_update_step(
        self, grads: list[Any], trainable_variables: list[Any], learning_rate: Any
    ) -> None:
        tracked = self.tracked_variables
        are_all = self.are_all(trainable_variables)
        if not are_all:
            tracked = [tracked[self._get_variable_index(v)] for v in trainable_variables]
        if are_all or len({t.index for t in tracked}) == len(tracked):
            engines.active().update(
                self, lambda: self.current_scalars(learning_rate), tracked, grads
            )
            return
        # A variable that is listed twice moves twice in this update, as in the originals.
        scalars = self.current_scalars(learning_rate)
        for pairs in _without_repetition(list(zip(tracked, grads, strict=True))):
            entries, gradients = map(list, zip(*pairs, strict=True))
            engines.active().update(self, lambda: scalars, entries, gradients)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable: the Keras contract, for those who call it themselves.

        Args:
            gradient: Its gradient.
            variable: The variable.
            learning_rate: The learning rate, or the `StepScalars` of the step.
        """
        scalars = (
            learning_rate
            if isinstance(learning_rate, StepScalars)
            else self.current_scalars(learning_rate)
        )
        tracked = self.tracked_variables[self._get_variable_index(variable)]
        engines.active().update_variable(self, scalars, tracked, gradient)

    def current_scalars(self, learning_rate: Any) -> StepScalars:
        """The scalars of the update that comes next."""
        scalars = self.step_scalars(*self.step_arguments(learning_rate))
        if not self.rounds_at_random:
            return scalars
        low, high = step_halves(engines.active().whole_number(self.iterations))
        return scalars._replace(step_low=low, step_high=high)

    # Configuration.

    def get_config(self) -> dict[str, Any]:
        """The configuration that `from_config` reads: arguments by name."""
        config: dict[str, Any] = super().get_config()
        if callable(self._learning_rate) and not isinstance(self._learning_rate, keras.Variable):
            config["learning_rate"] = serialized(self._learning_rate)
        elif is_rounding_of(config["learning_rate"], self._given_rate):
            config["learning_rate"] = self._given_rate
        config.pop("weight_decay", None)
        for hyperparameter in self.hyperparameters.declared:
            value = self.hyperparameters.get(hyperparameter)
            config[hyperparameter.name] = serialized(value)
        lazy = {"lazy": self.lazy} if self.takes_lazy() else {}
        own = {"low_precision": self.low_precision, "moments": self.moments, "seed": self.seed}
        return config | own | lazy

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Any:
        """Create an optimizer from a config: ours, or one of the original's.

        Args:
            config: What `get_config` returned, here or in the original. It is
                not changed.
            custom_objects: Names to objects, for schedules of the user's.

        Returns:
            An optimizer of this class.

        Raises:
            TypeError: If the config has an unknown entry.
            ValueError: If an entry is out of range.
        """
        with registration.also_known(custom_objects):
            return cls(**config)


def _without_repetition(
    pairs: list[tuple[Tracked, Any]],
) -> Iterator[list[tuple[Tracked, Any]]]:
    """Parts in each of which a variable is listed once, in their order."""
    while pairs:
        first: dict[int, tuple[Tracked, Any]] = {}
        rest = []
        for pair in pairs:
            if pair[0].index in first:
                rest.append(pair)
            else:
                first[pair[0].index] = pair
        yield list(first.values())
        pairs = rest
