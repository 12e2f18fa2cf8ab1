"""`surefoot info` in processes of its own, each with something else in the way of loops."""

from __future__ import annotations

import os
import subprocess
import sys

import keras
import pytest

import surefoot
from loops import BACKEND

COMMAND = "from surefoot.cli import main; raise SystemExit(main(['info']))"
LOOP = "JIT-compiled loop over all tensors, in place"
KERNEL = {
    "tensorflow": "fused kernel, compiled by XLA",
    "jax": "fused kernel, compiled by XLA",
    "torch": "fused kernel: PyTorch's AdamW where it computes the rule, else plain operations",
}[BACKEND]
TWO_DEVICES = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}


def told(*missing: str, chosen: str | None = BACKEND, **environment: str) -> dict[str, str]:
    """What the command prints where modules are ``missing``."""
    without = "".join(f"sys.modules[{name!r}] = None; " for name in missing)
    variables = {k: v for k, v in os.environ.items() if k not in ("KERAS_BACKEND", "XLA_FLAGS")}
    variables |= environment | ({} if chosen is None else {"KERAS_BACKEND": chosen})
    process = subprocess.run(
        [sys.executable, "-c", f"import sys; {without}{COMMAND}"],
        env=variables | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        check=True,
        capture_output=True,
        text=True,
    )
    lines = [line.split(maxsplit=1) for line in process.stdout.splitlines()]
    return dict(lines)


def step(facts: dict[str, str]) -> tuple[str, str]:
    return facts["step"], facts["because"]


def test_what_is_installed_and_how_a_step_is_made() -> None:
    facts = told()
    assert facts["surefoot"] == surefoot.__version__
    assert facts["Python"] == sys.version.split()[0]
    assert facts["Keras"] == keras.__version__
    assert facts["backend"] == f"{BACKEND} {sys.modules[BACKEND].__version__}"
    assert step(facts) == (LOOP, "nothing is in its way")
    assert facts["except"].startswith("LAMB, NovoGrad: by operations of the backend")


@pytest.mark.once
def test_switched_off() -> None:
    assert step(told(SUREFOOT_LOOPS="0")) == (KERNEL, "SUREFOOT_LOOPS=0 is set")


def test_without_llvmlite_it_says_what_to_install() -> None:
    facts = told("llvmlite", "llvmlite.binding")
    assert facts["llvmlite"] == "not installed"
    reason = f"llvmlite is not installed: pip install 'surefoot[{BACKEND}]'"
    assert step(facts) == (KERNEL, reason)


@pytest.mark.backends("jax")
@pytest.mark.parametrize("missing", [(), ("llvmlite", "llvmlite.binding")], ids=str)
def test_what_no_package_could_change_comes_first(missing: tuple[str, ...]) -> None:
    assert step(told(*missing, **TWO_DEVICES)) == (KERNEL, "JAX has more than one device: 2")


@pytest.mark.once
@pytest.mark.parametrize("chosen", [None, "jax"])
def test_without_any_backend_it_says_what_to_install(chosen: str | None) -> None:
    facts = told("tensorflow", "jax", "torch", chosen=chosen)
    assert facts["Keras"] == keras.__version__
    assert "pip install one of 'surefoot[tensorflow]', 'surefoot[jax]'" in facts["backend"]
    assert "step" not in facts


@pytest.mark.once
def test_without_the_backend_that_is_chosen_it_names_the_others() -> None:
    told_of = told("torch", chosen="torch")["backend"]
    assert "pip install 'surefoot[torch]'" in told_of
    assert "(tensorflow, jax)" in told_of


@pytest.mark.once
def test_a_backend_that_is_not_ours_is_told() -> None:
    assert "Received: KERAS_BACKEND='numpy'" in told(chosen="numpy")["step"]


@pytest.mark.once
def test_without_any_backend_the_optimizers_say_what_to_install() -> None:
    program = (
        "import sys\n"
        "for name in ('tensorflow', 'jax', 'torch'): sys.modules[name] = None\n"
        "import surefoot\n"
        "assert not hasattr(surefoot, '__wrapped__')\n"
        "try: surefoot.Nadam\n"
        "except ImportError as error: print(error)\n"
    )
    variables = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}
    process = subprocess.run(
        [sys.executable, "-c", program], env=variables, check=True, capture_output=True, text=True
    )
    assert process.stdout.startswith("There is no surefoot.Nadam: no backend of Keras is installed")
