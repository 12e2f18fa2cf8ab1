"""The base of optimizers that are made of others, whose state counts as theirs."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import keras

from surefoot.base import inner_optimizers, registration
from surefoot.base.inner_step import inner_may_stay
from surefoot.base.optimizer import BaseOptimizer
from surefoot.legacy_api.weight_lists import CallableList, WeightEntry
from surefoot.state.named_state import State


class CompositeOptimizer(BaseOptimizer):
    """An optimizer whose update is made by others, of this library or of Keras."""

    @abstractmethod
    def parts(self) -> dict[str, Any]:
        """The optimizers inside, by the prefix of their state's names in files."""

    def _own_parts(self) -> list[BaseOptimizer]:
        return [part for part in self.parts().values() if isinstance(part, BaseOptimizer)]

    def _apply_weight_decay(self, variables: Any) -> None:
        """Nothing: weight decay is that of the optimizers inside."""
        del variables

    # The step.

    def _backend_apply_gradients(self, grads: Any, trainable_variables: Any) -> None:
        # Keras asks for the learning rate and hands it on to where it is not needed.
        self.__dict__["_is_stepping"] = True
        try:
            super()._backend_apply_gradients(grads, trainable_variables)
        finally:
            self.__dict__["_is_stepping"] = False

    def rule_state(self) -> list[Any]:
        """That of the optimizers inside."""
        return [variable for part in self._own_parts() for variable in part.rule_state()]

    def compile_key(self) -> tuple[int, ...]:
        """A number that changes with what compiled steps hold fixed, here or inside."""
        inside = [number for part in self._own_parts() for number in part.compile_key()]
        return (*super().compile_key(), *inside)

    def always_moves(self) -> bool:
        """Also the optimizers inside."""
        return super().always_moves() and not any(map(inner_may_stay, self.parts().values()))

    def only_rule_assigns(self) -> bool:
        """Also in the updates of the optimizers inside."""
        return super().only_rule_assigns() and all(
            isinstance(part, BaseOptimizer) and part.only_rule_assigns()
            for part in self.parts().values()
        )

    def repeats_steps(self) -> bool:
        """Also the optimizers inside."""
        return super().repeats_steps() and all(
            isinstance(part, BaseOptimizer) and part.repeats_steps()
            for part in self.parts().values()
        )

    def raises_nonfinite(self) -> bool:
        """Whether a gradient that is not finite is an error, here or inside."""
        return super().raises_nonfinite() or any(p.raises_nonfinite() for p in self._own_parts())

    def compiles_eagerly(self) -> bool:
        """As the optimizers inside; one of Keras's may hold Python numbers that change."""
        return all(
            isinstance(part, BaseOptimizer) and part.compiles_eagerly()
            for part in self.parts().values()
        )

    # State.

    @property
    def variables(self) -> CallableList:
        """All state, that of the optimizers inside included; called, `weights` as in 2020."""
        own = list(keras.optimizers.Optimizer.variables.fget(self))
        inside = [variable for part in self.parts().values() for variable in part.variables]
        return CallableList([*own, *inside], lambda: self.weights)

    @property
    def weights(self) -> list[Any]:
        """The originals' variables in their order: iterations, our slots, those inside."""
        found = list(super().weights)
        for part in self.parts().values():
            if isinstance(part, BaseOptimizer):
                found += part.weights[1:]
            else:
                found += [variable for _, variable in inner_optimizers.weight_entries(part)]
        return found

    def leading_weights(self) -> list[Any]:
        """None: in the originals, only the iterations come before the slots."""
        return []

    def weight_entries(self) -> list[WeightEntry]:
        """The entries of `get_weights`: iterations, our slots, then those inside."""
        found = list(super().weight_entries())
        for part in self.parts().values():
            if isinstance(part, BaseOptimizer):
                found += part.weight_entries()[1:]
            else:
                found += [WeightEntry.of(*item) for item in inner_optimizers.weight_entries(part)]
        return found

    def _named_singles(self) -> dict[str, Any]:
        singles = super()._named_singles()
        singles.pop("learning_rate", None)  # Keras's base class has one; it is not used
        return singles

    def __dir__(self) -> list[str]:
        # Keras's saving looks for parts in `dir()`; the state of the optimizers inside
        # is saved with ours, so that a mismatch in either leaves both as they were.
        hidden = ("inner_optimizer", "_optimizer", "optimizers", "optimizer_specs", "_parts")
        return [name for name in super().__dir__() if name not in hidden]

    def named_state(self) -> State:
        """The whole state as arrays by name, that of the optimizers inside included."""
        state = super().named_state()
        for prefix, part in self.parts().items():
            inside = inner_optimizers.named_state(part)
            state |= {prefix + key: value for key, value in inside.items()}
        return state

    def mismatches(self, state: State, prefix: str = "") -> list[str]:
        """What of ``state`` is missing, extra or misshapen, in words."""
        own, inside = self._split(state)
        problems = super().mismatches(own, prefix)
        for part_prefix, part in self.parts().items():
            problems += inner_optimizers.mismatches(part, inside[part_prefix], prefix + part_prefix)
        return problems

    def restore_pending_slots(self) -> None:
        """Take what was loaded before building, here and inside; see `BaseOptimizer`."""
        super().restore_pending_slots()
        for part in self.parts().values():
            inner_optimizers.restore_pending(part)

    def restore(self, state: State) -> None:
        """Take a ``state`` without mismatches."""
        own, inside = self._split(state)
        super().restore(own)
        for prefix, part in self.parts().items():
            inner_optimizers.restore(part, inside[prefix])

    def _split(self, state: State) -> tuple[State, dict[str, State]]:
        """What is ours, and what is of each optimizer inside."""
        inside: dict[str, State] = {prefix: {} for prefix in self.parts()}
        own = {}
        for key, value in state.items():
            prefix = next((p for p in inside if key.startswith(p)), None)
            if prefix is None:
                own[key] = value
            else:
                inside[prefix][key.removeprefix(prefix)] = value
        return own, inside

    # Configuration.

    def get_config(self) -> dict[str, Any]:
        """The configuration that `from_config` reads, without the optimizers inside."""
        config: dict[str, Any] = super().get_config()
        for key in ("learning_rate", "weight_decay"):
            config.pop(key, None)
        for hyperparameter in self.hyperparameters.declared:
            config[hyperparameter.name] = self.hyperparameters.get(hyperparameter)
        return config

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Any:
        """Create an optimizer from a config: ours, or TensorFlow Addons'.

        Args:
            config: What `get_config` returned, here or in the original. It is not changed.
            custom_objects: Names to objects, for optimizers of the user's inside.

        Returns:
            An optimizer of this class.

        Raises:
            TypeError: If the config has an unknown entry.
            ValueError: If an entry is out of range.
        """
        with registration.also_known(custom_objects):
            return cls(**cls.default_inner_config() | config)

    @classmethod
    @abstractmethod
    def default_inner_config(cls) -> dict[str, Any]:
        """What a config may leave out: `keras.optimizers.get` passes an empty one."""
