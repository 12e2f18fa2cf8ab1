"""A process whose steps cannot be loops says so, once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from loops import BACKEND

STEPS = """
import logging, sys
for name in sys.argv[2:]:
    sys.modules[name] = None
logging.basicConfig(level=sys.argv[1], format="%(levelname)s %(name)s %(message)s", force=True)
import keras, surefoot
logging.getLogger().setLevel("WARNING")
logging.getLogger("surefoot").setLevel(sys.argv[1])
low = keras.Variable([1.0, 2.0], dtype="float16")
surefoot.Nadam(0.1).apply([keras.ops.ones(2, "float16")], [low])
print("---", file=sys.stderr, flush=True)
variable = keras.Variable([1.0, 2.0])
inner = keras.optimizers.SGD(0.1)
for optimizer in (surefoot.Nadam(0.1), surefoot.Ranger(0.1), surefoot.Lookahead(inner, 1)):
    for _ in range(2):
        optimizer.apply([keras.ops.ones(2)], [variable])
"""
LLVMLITE = ("llvmlite", "llvmlite.binding")


def records(level: str, *missing: str, **environment: str) -> list[str]:
    """What surefoot logs in steps of three optimizers, after one that no loop would serve."""
    process = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", STEPS, level, *missing],
        env=os.environ | environment | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        check=True,
        capture_output=True,
        text=True,
    )
    before, _, after = process.stderr.partition("---\n")
    assert "surefoot" not in before
    return [line for line in after.splitlines() if " surefoot " in line]


def test_llvmlite_that_is_all_that_is_missing_is_a_warning() -> None:
    assert records("WARNING", *LLVMLITE) == [
        "WARNING surefoot Steps are left to the backend and take longer: "
        f"llvmlite is not installed: pip install 'surefoot[{BACKEND}]'"
    ]


def test_what_somebody_chose_is_no_warning() -> None:
    assert records("INFO", *LLVMLITE, SUREFOOT_LOOPS="0") == [
        "INFO surefoot Steps are left to the backend: SUREFOOT_LOOPS=0 is set"
    ]


@pytest.mark.backends("jax")
def test_llvmlite_is_not_missing_where_there_would_be_no_loops_with_it() -> None:
    two = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    assert records("INFO", *LLVMLITE, **two) == [
        "INFO surefoot Steps are left to the backend: JAX has more than one device: 2"
    ]


def test_where_steps_are_loops_nothing_is_said() -> None:
    assert records("INFO") == []
