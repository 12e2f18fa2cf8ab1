"""Models with preprocessing layers that `make_legacy_models.py` records."""

import numpy as np
import tensorflow as tf

keras = tf.keras

TEXTS = ["the cat sat", "the dog ran far", "a cat and a dog, far away"]


def words():
    """Text, looked up by layers that have learned their vocabularies and by one that was given."""
    text = keras.Input((1,), dtype="string", name="text")
    kind = keras.Input((1,), dtype="string", name="kind")
    tokens = keras.layers.TextVectorization(max_tokens=20, output_sequence_length=4, name="tokens")
    weighted = keras.layers.TextVectorization(output_mode="tf_idf", ngrams=2, name="weighted")
    for layer in (tokens, weighted):
        layer.adapt(TEXTS)
    kinds = keras.layers.StringLookup(num_oov_indices=2, output_mode="one_hot", name="kinds")
    kinds.adapt(["red", "green", "red", "blue"])
    inner = keras.Sequential([keras.Input((1,), dtype="string"), kinds], name="inner")
    given = keras.layers.StringLookup(
        vocabulary=["green", "red"], output_mode="multi_hot", name="given"
    )
    x = keras.layers.Embedding(20, 3, name="embedding")(tokens(text))
    parts = [
        keras.layers.GlobalAveragePooling1D()(x),
        keras.layers.Dense(2, name="dense")(weighted(text)),
        inner(kind),
        given(kind),
    ]
    output = keras.layers.Dense(2, name="output")(keras.layers.Concatenate(name="joined")(parts))
    return keras.Model([text, kind], output, name="words")


def codes():
    """Numbers, looked up and cut into classes by layers that have learned what from."""
    code = keras.Input((1,), dtype="int64", name="code")
    size = keras.Input((2,), name="size")
    learned = keras.layers.IntegerLookup(name="learned")
    learned.adapt(np.array([12, 12, 36, 7, 7, 7]))
    counted = keras.layers.IntegerLookup(
        vocabulary=[12, 7], output_mode="count", num_oov_indices=1, name="counted"
    )
    steps = keras.layers.Discretization(num_bins=3, name="steps")
    steps.adapt(np.random.default_rng(0).normal(size=(64, 2)).astype("float32"))
    scaling = keras.layers.Normalization(axis=(1,), name="scaling")
    scaling.adapt(np.random.default_rng(1).normal(3.0, 2.0, size=(64, 2)).astype("float32"))
    hashed = keras.layers.Hashing(4, salt=[3, 5], name="hashed")
    one_hot = keras.layers.CategoryEncoding(4, output_mode="one_hot", name="one_hot")
    back = keras.layers.Normalization(invert=True, mean=1.0, variance=4.0, name="back")
    flat = keras.layers.Flatten(name="flat")
    parts = [
        flat(keras.layers.Embedding(5, 3, name="embedding")(learned(code))),
        counted(code),
        flat(keras.layers.Embedding(3, 2, name="stepwise")(steps(size))),
        scaling(size),
        one_hot(hashed(code)),
        back(keras.layers.Rescaling(0.5, offset=1.0, name="rescaled")(size)),
    ]
    output = keras.layers.Dense(2, name="output")(keras.layers.Concatenate(name="joined")(parts))
    return keras.Model([code, size], output, name="codes")
