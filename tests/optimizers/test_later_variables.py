"""An optimizer refuses variables that appear after it is built, and names them.

Built for all of them at the start, it trains any.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest

from loops import BACKEND, EAGER_AND_COMPILED, Loop, to_numpy
from optimizers.test_structure_changes import MAKE, OURS, WAYS, data, everything, innermost


def in_two_parts() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(1, name="first"),
            keras.layers.Dense(1, name="second"),
        ]
    )


@pytest.mark.sampled(3)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("thawed", ["first", "both"])
@pytest.mark.parametrize("name", ["radam", "ranger", "scaled"])
def test_a_model_that_trains_other_variables_is_refused(name: str, thawed: str, way: str) -> None:
    """Also if they are as many and of the same shapes; weights and state stay as they are."""
    model = in_two_parts()
    model.layers[0].trainable = False
    model.compile(MAKE[name](), "mse", **WAYS[way])
    model.fit(*data(), verbose=0)
    model.layers[0].trainable = True
    model.layers[1].trainable = thawed == "both"
    model.compile(model.optimizer, "mse", **WAYS[way])
    before = everything(innermost(model.optimizer), model.variables)
    for train in (lambda: model.fit(*data(), verbose=0), lambda: model.train_on_batch(*data())):
        with pytest.raises(ValueError, match="new optimizer") as caught:
            train()
        assert "first/kernel" in str(caught.value)
        assert "first/bias" in str(caught.value)
        assert everything(innermost(model.optimizer), model.variables) == before
    model.compile(MAKE[name](), "mse", **WAYS[way])
    model.fit(*data(), verbose=0)


@pytest.mark.parametrize("mode", EAGER_AND_COMPILED)
@pytest.mark.parametrize("name", OURS)
def test_unknown_variables_are_refused_by_name(name: str, mode: str) -> None:
    loop = Loop(MAKE[name](), [np.ones(3)], mode=mode, names=["known"])
    loop.step([np.ones(3)])
    stranger = keras.Variable(np.ones(3, "float32"), name="stranger")
    before = everything(loop.optimizer, [*loop.variables, stranger])
    gradient = keras.ops.ones(3)
    pairs = [(gradient, loop.variables[0]), (gradient, stranger)]
    refused = pytest.raises(ValueError, match=r"not built for '[^']*stranger'.*new optimizer")
    with refused:
        loop.optimizer.apply_gradients(pairs)
    with refused:
        loop.optimizer.apply([g for g, _ in pairs], [v for _, v in pairs])
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with refused:
            tf.function(lambda: loop.optimizer.apply_gradients(pairs), autograph=False)()
    else:
        values = [v.value for v in loop.optimizer.variables]
        with pytest.raises(ValueError, match=r"built for '[^']*known'.*2 values"):
            loop.optimizer.stateless_apply(values, [gradient] * 2, [v.value for _, v in pairs])
    assert everything(loop.optimizer, [*loop.variables, stranger]) == before
    loop.step([np.ones(3)])


@pytest.mark.parametrize("name", OURS)
def test_built_for_all_variables_at_the_start(name: str) -> None:
    """The way out that the error tells of."""
    optimizer = MAKE[name]()
    first, second = (keras.Variable(np.ones(3, "float32")) for _ in range(2))
    optimizer.build([first, second])
    for trained in ([first], [first, second], [second]):
        before = [to_numpy(v) for v in (first, second)]
        optimizer.apply([keras.ops.ones(3)] * len(trained), trained)
        for variable, value in zip((first, second), before, strict=True):
            moved = not np.array_equal(to_numpy(variable), value)
            assert moved == any(variable is v for v in trained)
