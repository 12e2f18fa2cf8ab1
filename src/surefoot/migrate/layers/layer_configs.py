"""Converts the configuration of a Keras 2 layer to a Keras 3 layer that computes the same."""

from __future__ import annotations

from typing import Any

import keras

from surefoot.migrate.allowed import (
    CustomObjects,
    accepted_arguments,
    construct,
    custom_object,
    find_class,
    find_function,
    make_object,
)
from surefoot.migrate.errors import MigrationError, UnsafeFileError
from surefoot.migrate.layers.activations import ADDONS, hard_sigmoid
from surefoot.migrate.layers.batch_normalization import FusedBatchNormalization
from surefoot.migrate.layers.preprocessing import preprocessing_arguments
from surefoot.migrate.layers.text_vectorization import TextVectorization
from surefoot.migrate.readers.description import Config, short_class_name

# Arguments that Keras 3 does not have, and the values for which they can be left out without
# effect (None: any value). `implementation` only chooses the order of sums.
REMOVABLE: dict[str, tuple[Any, ...] | None] = {
    "batch_input_shape": None,
    "build_input_shape": None,
    "input_length": None,
    "implementation": None,
    "query_shape": None,
    "key_shape": None,
    "value_shape": None,
    "time_major": (False,),
    "causal": (False,),
    "ragged": (False,),
    "groups": (1,),
    "virtual_batch_size": (None,),
    "fused": None,
    "adjustment": (None,),
    "experimental_autocast": None,
    "batch_size": (None,),
}
# Arguments of a base class that the layer itself does not use.
UNUSED = {
    "SeparableConv1D": ("kernel_initializer", "kernel_regularizer", "kernel_constraint"),
    "SeparableConv2D": ("kernel_initializer", "kernel_regularizer", "kernel_constraint"),
    "DepthwiseConv1D": ("kernel_initializer", "kernel_regularizer", "kernel_constraint"),
    "DepthwiseConv2D": ("kernel_initializer", "kernel_regularizer", "kernel_constraint"),
}
RENAMED = {("LeakyReLU", "alpha"): "negative_slope", ("ReLU", "theta"): "threshold"}
# Layers that Keras 3 replaced with another one.
SUCCESSORS = {
    "ThresholdedReLU": "ReLU",
    # Those of TensorFlow Addons that compute the same. Of an InstanceNormalization, the groups
    # in the file are as many as the channels.
    "Addons>GroupNormalization": "GroupNormalization",
    "Addons>InstanceNormalization": "GroupNormalization",
}
# Layers of the same name that compute something else in Keras 3, and the ways out.
CHANGED = {
    "RandomCrop": "outside of training Keras 2 resized the image and Keras 3 cuts out its center; "
    "pass keras.layers.Resizing(height, width, crop_to_aspect_ratio=True), which does the former, "
    "or keras.layers.RandomCrop(height, width)",
    "AddLoss": "the model has a loss of `model.add_loss`, which Keras 3 has no more for such "
    "models; write a layer whose `call` uses `self.add_loss`, and pass it for a layer on the way "
    "to the output",
    "AddMetric": "the model has a metric of `model.add_metric`, which Keras 3 has no more; pass "
    "keras.layers.Identity to leave it out",
}
# Layers of which a migrated model uses another class; Keras's own computes something else.
CORRECTED: dict[str, type] = {
    "BatchNormalization": FusedBatchNormalization,
    "TextVectorization": TextVectorization,
}
LOOKED_UP = ("IntegerLookup", "Hashing", "HashedCrossing")
OPERATIONS = ("TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer")
INNER_LAYERS = ("layer", "backward_layer", "forward_layer", "cell")


