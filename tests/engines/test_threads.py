"""Steps in several threads, in children that are forked, and in the loops of a backend."""

from __future__ import annotations

import ast
import hashlib
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import surefoot
from loops import to_numpy

THREADS = 8
STEPS = 9

OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "radam": lambda: surefoot.RectifiedAdam(0.1),
    "radam_amsgrad": lambda: surefoot.RectifiedAdam(0.1, amsgrad=True, weight_decay=0.1),
    "nadam": lambda: surefoot.Nadam(0.1, clipvalue=0.5),
    "ranger": lambda: surefoot.Ranger(0.1, sync_period=2),
    "lookahead": lambda: surefoot.Lookahead(keras.optimizers.SGD(0.1), sync_period=2),
}

# In a new process, since what is compiled stays: only there are first steps the first ones.
FIRST_STEPS = """
import sys, threading
import keras, numpy as np
sys.path[:0] = {path!r}
from engines.test_threads import OPTIMIZERS, STEPS, THREADS, trained
names = [*OPTIMIZERS] * THREADS
results, errors = {{}}, []
barrier = threading.Barrier(THREADS)
def train(number):
    barrier.wait()
    try:
        results[number] = trained(names[number])
    except BaseException as error:
        errors.append(repr(error))
threads = [threading.Thread(target=train, args=(n,)) for n in range(THREADS)]
[t.start() for t in threads]
[t.join() for t in threads]
assert not errors, errors
for number, result in results.items():
    np.testing.assert_array_equal(result, trained(names[number]))
print("equal")
"""


def trained(name: str) -> np.ndarray:
    """A variable after some steps."""
    variable = keras.Variable(np.linspace(-1.0, 1.0, 30_000, dtype="float32"))
    optimizer = OPTIMIZERS[name]()
    optimizer.build([variable])
    for step in range(STEPS):
        optimizer.apply([keras.ops.ones(30_000) * (step - 2.0)], [variable])
    return to_numpy(variable)


def test_first_steps_of_several_optimizers_in_several_threads() -> None:
    program = FIRST_STEPS.format(path=["tests"])
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stdout.split()[-1:]) == (0, ["equal"]), done.stderr[-2000:]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_optimizer_in_several_threads(name: str) -> None:
    """No step is lost where a constant gradient makes all of them equal, and nothing breaks."""
    variable = keras.Variable(np.zeros(3_000, "float32"))
    optimizer = OPTIMIZERS[name]()
    errors: list[str] = []

    def train() -> None:
        try:
            for _ in range(STEPS):
                optimizer.apply([keras.ops.ones(3_000)], [variable])
        except Exception as error:
            errors.append(repr(error))

    threads = [threading.Thread(target=train) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    alone = keras.Variable(np.zeros(3_000, "float32"))
    other = OPTIMIZERS[name]()
    for _ in range(STEPS * THREADS):
        other.apply([keras.ops.ones(3_000)], [alone])
    assert int(optimizer.iterations) == STEPS * THREADS
    np.testing.assert_array_equal(to_numpy(variable), to_numpy(alone))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_come_out_the_same_bit_for_bit(name: str) -> None:
    np.testing.assert_array_equal(trained(name), trained(name))


def hashes() -> dict[str, str]:
    """Of where optimizers take a variable that is large enough for several threads."""
    value = np.random.default_rng(0).normal(size=1_300_000).astype("float32")
    found = {}
    for name, make in OPTIMIZERS.items():
        variable, optimizer = keras.Variable(value), make()
        for _ in range(7):
            optimizer.apply([keras.ops.convert_to_tensor(value * 0.5)], [variable])
        found[name] = hashlib.sha256(to_numpy(variable).tobytes()).hexdigest()
    return found


ON_ONE_THREAD = """
import os, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
sys.path[:0] = ["tests"]
from engines.test_threads import hashes
print(hashes())
"""


def test_one_thread_computes_what_two_do() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ON_ONE_THREAD],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert ast.literal_eval(done.stdout.splitlines()[-1]) == hashes()


FORKED = """
import os, sys
sys.path[:0] = ["tests"]
from engines.test_threads import OPTIMIZERS, trained
import numpy as np
before = {name: trained(name) for name in OPTIMIZERS}
child = os.fork()
if child == 0:
    same = all(np.array_equal(trained(name), value) for name, value in before.items())
    os._exit(0 if same else 1)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0
print("equal")
"""


@pytest.mark.backends("torch")  # JAX and TensorFlow have threads that do not survive a fork
def test_a_forked_child_makes_the_same_steps() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stdout.split()[-1:]) == (0, ["equal"]), done.stderr[-2000:]


@pytest.mark.backends("jax")
@pytest.mark.parametrize("how", ["scan", "while_loop", "fori_loop"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_in_loops_of_jax(name: str, how: str) -> None:
    import jax

    variable = keras.Variable(np.ones((4, 3), "float32"))
    optimizer = OPTIMIZERS[name]()
    optimizer.build([variable])
    start = [variable.value], [v.value for v in optimizer.variables]

    def step(carry: Any) -> Any:
        parameters, state = carry
        return optimizer.stateless_apply(state, [2.0 * parameters[0]], parameters)

    if how == "scan":
        (parameters, _), _ = jax.lax.scan(lambda c, _: (step(c), None), start, None, length=STEPS)
    elif how == "fori_loop":
        parameters, _ = jax.lax.fori_loop(0, STEPS, lambda _, c: step(c), start)
    else:
        _, (parameters, _) = jax.lax.while_loop(
            lambda c: c[0] < STEPS, lambda c: (c[0] + 1, step(c[1])), (0, start)
        )
    carry = start
    for _ in range(STEPS):
        carry = jax.jit(step)(carry)
    np.testing.assert_allclose(parameters[0], carry[0][0], rtol=1e-6)


@pytest.mark.backends("tensorflow")
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_in_a_while_loop_of_tensorflow(name: str, jit_compile: bool) -> None:
    import tensorflow as tf

    inside, outside = (keras.Variable(np.ones((4, 3), "float32")) for _ in range(2))
    optimizer, other = OPTIMIZERS[name](), OPTIMIZERS[name]()
    optimizer.build([inside])

    @tf.function(jit_compile=jit_compile)
    def run() -> None:
        def step(done: tf.Tensor) -> tf.Tensor:
            optimizer.apply([2.0 * inside.value], [inside])
            return done + 1

        tf.while_loop(lambda done: done < STEPS, step, [0])

    run()
    for _ in range(STEPS):
        other.apply([2.0 * outside.value], [outside])
    np.testing.assert_allclose(to_numpy(inside), to_numpy(outside), rtol=1e-6)
