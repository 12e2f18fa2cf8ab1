"""Train on several devices of one machine, the optimizer's state split over them.

python train_jax.py CHECKPOINT.keras --devices 4 --shard-state
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"

BATCH, FEATURES, OUTPUTS = 24, 6, 3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--shard-state", action="store_true")
    given = parser.parse_args()

    # Processors stand in for the GPUs of a real machine: leave this out there.
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={given.devices}"

    import keras
    import numpy as np

    import surefoot

    devices = keras.distribution.list_devices()
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
    if given.checkpoint.exists():
        model = keras.saving.load_model(given.checkpoint)
    else:
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((FEATURES,)),
                keras.layers.Dense(8, activation="tanh"),
                keras.layers.Dense(OUTPUTS),
            ]
        )
        optimizer = surefoot.Ranger(0.02, sync_period=3, shard_state=given.shard_state)
        model.compile(optimizer=optimizer, loss="mse")

    for step in range(int(model.optimizer.iterations), given.steps):
        rng = np.random.default_rng(step)
        x = rng.normal(size=(BATCH, FEATURES)).astype("float32")
        y = rng.normal(size=(BATCH, OUTPUTS)).astype("float32")
        model.fit(x, y, batch_size=BATCH, verbose=0)
        fresh = given.checkpoint.with_suffix(".new.keras")
        model.save(fresh)
        fresh.replace(given.checkpoint)  # there whole or not at all
        print(f"step {step}", flush=True)
    state = [v.value.addressable_shards[0].data.nbytes for v in model.optimizer.variables]
    print(f"{sum(state)} bytes of optimizer state on a device", flush=True)


if __name__ == "__main__":
    main()
