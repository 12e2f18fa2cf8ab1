"""What optimizers that were built, stepped and dropped leave in memory."""

from __future__ import annotations

import subprocess
import sys

import pytest

OPTIMIZERS = 1_000
LEFT = 16
"""Kilobytes each that may be the allocator's: of compiling, not of what is kept."""

# In a process of its own. The first quarter of ours is not counted: it compiles one loop of each
# kind, and grows the heap to what compiling takes.
PROGRAM = """
import ctypes, gc, sys
import keras, numpy as np
import surefoot

made, of_keras = int(sys.argv[1]), sys.argv[2] == "keras"
KINDS = [
    lambda i: surefoot.RectifiedAdam(0.01 + 1e-6 * i),
    lambda i: surefoot.RectifiedAdam(0.01, amsgrad=True, beta_1=0.9 - 1e-5 * i),
    lambda i: surefoot.RectifiedAdam(0.01, weight_decay=0.1 + 1e-4 * i),
    lambda i: surefoot.RectifiedAdam(0.01, gradient_accumulation_steps=2),
    lambda i: surefoot.Nadam(0.01, clipvalue=1.0 + 1e-3 * i),
    lambda i: surefoot.Nadam(0.01, clipnorm=1.0 + 1e-3 * i),
    lambda i: surefoot.Nadam(0.01, use_ema=True),
    lambda i: surefoot.Ranger(0.01, slow_step_size=0.5 + 1e-5 * i),
    lambda i: surefoot.Lookahead(surefoot.Nadam(0.01), sync_period=2 + i),
    lambda i: surefoot.Lookahead(keras.optimizers.Adam(0.01)),
]
if of_keras:
    KINDS = [lambda i: keras.optimizers.Adam(0.01 + 1e-6 * i)]

def kilobytes():
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4

def step(i):
    variables = [keras.Variable(np.ones((16, 8), "float32")), keras.Variable(np.ones(8, "float32"))]
    optimizer = KINDS[i % len(KINDS)](i)
    for _ in range(3):
        optimizer.apply([keras.ops.ones((16, 8)), keras.ops.ones(8)], variables)

for i in range(made // 4):
    step(i)
before = kilobytes()
for i in range(made // 4, made):
    step(i)
print((kilobytes() - before) / (made - made // 4))
"""


def kilobytes_left(whose: str) -> float:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(OPTIMIZERS), whose],
        capture_output=True,
        text=True,
        timeout=1500,
        check=True,
    )
    return float(done.stdout.split()[-1])


@pytest.mark.extended
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_optimizers_leave_no_more_than_keras_adam() -> None:
    assert kilobytes_left("ours") <= kilobytes_left("keras") + LEFT
