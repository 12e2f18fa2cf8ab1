"""What machine the numbers are from."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path


def describe(device: str) -> dict[str, str | int]:
    """Processor, cores, memory, system and Python; nothing that names the machine's owner."""
    processor = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if device == "gpu":
        query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        gpu, driver = subprocess.check_output(query, text=True).splitlines()[0].split(", ")
        processor = f"{gpu} (driver {driver}), {processor}"
    return {
        "processor": processor,
        "cores": os.cpu_count() or 1,
        "memory_gib": round(memory / 2**30),
        "system": platform.system(),
        "python": platform.python_version(),
    }
