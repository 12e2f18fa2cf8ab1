"""Python's own documentation, character by character (`pydoc_data.topics`)."""

import hashlib
from pydoc_data.topics import topics
from typing import Any

import keras
import numpy as np

from surefoot.compare.trials.task import Task

_LENGTH = 64
_WIDTH = 64
_HEADS = 4
_LAYERS = 4
# Training sequences start this many characters apart.
_STRIDE = 8
_VALIDATION_SHARE = 0.1
_VALIDATION_SEQUENCES = 128


def transformer() -> Task:
    """A transformer that normalizes after each block, which is sensitive at the start.

    At a high learning rate, its first steps decide whether it learns more than the frequencies
    of the characters.
    """
    return _task("text", "normalized after each block", normalize_first=False)


def transformer_normalizing_first() -> Task:
    """The same, but it normalizes before each block, which is robust at the start."""
    return _task("text-pre-norm", "normalized before each block", normalize_first=True)


def _task(name: str, kind: str, normalize_first: bool) -> Task:
    text = "\n".join(topics.values())
    symbols = sorted(set(text))
    code = {symbol: number for number, symbol in enumerate(symbols)}
    codes = np.array([code[symbol] for symbol in text], np.int32)
    split = int(len(codes) * (1 - _VALIDATION_SHARE))
    windows = np.lib.stride_tricks.sliding_window_view
    train = windows(codes[:split], _LENGTH + 1)[::_STRIDE]
    held_out = windows(codes[split:], _LENGTH + 1)
    starts = np.linspace(0, len(held_out) - 1, _VALIDATION_SEQUENCES).astype(int)
    validation = held_out[starts]

    def model() -> Any:
        return _transformer(len(symbols), normalize_first)

    return Task(
        name=name,
        description=f"Python's documentation, {len(text):,} characters of {len(symbols)} kinds: "
        f"predict the next character with a transformer of {_LAYERS} layers, {kind}. "
        f"The loss is in nats per character.",
        model=model,
        train=(train[:, :-1], train[:, 1:]),
        validation=(validation[:, :-1], validation[:, 1:]),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        batch_size=16,
        steps=500,
        learning_rates="1e-3:3.2e-2:6",
        optimizers=("adam", "adam+warmup(0.1)", "radam", "nadam", "ranger"),
        # The text, and so the losses, differ between versions of Python.
        facts={"SHA-256 of the text": hashlib.sha256(text.encode()).hexdigest()},
    )


def _transformer(symbols: int, normalize_first: bool) -> Any:
    layers = keras.layers
    inputs = keras.Input((_LENGTH,), dtype="int32")
    x = layers.Embedding(
        symbols, _WIDTH, embeddings_initializer=keras.initializers.RandomNormal(stddev=1.0)
    )(inputs)
    x = x + _positions()
    for _ in range(_LAYERS):
        for block in (_attend, _feed_forward):
            x = x + block(_normalize(x)) if normalize_first else _normalize(x + block(x))
    return keras.Model(inputs, layers.Dense(symbols)(_normalize(x) if normalize_first else x))


def _normalize(x: Any) -> Any:
    return keras.layers.LayerNormalization(epsilon=1e-5)(x)


def _attend(x: Any) -> Any:
    return keras.layers.MultiHeadAttention(_HEADS, _WIDTH // _HEADS)(x, x, use_causal_mask=True)


def _feed_forward(x: Any) -> Any:
    hidden = keras.layers.Dense(4 * _WIDTH, activation="relu")(x)
    return keras.layers.Dense(_WIDTH)(hidden)


def _positions() -> Any:
    """Sine and cosine of each position at falling frequencies, as in the first transformer."""
    frequencies = 1e4 ** (-np.arange(0, _WIDTH, 2) / _WIDTH)
    angles = np.arange(_LENGTH)[:, None] * frequencies
    return np.stack([np.sin(angles), np.cos(angles)], -1).reshape(_LENGTH, _WIDTH).astype("float32")
