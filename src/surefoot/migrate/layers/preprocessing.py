"""Layers that look words up or cut numbers into classes, and inputs that are text."""

from __future__ import annotations

import keras

from surefoot.migrate.errors import MigrationError
from surefoot.migrate.readers.description import LOOKUPS, Config


def preprocessing_arguments(class_name: str, config: Config) -> Config:
    """The arguments of a preprocessing layer; those of other layers are as they were.

    Args:
        class_name: The layer's class.
        config: Its configuration, into which the reader wrote what the layer had learned.

    Returns:
        The arguments for Keras 3's layer.

    Raises:
        MigrationError: If the file lacks a vocabulary or bounds.
    """
    if class_name in LOOKUPS:
        return lookup_arguments(class_name, config)
    if class_name == "Discretization":
        if not isinstance(config.get("bin_boundaries"), list):
            raise MigrationError(
                f"Layer {config.get('name')!r} has learned bounds, which the file lacks. "
                f"Received: bin_boundaries={config.get('bin_boundaries')!r}. Pass the layer with "
                f"its bounds: custom_objects={{{config.get('name')!r}: "
                "keras.layers.Discretization(bin_boundaries=[...])}."
            )
        if config.get("output_mode", "int") == "int":
            # Its dtype was that of the result. In Keras 3 it is that of the inputs, and on
            # TensorFlow they would be cut to whole numbers before they are compared.
            return {key: value for key, value in config.items() if key != "dtype"}
    return config


def lookup_arguments(class_name: str, config: Config) -> Config:
    """The arguments of a lookup layer with its vocabulary.

    Args:
        class_name: The layer's class.
        config: Its configuration, into which the reader wrote the file's vocabulary.

    Returns:
        The arguments for Keras 3's layer.

    Raises:
        MigrationError: If there is no vocabulary. A path to one is refused, too: what is read is
            the file that the user chose.
    """
    words = config.get("vocabulary")
    weighted = config.get("output_mode") == "tf_idf"
    for name in ("vocabulary", "idf_weights") if weighted else ("vocabulary",):
        if not isinstance(config.get(name), list) or not config[name]:
            raise MigrationError(
                f"Layer {config.get('name')!r} looks words up in a vocabulary, and the file does "
                f"not contain its {name}. Received: {name}={config.get(name)!r}. Pass the layer "
                f"with its vocabulary: custom_objects={{{config.get('name')!r}: "
                f"keras.layers.{class_name}(vocabulary=[...], ...)}}."
            )
    kind = int if class_name == "IntegerLookup" else str
    if not all(type(word) is kind for word in words or ()):
        raise MigrationError(
            f"Layer {config.get('name')!r}: the vocabulary of a {class_name} is a list of "
            f"{kind.__name__}. Received: {words!r:.80}."
        )
    kept = {k: v for k, v in config.items() if k != "vocabulary_size"}
    if not weighted:
        kept.pop("idf_weights", None)
    return kept


def check_text_input(name: str | None, dtype: str | None) -> None:
    """Refuse an input of text on a backend that has no tensors of text.

    Args:
        name: The input's name.
        dtype: Its dtype.

    Raises:
        MigrationError: If the model could be loaded, but never used.
    """
    if dtype == "string" and keras.config.backend() != "tensorflow":
        raise MigrationError(
            f"Input {name!r} is text, which a model can have only with Keras on TensorFlow. "
            f"Received: backend {keras.config.backend()!r}. Set KERAS_BACKEND=tensorflow. For "
            "another backend, save there the part of the model behind its lookup layers as a "
            "model of its own, and call the lookup layers on your data."
        )
