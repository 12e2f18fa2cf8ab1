"""What every test shares: one backend a run, fixed seeds, and markers that deselect.

The environment variable KERAS_BACKEND picks the backend. A test that says the same on
every backend is marked ``once`` and runs with JAX only (SUREFOOT_ONCE=1 or 0 decides
otherwise); one for some backends only is marked ``backends("tensorflow", ...)``. Such
tests are deselected, never skipped: a skip in the report is a mistake.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import keras
import pytest

BACKEND = keras.backend.backend()

# Many tests compile the same program: hyperparameters are inputs of a step, not constants in
# it. The processes of a run share what each has compiled, which halves the time on JAX.
COMPILED = {
    "jax_compilation_cache_dir": str(Path(__file__).parents[1] / ".jax_cache"),
    "jax_persistent_cache_min_compile_time_secs": 0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}


def _share_compiled_programs() -> None:
    import jax

    for option, value in COMPILED.items():
        jax.config.update(option, value)
        os.environ.setdefault(option.upper(), str(value))  # for processes that tests start


def pytest_configure(config: pytest.Config) -> None:
    if BACKEND == "jax":
        _share_compiled_programs()
    config.addinivalue_line("markers", "backends(*names): makes sense on the named backends only")
    # Keras turns tensors of TensorFlow and PyTorch into arrays in a way NumPy 2 deprecates.
    config.addinivalue_line(
        "filterwarnings",
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning",
    )


def _wanted(item: pytest.Item) -> bool:
    run_once = os.environ.get("SUREFOOT_ONCE", str(int(BACKEND == "jax"))) == "1"
    if item.get_closest_marker("once") and not run_once:
        return False
    backends = item.get_closest_marker("backends")
    return backends is None or BACKEND in backends.args


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    unwanted = [item for item in items if not _wanted(item)]
    if unwanted:
        items[:] = [item for item in items if _wanted(item)]
        config.hook.pytest_deselected(items=unwanted)


@pytest.fixture
def backend() -> str:
    """The backend of this run."""
    return BACKEND


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """Every test starts from the same random state."""
    keras.utils.set_random_seed(2020)


@pytest.fixture
def float64() -> Iterator[None]:
    """Lets variables be float64; JAX makes them float32 unless told so."""
    if BACKEND == "jax":
        import jax

        # By the option, which every supported version has, and not by the newer context manager.
        before = jax.config.jax_enable_x64
        jax.config.update("jax_enable_x64", True)
        yield
        jax.config.update("jax_enable_x64", before)
    else:
        yield
