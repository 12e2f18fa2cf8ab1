"""The models that `make_legacy_models.py` records, in TensorFlow 2.14's Keras."""

import numpy as np
import tensorflow as tf
import tensorflow_addons as tfa

keras = tf.keras


class Scale(keras.layers.Layer):
    """A layer of the user's own: one factor per feature."""

    def __init__(self, start=1.0, **kwargs):
        super().__init__(**kwargs)
        self.start = start

    def build(self, input_shape):
        self.factor = self.add_weight(
            "factor",
            shape=(input_shape[-1],),
            initializer=keras.initializers.Constant(self.start),
        )

    def call(self, inputs):
        return inputs * self.factor

    def get_config(self):
        return {**super().get_config(), "start": self.start}


def regressor():
    features = keras.Input((5,), name="features")
    x = keras.layers.Dense(
        6, activation="tanh", kernel_regularizer=keras.regularizers.L2(1e-3), name="hidden"
    )(features)
    x = keras.layers.LayerNormalization(name="norm")(x)
    return keras.Model(features, keras.layers.Dense(1, name="output")(x), name="regressor")


def scaled_regressor():
    features = keras.Input((5,), name="features")
    x = Scale(0.5, name="scale")(features)
    return keras.Model(features, keras.layers.Dense(2, name="output")(x), name="scaled")


def mixed_regressor():
    """Computes in float16; `compile` scales the loss by itself."""
    keras.mixed_precision.set_global_policy("mixed_float16")
    features = keras.Input((5,), name="features")
    x = keras.layers.Dense(6, activation="tanh", name="hidden")(features)
    output = keras.layers.Dense(2, dtype="float32", name="output")(x)
    return keras.Model(features, output, name="mixed")


def partly_frozen():
    """Layers without names of their own, two of them frozen."""
    model = keras.Sequential(
        [
            keras.layers.Dense(6, activation="swish", input_shape=(5,)),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(4),
            keras.layers.LeakyReLU(alpha=0.1),
            keras.layers.Dense(2),
        ]
    )
    model.layers[0].trainable = False
    model.layers[1].trainable = False
    return model


class Tower(keras.layers.Layer):
    """A layer of the user's own with models, lists and a weight inside."""

    def __init__(self, units=4, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.inner = keras.Sequential(
            [
                keras.layers.Dense(units, activation="tanh"),
                keras.layers.Dropout(0.0),
                keras.layers.BatchNormalization(),
                keras.Sequential([keras.layers.Dense(units)]),
                keras.layers.Dense(units),
            ]
        )
        self._extra = [keras.layers.Dense(units), keras.layers.Dense(units, activation="tanh")]

    def build(self, input_shape):
        self.factor = self.add_weight("factor", shape=(self.units,), initializer="ones")

    def call(self, inputs, training=None):
        x = self.inner(inputs, training=training)
        return self._extra[1](self._extra[0](x)) * self.factor

    def get_config(self):
        return {**super().get_config(), "units": self.units}

    def parts(self):
        first, _, norm, middle, last = self.inner.layers
        parts = {"first": first, "norm": norm, "middle": middle.layers[0], "last": last}
        return parts | {f"extra{i}": layer for i, layer in enumerate(self._extra)}


def composite():
    features = keras.Input((5,), name="features")
    x = Tower(name="tower")(features)
    return keras.Model(features, keras.layers.Dense(2, name="output")(x), name="composite")


def image_classifier():
    return keras.Sequential(
        [
            keras.layers.Conv2D(
                4, 3, padding="same", use_bias=False, input_shape=(6, 6, 2), name="conv"
            ),
            keras.layers.BatchNormalization(momentum=0.9, name="conv_norm"),
            keras.layers.ReLU(),
            keras.layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise"),
            keras.layers.SeparableConv2D(5, 2, padding="same", activation="elu"),
            keras.layers.Conv2DTranspose(3, 2, strides=2, use_bias=False),
            keras.layers.Activation("tanh"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.BatchNormalization(scale=False),
            keras.layers.Dropout(0.0),
            keras.layers.Dense(3, name="logits"),
        ],
        name="image_classifier",
    )


def text_classifier():
    return keras.Sequential(
        [
            keras.layers.Embedding(12, 4, input_length=7, name="embedding"),
            keras.layers.Bidirectional(
                keras.layers.LSTM(3, return_sequences=True), name="bidirectional"
            ),
            keras.layers.GRU(4, name="gru"),
            keras.layers.Dense(3, activation="softmax", name="output"),
        ],
        name="text_classifier",
    )


def two_inputs():
    numbers = keras.Input((4,), name="numbers")
    words = keras.Input((3,), dtype="int32", name="words")
    embedded = keras.layers.Embedding(9, 4, name="embedding")(words)
    encoder = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(5, activation="relu"), keras.layers.Dense(4)],
        name="encoder",
    )
    shared = keras.layers.Dense(4, activation="sigmoid", name="shared")
    left = shared(encoder(numbers))
    right = shared(keras.layers.GlobalAveragePooling1D()(embedded))
    recurrent = keras.layers.SimpleRNN(4, name="recurrent")(embedded)
    joined = keras.layers.Concatenate(name="joined")(
        [left, keras.layers.Add()([right, recurrent]), numbers]
    )
    x = keras.layers.BatchNormalization(name="norm")(joined)
    value = keras.layers.Dense(1, name="value")(x)
    kind = keras.layers.Dense(2, activation="softmax", name="kind")(x)
    return keras.Model([numbers, words], [value, kind], name="two_inputs")


