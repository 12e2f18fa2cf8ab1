"""What a user of one backend does first, run in an environment that holds nothing else.

Run as a program by `make test-install`, with the backend's name, away from the source tree.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from pathlib import Path

BACKENDS = ("tensorflow", "jax", "torch")


def check_environment(backend: str) -> None:
    """Fail unless this backend alone is installed: else what is missing could go unseen."""
    installed = [name for name in BACKENDS if importlib.util.find_spec(name)]
    assert installed == [backend], f"{backend} should be alone, found {installed}"
    assert "KERAS_BACKEND" not in os.environ, "the installed backend is to be found unaided"


def check_package(backend: str) -> None:
    """Fail unless surefoot comes from this environment and Keras took its backend."""
    import surefoot  # First: Keras by itself would look for TensorFlow.

    package = Path(surefoot.__file__).resolve().parent
    assert package.is_relative_to(Path(sys.prefix).resolve()), package
    assert (package / "py.typed").is_file()

    import keras

    assert keras.backend.backend() == backend


def check_training() -> None:
    """Train one step with each optimizer, save, load and train on."""
    import keras
    import numpy as np

    import surefoot

    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    y = x.sum(axis=1, keepdims=True)
    for optimizer in (
        surefoot.RectifiedAdam(0.01, weight_decay=1e-4, amsgrad=True),
        surefoot.Nadam(0.01),
        surefoot.Lookahead("adam"),
        surefoot.Ranger(0.01),
    ):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile(optimizer=optimizer, loss="mse")
        before = [w.copy() for w in model.get_weights()]
        model.fit(x, y, batch_size=8, epochs=1, verbose=0)
        moved = [np.any(a != b) for a, b in zip(before, model.get_weights(), strict=True)]
        assert all(moved), f"{optimizer.name} moved {moved}"
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "model.keras")
            model.save(path)
            loaded = keras.saving.load_model(path)
        loaded.fit(x, y, batch_size=8, epochs=1, verbose=0)
        assert int(loaded.optimizer.iterations) == 2


def main() -> None:
    """Run the checks for the backend named on the command line."""
    backend = sys.argv[1]
    check_environment(backend)
    check_package(backend)
    check_training()
    print(f"smoke test passed on {backend}")


if __name__ == "__main__":
    main()
