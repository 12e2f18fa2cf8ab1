"""Where arrays are that `keras.distribution` splits over devices."""

from __future__ import annotations

from typing import Any

import keras

from surefoot.rule.update import Array


def slot_layout(reference: Any, shard: bool) -> Any:
    """The layout of a slot of ``reference``: the same, or also split over the batch's axis.

    Split is the longest dimension that is whole in ``reference`` and can be divided evenly;
    a slot without one, such as a short bias, stays as it is.
    """
    layout = getattr(reference, "_layout", None)
    distribution = keras.distribution.distribution()
    if not shard or distribution is None or not isinstance(layout, keras.distribution.TensorLayout):
        return layout
    batch, mesh = distribution.batch_dim_name, distribution.device_mesh
    parts = mesh.shape[mesh.axis_names.index(batch)]
    whole = [
        (size, -position)
        for position, (size, axis) in enumerate(zip(reference.shape, layout.axes, strict=True))
        if axis is None and size % parts == 0
    ]
    if not whole or batch in layout.axes:
        return layout
    axes = list(layout.axes)
    axes[-max(whole)[1]] = batch
    return keras.distribution.TensorLayout(axes, mesh)


def placed(value: Array, variable: Any) -> Array:
    """``value`` laid out as ``variable``; inside of jit, a constraint for XLA."""
    layout = getattr(variable, "_layout", None)
    return value if layout is None else keras.distribution.distribute_tensor(value, layout)
