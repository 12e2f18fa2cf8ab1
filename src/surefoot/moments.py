"""The base of the family: the moments, the learning rate, and the step.

A subclass says which hyperparameters it has and turns a step number into
`StepScalars`; see `surefoot.nadam` for a whole example. Everything else is
here or below: this module keeps the moments and calls the engine of the
backend in use, which applies `surefoot.rule` to all variables at once.
"""

from __future__ import annotations

from operator import is_
from typing import Any

import keras
import numpy as np

from surefoot import arguments, engines
from surefoot.hyperparameters import (
    evaluated,
    is_rounding_of,
    number_or_schedule,
    reattach,
    require_attached,
    serialized,
    whole_number,
)
from surefoot.managed import ManagedOptimizer
from surefoot.measurement import measured
from surefoot.rule import Array, StepScalars
from surefoot.slots import Tracked, exclusion_test, is_low_precision

LOW_PRECISION = ("master", "stochastic", "nearest")


class MomentOptimizer(ManagedOptimizer):
    """An optimizer whose step is `surefoot.rule` with scalars of its own.

    Subclasses declare their `Hyperparameter`s as class attributes and implement
    `step_scalars`. They call ``super().__init__`` with one value for each.

    Args:
        learning_rate: Number, schedule, serialized schedule or callable.
        name: Name of the optimizer.
        hyperparameters: A value for every declared hyperparameter.
        amsgrad: Whether to keep the running maximum of the second moment.
        **kwargs: ``lr`` (alias of ``learning_rate``); ``low_precision``,
            ``seed``, ``lazy``, ``nonfinite`` and ``shard_state`` as the
            subclasses document them; and what every Keras optimizer takes.

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
        learning_rate = arguments.resolve_learning_rate(type(self), learning_rate, kwargs)
        arguments.check_name(name)
        arguments.check_flag("amsgrad", amsgrad)
        low_precision = arguments.choice(
            "low_precision", kwargs.pop("low_precision", "master"), LOW_PRECISION
        )
        seed = int(whole_number("seed", kwargs.pop("seed", 0)))
        lazy = arguments.check_flag("lazy", kwargs.pop("lazy", False))
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
        base_arguments = arguments.take_base_arguments(type(self), kwargs)
        accepted = {
            h.name: h.accept(hyperparameters[h.name]) for h in self.declared_hyperparameters()
        }
        self.__dict__.update(
            _amsgrad=bool(amsgrad),
            _excluded=None,
            _low_precision=low_precision,
            _lazy=lazy,
            _seed=seed,
            _given_rate=learning_rate,
            tracked_variables=[],
        )
        super().__init__(learning_rate, name, accepted, base_arguments, nonfinite, shard_state)

    # What a subclass owes.

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

    def scheduled_learning_rate(
        self, step: Array, learning_rate: Array, hyperparameters: dict[str, Array], xp: Any
    ) -> Array:
        """What `effective_learning_rate` tells of ``step``; by default the learning rate."""
        del step, hyperparameters, xp
        return learning_rate

    # State.

    def build(self, variables: Any) -> None:
        """Create the moments for ``variables``, a list of trainable variables."""
        if self.built:
            return
        variables = list(variables)
        super().build(variables)
        for variable in variables:
            if getattr(variable, "overwrite_with_gradient", False):
                self.slots.skip(variable)
                continue
            for slot_name in self.moment_names:
                self.add_variable_from_reference(variable, slot_name)
            if self.low_precision == "master" and is_low_precision(variable):
                self.add_variable_from_reference(variable, "master")
        self._track_variables(variables)
        self.restore_pending_slots()

    @property
    def low_precision(self) -> str:
        """How variables below float32 are rounded; fixed at construction."""
        return self._low_precision

    @property
    def lazy(self) -> bool:
        """Whether a sparse gradient leaves untouched rows' moments alone."""
        return self._lazy

    @property
    def seed(self) -> int:
        """Seed of the stochastic rounding."""
        return self._seed

    @property
    def amsgrad(self) -> bool:
        """Whether the largest second moment so far is used; fixed at construction."""
        return self._amsgrad

    @property
    def moment_names(self) -> list[str]:
        """The slots of the rule, in the originals' order."""
        return ["m", "v", "vhat"] if self._amsgrad else ["m", "v"]

    def rule_state(self) -> list[Any]:
        """The slots that only the rule writes, so that a step may reuse their memory."""
        return [
            slot
            for t in self.tracked_variables
            for slot in (*t.moments, t.master)
            if slot is not None
        ]

    def _track_variables(self, variables: list[Any]) -> None:
        tracked = []
        for index, variable in enumerate(variables):
            slots = self.slots.of(variable)
            tracked.append(
                Tracked(
                    variable=variable,
                    m=slots.get("m"),
                    v=slots.get("v"),
                    vhat=slots.get("vhat"),
                    master=slots.get("master"),
                    decays=self._decays(variable),
                    index=index,
                )
            )
        self.__dict__["tracked_variables"] = tracked
        self.forget_compiled_steps()

    # Learning rate, steps and weight decay.

    @property
    def learning_rate(self) -> Any:
        """The learning rate: a variable, or a schedule's value at this update."""
        return self._get_current_learning_rate()

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        value = number_or_schedule("learning_rate", value)
        if isinstance(self._learning_rate, keras.Variable) and not callable(value):
            require_attached(self._learning_rate, "the learning rate")
        else:
            self.forget_compiled_steps()
        keras.optimizers.Optimizer.learning_rate.fset(self, value)
        self.__dict__["_given_rate"] = value

    def _get_current_learning_rate(self) -> Any:
        # Keras evaluates schedules at micro-steps under gradient accumulation;
        # here steps are updates everywhere.
        if isinstance(self._learning_rate, keras.Variable):
            reattach(self._learning_rate)
            return self._learning_rate
        return evaluated(self._learning_rate, self.iterations)

    def effective_learning_rate(self, step: Any = None) -> Any:
        """The learning rate of an update, after schedule, decay, warmup and rectification.

        Example:
        >>> import surefoot
        >>> optimizer = surefoot.RectifiedAdam(0.01, total_steps=100, warmup_proportion=0.5)
        >>> round(optimizer.effective_learning_rate(step=2), 6)
        0.0004
        >>> [round(float(rate), 6) for rate in optimizer.effective_learning_rate([6, 50])]
        [3.1e-05, 0.001482]

        Args:
            step: Number of the update, counted from 1, or an array of such.
                Defaults to the update that comes next.

        Returns:
            A float, or an array shaped like ``step``.

        Raises:
            ValueError: If a step is below 1.
        """
        if step is None:
            step = int(keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(self.iterations))) + 1
        steps = np.asarray(step, dtype="float64")
        if np.any(steps < 1):
            raise ValueError(f"`step` must be at least 1, the first update. Received: step={step}")
        rates = np.empty(steps.shape)
        for index, number in np.ndenumerate(steps):
            rates[index] = self.scheduled_learning_rate(
                number, self._rate_at(number), self.hyperparameters.on_host(), np
            )
        return rates if steps.ndim else float(rates)

    def _rate_at(self, step: float) -> np.float64:
        rate = self._learning_rate
        if not isinstance(rate, keras.Variable):
            rate = evaluated(rate, int(step) - 1)
        return np.float64(keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(rate)))

    def exclude_from_weight_decay(
        self, var_list: Any = None, var_names: list[str] | None = None
    ) -> None:
        """Choose the variables that weight decay leaves alone, at any time.

        Args:
            var_list: Variables to exclude.
            var_names: Regular expressions; a variable is excluded if one is
                found in its path (such as ``"dense_1/bias"``) or its name.

        Raises:
            TypeError: If ``var_names`` is a string or holds anything else.
        """
        self.__dict__["_excluded"] = exclusion_test(var_list, var_names)
        if self.built:
            self._track_variables([t.variable for t in self.tracked_variables])

    def _decays(self, variable: Any) -> bool:
        return self._excluded is None or not self._excluded(variable)

    # The step.

    def compiles_eagerly(self) -> bool:
        """Not with a bare callable as hyperparameter, which is to be called at each step."""
        schedule = keras.optimizers.schedules.LearningRateSchedule
        values = [self._learning_rate, *self.hyperparameters.values.values()]
        return not any(
            callable(value) and not isinstance(value, schedule | keras.Variable) for value in values
        )

    def _apply_weight_decay(self, variables: Any) -> None:
        """Nothing: the rule decays weights, by the rate of this very step."""
        del variables

    @measured
    def _backend_update_step(
        self, grads: list[Any], trainable_variables: list[Any], learning_rate: Any
    ) -> None:
        tracked = self.tracked_variables
        known = self._trainable_variables
        if len(known) != len(trainable_variables) or not all(map(is_, known, trainable_variables)):
            tracked = [tracked[self._get_variable_index(v)] for v in trainable_variables]
        engines.active().update(self, self.current_scalars(learning_rate), tracked, grads)

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
        return self.step_scalars(*self._step_arguments(learning_rate))

    def step_rates(self, learning_rate: Any) -> dict[str, Any]:
        """The effective learning rate of the update that comes next."""
        return {
            "effective_learning_rate": self.scheduled_learning_rate(
                *self._step_arguments(learning_rate)
            )
        }

    def _step_arguments(self, learning_rate: Any) -> tuple[Array, Array, dict[str, Array], Any]:
        """What the functions of a step take, for the update that comes next."""
        engine = engines.active()
        xp = engine.scalar_namespace(self.hyperparameters.variable)
        hyperparameters = self.hyperparameters.named(engine.scalar(self.hyperparameters.variable))
        for hyperparameter in self.hyperparameters.declared:
            schedule = self.hyperparameters.schedule_of(hyperparameter.name)
            if schedule is not None:
                hyperparameters[hyperparameter.stored_name] = engine.scalar(
                    evaluated(schedule, self.iterations)
                )
        step = engine.scalar(self.iterations) + 1.0
        return step, engine.scalar(learning_rate), hyperparameters, xp

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
            value = getattr(self, hyperparameter.name)
            config[hyperparameter.name] = serialized(value)
        return config | {
            "low_precision": self.low_precision,
            "seed": self.seed,
            "lazy": self.lazy,
        }

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
        with keras.saving.custom_object_scope(custom_objects or {}):
            return cls(**config)
