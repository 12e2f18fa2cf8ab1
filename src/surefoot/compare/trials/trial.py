"""One training run: one optimizer at one learning rate from one seed."""

import math
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import keras
import numpy as np

from surefoot.compare.errors import UsageError
from surefoot.compare.search.registry import Recipe
from surefoot.compare.trials.data import count_examples, pick
from surefoot.compare.trials.measures import validation_noise
from surefoot.compare.trials.models import (
    assign,
    compile_model,
    keywords,
    new_model,
    numbers,
    state,
)
from surefoot.compare.trials.task import Task

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
# A learning rate is a float32 to the optimizer.
_SAME_RATE = 1e-5
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
        length: int = 0,
    ) -> Training:
        """Run one trial, one step per iteration.

        Args:
            recipe: The optimizer.
            learning_rate: Its learning rate, before the factors of its schedule.
            seed: A non-negative integer.
            others: Further hyperparameters by name.
            length: The steps of a shorter run, which has the whole schedule in fewer steps.

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
        assign(self._state, initial)
        self._start_optimizer(recipe, learning_rate, others)
        return (yield from self._train(recipe.schedule, learning_rate, seed, length or self._steps))

    def _initial_state(self, seed: int) -> list[Any]:
        if seed not in self._initial:
            keras.utils.set_random_seed(seed)
            model = new_model(self._task)
            self._initial[seed] = [numbers(v) for v in state(model)]
        return self._initial[seed]

    def _compile(self, recipe: Recipe, learning_rate: float, others: Mapping[str, float]) -> None:
        self._model = new_model(self._task)
        # The list is made before compile, which adds the variables of metrics.
        self._state = state(self._model)
        compile_model(self._model, self._task, recipe.factory(learning_rate, **others))
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
            assign(optimizer.variables, [numbers(v) for v in fresh.variables])
            optimizer.learning_rate = learning_rate

    def _train(self, schedule: Any, learning_rate: float, seed: int, steps: int) -> Training:
        model = self._model
        hooks = self._hooks(steps)
        curve = Curve()
        hooks.on_train_begin()
        self._evaluate(curve, 0, None, hooks)
        batches = self._batches(seed)
        seconds, timed, step, first_loss = 0.0, 0, 0, math.nan
        rate = learning_rate
        for epoch, evaluation in enumerate(_evaluation_steps(steps)):
            losses: list[float] = []
            hooks.on_epoch_begin(epoch)
            self._check_rate(rate)
            while step < evaluation:
                if step == _UNTIMED_STEPS:
                    seconds, timed = 0.0, 0
                start = time.perf_counter()
                if not schedule.is_identity:
                    at = (step + 1) * self._steps / steps - 1
                    rate = learning_rate * schedule.factor(at, self._steps)
                    model.optimizer.learning_rate = rate
                hooks.on_train_batch_begin(step)
                batch = next(batches)
                if not _RESETS_METRICS:
                    model.reset_metrics()
                loss = self._step(batch)
                seconds += time.perf_counter() - start
                step, timed = step + 1, timed + 1
                losses.append(loss)
                hooks.on_train_batch_end(step - 1, {"loss": loss})
                yield step, loss
                if not math.isfinite(loss) or model.stop_training:
                    break
            mean = sum(losses) / len(losses)
            first_loss = losses[0] if math.isnan(first_loss) else first_loss
            logs = self._evaluate(curve, step, mean, hooks)
            hooks.on_epoch_end(epoch, {"loss": mean, **{f"val_{k}": v for k, v in logs.items()}})
            self._check_rate(rate)
            diverged = _has_diverged(mean, first_loss, step / steps)
            if diverged or model.stop_training:
                break
        hooks.on_train_end()
        if diverged:
            return Outcome("diverged", step, seconds / timed, None, curve)
        if self._task.callbacks is not None:
            # The end may have changed the weights, such as to the best ones.
            for values in (curve.step, curve.train_loss, curve.validation_loss, curve.result):
                values.pop()
            self._evaluate(curve, step, mean, hooks)
        result = curve.result[-1]
        status = "diverged" if result is None else "finished"
        noise = None if result is None else validation_noise(self._task, self._model, result)
        return Outcome(status, step, seconds / timed, result, curve, _finite(noise))

    def _hooks(self, steps: int) -> Any:
        """The task's callbacks as one, which does nothing if there are none."""
        self._model.stop_training = False
        if self._task.callbacks is None:
            return keras.callbacks.Callback()
        return keras.callbacks.CallbackList(
            list(self._task.callbacks()),
            model=self._model,
            epochs=len(_evaluation_steps(steps)),
            steps=None,
            verbose=0,
        )

    def _check_rate(self, expected: float) -> None:
        """Refuse callbacks that change the learning rate; it is what the comparison is about."""
        is_number = isinstance(self._model.optimizer._learning_rate, keras.Variable)
        if self._task.callbacks is None or not is_number:
            return
        found = float(self._model.optimizer.learning_rate)
        if not math.isclose(found, expected, rel_tol=_SAME_RATE):
            raise UsageError(
                "a callback of Task.callbacks has changed the learning rate, which the comparison "
                "sets: leave it out, and give the optimizer a schedule, like adam+cosine. "
                f"Received: {found:.6g} in place of {expected:.6g}"
            )

    def _step(self, batch: tuple[Any, ...]) -> float:
        given = {**keywords(batch), "class_weight": self._task.class_weight, "return_dict": True}
        try:
            return float(self._model.train_on_batch(**given)["loss"])
        except FloatingPointError:
            # An optimizer with nonfinite="raise".
            return math.nan

    def _evaluate(
        self, curve: Curve, step: int, train_loss: float | None, hooks: Any
    ) -> dict[str, float]:
        examples = self._task.validation
        hooks.on_test_begin()
        if count_examples(examples) <= _ONE_BATCH:
            if not _RESETS_METRICS:
                self._model.reset_metrics()
            logs = self._model.test_on_batch(**keywords(examples), return_dict=True)
        else:
            logs = self._model.evaluate(
                **keywords(examples), batch_size=_ONE_BATCH, verbose=0, return_dict=True
            )
        logs = {name: float(value) for name, value in logs.items()}
        hooks.on_test_end(logs)
        # Among Keras's own, the losses of all and of each output, the task's metric has no name.
        others = {metric.name for metric in self._model.metrics}
        compared = [value for name, value in logs.items() if name not in others] or [logs["loss"]]
        curve.step.append(step)
        curve.train_loss.append(_finite(train_loss))
        curve.validation_loss.append(_finite(logs["loss"]))
        curve.result.append(_finite(compared[0]))
        return logs

    def _batches(self, seed: int) -> Iterator[tuple[Any, ...]]:
        """Endless batches; the seed decides the order of each epoch."""
        size = self._task.batch_size
        assert size is not None
        count = count_examples(self._task.train)
        generator = np.random.default_rng(seed)
        while True:
            order = generator.permutation(count)
            for start in range(0, count - size + 1, size):
                yield pick(self._task.train, order[start : start + size])


def _evaluation_steps(steps: int) -> list[int]:
    return sorted({math.ceil(steps * (i + 1) / POINTS) for i in range(POINTS)})


def _has_diverged(train_loss: float, first_loss: float, progress: float) -> bool:
    if not math.isfinite(train_loss):
        return True
    return progress > DIVERGED_AFTER and train_loss > DIVERGED_FACTOR * abs(first_loss)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
