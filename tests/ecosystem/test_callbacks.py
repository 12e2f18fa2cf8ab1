"""Keras's own callbacks around our optimizers: what they save, they bring back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import softmax
import surefoot

OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "ranger": lambda: surefoot.Ranger(0.01, sync_period=3, total_steps=40),
    "scaled nadam": lambda: keras.optimizers.LossScaleOptimizer(surefoot.Nadam(0.01), 64.0),
}
EPOCHS = 3


class PowerCut(keras.callbacks.Callback):
    """Ends the program, as far as `fit` can tell, when one epoch is through and backed up."""

    epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self.epoch == 1 and batch == 3:
            raise KeyboardInterrupt


@pytest.mark.sampled(3)
@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_backup_and_restore(name: str, measured: bool, tmp_path: Path) -> None:
    """Interrupted and continued is the same as not interrupted, bit for bit."""
    make = OPTIMIZERS[name]

    def callbacks(*others: Any) -> list[Any]:
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False)
        return [backup, *([surefoot.OptimizerDiagnostics()] if measured else []), *others]

    whole = softmax.fitted(make(), EPOCHS)
    with pytest.raises(KeyboardInterrupt):
        softmax.fitted(make(), EPOCHS, callbacks=callbacks(PowerCut()))
    optimizer = make()
    continued = softmax.fitted(optimizer, EPOCHS, callbacks=callbacks())
    for one, other in zip(whole, continued, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6 if measured else 0)
    assert int(keras.ops.convert_to_numpy(optimizer.iterations.value)) == EPOCHS * softmax.BATCHES


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_model_checkpoint(name: str, tmp_path: Path) -> None:
    """A model that was saved while it was measured goes on where it was, and unmeasured."""
    path = tmp_path / "model.keras"
    callbacks = [surefoot.OptimizerDiagnostics(), keras.callbacks.ModelCheckpoint(path)]
    softmax.fitted(OPTIMIZERS[name](), 2, callbacks=callbacks)
    model = keras.saving.load_model(path)
    images, labels = softmax.digits()
    model.fit(images, labels, batch_size=softmax.BATCH, shuffle=False, verbose=0)
    for one, other in zip(model.get_weights(), softmax.fitted(OPTIMIZERS[name](), 3), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


class AtEpochEnd(keras.callbacks.Callback):
    """Kernel and average as `SwapEMAWeights`, which comes before, has left them."""

    def __init__(self, averaging: keras.optimizers.Optimizer) -> None:
        super().__init__()
        self.averaging = averaging
        self.kernels: list[np.ndarray] = []
        self.averages: list[np.ndarray] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.kernels.append(self.model.get_weights()[0])
        average = self.averaging._model_variables_moving_average[0]
        self.averages.append(np.array(keras.ops.convert_to_numpy(average.value)))


@pytest.mark.parametrize("wrap", [lambda o: o, surefoot.Lookahead], ids=["alone", "lookahead"])
def test_swap_ema_weights(wrap: Callable[[Any], Any]) -> None:
    """It puts the average into the model after an epoch, and trains on from where that was.

    Inside Lookahead the average is to be the inner optimizer's, where Keras looks for it.
    """
    averaging = surefoot.RectifiedAdam(0.01, use_ema=True, ema_momentum=0.5)
    seen = AtEpochEnd(averaging)
    swapping = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    softmax.fitted(wrap(averaging), 2, callbacks=[swapping, seen])
    for epoch in range(2):
        plain = softmax.fitted(wrap(surefoot.RectifiedAdam(0.01)), epoch + 1)[0]
        moved = np.max(np.abs(plain - softmax.start()[0]))
        if epoch == 0:  # after the last one it leaves the average in both places
            np.testing.assert_allclose(seen.averages[epoch], plain, rtol=0, atol=1e-6)
        distance = np.max(np.abs(seen.kernels[epoch] - plain))
        assert 1e-3 * moved < distance < moved
