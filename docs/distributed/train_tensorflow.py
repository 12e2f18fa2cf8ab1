"""Train on the replicas of a `tf.distribute.Strategy`; begin where a checkpoint ends.

python train_tensorflow.py CHECKPOINT.keras --replicas 2        # devices of one machine
python launch.py --workers 2 train_tensorflow.py CHECKPOINT.keras   # processes
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf

import surefoot
from surefoot.agreement import require_agreement

BATCH, FEATURES, OUTPUTS = 24, 6, 3


def chosen_strategy(replicas: int) -> tf.distribute.Strategy:
    """Workers of a cluster if TF_CONFIG names several, else devices of this machine."""
    cluster = json.loads(os.environ.get("TF_CONFIG", "{}")).get("cluster", {})
    if len(cluster.get("worker", [])) > 1:
        # Workers that cannot go on together end, and do not wait for each other for ever.
        patience = tf.distribute.experimental.CommunicationOptions(timeout_seconds=60)
        return tf.distribute.MultiWorkerMirroredStrategy(communication_options=patience)
    # Processors stand in for the GPUs of a real machine: leave this out there.
    (processor,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        processor, [tf.config.LogicalDeviceConfiguration()] * replicas
    )
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])


def gathering(strategy: tf.distribute.Strategy) -> Callable[[str], list[str]]:
    """Collects a text from every replica; only numbers go from worker to worker."""

    def gather(text: str) -> list[str]:
        line = tf.constant(list(f"{text}\n".encode()), tf.int32)
        each = strategy.experimental_distribute_values_from_function(lambda _: line)
        return bytes(strategy.gather(each, axis=0).numpy().tolist()).decode().splitlines()

    return gather


def new_model(optimizer: keras.optimizers.Optimizer) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Dense(8, activation="tanh"),
            keras.layers.Dense(OUTPUTS),
        ]
    )
    model.compile(optimizer=optimizer, loss="mse")
    return model


def batch(step: int) -> tuple[np.ndarray, np.ndarray]:
    """The data of a step depend on its number only: who resumes sees the same."""
    rng = np.random.default_rng(step)
    x = rng.normal(size=(BATCH, FEATURES)).astype("float32")
    return x, rng.normal(size=(BATCH, OUTPUTS)).astype("float32")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=0.02)
    parser.add_argument("--trajectory", type=Path, help="save every step's weights here")
    parser.add_argument("--nan-at", type=int, help="a step at which the last replica sees a NaN")
    given = parser.parse_args()

    strategy = chosen_strategy(given.replicas)
    optimizer = surefoot.Ranger(given.learning_rate, sync_period=3, nonfinite="skip")
    # Already the variables of the scope are made by all workers together.
    require_agreement(optimizer, gathering(strategy), has_checkpoint=given.checkpoint.exists())
    with strategy.scope():  # optimizer and model alike
        if given.checkpoint.exists():
            model = keras.saving.load_model(given.checkpoint)
        else:
            model = new_model(surefoot.Ranger.from_config(optimizer.get_config()))
    optimizer = model.optimizer
    size = BATCH // strategy.num_replicas_in_sync

    @tf.function
    def step(x: Any, y: Any) -> None:
        def on_a_replica(x: tf.Tensor, y: tf.Tensor) -> None:
            with tf.GradientTape() as tape:
                # Of the whole batch's mean, this replica's part: the optimizer sums gradients.
                errors = tf.square(model(x, training=True) - y)
                loss = tf.reduce_sum(errors) / (BATCH * OUTPUTS)
            weights = model.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))

        strategy.run(on_a_replica, args=(x, y))

    def distributed(array: np.ndarray) -> Any:
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(array[context.replica_id_in_sync_group * size :][:size])
        )

    trajectory = []
    done = int(keras.ops.convert_to_numpy(optimizer.iterations)) + optimizer.skipped_steps
    rank = int(os.environ.get("RANK", "0"))
    for number in range(done, given.steps):
        x, y = batch(number)
        if number == given.nan_at:
            x[-1] = np.nan
        step(distributed(x), distributed(y))
        trajectory.append(np.concatenate([w.ravel() for w in model.get_weights()]))
        if rank == 0:
            fresh = given.checkpoint.with_suffix(".new.keras")
            model.save(fresh)
            fresh.replace(given.checkpoint)  # there whole or not at all
            print(f"step {number}", flush=True)
    if given.trajectory is not None:
        name = given.trajectory.with_suffix(f".{rank}.npz")
        np.savez(name, trajectory=np.stack(trajectory), skipped=optimizer.skipped_steps)


if __name__ == "__main__":
    main()
