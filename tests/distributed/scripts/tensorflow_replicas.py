"""Train on the replicas of a MirroredStrategy over logical devices; save every step's weights.

python tensorflow_replicas.py OUTPUT.npz
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from distributed import problem
from surefoot.base.optimizer import BaseOptimizer
from surefoot.variables.keras_optimizer import with_inner_optimizers

REPLICAS = 3


def single() -> Any:
    return None


def mirrored() -> tf.distribute.Strategy:
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(REPLICAS)])


@contextlib.contextmanager
def scope(strategy: Any) -> Iterator[None]:
    with strategy.scope() if strategy else contextlib.nullcontext():
        yield


def custom_loop(strategy: Any, name: str, eager: bool = False, **kwargs: Any) -> dict[str, Any]:
    """The weights after each step, and the optimizer's state after the last."""
    poisoned = kwargs.pop("poisoned", ())
    aggregated = kwargs.pop("aggregated", False)
    with scope(strategy):
        model = problem.model()
        optimizer = problem.OPTIMIZERS[name](**kwargs)

    def replica_step(x: tf.Tensor, y: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            loss = problem.loss(model(x, training=True), y)
        gradients = tape.gradient(loss, model.trainable_variables)
        if aggregated:
            context = tf.distribute.get_replica_context()
            gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        optimizer.apply_gradients(
            list(zip(gradients, model.trainable_variables, strict=True)),
            experimental_aggregate_gradients=not aggregated,
        )

    def step(x: Any, y: Any) -> None:
        if strategy is None:
            replica_step(x, y)
        else:
            strategy.run(replica_step, args=(x, y))

    if not eager:
        step = tf.function(step)
    trajectory = []
    for number in range(problem.STEPS):
        arrays = problem.batch(number, number in poisoned)
        step(*(_distributed(strategy, a) for a in arrays))
        trajectory.append(problem.weights(model))
    return _outcome(strategy, model, optimizer, trajectory)


def kernels(strategy: Any) -> list[str]:
    """The calls of what XLA compiles in the graph of a step, each with its device."""
    with strategy.scope():
        model = problem.model()
        optimizer = problem.OPTIMIZERS["RectifiedAdam without decay"]()
        optimizer.build(model.trainable_variables)

    def replica_step() -> None:
        optimizer.apply_gradients([(tf.ones(v.shape), v) for v in model.trainable_variables])

    @tf.function
    def step() -> None:
        strategy.run(replica_step)

    graph = step.get_concrete_function().graph
    functions = graph.as_graph_def().library.function
    compiled = {f.signature.name for f in functions if f.attr["_XlaMustCompile"].b}
    return [
        node.device
        for nodes in [graph.as_graph_def().node, *(f.node_def for f in functions)]
        for node in nodes
        if node.attr["f"].func.name in compiled
    ]


def _distributed(strategy: Any, array: np.ndarray) -> Any:
    if strategy is None:
        return tf.constant(array)
    workers = strategy.num_replicas_in_sync
    return strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(
            problem.share((array,), context.replica_id_in_sync_group, workers)[0]
        )
    )


def fit(strategy: Any, name: str, **kwargs: Any) -> dict[str, Any]:
    """The weights after each batch of a `fit`."""
    with scope(strategy):
        model = problem.model()
        optimizer = problem.OPTIMIZERS[name](**kwargs)
        model.compile(optimizer=optimizer, loss="mse")
    trajectory: list[np.ndarray] = []
    record = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: trajectory.append(problem.weights(model))
    )
    x, y = (
        np.concatenate(a)
        for a in zip(*(problem.batch(n) for n in range(problem.STEPS)), strict=True)
    )
    model.fit(
        x, y, batch_size=problem.BATCH, shuffle=False, epochs=1, verbose=0, callbacks=[record]
    )
    return _outcome(strategy, model, optimizer, trajectory)


def _outcome(strategy: Any, model: Any, optimizer: Any, trajectory: Any) -> dict[str, Any]:
    outcome = {"trajectory": np.stack(trajectory), "skipped": optimizer.skipped_steps}
    outcome |= {f"state {k}": v for k, v in problem.state(optimizer).items()}
    if strategy is not None:
        outcome["replicas differ"] = any(
            not np.array_equal(component, components[0])
            for v in [*model.variables, *optimizer.variables]
            for components in [[c.numpy() for c in strategy.experimental_local_results(v.value)]]
            for component in components
        )
        outcome["devices"] = [
            [c.device for c in strategy.experimental_local_results(v.value)]
            for one in with_inner_optimizers(optimizer)
            if isinstance(one, BaseOptimizer)
            for slot in one.slots.slot_names()
            for v in one.slots.column(slot)
        ]
    return outcome


def main(output: str) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * REPLICAS
    )
    results = {}
    for how, strategy in {"single": None, "mirrored": mirrored()}.items():
        for name in problem.OPTIMIZERS:
            results[f"graph, {name}, {how}"] = custom_loop(strategy, name)
        for name in ("RectifiedAdam", "Ranger"):
            results[f"fit, {name}, {how}"] = fit(strategy, name)
        for name in ("Nadam", "Ranger"):
            results[f"skip, {name}, {how}"] = custom_loop(
                strategy, name, nonfinite="skip", poisoned=problem.POISONED
            )
        results[f"eager, Ranger, {how}"] = custom_loop(strategy, "Ranger", eager=True)
        results[f"aggregated, Nadam, {how}"] = custom_loop(
            strategy, "Nadam", aggregated=strategy is not None
        )
    results["operations, all, mirrored"] = {"kernels": kernels(strategy)}
    np.savez(output, **{f"{a}; {b}": v for a, d in results.items() for b, v in d.items()})


if __name__ == "__main__":
    main(sys.argv[1])
