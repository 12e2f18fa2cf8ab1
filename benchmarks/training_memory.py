"""The memory of a training, seen from outside: `python -m benchmarks.training_memory`.

Each optimizer trains a model of 124 million parameters in a fresh process with Keras's `fit`. What
is told is the largest resident memory that the operating system counted, less that after the
imports. It needs Linux.
"""

from __future__ import annotations

import argparse

from benchmarks.fresh_process import BACKENDS, output

OPTIMIZERS = {
    "Keras's SGD, without state": "keras.optimizers.SGD(1e-4)",
    "Keras's Adam": "keras.optimizers.Adam(1e-4)",
    "RectifiedAdam": "surefoot.RectifiedAdam(1e-4)",
    '`moments="bfloat16"`': 'surefoot.RectifiedAdam(1e-4, moments="bfloat16")',
    "Ranger": "surefoot.Ranger(1e-4)",
    "Ranger, both in bfloat16": (
        'surefoot.Ranger(1e-4, moments="bfloat16", slow_weights="bfloat16")'
    ),
}
DTYPES = ("float32", "bfloat16")

PROGRAM = """
import sys
import keras, numpy as np, surefoot
from benchmarks.probe import status

optimizer, dtype = sys.argv[1:]
before = status("VmRSS")
keras.config.set_dtype_policy(dtype)
keras.utils.set_random_seed(0)
layers = [
    layer
    for _ in range(18)
    for layer in (keras.layers.Dense(3072, activation="gelu"), keras.layers.Dense(768))
]
model = keras.Sequential([keras.Input((768,)), *layers, keras.layers.Dense(50257)])
model.compile(eval(optimizer), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
random = np.random.default_rng(0)
x = random.normal(size=(64, 768)).astype("float32")
model.fit(x, random.integers(0, 50257, 64), batch_size=8, verbose=0)
print(status("VmHWM") - before, model.count_params())
"""


def take(backend: str, optimizer: str, dtype: str) -> tuple[float, float]:
    """Bytes at most in a fresh process, and the same for each parameter."""
    peak, parameters = map(int, output(backend, PROGRAM, optimizer, dtype))
    return peak, peak / parameters


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training_memory", description=__doc__
    )
    parser.add_argument("--backend", nargs="+", choices=BACKENDS, default=BACKENDS)
    arguments = parser.parse_args()
    print("| variables | optimizer |", *(f"{name} |" for name in arguments.backend))
    print("|---|---|", *("---:|" for _ in arguments.backend), sep="")
    for dtype in DTYPES:
        for label, optimizer in OPTIMIZERS.items():
            found = [take(backend, optimizer, dtype) for backend in arguments.backend]
            cells = (f"{peak / 2**30:.2f} ({each:.1f}) |" for peak, each in found)
            print(f"| {dtype} | {label} |", *cells, flush=True)


if __name__ == "__main__":
    main()