class LayerBuilder:
    """Builds layers from their configurations.

    Args:
        custom_objects: The user's classes and functions by name.
    """

    def __init__(self, custom_objects: CustomObjects) -> None:
        self.custom_objects = custom_objects
        self.notes: list[str] = []

    def build(self, entry: Config) -> keras.layers.Layer:
        """Build one layer.

        Args:
            entry: Its `{"class_name": ..., "config": ...}`, which is not changed.

        Returns:
            The layer, which has not been called yet.

        Raises:
            UnsafeFileError: If the configuration contains code.
            MigrationError: If Keras 3 has no such layer or lacks one of its arguments.
        """
        if not isinstance(entry, dict) or not isinstance(entry.get("config"), dict):
            raise MigrationError(f"Not a configuration of a layer. Received: {entry!r}.")
        class_name, config = entry["class_name"], dict(entry["config"])
        name = config.get("name", "")
        if name in self.custom_objects:
            return self._replacement(name, self.custom_objects[name])
        if short_class_name(class_name) == "Lambda":
            return self._lambda(name)
        if short_class_name(class_name) in OPERATIONS:
            raise MigrationError(
                f"Layer {name!r} is a TensorFlow operation that the model called directly "
                f"({config.get('function', class_name)}); Keras 3 has no such layer.",
                needs={name: "a layer that does the same"},
            )
        registered = str(entry.get("registered_name") or class_name)
        if registered in CHANGED and registered not in self.custom_objects:
            raise MigrationError(
                f"Layer {name!r} is a {registered}: {CHANGED[registered]}: "
                f"custom_objects={{{name!r}: ...}}."
            )
        own = custom_object(registered, self.custom_objects)
        if own is not None and not _is_keras_class(own):
            return self._custom(own, registered, config)
        if own is not None:
            cls: type = own
        elif registered in CORRECTED:
            cls = CORRECTED[registered]
        else:
            cls = find_class("layer", SUCCESSORS.get(registered, registered), {})
        config = preprocessing_arguments(cls.__name__, config)
        if cls.__name__ in LOOKED_UP and keras.config.backend() == "jax":
            self.notes.append(
                f"{name}: Keras computes a {cls.__name__} with TensorFlow. On JAX the model "
                "predicts, but Keras cannot train it."
            )
        # Not every layer of Keras 3 accepts `trainable`.
        trainable = config.pop("trainable", True)
        layer: keras.layers.Layer = construct(cls, self._arguments(cls, config))
        if trainable is False:
            layer.trainable = False
        return layer

    def _replacement(self, name: str, given: Any) -> keras.layers.Layer:
        if isinstance(given, keras.layers.Layer):
            return given
        if isinstance(given, type) and issubclass(given, keras.layers.Layer):
            return given(name=name)
        raise MigrationError(
            f"custom_objects[{name!r}] replaces the layer of that name and must be a Keras layer "
            f"or a class of layers. Received: {given!r}."
        )

    def _lambda(self, name: str) -> keras.layers.Layer:
        if "Lambda" in self.custom_objects:
            return self._replacement(name, self.custom_objects["Lambda"])
        raise UnsafeFileError(
            f"Layer {name!r} is a Lambda: the file contains Python code for it, which is not run.",
            needs={name: "a layer that does the same"},
        )

    def _custom(self, cls: Any, name: str, config: Config) -> keras.layers.Layer:
        if not (isinstance(cls, type) and issubclass(cls, keras.layers.Layer)):
            raise MigrationError(f"custom_objects[{name!r}] is not a keras layer's class: {cls!r}.")
        config.pop("batch_input_shape", None)
        if "dtype" in config:
            config["dtype"] = dtype_policy(config["dtype"])
        try:
            return cls.from_config(config)  # type: ignore[attr-defined]
        except (TypeError, ValueError) as error:
            raise MigrationError(
                f"Layer {config.get('name')!r} of class {cls.__name__} does not accept the file's "
                f"configuration. Received: {config}. ({error})"
            ) from error

    def _arguments(self, cls: type, config: Config) -> Config:
        accepted = accepted_arguments(cls)
        arguments = {}
        for old_key, value in config.items():
            key = RENAMED.get((cls.__name__, old_key), old_key)
            if key in accepted:
                arguments[key] = self._argument(key, value)
            elif value is None or key in UNUSED.get(cls.__name__, ()):
                continue
            elif key in REMOVABLE and (REMOVABLE[key] is None or value in (REMOVABLE[key] or ())):
                self._note_dropped(config, key, value)
            else:
                raise MigrationError(
                    f"Layer {config.get('name')!r}: Keras 3's {cls.__name__} has no {key!r}. "
                    f"Received: {key}={value!r}.",
                    needs={str(config.get("name")): f"a layer that has {key}"},
                )
        if isinstance(arguments.get("axis"), list) and len(arguments["axis"]) == 1:
            arguments["axis"] = arguments["axis"][0]
        return arguments

    def _note_dropped(self, config: Config, key: str, value: object) -> None:
        if key in ("implementation", "input_length"):
            self.notes.append(
                f"{config.get('name')}: {key}={value} was left out; Keras 3 has no such argument "
                "and computes the same without it."
            )

    def _argument(self, key: str, value: Any) -> Any:
        if key == "dtype":
            return dtype_policy(value)
        if key in INNER_LAYERS and isinstance(value, dict):
            return self.build(value)
        if key == "cells":
            return [self.build(cell) for cell in value]
        for kind in ("initializer", "regularizer", "constraint"):
            if key.endswith(f"_{kind}"):
                return make_object(kind, value, self.custom_objects)
        if key == "activation" or key.endswith("_activation"):
            return self._activation(value)
        if isinstance(value, dict) and "class_name" in value:
            raise MigrationError(
                f"The argument {key} is an object of unknown kind. Received: {key}={value!r}."
            )
        return value

    def _activation(self, value: Any) -> Any:
        if isinstance(value, dict):
            # In `.keras` files, user functions and layers are both dictionaries.
            if value.get("class_name") == "function" and isinstance(value.get("config"), str):
                value = value["config"]
            else:
                return self.build(value)
        if value is None:
            return None
        if value == "hard_sigmoid" and value not in self.custom_objects:
            self.notes.append(
                "hard_sigmoid is clip(0.2 x + 0.5, 0, 1) as in Keras 2; in Keras 3 it is "
                "relu6(x + 3) / 6."
            )
            return hard_sigmoid
        if value == "gelu" and value not in self.custom_objects:
            self.notes.append(
                "gelu is the exact one, as in tf.keras. Some files have the same name for that of "
                "TensorFlow Addons, an approximation by tanh. If the model used that one, pass "
                "custom_objects={'gelu': surefoot.migrate.tanh_gelu}."
            )
        if value in ADDONS and custom_object(value, self.custom_objects) is None:
            return ADDONS[value]
        # A name of TensorFlow Addons may be that of another function in Keras.
        name = value if value.startswith("Addons>") else short_class_name(value)
        found = find_function("activation", name, self.custom_objects)
        if found is None:
            raise MigrationError(
                f"Keras 3 has no activation {value!r}.", needs={value: "your activation function"}
            )
        return found


def _is_keras_class(given: object) -> bool:
    """Whether an object is a class of Keras; the arguments of such a class are converted."""
    return isinstance(given, type) and given.__module__.split(".")[0] == "keras"


def dtype_policy(saved: Any) -> Any:
    """The name of a dtype or policy, for which Keras 2 had several formats."""
    if isinstance(saved, dict) and str(saved.get("class_name")).endswith("Policy"):
        saved = (saved.get("config") or {}).get("name")
    if saved is not None and not isinstance(saved, str):
        raise MigrationError(f"Not a dtype policy. Received: {saved!r}.")
    return saved
