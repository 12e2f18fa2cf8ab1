"""What every test shares: one backend a run, fixed seeds, and markers that deselect.

The environment variable KERAS_BACKEND picks the backend. A test that says the same on
every backend is marked ``once`` and runs with JAX only (SUREFOOT_ONCE=1 or 0 decides
otherwise); one for some backends only is marked ``backends("tensorflow", ...)``. Such
tests are deselected, never skipped: a skip in the report is a mistake. Of a large matrix
marked ``sampled(n)`` a backend runs the n-th part, each backend another one; the rest are
extended tests. The part are cases whose places along the axes have the same sum, modulo n: if
an axis has n values, every combination of values along the others is there. So with
``sampled(len(MODES))`` each optimizer runs in one mode, and over the tests in all of them.

Keras is imported inside of functions, because the process that only hands out tests to the
workers of pytest-xdist reads this file, too, and would make them wait for the backend.
"""

from __future__ import annotations

import importlib.util
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

BACKENDS = ("tensorflow", "jax", "torch")

# Many tests compile the same program: hyperparameters are inputs of a step, not constants in
# it. The processes of a run share what each has compiled, which halves the time on JAX.
# JAX reads these when it is imported, in processes that tests start as well.
COMPILED = {
    "JAX_COMPILATION_CACHE_DIR": str(Path(__file__).parents[1] / ".jax_cache"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}

# Those in `gpu` need a GPU (`make test-gpu`), those in `kernels` Triton (`make test-triton`).
collect_ignore = [] if os.environ.get("KERAS_TORCH_DEVICE") == "cuda" else ["gpu"]
if importlib.util.find_spec("triton") is None:
    collect_ignore.append("kernels")


def _backend() -> str:
    import keras

    return keras.backend.backend()


def pytest_configure(config: pytest.Config) -> None:
    for option, value in COMPILED.items():
        os.environ.setdefault(option, value)
    config.addinivalue_line("markers", "backends(*names): makes sense on the named backends only")
    config.addinivalue_line(
        "markers", "sampled(n): the n-th part of its cases; the others are extended"
    )
    # Keras turns tensors of TensorFlow and PyTorch into arrays in a way NumPy 2 deprecates.
    config.addinivalue_line(
        "filterwarnings",
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning",
    )


def _wanted(item: pytest.Item) -> bool:
    run_once = os.environ.get("SUREFOOT_ONCE", str(int(_backend() == "jax"))) == "1"
    if item.get_closest_marker("once") and not run_once:
        return False
    backends = item.get_closest_marker("backends")
    return backends is None or _backend() in backends.args


@pytest.hookimpl(tryfirst=True)  # before pytest deselects what is extended
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    unwanted = [item for item in items if not _wanted(item)]
    if unwanted:
        items[:] = [item for item in items if _wanted(item)]
        config.hook.pytest_deselected(items=unwanted)
    _extend_what_is_not_sampled(items)


def _extend_what_is_not_sampled(items: list[pytest.Item]) -> None:
    axes: defaultdict[tuple[str, int], dict[str, int]] = defaultdict(dict)
    for item in items:
        sampled = item.get_closest_marker("sampled")
        if sampled is not None:
            test = item.nodeid.partition("[")[0]
            # What pytest makes public are arguments; this has one entry for those given together.
            values = item.callspec._idlist if hasattr(item, "callspec") else ()
            places = (axes[test, i].setdefault(v, len(axes[test, i])) for i, v in enumerate(values))
            if (sum(places) + BACKENDS.index(_backend())) % sampled.args[0]:
                item.add_marker(pytest.mark.extended)


@pytest.fixture
def backend() -> str:
    """The backend of this run."""
    return _backend()


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """Every test starts from the same random state."""
    import keras

    keras.utils.set_random_seed(2020)


@pytest.fixture
def float64() -> Iterator[None]:
    """Lets variables be float64; JAX makes them float32 unless told so."""
    if _backend() == "jax":
        import jax

        # By the option, which every supported version has, and not by the newer context manager.
        before = jax.config.jax_enable_x64
        jax.config.update("jax_enable_x64", True)
        yield
        jax.config.update("jax_enable_x64", before)
    else:
        yield