def attention():
    tokens = keras.Input((5,), dtype="int32", name="tokens")
    x = keras.layers.Embedding(11, 6, name="tokens_embedding")(tokens)
    y = keras.layers.MultiHeadAttention(2, 3, use_bias=False, name="attention")(x, x)
    x = keras.layers.LayerNormalization(name="norm")(keras.layers.Add()([x, y]))
    x = keras.layers.TimeDistributed(keras.layers.Dense(4, activation="gelu"), name="each")(x)
    x = keras.layers.Conv1D(3, 2, name="conv")(x)
    x = keras.layers.Flatten()(x)
    return keras.Model(tokens, keras.layers.Dense(2, name="output")(x), name="attention_model")


def recurrent_stack():
    return keras.Sequential(
        [
            keras.Input((4, 3)),
            keras.layers.LSTM(3, return_sequences=True, recurrent_activation="hard_sigmoid"),
            keras.layers.Bidirectional(
                keras.layers.GRU(2, return_sequences=True, reset_after=False), merge_mode="sum"
            ),
            keras.layers.RNN(
                [keras.layers.LSTMCell(3), keras.layers.SimpleRNNCell(2)], return_sequences=True
            ),
            keras.layers.SimpleRNN(3, go_backwards=True),
            keras.layers.Dense(2),
        ],
        name="recurrent_stack",
    )


def initial_state():
    words = keras.Input((5,), dtype="int32", name="words")
    x = keras.layers.Embedding(9, 4, mask_zero=True, embeddings_regularizer="l2")(words)
    sequence, h, c = keras.layers.LSTM(3, return_sequences=True, return_state=True)(x)
    decoded = keras.layers.LSTM(3)(sequence, initial_state=[h, c])
    attended = keras.layers.Attention()([sequence, sequence])
    attended = keras.layers.GlobalAveragePooling1D()(attended)
    joined = keras.layers.Concatenate()([decoded, attended])
    return keras.Model(words, keras.layers.Dense(2)(joined), name="initial_state")


def nested():
    """Models in models, one of them called twice, with layers frozen and without names."""
    features = keras.Input((5,))
    twice = keras.Sequential([keras.layers.Dense(4), keras.layers.Dense(3, trainable=False)])
    inner_input = keras.Input((5,))
    inner = keras.Model(inner_input, keras.layers.Dense(3)(keras.layers.PReLU()(inner_input)))
    x = keras.layers.Add()([twice(features), inner(features), twice(features)])
    head = keras.Sequential(
        [
            keras.Input((3,)),
            keras.Sequential(
                [keras.layers.Dense(2, activation="tanh"), keras.layers.BatchNormalization()]
            ),
        ]
    )
    return keras.Model(features, head(x), name="nested")


def operations():
    """Arithmetic on tensors, which Keras 2 recorded as layers without a Keras 3 counterpart."""
    features = keras.Input((5,), name="features")
    x = keras.layers.Dense(3, name="hidden")(features) * 2.0
    return keras.Model(features, keras.layers.Dense(2, name="output")(x), name="operations")


def adapted(**how):
    """A layer that computes constants from what it has seen."""
    layer = keras.layers.Normalization(**how)
    layer.adapt(np.random.default_rng(0).normal(3.0, 2.0, size=(64, 5)).astype("float32"))
    return layer


def normalized():
    features = keras.Input((5,), name="features")
    x = keras.layers.Dense(4, activation="relu", name="hidden")(adapted(name="scaling")(features))
    inner = keras.Sequential(
        [keras.Input((5,)), adapted(axis=None, name="whole"), keras.layers.Dense(4, name="part")],
        name="inner",
    )
    x = keras.layers.Add(name="sum")([x, inner(features)])
    return keras.Model(features, keras.layers.Dense(2, name="output")(x), name="normalized")


def addons_activations():
    """Activations of TensorFlow Addons, but `gelu`, which is saved by tf.keras's name."""
    features = keras.Input((5,), name="features")
    names = ("hardshrink", "lisht", "mish", "snake", "softshrink", "sparsemax")
    parts = [
        keras.layers.Dense(3, activation=getattr(tfa.activations, name), name=f"by_{name}")(
            features
        )
        for name in (*names, "tanhshrink")
    ]
    x = keras.layers.Concatenate(name="joined")(parts)
    return keras.Model(features, keras.layers.Dense(2, name="output")(x), name="activations")


def addons_layers():
    """Layers of TensorFlow Addons that Keras 3 has, and one that draws random numbers."""
    image = keras.Input((4, 4, 4), name="image")
    x = keras.layers.RandomRotation(0.0, name="rotation")(image)
    x = tfa.layers.GroupNormalization(groups=2, epsilon=1e-2, name="grouped")(x)
    x = keras.layers.Conv2D(3, 2, activation="tanh", name="conv")(x)
    x = tfa.layers.InstanceNormalization(name="instance")(x)
    x = tfa.layers.InstanceNormalization(center=False, scale=False, axis=1, name="plain")(x)
    x = keras.layers.Flatten(name="flat")(x)
    return keras.Model(image, keras.layers.Dense(2, name="output")(x), name="addons_layers")
