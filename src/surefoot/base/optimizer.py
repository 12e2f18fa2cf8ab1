"""What all optimizers here share on top of Keras: named state, live hyperparameters."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from operator import attrgetter
from typing import Any, ClassVar

import keras

from surefoot import engines
from surefoot.arguments import checks
from surefoot.base.keras_step import KerasStep
from surefoot.engines.traces import Traces
from surefoot.legacy_api.methods import OptimizerV2Methods
from surefoot.state.counter import prevent_counter_overflow, widen_counter
from surefoot.state.hyperparameters import Hyperparameter, HyperparameterSet
from surefoot.state.known_variables import require_known, require_same
from surefoot.state.measurement import FIELDS, Measurement
from surefoot.state.named_state import NamedState
from surefoot.state.structure import CompiledStructure, OwnFacts
from surefoot.variables.slots import SlotRegistry
from surefoot.variables.variable import accumulator_dtype, variable_path

NONFINITE = ("propagate", "skip", "raise")

_shape = attrgetter("shape")


class BaseOptimizer(CompiledStructure, OptimizerV2Methods, NamedState, KerasStep):
    """A Keras optimizer that knows each of its variables by name.

    Subclasses declare `Hyperparameter`s as class attributes, and call
    ``super().__init__`` with an accepted value for each.
    """

    def __init__(
        self,
        learning_rate: Any,
        name: str,
        accepted_hyperparameters: dict[str, Any],
        base_arguments: dict[str, Any],
        nonfinite: str = "propagate",
        shard_state: bool = False,
    ):
        nonfinite = checks.choice("nonfinite", nonfinite, NONFINITE)
        if checks.check_flag("shard_state", shard_state) and not engines.active().SHARDS_STATE:
            raise ValueError(
                "`shard_state=True` is for `keras.distribution`, which Keras has on JAX. On "
                f"{keras.backend.backend()} every worker has the whole state. "
                "Received: shard_state=True"
            )
        declared = self.declared_hyperparameters()
        hyperparameters = HyperparameterSet(
            declared, accepted_hyperparameters, self.changing_structure
        )
        # Past Keras's and TensorFlow's attribute tracking, which would wrap
        # these and track variables twice.
        self.__dict__.update(
            hyperparameters=hyperparameters,
            slots=SlotRegistry(),
            pending_slots={},
            eager_steps=OwnFacts(),
            structure_facts=OwnFacts(),
            step_lock=threading.RLock(),
            traces=Traces(),
            _structure=0,
            _nonfinite=nonfinite,
            _shard_state=bool(shard_state),
            _reported_skips=0,
            _given=[],
        )
        if "weight_decay" in accepted_hyperparameters:
            # Keras's base class sets this attribute; let it set the right value.
            base_arguments["weight_decay"] = accepted_hyperparameters["weight_decay"]
        super().__init__(learning_rate=learning_rate, name=name, **base_arguments)
        widen_counter(self)
        vector = self.add_variable(
            (len(declared),), dtype=engines.active().scalar_dtype(), name="hyperparameters"
        )
        hyperparameters.attach(vector)
        self._skipped_steps: Any = (
            None
            if nonfinite == "propagate"
            else self.add_variable((), dtype="int32", name="skipped_steps")
        )
        # Not registered: what was measured is no state that a file should bring back.
        self.__dict__["measurement"] = Measurement(
            self._add_unregistered(shape=(len(FIELDS),), dtype="float32", name="measurement")
        )

    @classmethod
    def declared_hyperparameters(cls) -> list[Hyperparameter]:
        """The scalar hyperparameters of this class, in the order of declaration."""
        found: dict[str, Hyperparameter] = {}
        for ancestor in reversed(cls.__mro__):
            for name, attribute in vars(ancestor).items():
                if isinstance(attribute, Hyperparameter):
                    found[name] = attribute
        return list(found.values())

    # State.

    SCALAR_SLOTS: ClassVar[tuple[str, ...]] = ()
    """Slots that are one number for each variable."""

    def slot_dtypes(self, variable: Any) -> dict[str, str]:
        """The slots that this optimizer has for a variable, and their dtypes."""
        accumulates = self.gradient_accumulation_steps is not None
        # Those that Keras makes itself, by its names.
        names = ["average"] * self.use_ema + ["gradient_accumulator"] * accumulates
        return dict.fromkeys(names, accumulator_dtype(variable))

    def add_variable_from_reference(
        self,
        reference_variable: Any,
        name: str | None = None,
        initializer: Any = "zeros",
        *,
        dtype: str | None = None,
        scalar: bool = False,
    ) -> Any:
        """Add a slot like ``reference_variable`` or ``scalar``, by default at least in float32."""
        slot_name, engine = name or "var", engines.active()
        with engine.colocated(reference_variable):
            variable = self._add_unregistered(
                shape=() if scalar else engine.shape(reference_variable),
                initializer=initializer,
                dtype=dtype or accumulator_dtype(reference_variable),
                name=self.slots.variable_name(reference_variable, slot_name),
                layout=None if scalar else engine.slot_layout(reference_variable, self.shard_state),
            )
        self.slots.add(reference_variable, slot_name, variable)
        return variable

    def add_variable(self, shape: Any, initializer: Any = "zeros", **kwargs: Any) -> Any:
        """Add a variable that belongs to no model variable; see Keras."""
        variable = self._add_unregistered(shape=shape, initializer=initializer, **kwargs)
        self.slots.add_single(kwargs.get("name") or "variable", variable)
        return variable

    def _add_unregistered(self, layout: Any = None, **kwargs: Any) -> Any:
        if layout is not None:
            kwargs["layout"] = layout
        return super().add_variable(**kwargs)

    def rule_state(self) -> list[Any]:
        """The slots that only the rule writes, so that a step may reuse their memory."""
        return []

    def get_config(self) -> dict[str, Any]:
        """The configuration that `from_config` reads: arguments by name."""
        config: dict[str, Any] = super().get_config()
        return config | {"nonfinite": self.nonfinite, "shard_state": self.shard_state}

    # The step.

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Apply ``grads`` to ``trainable_variables``; see Keras.

        Outside of a compiled function the whole update is compiled once by
        the engine where that pays.

        Args:
            grads: Gradients; None for a variable that is to stay.
            trainable_variables: The variables, in the same order. Defaults to
                those the optimizer was built for.

        Raises:
            ValueError: If all gradients are None, or the optimizer was built without a variable.
        """
        engine = engines.active()
        grads = engine.as_tensors(grads)
        if trainable_variables is not None:
            trainable_variables = list(trainable_variables)
            require_known(self, trainable_variables)
        if self.built:
            self.restore_pending_slots()
        # Here and not in the compiled step, whose shapes may have been relaxed.
        self._check_shapes(grads, trainable_variables or self._trainable_variables)
        engine.run_step(self, grads, trainable_variables)

    def stateless_apply(
        self, optimizer_variables: list[Any], grads: list[Any], trainable_variables: list[Any]
    ) -> tuple[list[Any], list[Any]]:
        """Return the variables' new values instead of assigning them; see Keras.

        Args:
            optimizer_variables: The values of `variables`.
            grads: Gradients; None for a variable that is to stay.
            trainable_variables: The values of the variables that the optimizer was built for.

        Returns:
            The new values of the trained variables, and of `variables`.

        Raises:
            ValueError: If the optimizer was not built for these variables.
        """
        require_same(self, trainable_variables)
        return super().stateless_apply(optimizer_variables, grads, trainable_variables)

    def _check_shapes(self, gradients: list[Any], variables: list[Any]) -> None:
        """Refuse a gradient that would be broadcast.

        Raises:
            ValueError: If a gradient is not shaped like its variable; names it.
        """
        try:
            shapes = list(map(_shape, gradients))
            if shapes == self.structure_facts.get("shapes") and self.are_all(variables):
                return
            if shapes == list(map(_shape, variables)):
                if self.are_all(variables):
                    self.structure_facts["shapes"] = shapes
                return
        except (AttributeError, TypeError, ValueError):  # None; or shapes that are not known
            pass
        for gradient, variable in zip(gradients, variables, strict=False):
            shape = getattr(gradient, "shape", None)
            if shape is None or shape == variable.shape or getattr(shape, "rank", 0) is None:
                continue
            expected = self._shape_of(variable)
            known = zip(tuple(shape), expected, strict=False)
            if len(shape) != len(expected) or any(a != b for a, b in known if a is not None):
                raise ValueError(
                    f"The gradient of '{variable_path(variable)}' must have the variable's shape "
                    f"{expected}. Received: a gradient of shape {tuple(shape)}"
                )

    def _shape_of(self, variable: Any) -> tuple[int, ...]:
        shape = engines.active().shape(variable)
        for slot in self.slots.of(variable).values():
            if tuple(slot.shape) not in (shape, ()):  # NovoGrad has a number for each variable
                raise ValueError(
                    f"The variable '{variable_path(variable)}' had the shape {tuple(slot.shape)} "
                    f"when the optimizer '{self.name}' was built for it, and has to keep it. "
                    f"Received: a variable of shape {shape}. Make a new optimizer for it."
                )
        return shape

    def inline_apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """The update itself, traced or executed where it stands."""
        engine = engines.active()
        if self.gradient_accumulation_steps:  # the sums are in float32
            grads = engine.upcast(grads)
        others = nullcontext() if self.only_rule_assigns() else engine.numbers_at(self._iterations)
        with others:
            self.measurement.count_call()
            prevent_counter_overflow(self)
            self.apply_if_finite(
                grads,
                trainable_variables,
                lambda: keras.optimizers.Optimizer.apply(self, grads, trainable_variables),
            )

    def apply_if_finite(
        self, gradients: list[Any], variables: list[Any] | None, update: Callable[[], None]
    ) -> None:
        """Run ``update``; as `nonfinite` says, only for finite gradients."""
        variables = self.all_trainable_variables(variables)
        if self.gradient_accumulation_steps:
            given = zip(gradients, variables, strict=False)
            self.__dict__["_given"] = [v for g, v in given if g is not None]
        if self._nonfinite == "propagate" or all(g is None for g in gradients):
            update()
            return
        pairs = zip(gradients, variables, strict=False)
        engine = engines.active()
        ok = engine.all_true(self._finite(pairs, report=self._nonfinite == "raise"))
        state = [*self.variables, *self._trainable_variables]
        engine.run_where(ok, update, state, only_rule=self.only_rule_assigns())
        self._skipped_steps.assign_add(1 - engine.as_int32(ok))

    @property
    def nonfinite(self) -> str:
        """The effect of a NaN or infinite gradient, ``"propagate"``, ``"skip"`` or ``"raise"``."""
        return self._nonfinite

    @property
    def shard_state(self) -> bool:
        """Whether slots are split over the devices that share a batch; fixed at construction."""
        return bool(self.__dict__["_shard_state"])

    @property
    def skipped_steps(self) -> int:
        """How many steps were skipped for a gradient that was not finite."""
        if self._skipped_steps is None:
            return 0
        return int(keras.ops.convert_to_numpy(self._skipped_steps.value))

    def finalize_variable_values(self, var_list: Any) -> None:
        """Finish a training; Keras's `fit` calls it.

        Raises:
            FloatingPointError: If `nonfinite` is "raise" and a step in XLA skipped instead.
        """
        super().finalize_variable_values(var_list)
        if self.use_ema:
            for variable in var_list:
                # On JAX it was given the average's memory; the next `fit` uses up that of both.
                engines.active().initialize_as_copy(variable, variable)
        unreported = self.skipped_steps - self.__dict__["_reported_skips"]
        if self.raises_nonfinite() and unreported > 0:
            self.__dict__["_reported_skips"] = self.skipped_steps
            raise FloatingPointError(
                f"The optimizer '{self.name}' (nonfinite='raise') skipped {unreported} step(s) "
                "with NaN or infinite gradients in a function compiled by XLA, which cannot "
                "raise. To see which variable, compile the model with `jit_compile=False`."
            )

    def step_rates(self, learning_rate: Any) -> dict[str, Any]:
        """What `surefoot.diagnostics` tells of the rates of the update that comes next."""
        return {"effective_learning_rate": learning_rate}

    def all_trainable_variables(self, variables: Any) -> list[Any]:
        """The variables of an `apply` call, after building for them if need be."""
        if variables is None:
            return list(self._trainable_variables)
        variables = list(variables)
        if not self.built:
            with keras.name_scope(self.name, caller=self):
                self.build(variables)
        return variables

    def compiles_eagerly(self) -> bool:
        """Whether an eager step may be compiled: not if it has to call a function of the user."""
        return True

    def refuse_nonfinite(self, gradients: list[Any], variables: list[Any]) -> None:
        """Raise for a gradient that is not finite while nothing has been started.

        Raises:
            FloatingPointError: If `nonfinite` is "raise" and a gradient is not finite.
        """
        if self.raises_nonfinite() and any(g is not None for g in gradients):
            self._finite(zip(gradients, variables, strict=True), report=True)

    def _finite(self, pairs: Iterable[tuple[Any, Any]], report: bool) -> Any:
        """For each gradient that is given, whether it is finite; raises if that is reported."""
        engine, given = engines.active(), [(g, v) for g, v in pairs if g is not None]
        finite = engine.finite([g for g, _ in given])
        if not report:
            return finite
        return engine.report_nonfinite(finite, [variable_path(v) for _, v in given], self.name)

    def raises_nonfinite(self) -> bool:
        """Whether a gradient that is not finite is an error."""
        return self._nonfinite == "raise"
