"""The scaling of the loss, without which small gradients vanish in float16."""

from __future__ import annotations

from typing import Any

import keras

from surefoot.migrate.readers.description import GROWTH_STEPS, INITIAL_SCALE, LossScale, SavedModel


def with_loss_scale(optimizer: Any, saved: SavedModel, model: keras.Model, notes: list[str]) -> Any:
    """The optimizer in a `LossScaleOptimizer`, if it was in one and the model needs it.

    Args:
        optimizer: The new optimizer.
        saved: The content of the file.
        model: The new model.
        notes: What the report should say is added here.

    Returns:
        The optimizer, or a `keras.optimizers.LossScaleOptimizer` around it.
    """
    scale = None if saved.optimizer is None else saved.optimizer.loss_scale
    if not any(layer.compute_dtype == "float16" for layer in model._flatten_layers()):
        if scale is not None:
            notes.append(
                "LossScaleOptimizer was left out: no layer of the model computes in float16, so "
                "scaling the loss changes nothing."
            )
        return optimizer
    if scale is None and saved.kind == "keras":
        # There Keras 2 left out the one that `compile` makes of itself for such a model.
        scale = LossScale(INITIAL_SCALE, GROWTH_STEPS)
    if scale is None:
        return optimizer
    if scale.growth_steps is None:
        notes.append(
            f"The loss had the fixed scale {scale.scale:g}. In Keras 3 scales change as gradients "
            "overflow or not; this one starts there."
        )
    scaled = keras.optimizers.LossScaleOptimizer(
        optimizer,
        initial_scale=scale.scale,
        dynamic_growth_steps=scale.growth_steps or GROWTH_STEPS,
        name="loss_scale_optimizer",
    )
    if optimizer.built:  # else Keras saves it without its own variables
        scaled.build(model.trainable_variables)
    return scaled
