"""The methods of 2020's `OptimizerV2`, implemented with Keras 3's.

They are the same for all optimizers here, and for Lookahead around any other optimizer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from surefoot import engines
from surefoot.legacy_api.notebooks import NotebookMethods
from surefoot.legacy_api.weight_lists import WeightLists
from surefoot.state.attachment import require_attached
from surefoot.state.counter import checked_updates, updates_done
from surefoot.state.named_state import permanent_assignment
from surefoot.variables.keras_optimizer import wrapped_optimizers
from surefoot.variables.variable import variable_path

_SYNCHRONIZATIONS = ("AUTO", "NONE", "ON_WRITE", "ON_READ")
_AGGREGATIONS = ("none", "sum", "mean", "only_first_replica")


def reset_accumulators(accumulators: Iterable[Any]) -> None:
    """Set accumulated gradients to zero; some variables have None instead."""
    for accumulator in accumulators:
        if accumulator is not None:
            accumulator.assign(keras.ops.zeros_like(accumulator.value))


def set_updates(optimizer: Any, updates: int) -> None:
    """Set the number of updates of a Keras optimizer and of those inside it.

    A different number starts a new accumulation of gradients.
    """
    for part in wrapped_optimizers(optimizer):
        set_updates(part, updates)
    micro_steps = optimizer.gradient_accumulation_steps or 1
    if micro_steps > 1:
        if int(keras.ops.convert_to_numpy(optimizer.iterations)) == updates:
            return
        if optimizer.built:
            reset_accumulators(optimizer._accumulated_gradients)
    optimizer._iterations.assign(updates * micro_steps)


class OptimizerV2Methods(WeightLists, NotebookMethods):
    """The OptimizerV2 interface; mixed in before `keras.optimizers.Optimizer`."""

    gradient_accumulation_steps: int | None
    _iterations: Any

    def __dir__(self) -> list[str]:
        # tf.train.Checkpoint looks for `get_slot_names` in `dir()`; if it is there, it
        # saves the slots a second time, as for the optimizers of 2020.
        return [name for name in super().__dir__() if name != "get_slot_names"]

    # Steps and learning rate.

    @property
    def iterations(self) -> Any:
        """The number of updates done, as a variable, or as a tensor under accumulation.

        Assigning a different number starts a new accumulation of gradients. If you
        assign a variable, its value is copied; the originals used the variable
        itself, so that several optimizers could share one. The number may be at most
        2^53, and on JAX 2^31 - 1 unless ``jax_enable_x64`` is on.
        """
        return self._iterations if not self.gradient_accumulation_steps else updates_done(self)

    @iterations.setter
    def iterations(self, value: Any) -> None:
        updates = checked_updates(self, value)
        require_attached(self._iterations, "`iterations`")
        self._set_iterations(updates)

    def _set_iterations(self, updates: int) -> None:
        set_updates(self, updates)

    @property
    def lr(self) -> Any:
        """Old name of ``learning_rate``; on TensorFlow a `tf.Variable`, as it was."""
        return engines.active().native_variable(self.learning_rate)

    @lr.setter
    def lr(self, value: Any) -> None:
        self.learning_rate = value

    # Slots.

    def add_slot(self, var: Any, slot_name: str, initializer: Any = "zeros") -> Any:
        """Add a slot variable for ``var``, or return the one of that name.

        Args:
            var: A variable of the model.
            slot_name: Name of the slot.
            initializer: A Keras initializer, its name, or an array of values.
                Defaults to ``"zeros"``.

        Returns:
            The slot, a variable shaped like ``var``.
        """
        slot = self.slots.of(var).get(slot_name)
        if slot is None:
            values = None
            if not isinstance(initializer, str) and not callable(initializer):
                initializer, values = "zeros", initializer
            slot = self.add_variable_from_reference(var, slot_name, initializer)  # type: ignore[attr-defined]
            if values is not None:
                with permanent_assignment(self.name):
                    slot.assign(values)
        return slot

    def get_slot(self, var: Any, slot_name: str) -> Any:
        """Return the slot ``slot_name`` of ``var``.

        Raises:
            KeyError: If ``var`` has no such slot; names those it has.
        """
        slots = self.slots.of(var)
        if slot_name not in slots:
            raise KeyError(
                f"The variable '{variable_path(var)}' has no slot '{slot_name}' in the optimizer "
                f"'{self.name}'. It has: {', '.join(slots) or 'none (not built for it yet)'}"
            )
        return slots[slot_name]

    def get_slot_names(self) -> list[str]:
        """The names of this optimizer's slots.

        Returns:
            A list such as ``["m", "v"]``, in the order in which the slots were created.
        """
        return self.slots.slot_names()

    def add_weight(
        self,
        name: str,
        shape: Any,
        dtype: Any = None,
        initializer: Any = "zeros",
        trainable: bool | None = None,
        synchronization: Any = "auto",
        aggregation: Any = "none",
    ) -> Any:
        """Add a variable of the optimizer's own; it is saved, loaded and counted.

        Args:
            name: Name of the variable.
            shape: Its shape.
            dtype: Its dtype. Defaults to ``keras.config.floatx()``.
            initializer: A Keras initializer or its name. Defaults to ``"zeros"``.
            trainable: False or None; optimizers do not train their own state.
            synchronization: As in TensorFlow; it has no effect in Keras 3.
            aggregation: "none", "sum", "mean", "only_first_replica", or
                TensorFlow's enumeration. Defaults to "none".

        Returns:
            The variable.

        Raises:
            ValueError: If an argument is not supported.
        """
        if trainable:
            raise ValueError(
                "A weight of an optimizer cannot be trainable. Received: trainable=True"
            )
        if getattr(synchronization, "name", str(synchronization)).upper() not in _SYNCHRONIZATIONS:
            raise ValueError(
                f"`synchronization` must be one of {', '.join(_SYNCHRONIZATIONS)}. "
                f"Received: synchronization={synchronization!r}"
            )
        aggregation = getattr(aggregation, "name", str(aggregation)).lower()
        if aggregation not in _AGGREGATIONS:
            raise ValueError(
                f"`aggregation` must be one of {', '.join(_AGGREGATIONS)}. "
                f"Received: aggregation={aggregation!r}"
            )
        dtype = None if dtype is None else keras.backend.standardize_dtype(dtype)
        variable = self.add_variable(  # type: ignore[attr-defined]
            tuple(shape), initializer, dtype=dtype, aggregation=aggregation, name=name
        )
        self.slots.mark_added(variable)
        return variable

    # Steps.

    def apply_gradients(
        self,
        grads_and_vars: Iterable[tuple[Any, Any]],
        name: str | None = None,
        experimental_aggregate_gradients: bool = True,
    ) -> Any:
        """Apply gradients to variables.

        Args:
            grads_and_vars: Pairs of gradient and variable.
            name: Accepted for compatibility; operations are named after the
                optimizer.
            experimental_aggregate_gradients: Whether to sum gradients over the
                replicas of a `tf.distribute.Strategy`. Defaults to True.

        Returns:
            Inside a TensorFlow graph, the operation that applies the gradients,
            otherwise the iteration counter, which has increased by one.

        Raises:
            TypeError: If ``grads_and_vars`` is malformed.
            ValueError: If none of the variables has a gradient.
        """
        del name
        pairs = _pairs(grads_and_vars)
        if not pairs:
            return engines.active().apply_result(self)
        gradients, variables = zip(*pairs, strict=True)
        self.__dict__["_aggregates_gradients"] = bool(experimental_aggregate_gradients)
        try:
            self.apply(list(gradients), list(variables))  # type: ignore[attr-defined]
        finally:
            self.__dict__["_aggregates_gradients"] = True
        return engines.active().apply_result(self)

    @property
    def aggregates_gradients(self) -> bool:
        """Whether this step sums gradients over the replicas of a `tf.distribute.Strategy`."""
        return bool(self.__dict__.get("_aggregates_gradients", True))

    def minimize(
        self,
        loss: Any,
        var_list: Any,
        grad_loss: Any = None,
        name: str | None = None,
        **options: Any,
    ) -> Any:
        """Minimize ``loss`` by updating ``var_list``.

        The backend computes the gradients: with a `tf.GradientTape`, `jax.grad` or
        PyTorch's autograd.

        Args:
            loss: A callable without arguments that returns the value to
                minimize. On JAX it must use the variables themselves, not
                values read beforehand.
            var_list: A list or tuple of variables, or a callable that returns
                one and is called after ``loss``.
            grad_loss: The gradient with respect to the loss. Defaults to ones.
            name: See `apply_gradients`.
            **options: Further arguments of the optimizer's `apply_gradients`.

        Returns:
            The same as `apply_gradients`.

        Raises:
            TypeError: If ``loss`` is not callable, or an option is unknown.
            ValueError: If something in ``var_list`` is not a variable, or none
                of them has a gradient.
        """
        if not callable(loss):
            raise TypeError(
                "`loss` must be a callable without arguments that returns the value to minimize. "
                f"Received: loss={loss!r}"
            )
        gradients, variables = engines.active().gradients(loss, var_list, grad_loss)
        return self.apply_gradients(zip(gradients, variables, strict=True), name=name, **options)

    def get_gradients(self, loss: Any, params: Any) -> list[Any]:
        """Return the gradients of the tensor ``loss`` with respect to ``params``.

        Args:
            loss: A loss tensor of the TensorFlow graph or function being built,
                or of PyTorch's autograd graph.
            params: List of variables.

        Returns:
            A list of gradient tensors.

        Raises:
            ValueError: If a gradient cannot be computed.
            RuntimeError: If there is no graph to differentiate.
        """
        return engines.active().symbolic_gradients(loss, list(params))

    def get_updates(self, loss: Any, params: Any) -> list[Any]:
        """Apply the gradients of ``loss``.

        Args:
            loss: Loss tensor, see `get_gradients`.
            params: List of variables.

        Returns:
            A list with the result of `apply_gradients`.

        Raises:
            ValueError: If a gradient cannot be computed.
            RuntimeError: If there is no graph to differentiate.
        """
        params = list(params)
        gradients = self.get_gradients(loss, params)
        return [self.apply_gradients(zip(gradients, params, strict=True))]


def _pairs(grads_and_vars: Any) -> list[tuple[Any, Any]]:
    try:
        items = list(grads_and_vars)
    except TypeError as error:
        raise TypeError(
            "`grads_and_vars` must be an iterable of (gradient, variable) pairs. "
            f"Received: grads_and_vars={grads_and_vars!r}"
        ) from error
    for item in items:
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise TypeError(
                "`grads_and_vars` must hold (gradient, variable) pairs. "
                f"Received an entry of type {type(item).__name__}: {item!r}"
            )
    return [tuple(item) for item in items]
