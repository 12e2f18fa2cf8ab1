"""One training run: one optimizer at one learning rate from one seed."""

import math
import time
from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import keras
import numpy as np

from surefoot.compare.search.registry import Recipe
from surefoot.compare.trials.checks import new_model, numbers
from surefoot.compare.trials.measures import validation_noise
from surefoot.compare.trials.task import Task, count_examples, pick

# The number of evaluations in a run: the points of a curve after its start.
POINTS = 20
# A run has diverged if its loss is not finite, or if after this fraction of the run the mean
# training loss between two evaluations exceeds the first loss by this factor. (At first, a high
# learning rate may increase the loss and still recover.)
DIVERGED_AFTER = 0.2
DIVERGED_FACTOR = 10.0
# The first steps of a run include compilation and are not timed.
_UNTIMED_STEPS = 2
# Up to this many examples are validated as one batch, without the overhead of `evaluate`.
_ONE_BATCH = 1024
# From this version on, train_on_batch and test_on_batch reset the metrics themselves.
_RESETS_METRICS = tuple(map(int, keras.__version__.split(".")[:2])) >= (3, 15)


@dataclass
class Curve:
    """The values measured during a run; all lists have the same length.

    Attributes:
        step: Optimizer steps done. The first point is before training.
        train_loss: Mean training loss since the previous point (`None` at the first point).
        validation_loss: Loss on the validation data.
        result: The compared value on the validation data.
    """

    step: list[int] = field(default_factory=list)
    train_loss: list[float | None] = field(default_factory=list)
    validation_loss: list[float | None] = field(default_factory=list)
    result: list[float | None] = field(default_factory=list)


