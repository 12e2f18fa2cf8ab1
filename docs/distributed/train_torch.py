"""Train with PyTorch's DistributedDataParallel; begin where a checkpoint ends.

python launch.py --workers 2 train_torch.py CHECKPOINT.keras
"""

from __future__ import annotations

import argparse
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import surefoot
from surefoot.agreement import require_agreement

BATCH, FEATURES, OUTPUTS = 24, 6, 3
OPTIMIZERS = {
    "RectifiedAdam": lambda rate, **kwargs: surefoot.RectifiedAdam(
        rate, total_steps=20, warmup_proportion=0.3, weight_decay=0.05, **kwargs
    ),
    "Nadam": surefoot.Nadam,
    "Ranger": lambda rate, **kwargs: surefoot.Ranger(rate, sync_period=3, **kwargs),
}


def new_model(optimizer: Any) -> keras.Model:
    keras.utils.set_random_seed(0)  # the same weights on every worker
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


def gather(text: str) -> list[str]:
    """Every worker's text."""
    texts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(texts, text)
    return texts


def save(model: keras.Model, checkpoint: Path) -> None:
    """A file is there whole or not at all, whenever the process is killed."""
    fresh = checkpoint.with_suffix(".new.keras")
    model.save(fresh)
    fresh.replace(checkpoint)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="Ranger")
    parser.add_argument("--nonfinite", default="propagate")
    parser.add_argument("--learning-rate", type=float, default=0.02)
    parser.add_argument("--trajectory", type=Path, help="save every step's weights here")
    parser.add_argument("--nan-at", type=int, help="a step at which the last worker sees a NaN")
    given = parser.parse_args()

    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    rank, workers = dist.get_rank(), dist.get_world_size()
    if given.checkpoint.exists():
        model = keras.saving.load_model(given.checkpoint)
    else:
        model = new_model(
            OPTIMIZERS[given.optimizer](given.learning_rate, nonfinite=given.nonfinite)
        )
    optimizer = model.optimizer
    require_agreement(optimizer, gather, iterations=int(optimizer.iterations))
    parallel = DistributedDataParallel(model)
    weights = model.trainable_weights
    rows = slice(rank * BATCH // workers, (rank + 1) * BATCH // workers)

    trajectory = []
    done = int(optimizer.iterations) + optimizer.skipped_steps
    for step in range(done, given.steps):
        x, y = batch(step)
        if step == given.nan_at:
            x[-1] = np.nan
        parallel.zero_grad()
        predictions = parallel(torch.from_numpy(x[rows]))
        torch.nn.functional.mse_loss(predictions, torch.from_numpy(y[rows])).backward()
        # DistributedDataParallel has averaged the gradients by now.
        optimizer.apply([w.value.grad for w in weights], weights)
        trajectory.append(np.concatenate([w.ravel() for w in model.get_weights()]))
        if rank == 0:
            save(model, given.checkpoint)
            print(f"step {step}", flush=True)
    if given.trajectory is not None:
        name = given.trajectory.with_suffix(f".{rank}.npz")
        np.savez(name, trajectory=np.stack(trajectory), skipped=optimizer.skipped_steps)
    # The wrapper goes first: were it the last to hold the group, its end would wait, holding
    # Python's lock, for the group's threads, which may be waiting for that lock.
    del parallel
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
