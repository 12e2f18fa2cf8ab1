"""Builds the Keras 3 model that a Keras 2 configuration describes."""

from __future__ import annotations

from typing import Any

import keras

from surefoot.migrate.allowed import CustomObjects, custom_object
from surefoot.migrate.errors import MigrationError
from surefoot.migrate.layers.layer_configs import OPERATIONS, LayerBuilder, dtype_policy
from surefoot.migrate.layers.preprocessing import check_text_input
from surefoot.migrate.readers.description import Config, short_class_name

TEXT_LAYERS = ("TextVectorization", "StringLookup")
FUNCTIONAL = ("Functional", "Model")
RECURRENT = (keras.layers.RNN, keras.layers.Bidirectional)
MAX_DEPTH = 32


class ModelBuilder(LayerBuilder):
    """Builds models, and the layers in them.

    Args:
        custom_objects: The user's classes and functions by name. A layer's name is accepted,
            too, with a layer that replaces it.
    """

    def __init__(self, custom_objects: CustomObjects) -> None:
        super().__init__(custom_objects)
        self._depth = 0

    def build(self, entry: Config) -> keras.layers.Layer:
        """Build one layer or model; see `LayerBuilder.build`."""
        name = short_class_name(str(entry.get("class_name"))) if isinstance(entry, dict) else ""
        inner = entry.get("config") if name else None
        if not isinstance(inner, dict) or not isinstance(inner.get("layers"), list):
            return super().build(entry)
        if inner.get("name") in self.custom_objects:
            return super().build(entry)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise MigrationError(f"Models are nested more than {MAX_DEPTH} deep.")
        try:
            if name == "Sequential":
                return self._sequential(inner)
            return _Graph(self, inner).model(self.model_class(entry))
        finally:
            self._depth -= 1

    def model_class(self, entry: Config) -> Any:
        """The class of a model with a graph of layers."""
        name = short_class_name(entry["class_name"])
        if name in FUNCTIONAL:
            return keras.Model
        cls = custom_object(entry.get("registered_name") or name, self.custom_objects)
        if not (isinstance(cls, type) and issubclass(cls, keras.Model)):
            raise MigrationError(
                f"The model has the class {name!r}, which is not Keras's.",
                needs={name: "the class of your model"},
            )
        return cls

    def _sequential(self, config: Config) -> keras.Sequential:
        model = keras.Sequential(name=config.get("name"))
        for i, entry in enumerate(config["layers"]):
            if short_class_name(entry["class_name"]) == "InputLayer":
                model.add(input_tensor(entry["config"]))
                continue
            shape = entry["config"].get("batch_input_shape")
            if i == 0 and shape is not None:
                dtype = "int32" if entry["class_name"] == "Embedding" else None
                if short_class_name(entry["class_name"]) in TEXT_LAYERS:
                    dtype = "string"
                check_text_input(entry["config"].get("name"), dtype)
                model.add(keras.Input(batch_shape=shape, dtype=dtype))
            model.add(self.build(entry))
        if not model.built and config.get("build_input_shape") is not None:
            model.build(tuple(config["build_input_shape"]))
        # An inner model gets its shapes when the outer one calls it; TensorFlow 2.0 and 2.1 did not
        # save them.
        if not model.built and config["layers"] and self._depth == 1:
            raise MigrationError(
                f"Model {config.get('name')!r} was saved before it was called on an input, so the "
                "shapes of its weights are not known."
            )
        _set_trainable(model, config)
        return model