@dataclass
class Outcome:
    """How a run ended.

    Attributes:
        status: `"finished"` or `"diverged"`.
        steps: Optimizer steps done.
        seconds_per_step: Mean time of a step, without validation and compilation. It depends on
            the load of the machine.
        result: The compared value after the last step; `None` if the run diverged.
        curve: The values measured during the run.
        validation_noise: The standard error of the result that the number of validation examples
            leaves; `None` if it is not known.
    """

    status: str
    steps: int
    seconds_per_step: float | None
    result: float | None
    curve: Curve
    validation_noise: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The outcome as plain values for JSON."""
        return asdict(self)


# Yields the steps done and the latest training loss after each step; returns the outcome.
Training = Generator[tuple[int, float], None, Outcome]


class Trainer:
    """Runs trials of a task one after the other, compiling once per optimizer.

    Before each run, the compiled model is reset to a seed's initial weights and a new optimizer's
    initial state, so that a run gives the same numbers as in a fresh process. The seed decides
    the initial weights, the order of the batches, and everything random in the model.

    Args:
        task: What to train.
        steps: Length of a run.
    """

    def __init__(self, task: Task, steps: int) -> None:
        self._task = task
        self._steps = steps
        self._compiled: tuple[Recipe, Mapping[str, float]] | None = None
        self._model: Any = None
        self._state: list[Any] = []
        self._initial: dict[int, list[Any]] = {}

    def run(
        self,
        recipe: Recipe,
        learning_rate: float,
        seed: int,
        others: Mapping[str, float] | None = None,
    ) -> Training:
        """Run one trial, one step per iteration.

        Args:
            recipe: The optimizer.
            learning_rate: Its learning rate, before the factors of its schedule.
            seed: A non-negative integer.
            others: Further hyperparameters by name.

        Yields:
            The number of steps done and the latest training loss.

        Returns:
            The outcome, as the return value of the generator.
        """
        initial, others = self._initial_state(seed), others or {}
        # A step is compiled with the hyperparameters other than the learning rate in it.
        if self._compiled != (recipe, others) or not recipe.is_resettable:
            self._compile(recipe, learning_rate, others)
        # For random numbers drawn during the run, such as dropout in layers without a seed.
        keras.utils.set_random_seed(seed)
        _assign(self._state, initial)
        self._start_optimizer(recipe, learning_rate, others)
        return (yield from self._train(recipe.schedule, learning_rate, seed))

    def _initial_state(self, seed: int) -> list[Any]:
        if seed not in self._initial:
            keras.utils.set_random_seed(seed)
            model = new_model(self._task)
            self._initial[seed] = [numbers(v) for v in model.variables]
        return self._initial[seed]

    def _compile(self, recipe: Recipe, learning_rate: float, others: Mapping[str, float]) -> None:
        metric = self._task.metric
        if isinstance(metric, keras.metrics.Metric):
            metric = type(metric).from_config(metric.get_config())
        elif metric is not None and not isinstance(metric, str):
            metric = metric()
        self._model = new_model(self._task)
        # The list is made before compile, which adds the variables of metrics.
        self._state = list(self._model.variables)
        self._model.compile(
            optimizer=recipe.factory(learning_rate, **others),
            loss=self._task.loss,
            metrics=[] if metric is None else [metric],
        )
        self._compiled = recipe, others

    def _start_optimizer(
        self, recipe: Recipe, learning_rate: float, others: Mapping[str, float]
    ) -> None:
        """Reset the optimizer's state; the model's variables must already be reset."""
        optimizer = self._model.optimizer
        if not optimizer.built:
            optimizer.build(self._model.trainable_variables)
        if recipe.is_resettable:
            fresh = recipe.factory(learning_rate, **others)
            fresh.build(self._model.trainable_variables)
            _assign(optimizer.variables, [numbers(v) for v in fresh.variables])
            optimizer.learning_rate = learning_rate

    def _train(self, schedule: Any, learning_rate: float, seed: int) -> Training:
        model, steps = self._model, self._steps
        curve = Curve()
        self._evaluate(curve, 0, None)
        batches = self._batches(seed)
        seconds, timed, step, first_loss = 0.0, 0, 0, math.nan
        for evaluation in _evaluation_steps(steps):
            losses: list[float] = []
            while step < evaluation:
                if step == _UNTIMED_STEPS:
                    seconds, timed = 0.0, 0
                start = time.perf_counter()
                if not schedule.is_identity:
                    model.optimizer.learning_rate = learning_rate * schedule.factor(step, steps)
                x, y = next(batches)
                if not _RESETS_METRICS:
                    model.reset_metrics()
                loss = self._step(x, y)
                seconds += time.perf_counter() - start
                step, timed = step + 1, timed + 1
                losses.append(loss)
                yield step, loss
                if not math.isfinite(loss):
                    break
            mean = sum(losses) / len(losses)
            first_loss = losses[0] if math.isnan(first_loss) else first_loss
            self._evaluate(curve, step, mean)
            if _has_diverged(mean, first_loss, step / steps):
                return Outcome("diverged", step, seconds / timed, None, curve)
        result = curve.result[-1]
        status = "diverged" if result is None else "finished"
        noise = None if result is None else validation_noise(self._task, self._model, result)
        return Outcome(status, step, seconds / timed, result, curve, _finite(noise))

    def _step(self, x: Any, y: Any) -> float:
        try:
            return float(self._model.train_on_batch(x, y, return_dict=True)["loss"])
        except FloatingPointError:
            # An optimizer with nonfinite="raise".
            return math.nan

    def _evaluate(self, curve: Curve, step: int, train_loss: float | None) -> None:
        inputs, targets = self._task.validation
        if count_examples(inputs) <= _ONE_BATCH:
            if not _RESETS_METRICS:
                self._model.reset_metrics()
            logs = self._model.test_on_batch(inputs, targets, return_dict=True)
        else:
            logs = self._model.evaluate(
                inputs, targets, batch_size=_ONE_BATCH, verbose=0, return_dict=True
            )
        # In addition to the loss there is at most the metric of the task.
        compared = [value for name, value in logs.items() if name != "loss"] or [logs["loss"]]
        curve.step.append(step)
        curve.train_loss.append(_finite(train_loss))
        curve.validation_loss.append(_finite(float(logs["loss"])))
        curve.result.append(_finite(float(compared[0])))

    def _batches(self, seed: int) -> Any:
        """Endless batches; the seed decides the order of each epoch."""
        inputs, targets = self._task.train
        count, size = count_examples(inputs), self._task.batch_size
        generator = np.random.default_rng(seed)
        while True:
            order = generator.permutation(count)
            for start in range(0, count - size + 1, size):
                chosen = order[start : start + size]
                yield pick(inputs, chosen), pick(targets, chosen)


def _evaluation_steps(steps: int) -> list[int]:
    return sorted({math.ceil(steps * (i + 1) / POINTS) for i in range(POINTS)})


def _has_diverged(train_loss: float, first_loss: float, progress: float) -> bool:
    if not math.isfinite(train_loss):
        return True
    return progress > DIVERGED_AFTER and train_loss > DIVERGED_FACTOR * abs(first_loss)


def _assign(variables: list[Any], values: list[Any]) -> None:
    for variable, value in zip(variables, values, strict=True):
        # A copy, because a backend may take over the memory and write into it.
        variable.assign(np.array(value))


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
