"""Learning rates, norms and skipped steps, measured while an optimizer trains a model."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from surefoot.arguments.checks import positive_whole_number
from surefoot.base.optimizer import BaseOptimizer
from surefoot.memory_plan import Memory, memory
from surefoot.optimizers.rectified_adam import RectifiedAdam
from surefoot.state.measurement import combined
from surefoot.variables.keras_optimizer import with_inner_optimizers

EPOCH = "epoch"
_SKIPPED = "skipped_steps"
Write = Callable[[str, float, int], object]


class Diagnostics:
    """Measures an optimizer's steps in your own training loop.

    The numbers are computed inside the steps, in eager code and in functions
    compiled after `start`. On JAX they are part of the optimizer's state: before
    reading, assign the state that `stateless_apply` returns to
    ``optimizer.variables``.

    Example:
        >>> import keras, surefoot
        >>> weight = keras.Variable([3.0, 4.0])
        >>> optimizer = surefoot.Lookahead(keras.optimizers.SGD(0.5))
        >>> diagnostics = surefoot.diagnostics.Diagnostics(optimizer)
        >>> diagnostics.start()
        >>> optimizer.apply([keras.ops.array([0.0, 2.0])], [weight])
        >>> numbers = diagnostics.read()
        >>> numbers["gradient_norm"], round(numbers["update_ratio"], 6)
        (2.0, 0.2)

    Args:
        optimizer: An optimizer of this package, or a wrapper that contains one.

    Raises:
        TypeError: If ``optimizer`` neither is nor contains an optimizer of this package.
    """

    def __init__(self, optimizer: Any):
        self._chain = list(with_inner_optimizers(optimizer))
        managed = [o for o in self._chain if isinstance(o, BaseOptimizer)]
        if not managed:
            raise TypeError(
                "Only the steps of surefoot's optimizers can be measured. To measure another one, "
                "wrap it: `surefoot.Lookahead(optimizer, slow_step_size=1.0)`. "
                f"Received: {optimizer!r} (of type {type(optimizer).__name__})"
            )
        self._outermost = managed[0]
        self._counting = managed
        self._skipped = 0

    def start(self) -> None:
        """Start measuring with the next step; compile your own functions after this call."""
        self._outermost.measurement.active = True
        self._outermost.invalidate_compiled_steps()
        self.reset()

    def stop(self) -> None:
        """Stop measuring in steps that are compiled from now on."""
        self._outermost.measurement.active = False
        self._outermost.invalidate_compiled_steps()

    def reset(self) -> None:
        """Start a new interval."""
        self._outermost.measurement.reset()
        self._skipped = self._skipped_so_far()

    def memory(self) -> Memory:
        """What the training takes in memory: see `surefoot.memory`.

        Raises:
            ValueError: If the optimizer has not been built.
        """
        return memory(self._chain[0])

    def read(self, batches: int | None = None) -> dict[str, float]:
        """The numbers of the steps since `start` or the last `reset`.

        Args:
            batches: The number of steps that were requested. A `LossScaleOptimizer`
                does not report the steps that it skips; this number is needed to
                count them.

        Returns:
            Of the last update, ``effective_learning_rate``, ``parameter_norm`` and,
            with RectifiedAdam and Ranger, ``rectification``. As means over the
            updates, ``gradient_norm`` (before clipping) and ``update_ratio``.
            Further ``gradient_norm_max``, ``skipped_steps`` and, with a
            `LossScaleOptimizer`, ``loss_scale``. NaN if there was no update.
        """
        return self._numbers(self._measured(), batches)

    def _measured(self) -> dict[str, float]:
        """The measurements and the number of skipped steps since the last reset."""
        skipped = self._skipped_so_far() - self._skipped
        return self._outermost.measurement.read() | {_SKIPPED: skipped}

    def _numbers(self, measured: dict[str, float], batches: int | None) -> dict[str, float]:
        updates = measured["updates"] or math.nan
        numbers = {"effective_learning_rate": measured["effective_learning_rate"]}
        if isinstance(self._chain[-1], RectifiedAdam):
            numbers["rectification"] = measured["rectification"]
        numbers["gradient_norm"] = measured["gradient_norm_sum"] / updates
        numbers["gradient_norm_max"] = measured["gradient_norm_max"]
        numbers["parameter_norm"] = measured["parameter_norm"]
        numbers["update_ratio"] = measured["update_ratio_sum"] / updates
        if not measured["updates"]:
            numbers = dict.fromkeys(numbers, math.nan)
        skipped = measured[_SKIPPED]
        scale = getattr(self._chain[0], "dynamic_scale", None)
        if scale is not None and batches is not None:
            skipped += batches - int(measured["calls"])
        numbers[_SKIPPED] = skipped
        if scale is not None:
            numbers["loss_scale"] = float(keras.ops.convert_to_numpy(scale.value))
        return numbers

    def _skipped_so_far(self) -> int:
        return sum(optimizer.skipped_steps for optimizer in self._counting)


class OptimizerDiagnostics(keras.callbacks.Callback):
    """Adds measurements of the optimizer's steps to the logs of ``fit``, for each epoch.

    `History`, `keras.callbacks.TensorBoard`, `CSVLogger` and `EarlyStopping`
    get the numbers from the logs if they come after this callback in the list.
    `Diagnostics.read` lists the numbers and explains them.

    The training step is compiled again when ``fit`` begins, and once more when
    it is next called without this callback.

    Example:
        >>> import keras, numpy as np, surefoot
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        >>> model.compile(surefoot.RectifiedAdam(0.01), "mse")
        >>> x, y = np.ones((8, 4)), np.ones((8, 1))
        >>> history = model.fit(
        ...     x, y, epochs=3, callbacks=[surefoot.OptimizerDiagnostics()], verbose=0
        ... )
        >>> [round(rate, 3) for rate in history.history["effective_learning_rate"]]
        [0.01, 0.01, 0.01]

    Args:
        every: ``"epoch"`` (default), or a number of steps: the numbers are then read
            after so many steps and added to the logs of the batch.
            Reading waits for the device; on JAX it also copies the whole
            training state back into the model's variables. Other steps do not wait.
        filename: A CSV file for the numbers, a row for each epoch or ``every`` steps.
        write: A function ``write(name, value, step)`` that is called with the same
            numbers, such as ``add_scalar`` of PyTorch's `SummaryWriter`.

    Raises:
        ValueError: If ``every`` is neither ``"epoch"`` nor a positive whole number.
    """

    def __init__(
        self,
        every: int | str = EPOCH,
        filename: str | Path | None = None,
        write: Write | None = None,
    ):
        super().__init__()
        if every != EPOCH and isinstance(every, str):
            raise ValueError(
                f"`every` must be 'epoch' or a number of steps. Received: every={every!r}"
            )
        self._every = 0 if every == EPOCH else int(positive_whole_number("every", every))
        self._filename = filename
        self._write = write
        self._diagnostics: Diagnostics | None = None
        self._epoch = 0
        self._batches = self._epoch_start = self._last_row = 0
        self._row_numbers: dict[str, float] = {}
        self._epoch_numbers: dict[str, float] = {}
        # Between two readings it only counts batches, and Keras need not wait for that.
        self.async_safe = not self._every

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Start measuring.

        Raises:
            TypeError: If the model's optimizer neither is nor contains one of this package.
            ValueError: If the model is trained on several replicas of `tf.distribute`.
        """
        del logs
        replicas = getattr(
            getattr(self.model, "distribute_strategy", None), "num_replicas_in_sync", 1
        )
        if replicas > 1:
            raise ValueError(
                "Under `tf.distribute` each replica has only its part of the gradient, and the "
                f"norm of a part would mislead. Received: a model on {replicas} replicas"
            )
        self._diagnostics = Diagnostics(self.model.optimizer)
        self._diagnostics.start()
        self._batches = self._epoch_start = self._last_row = 0
        self._row_numbers, self._epoch_numbers = {}, {}
        if self._filename is not None:
            Path(self._filename).write_text("")

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Store the first step of the epoch."""
        del logs
        self._epoch = epoch
        self._epoch_start = self._batches
        self._epoch_numbers = {}

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Count batches, and read the numbers if ``every`` steps are done."""
        steps = (self.params or {}).get("steps")
        # With `steps_per_execution`, the last batch number may be past the end of the epoch.
        done = batch + 1 if steps is None else min(batch + 1, steps)
        # Asynchronous calls may come in any order.
        self._batches = max(self._batches, self._epoch_start + done)
        if self._every and self._batches // self._every > self._last_row // self._every:
            if hasattr(self.model, "jax_state_sync"):
                self.model.jax_state_sync()
            self._read()
            self._write_row(logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Add the numbers of the epoch to its logs."""
        del epoch
        self._read()
        if not self._every:
            self._write_row(None)
        if logs is not None:
            batches = self._batches - self._epoch_start
            logs.update(self._measuring()._numbers(self._epoch_numbers, batches))

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Stop measuring."""
        del logs
        self._measuring().stop()

    def _measuring(self) -> Diagnostics:
        assert self._diagnostics is not None
        return self._diagnostics

    def _read(self) -> None:
        """Add the measurements since the last call to those of the row and of the epoch."""
        diagnostics = self._measuring()
        measured = diagnostics._measured()
        diagnostics.reset()
        self._row_numbers = combined(self._row_numbers, measured) if self._row_numbers else measured
        self._epoch_numbers = (
            combined(self._epoch_numbers, measured) if self._epoch_numbers else measured
        )

    def _write_row(self, logs: dict[str, Any] | None) -> None:
        numbers = self._measuring()._numbers(self._row_numbers, self._batches - self._last_row)
        self._last_row = self._batches
        self._row_numbers = {}
        if logs is not None:
            logs.update(numbers)
        if self._filename is not None:
            row = {"epoch": self._epoch, "step": self._batches} | numbers
            with Path(self._filename).open("a", newline="") as file:
                writer = csv.DictWriter(file, list(row))
                if file.tell() == 0:
                    writer.writeheader()
                writer.writerow(row)
        if self._write is not None:
            for name, value in numbers.items():
                self._write(f"optimizer/{name}", value, self._batches)
