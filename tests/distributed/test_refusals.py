"""What cannot work on several devices is refused where the mistake is made."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import surefoot


@pytest.mark.backends("tensorflow", "torch")
@pytest.mark.parametrize(
    "make", [surefoot.RectifiedAdam, surefoot.Nadam, surefoot.Ranger], ids=lambda c: c.__name__
)
def test_state_is_sharded_on_jax_only(make: type) -> None:
    with pytest.raises(ValueError, match=r"Received: shard_state=True"):
        make(shard_state=True)


@pytest.mark.backends("jax")
@pytest.mark.parametrize(
    "make", [surefoot.RectifiedAdam, surefoot.Nadam, surefoot.Ranger], ids=lambda c: c.__name__
)
def test_sharding_is_in_the_configuration(make: type) -> None:
    assert make(shard_state=True).get_config()["shard_state"] is True
    assert make.from_config(make(shard_state=True).get_config()).shard_state
    assert not make().shard_state


@pytest.mark.backends("tensorflow")
def test_an_optimizer_from_outside_of_the_scope_is_refused() -> None:
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    optimizer = surefoot.Nadam()
    with strategy.scope():
        weight = keras.Variable(np.ones(2, "float32"))
    with pytest.raises(ValueError, match=r"inside `strategy\.scope\(\)`"):
        strategy.run(lambda: optimizer.apply([tf.ones(2)], [weight]))
    assert np.array_equal(keras.ops.convert_to_numpy(weight), np.ones(2))
