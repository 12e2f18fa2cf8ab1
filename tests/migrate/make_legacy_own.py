"""Models of the user's own classes that `make_legacy_models.py` records."""

import tensorflow as tf

keras = tf.keras


class Subclassed(keras.Model):
    """A model of the user's own class, which only checkpoints can hold."""

    def __init__(self):
        super().__init__()
        self.first = keras.layers.Dense(4, activation="relu")
        self.second = keras.layers.Dense(2)

    def call(self, inputs):
        return self.second(self.first(inputs))


class Block(keras.layers.Layer):
    """Two layers of equal shapes, a list of one, and a factor."""

    def __init__(self):
        super().__init__()
        self.second = keras.layers.Dense(4)
        self.first = keras.layers.Dense(4, activation="tanh")
        self.norms = [keras.layers.LayerNormalization(epsilon=0.1)]

    def build(self, input_shape):
        self.gain = self.add_weight("factor", (4,), initializer="ones")

    def call(self, inputs):
        return self.norms[0](self.second(self.first(inputs))) * self.gain


class Containers(keras.Model):
    """Layers in lists, tuples, dictionaries and models, as research code has them."""

    def __init__(self):
        super().__init__()
        self.blocks = [Block(), Block()]
        self.heads = {"right": keras.layers.Dense(2), "left": [keras.layers.Dense(2)]}
        self.stem = (keras.layers.Dense(4, name="linear"), keras.layers.Dense(4, name="linear"))
        self.body = keras.Sequential([keras.layers.Dense(4), Block()])
        self.recurrent = keras.layers.Bidirectional(keras.layers.LSTM(2))
        self.shift = tf.Variable([0.5, -0.5])
        self.seen = keras.metrics.Mean()

    def call(self, inputs):
        x = self.stem[1](self.stem[0](inputs))
        for block in self.blocks:
            x = block(x)
        x = self.body(x)
        x = x + self.recurrent(tf.expand_dims(x, 1))
        self.seen.update_state(1.0)
        return self.heads["left"][0](x) + self.heads["right"](x) + self.shift

    def parts(self):
        """The layers by what the test calls them."""
        parts = {f"stem{i}": layer for i, layer in enumerate(self.stem)}
        for name, block in (
            ("block0", self.blocks[0]),
            ("block1", self.blocks[1]),
            ("inner", self.body.layers[-1]),
        ):
            parts |= {f"{name}_first": block.first, f"{name}_second": block.second}
            parts[f"{name}_norm"] = block.norms[0]
        parts |= {"left": self.heads["left"][0], "right": self.heads["right"]}
        return parts | {"body": self.body.layers[-2], "recurrent": self.recurrent}
