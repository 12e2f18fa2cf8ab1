"""Packages that users put around Keras models, with our optimizers inside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
import pytest

import softmax
import surefoot


def build(hp: Any) -> keras.Model:
    """A model whose optimizer, learning rate and period are searched for."""
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
    rate = hp.Float("learning_rate", 1e-4, 1e-2, sampling="log")
    inner = surefoot.RectifiedAdam(rate) if hp.Boolean("rectified") else surefoot.Nadam(rate)
    optimizer = surefoot.Lookahead(inner, sync_period=hp.Int("sync_period", 2, 6))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model


@pytest.mark.filterwarnings("ignore::DeprecationWarning:keras_tuner")
def test_keras_tuner_searches_and_reloads(tmp_path: Path) -> None:
    """Each trial trains its own optimizer, and the best model comes back with its state."""
    images, labels = softmax.digits()
    tuner = keras_tuner.RandomSearch(
        build, objective="val_accuracy", max_trials=2, seed=1, directory=tmp_path, overwrite=True
    )
    tuner.search(
        images, labels, epochs=2, batch_size=64, verbose=0, validation_data=(images, labels)
    )
    best = tuner.get_best_hyperparameters()[0]
    trials = [trial.hyperparameters.values for trial in tuner.oracle.trials.values()]
    assert len({json.dumps(values, sort_keys=True) for values in trials}) == 2
    (model,) = tuner.get_best_models()
    assert model.optimizer.sync_period == best.get("sync_period")
    inner = surefoot.RectifiedAdam if best.get("rectified") else surefoot.Nadam
    assert type(model.optimizer.inner_optimizer) is inner
    rate = float(keras.ops.convert_to_numpy(model.optimizer.learning_rate.value))
    assert rate == pytest.approx(best.get("learning_rate"))


@pytest.mark.backends("jax")
def test_orbax_brings_a_jitted_loop_back(tmp_path: Path) -> None:
    """The state that `stateless_apply` returns is what Orbax saves and restores."""
    import jax
    import orbax.checkpoint

    def loop(updates: int, state: Any) -> Any:
        step = jax.jit(optimizer.stateless_apply)
        for _ in range(updates):
            gradients = [jax.numpy.cos(value) for value in state["weights"]]
            weights, values = step(state["optimizer"], gradients, state["weights"])
            state = {"weights": weights, "optimizer": values}
        return state

    variable = keras.Variable(np.linspace(-1, 1, 6, dtype="float32").reshape(2, 3))
    optimizer = surefoot.Ranger(0.1, sync_period=4)
    optimizer.build([variable])
    state = {"weights": [variable.value], "optimizer": [v.value for v in optimizer.variables]}
    whole = loop(9, state)
    half = loop(5, state)
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "half", half)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "half", state)
    continued = loop(4, restored)
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(continued), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.backends("tensorflow")
def test_tensorboard_has_the_diagnostics(tmp_path: Path) -> None:
    """Keras's callback writes what ours put into the logs; TensorBoard reads it back."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util

    log = keras.callbacks.TensorBoard(tmp_path)
    diagnostics = surefoot.OptimizerDiagnostics()
    softmax.fitted(surefoot.RectifiedAdam(0.01), 3, callbacks=[diagnostics, log])
    events = EventAccumulator(str(tmp_path / "train"))
    events.Reload()
    rates = [
        float(tensor_util.make_ndarray(event.tensor_proto))
        for event in events.Tensors("epoch_effective_learning_rate")
    ]
    told = surefoot.RectifiedAdam(0.01).effective_learning_rate([8, 16, 24])
    np.testing.assert_allclose(rates, told, rtol=1e-5)
