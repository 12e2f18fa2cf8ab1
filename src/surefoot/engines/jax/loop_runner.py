"""Compiled loops on JAX, in place, called by XLA through its foreign function interface.

Where LLVM is not installed, and on other devices or several of them, all is left to XLA.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import re
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from surefoot.engines import loops
from surefoot.engines.compiler import loop, xla
from surefoot.engines.compiler.loop import Loop, Obstacle
from surefoot.engines.jax import arrays as namespace
from surefoot.engines.loops import Columns, Selection, StepPath
from surefoot.rule.rounding import Position, key_halves
from surefoot.rule.update import Array

_parameters_not_donated: ContextVar[bool] = ContextVar("parameters_not_donated", default=False)


@contextlib.contextmanager
def parameters_not_donated() -> Iterator[None]:
    """Trace a step whose caller keeps the old parameters: it gets new arrays for them."""
    token = _parameters_not_donated.set(True)
    try:
        yield
    finally:
        _parameters_not_donated.reset(token)


def obstacle(selection: Selection | None = None) -> Obstacle | None:
    """Why no loop can run: see `LoopRunner`.

    XLA can call functions of this process where the CPU is the only device.
    """
    return loop.obstacle("jax", other_devices, _unknown_interface)


def other_devices() -> str | None:
    """Which devices there are besides one CPU, in words; None if there are none."""
    devices = jax.devices()
    if devices[0].platform != "cpu":
        return f"JAX computes on {devices[0].device_kind} and not on the CPU"
    if len(devices) > 1:
        return f"JAX has more than one device: {len(devices)}"
    return None


def _unknown_interface() -> str | None:
    return xla.unknown_version("JAX", _interface_version())


def step_path() -> StepPath:
    """How a step is made: see `LoopRunner`."""
    return loops.step_path(obstacle(), others="fused kernel, compiled by XLA")


def select(
    stored: Sequence[str], variables: Columns, tensors: Columns, keys: Sequence[int]
) -> Selection:
    """Rows of traced arrays that are alike: see `LoopRunner`. XLA owns their memory."""
    rows = list(zip(*variables, *tensors, strict=True))
    count = len(variables)
    arrays = [[*(v.value for v in row[:count]), *row[count:]] for row in rows]
    served = [
        all(
            isinstance(a, jax.core.Tracer) and a.dtype.name == dtype and a.shape == row[0].shape
            for a, dtype in zip(row, stored, strict=True)
        )
        for row in arrays
    ]
    chosen = [
        (list(row[:count]), of_row, key)
        for row, of_row, key, s in zip(rows, arrays, keys, served, strict=True)
        if s
    ]
    return Selection(served, chosen)


def run(body: Loop, selection: Selection, scalars: Sequence[Array]) -> None:
    """Call a loop on what was selected: see `LoopRunner`."""
    rows = selection.arrays
    if _parameters_not_donated.get():
        # Parameters get new arrays. A conditional loop could not fill these where it does nothing.
        body = body._replace(new=() if body.conditional else (0,))
    else:
        body = body.also_returning(len(rows[0][0]))
    if body.keyed:
        scalars = [*scalars, *(half for *_, key in rows for half in key_halves(key))]
    vector = jnp.stack([jnp.asarray(s).astype(body.dtype) for s in scalars])
    results = _called(body)(vector, *itertools.chain(*(of_row for _, of_row, _ in rows)))
    for index, (variables, *_) in enumerate(rows):
        new = results[body.outputs * index : body.outputs * (index + 1)]
        for variable, value in zip(variables, new, strict=False):
            variable.assign(value)


@functools.cache
def _called(body: Loop) -> Any:
    """A function of the vector of scalars and of rows of arrays; it returns rows of outputs.

    Its derivatives are those of the same function computed by XLA.
    """
    name = _HANDLERS.name_for(body, _interface_version(), loop.cores())

    def call(vector: Array, *arrays: Array) -> list[Array]:
        results: list[Any] = []
        aliases: dict[int, int] = {}
        for place, array in enumerate(arrays):
            within = place % body.inputs
            if within < body.outputs:
                if within not in body.new:
                    aliases[1 + place] = len(results)
                results.append(jax.ShapeDtypeStruct(array.shape, array.dtype))
        loop_call = jax.ffi.ffi_call(
            name, results, vmap_method="sequential", input_output_aliases=aliases
        )
        return list(loop_call(vector, *arrays))

    def without_loop(vector: Array, *arrays: Array) -> list[Array]:
        scalars = list(vector)
        first = int(body.conditional)
        keys = scalars[first + body.scalars :]
        results = []
        for start in range(0, len(arrays), body.inputs):
            row = [
                x.astype("int32" if x.dtype == jnp.int16 else body.dtype)
                for x in arrays[start : start + body.inputs]
            ]
            high, low = keys[:2] or [jnp.zeros(())] * 2
            keys = keys[2:]
            key = namespace.integer(high) * (1 << 16) + namespace.integer(low)
            position = Position(key, namespace.places(row[0]))
            new = body.function(namespace, scalars[first : first + body.scalars], row, position)
            if body.conditional:
                new = [jnp.where(scalars[0] != 0, a, b) for a, b in zip(new, row, strict=False)]
            results += [x.astype(a.dtype) for x, a in zip(new, arrays[start:], strict=False)]
        return results

    differentiable = jax.custom_jvp(call)
    differentiable.defjvp(lambda values, tangents: jax.jvp(without_loop, values, tangents))
    return differentiable


@functools.cache
def _interface_version() -> tuple[int, int]:
    """The major and minor version of the interface of the JAX that is installed."""
    header = Path(jax.ffi.include_dir(), "xla/ffi/api/c_api.h").read_text("utf-8")
    major, minor = (
        re.search(rf"define XLA_FFI_API_{part} (\d+)", header) for part in ("MAJOR", "MINOR")
    )
    return (int(major[1]), int(minor[1])) if major and minor else (-1, -1)


def _register(name: str, address: int) -> None:
    function = ctypes.CFUNCTYPE(None)(address)
    jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(function), platform="cpu")


_HANDLERS = xla.Handlers(_register)