class _Graph:
    """The layer calls of a Functional model."""

    def __init__(self, builder: ModelBuilder, config: Config) -> None:
        self.config = config
        self.layers: dict[str, keras.layers.Layer | None] = {}
        self.outputs: dict[str, list[Any]] = {}
        self.calls: list[tuple[str, Any]] = []
        self.offsets: dict[str, int] = {}
        self.operations: set[str] = set()
        for entry in config["layers"]:
            name = entry.get("name") or entry["config"]["name"]
            if name in self.layers:
                raise MigrationError(f"Two layers have the name {name!r}.")
            if short_class_name(entry["class_name"]) == "InputLayer":
                self.layers[name] = None
                self.outputs[name] = [input_tensor(entry["config"])]
                continue
            self.layers[name] = builder.build(entry)
            self.outputs[name] = []
            if short_class_name(entry["class_name"]) in OPERATIONS:
                self.operations.add(name)
            self.calls += [(name, node) for node in entry.get("inbound_nodes") or []]
        self._find_offsets()

    def _find_offsets(self) -> None:
        """Find nested models whose first call has the number 1: Keras 2 counted their creation."""
        counted: dict[str, set[int]] = {}
        _references([node for _, node in self.calls], counted)
        _references([self.config.get("output_layers")], counted)
        for name, layer in self.layers.items():
            nested = isinstance(layer, keras.Model)
            self.offsets[name] = int(nested and 0 not in counted.get(name, {0}))

    def model(self, cls: Any) -> keras.Model:
        waiting = self.calls
        while waiting:
            left = [(name, node) for name, node in waiting if not self._call(name, node)]
            if len(left) == len(waiting):
                raise MigrationError(
                    "The model's layers refer to each other in a cycle, or to layers that do not "
                    f"exist. Not resolved: {sorted({name for name, _ in left})}."
                )
            waiting = left
        model = cls(
            inputs=self._ends("input_layers"),
            outputs=self._ends("output_layers"),
            name=self.config.get("name"),
        )
        _set_trainable(model, self.config)
        return model

    def _ends(self, key: str) -> Any:
        ends = self.config.get(key)
        if _is_reference(ends):
            return self._tensor(ends)
        if isinstance(ends, dict):
            return {name: self._tensor(end) for name, end in ends.items()}
        if not isinstance(ends, list) or not ends:
            raise MigrationError(f"The model has no {key!r}. Received: {ends!r}.")
        tensors = [self._tensor(end) for end in ends]
        return tensors[0] if len(tensors) == 1 else tensors

    def _tensor(self, reference: Any) -> Any:
        name, node, index = reference[:3]
        if name not in self.layers:
            raise MigrationError(f"A layer has the input {name!r}, which does not exist.")
        node -= self.offsets[name]
        if not 0 <= node < len(self.outputs[name]):
            raise _NotYet
        return keras.tree.flatten(self.outputs[name][node])[index]

    def _call(self, name: str, node: Any) -> bool:
        try:
            args, kwargs = self._call_arguments(node)
        except _NotYet:
            return False
        layer = self.layers[name]
        assert layer is not None
        if name in self.operations:
            # A layer that replaces an operation has its constants already; it gets the tensors.
            tensors = [value for value in kwargs.values() if keras.backend.is_keras_tensor(value)]
            args, kwargs = ([args, *tensors] if tensors else args), {}
        elif isinstance(layer, RECURRENT) and isinstance(args, list):
            # Keras 2 listed the initial state after the sequence.
            args, kwargs["initial_state"] = args[0], args[1:]
            # Keras 3 passes a mask on by itself only if a layer has a single input.
            mask = getattr(args, "_keras_mask", None)
            if mask is not None:
                kwargs.setdefault("mask", mask)
        try:
            self.outputs[name].append(layer(args, **kwargs))
        except (TypeError, ValueError, IndexError) as error:
            raise MigrationError(
                f"Layer {name!r} does not accept its inputs in the file ({error})."
            ) from error
        return True

    def _call_arguments(self, node: Any) -> tuple[Any, dict[str, Any]]:
        kwargs: dict[str, Any] = {}

        def resolve(value: Any) -> Any:
            if _is_reference(value):
                if len(value) > 3 and isinstance(value[3], dict):
                    kwargs.update({k: keyword(v) for k, v in value[3].items()})
                return self._tensor(value)
            if isinstance(value, dict):
                return {k: resolve(v) for k, v in value.items()}
            if isinstance(value, list) and value and value[0] == "_CONSTANT_VALUE":
                return value[2]
            if isinstance(value, list):
                return [resolve(v) for v in value]
            raise MigrationError(f"Not an input of a layer. Received: {value!r}.")

        def keyword(value: Any) -> Any:
            if _is_reference(value):
                return self._tensor(value)
            if isinstance(value, list) and value and all(_is_reference(v) for v in value):
                return [self._tensor(v) for v in value]
            return value

        args = resolve(node)
        if isinstance(args, list) and len(args) == 1:
            args = args[0]
        return args, {k: v for k, v in kwargs.items() if v is not None}


class _NotYet(Exception):
    """A tensor is the output of a call that has not been made yet."""


def _is_reference(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) in (3, 4)
        and isinstance(value[0], str)
        and value[0] != "_CONSTANT_VALUE"
        and isinstance(value[1], int)
        and isinstance(value[2], int)
    )


def _references(value: Any, found: dict[str, set[int]]) -> None:
    if _is_reference(value):
        found.setdefault(value[0], set()).add(value[1])
        value = value[3:]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            _references(item, found)


def input_tensor(config: Config) -> Any:
    """The input that an InputLayer's configuration describes."""
    if config.get("ragged"):
        raise MigrationError(
            f"Input {config.get('name')!r} is ragged, which Keras 3 does not support."
        )
    shape = config.get("batch_input_shape", config.get("batch_shape"))
    if not isinstance(shape, list):
        raise MigrationError(f"Input {config.get('name')!r} has no shape. Received: {shape!r}.")
    dtype = dtype_policy(config.get("dtype"))
    check_text_input(config.get("name"), dtype)
    return keras.Input(
        batch_shape=tuple(shape),
        dtype=dtype,
        sparse=bool(config.get("sparse", False)),
        name=config.get("name"),
    )


def _set_trainable(model: keras.Model, config: Config) -> None:
    # Setting True would overwrite the value of every inner layer.
    if config.get("trainable") is False:
        model.trainable = False
