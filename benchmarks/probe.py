"""What one contender costs beside time: its first step, and memory that comes and goes.

Both need a process of their own: compilers keep what they have compiled, and allocators what they
were once given.
"""

from __future__ import annotations

import gc
import re
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from benchmarks.contenders import Contender
from benchmarks.shapes import Shape, arrays, parameters

ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""Makes glibc give each block of 64 KiB or more back at once, so that the peak is one."""

STATE_BYTES = 16
"""Bytes per parameter that are there all the time: p, g, m, v in float32."""


@dataclass(frozen=True)
class Probe:
    """What one contender costs beside time.

    Attributes:
        first_step: Seconds from initial values to the end of the first step.
        peak_bytes: Memory above the resident while a step runs.
        peak_percent: The same, in percent of p, g, m and v.
        launches: On a GPU, kernels and copies that the host starts in a step, if they are known.
        waits: How often the host waits for the GPU in a step, if that is known.
    """

    first_step: float
    peak_bytes: int
    peak_percent: float
    launches: float | None = None
    waits: float | None = None


def status(field: str) -> int:
    """A field of this process's status, in bytes."""
    found = re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.M)
    if found is None:
        raise RuntimeError(f"The kernel does not report {field}.")
    return 1024 * int(found[1])


def probe(backend: ModuleType, contender: Contender, shapes: list[Shape], device: str) -> Probe:
    """Run a contender alone.

    Args:
        backend: Its backend's module.
        contender: Who runs.
        shapes: Shapes of its parameters.
        device: "cpu" or "gpu".

    Returns:
        Its first step and its peak.
    """
    values = arrays(shapes, scale=0.05, seed=1)
    grads = backend.gradients(arrays(shapes, scale=0.01, seed=2))
    start = time.perf_counter()
    running = contender.build(values, grads)
    running.step()
    running.wait()
    first_step = time.perf_counter() - start
    del values

    # RAdam rectifies from the sixth step on, and another kernel may take over there.
    for _ in range(8):
        running.step()
    running.wait()
    gc.collect()
    if device == "gpu":
        steps = 2 * contender.period
        peak, launches, waits = backend.device_costs(running, steps)
        percent = 100 * peak / (STATE_BYTES * parameters(shapes))
        return Probe(first_step, peak, percent, launches, waits)
    resident = status("VmRSS")
    # Writing 5 sets the peak back to what is resident now.
    Path("/proc/self/clear_refs").write_text("5")
    for _ in range(2 * contender.period):
        running.step()
        running.wait()
    peak = max(0, status("VmHWM") - resident)
    return Probe(first_step, peak, 100 * peak / (STATE_BYTES * parameters(shapes)))
