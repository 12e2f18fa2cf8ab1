"""The learning rate: set and read at any time, and what becomes of it in an update."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from surefoot import engines
from surefoot.arguments.schedules import evaluated, number_or_schedule
from surefoot.base.optimizer import BaseOptimizer
from surefoot.rule.update import Array
from surefoot.state.attachment import reattach, require_attached
from surefoot.variables.keras_optimizer import put_learning_rate

StepArguments = tuple[Array, Array, dict[str, Array], Any]
"""What the functions of a step take: its number, the rate, hyperparameters and a namespace."""


class RatedOptimizer(BaseOptimizer):
    """An optimizer with a learning rate of its own, which may be a schedule."""

    @property
    def learning_rate(self) -> Any:
        """The learning rate as a variable, or a schedule's value at this update."""
        return self._get_current_learning_rate()

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        value = number_or_schedule("learning_rate", value)
        rate = self._learning_rate
        require_attached(self._iterations, "the learning rate")
        if isinstance(rate, keras.Variable) and not callable(value):
            rate.assign(value)
        elif value is not rate:
            with self.changing_structure(f"learning_rate={value!r}"):
                put_learning_rate(self, value)
        self.__dict__["_given_rate"] = value

    def _get_current_learning_rate(self) -> Any:
        # Keras evaluates schedules at micro-steps under gradient accumulation;
        # here steps are updates everywhere.
        if isinstance(self._learning_rate, keras.Variable):
            reattach(self._learning_rate)
            return self._learning_rate
        with engines.active().numbers_at(self._iterations):
            return evaluated(self._learning_rate, self.iterations)

    def scheduled_learning_rate(
        self, step: Array, learning_rate: Array, hyperparameters: dict[str, Array], xp: Any
    ) -> Array:
        """What `effective_learning_rate` tells of ``step``; by default the learning rate."""
        del step, hyperparameters, xp
        return learning_rate

    def effective_learning_rate(self, step: Any = None) -> Any:
        """The learning rate of an update, after schedule, decay, warmup and rectification.

        As a metric it shows the rate in the logs of `fit`:
        ``model.compile(optimizer, loss, metrics=[rate])`` with
        ``def rate(y_true, y_pred): return optimizer.effective_learning_rate()``.

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
            A float, or an array shaped like ``step``. While a function is traced
            (a TensorFlow graph, `jax.jit`, a compiled metric) a tensor, in
            ``keras.config.floatx()``.

        Raises:
            ValueError: If a step is below 1.
        """
        with engines.active().state_scope(self) as is_traced:
            return self._traced_rate(step) if is_traced else self._rate_on_host(step)

    def _traced_rate(self, step: Any) -> Any:
        engine = engines.active()
        done = self.iterations if step is None else engine.scalar(step) - 1.0
        rate = self._learning_rate
        if not isinstance(rate, keras.Variable):
            rate = evaluated(rate, done)
        _, *arguments = self.step_arguments(rate)
        effective = self.scheduled_learning_rate(engine.scalar(done) + 1.0, *arguments)
        return keras.ops.cast(effective, keras.config.floatx())

    def _rate_on_host(self, step: Any) -> Any:
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

    def compiles_eagerly(self) -> bool:
        """Not with a bare callable as hyperparameter, which is to be called at each step."""
        schedule = keras.optimizers.schedules.LearningRateSchedule
        values = [self._learning_rate, *self.hyperparameters.values.values()]
        return not any(
            callable(value) and not isinstance(value, schedule | keras.Variable) for value in values
        )

    def step_rates(self, learning_rate: Any) -> dict[str, Any]:
        """The effective learning rate of the update that comes next."""
        return {
            "effective_learning_rate": self.scheduled_learning_rate(
                *self.step_arguments(learning_rate)
            )
        }

    def step_arguments(self, learning_rate: Any) -> StepArguments:
        """What the functions of a step take, for the update that comes next."""
        engine = engines.active()
        step = engine.scalar(self.iterations) + 1.0
        return (
            step,
            engine.scalar(learning_rate),
            self.hyperparameters.in_step(self.iterations),
            engine.scalar_namespace(self.hyperparameters.variable),
        )
