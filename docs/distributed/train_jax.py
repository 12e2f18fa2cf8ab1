"""Train on several devices, the optimizer's state split over them; begin where a checkpoint ends.

python train_jax.py CHECKPOINT.keras --devices 4 --shard-state              # of one machine
python launch.py --workers 2 train_jax.py CHECKPOINT.keras --devices 2      # of several processes
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
    parser.add_argument("--learning-rate", type=float, default=0.02)
    parser.add_argument("--shard-state", action="store_true")
    given = parser.parse_args()

    # Processors stand in for the GPUs of a real machine: leave this out there.
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={given.devices}"

    import keras
    import numpy as np
    from jax.experimental.multihost_utils import process_allgather

    import surefoot
    from surefoot.agreement import require_agreement

    rank, workers = (int(os.environ.get(name, "0")) for name in ("RANK", "WORLD_SIZE"))
    if workers > 1:
        address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        keras.distribution.initialize(address, workers, rank)

    def gather(text: str) -> list[str]:
        """Every worker's text; arrays of one length go from worker to worker."""
        letters = np.frombuffer(text.encode(), np.uint8)
        lengths = process_allgather(np.array([len(letters)])).reshape(-1)
        rows = process_allgather(np.pad(letters, (0, max(lengths) - len(letters))))
        rows = rows.reshape(len(lengths), -1)
        return [bytes(row[:length]).decode() for row, length in zip(rows, lengths, strict=True)]

    optimizer = surefoot.Ranger(given.learning_rate, sync_period=3, shard_state=given.shard_state)
    # Under a distribution already the variables are made by all workers together.
    require_agreement(optimizer, gather, has_checkpoint=given.checkpoint.exists())
    devices = keras.distribution.list_devices()
    keras.distribution.set_distribution(
        # Each worker brings its own rows below, instead of a whole dataset to take them from.
        keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)
    )
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
        optimizer = surefoot.Ranger.from_config(optimizer.get_config())
        model.compile(optimizer=optimizer, loss="mse")

    size = BATCH // max(workers, 1)
    for step in range(int(model.optimizer.iterations), given.steps):
        rng = np.random.default_rng(step)
        x = rng.normal(size=(BATCH, FEATURES)).astype("float32")
        y = rng.normal(size=(BATCH, OUTPUTS)).astype("float32")
        rows = slice(rank * size, (rank + 1) * size)
        model.fit(x[rows], y[rows], batch_size=size, verbose=0)
        # Everyone saves: what reads a weight may be work for all. One of the files is kept.
        fresh = given.checkpoint.with_suffix(f".{rank}.new.keras")
        model.save(fresh)
        if rank == 0:
            fresh.replace(given.checkpoint)  # there whole or not at all
            print(f"step {step}", flush=True)
        else:
            fresh.unlink()
    state = [v.value.addressable_shards[0].data.nbytes for v in model.optimizer.variables]
    print(f"{sum(state)} bytes of optimizer state on a device", flush=True)


if __name__ == "__main__":
    main()
