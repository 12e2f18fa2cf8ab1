"""Train on several devices under a `keras.distribution`; save every step's weights and programs.

python jax_devices.py OUTPUT.npz
"""

from __future__ import annotations

import os
import re
import sys
from typing import Any

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"

import jax
import keras
import numpy as np

from distributed import problem
from surefoot.variables.keras_optimizer import with_inner_optimizers

PARALLEL = ("single", "data", "model")


def distribution(kind: str) -> Any:
    devices = keras.distribution.list_devices("cpu")
    if kind == "single":
        return None
    if kind == "data":
        return keras.distribution.DataParallel(devices=devices)
    layouts = keras.distribution.LayoutMap(
        keras.distribution.DeviceMesh((2, 2), ("batch", "model"), devices)
    )
    layouts[".*hidden/kernel"] = (None, "model")
    layouts[".*hidden/bias"] = ("model",)
    layouts[".*outputs/kernel"] = ("model", None)
    return keras.distribution.ModelParallel(layout_map=layouts, batch_dim_name="batch")


def custom_loop(kind: str, name: str, poisoned: tuple[int, ...] = (), **kwargs: Any) -> Any:
    """The weights after each step of a compiled function, its state and its collectives."""
    spread = distribution(kind)
    keras.distribution.set_distribution(spread)
    model = problem.model()
    optimizer = problem.OPTIMIZERS[name](**kwargs)
    optimizer.build(model.trainable_variables)

    def step(trainable: Any, state: Any, x: Any, y: Any) -> Any:
        def loss(values: Any) -> Any:
            return problem.loss(model.stateless_call(values, [], x)[0], y)

        return optimizer.stateless_apply(state, jax.grad(loss)(trainable), trainable)

    compiled = jax.jit(step, donate_argnums=1)
    trainable = [v.value for v in model.trainable_variables]
    state = [v.value for v in optimizer.variables]
    program = compiled.lower(trainable, state, *_placed(spread, 0)).compile()
    trajectory = []
    for number in range(problem.STEPS):
        x, y = _placed(spread, number, number in poisoned)
        trainable, state = program(trainable, state, x, y)
        trajectory.append(np.concatenate([np.asarray(v).ravel() for v in trainable]))
    _assign(model.trainable_variables, trainable)
    _assign(optimizer.variables, state)
    return _outcome(model, optimizer, trajectory, state) | _collectives(program.as_text())


def _placed(spread: Any, number: int, poisoned: bool = False) -> Any:
    arrays = problem.batch(number, poisoned)
    if spread is None:
        return arrays
    layout = spread.get_data_layout((problem.BATCH, 1))
    return [keras.distribution.distribute_tensor(jax.numpy.asarray(a), layout) for a in arrays]


def _assign(variables: Any, values: Any) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _collectives(program: str) -> dict[str, Any]:
    """The number of elements that each gather of the compiled program brings together."""
    gathered = re.findall(r"= (.*?) all-gather(?:-start)?\(", program)
    sizes = [
        int(np.prod([int(n) for n in shape.split(",") if n]))
        for result in gathered
        for shape in re.findall(r"\[([\d,]*)\]", result)
    ]
    return {"gathered": np.array(sizes, "int64"), "sums": program.count(" all-reduce(")}


def fit(kind: str, name: str, **kwargs: Any) -> dict[str, Any]:
    """The weights after each epoch of one batch, by `fit`."""
    keras.distribution.set_distribution(distribution(kind))
    model = problem.model()
    optimizer = problem.OPTIMIZERS[name](**kwargs)
    model.compile(optimizer=optimizer, loss="mse")
    trajectory = []
    for number in range(problem.STEPS):
        x, y = problem.batch(number)
        model.fit(x, y, batch_size=problem.BATCH, shuffle=False, verbose=0)
        trajectory.append(problem.weights(model))
    return _outcome(model, optimizer, trajectory, [v.value for v in optimizer.variables])


def eager(kind: str, name: str, **kwargs: Any) -> dict[str, Any]:
    """The weights after each step of `apply` outside of a compiled function."""
    spread = distribution(kind)
    keras.distribution.set_distribution(spread)
    model = problem.model()
    optimizer = problem.OPTIMIZERS[name](**kwargs)
    trajectory = []
    for number in range(problem.STEPS):
        x, y = _placed(spread, number)

        def loss(values: Any, x: Any = x, y: Any = y) -> Any:
            return problem.loss(model.stateless_call(values, [], x)[0], y)

        gradients = jax.grad(loss)([v.value for v in model.trainable_variables])
        optimizer.apply(gradients, model.trainable_variables)
        trajectory.append(problem.weights(model))
    return _outcome(model, optimizer, trajectory, [v.value for v in optimizer.variables])


def _outcome(model: Any, optimizer: Any, trajectory: Any, values: Any) -> dict[str, Any]:
    values_of = {id(v): x for v, x in zip(optimizer.variables, values, strict=True)}
    specs, first_device = [], 0
    for one in with_inner_optimizers(optimizer):
        slots = getattr(one, "slots", None)
        if slots is None:
            continue
        for variable in model.trainable_variables:
            for slot_name, slot in slots.of(variable).items():
                value = values_of[id(slot)]
                first_device += value.addressable_shards[0].data.nbytes
                if value.ndim:
                    same = value.sharding.is_equivalent_to(variable.value.sharding, value.ndim)
                else:  # of NovoGrad, for all of the variable
                    same = value.sharding.is_fully_replicated
                specs.append((variable.path.split("/", 1)[1], slot_name, str(same)))
    return {
        "trajectory": np.stack(trajectory),
        "skipped": optimizer.skipped_steps,
        "placed as variable": np.array(specs),
        "bytes on a device": first_device,
        "largest weight": max(int(np.prod(v.shape)) for v in model.trainable_variables),
    } | {f"state {k}": v for k, v in problem.state(optimizer).items()}


def main(output: str) -> None:
    results = {}
    for kind in PARALLEL:
        for name in problem.OPTIMIZERS:
            results[f"jit, {name}, {kind}"] = custom_loop(kind, name)
        for name in ("Nadam", "Ranger"):
            results[f"skip, {name}, {kind}"] = custom_loop(
                kind, name, problem.POISONED, nonfinite="skip"
            )
        for name in ("Nadam", "Ranger", "accumulating"):
            results[f"sharded, {name}, {kind}"] = custom_loop(kind, name, shard_state=True)
        results[f"fit, Ranger, {kind}"] = fit(kind, "Ranger")
        results[f"sharded fit, Ranger, {kind}"] = fit(kind, "Ranger", shard_state=True)
        results[f"eager, Nadam, {kind}"] = eager(kind, "Nadam")
        results[f"sharded eager, Ranger, {kind}"] = eager(kind, "Ranger", shard_state=True)
    np.savez(output, **{f"{a}; {b}": v for a, d in results.items() for b, v in d.items()})


if __name__ == "__main__":
    main(sys.argv[1])
