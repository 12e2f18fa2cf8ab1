"""What a program prints in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

BACKENDS = ("tensorflow", "jax", "torch")


def output(backend: str, program: str, *arguments: str) -> list[str]:
    """The words that a program prints, run on one of Keras's backends."""
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    # As installed: with compiled files, which `make test` and others may switch off.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    return done.stdout.split()
