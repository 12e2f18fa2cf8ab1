"""The moments of an optimizer on the rule: which slots a variable has, and how they are stored."""

from __future__ import annotations

from typing import Any, ClassVar

from surefoot.base.learning_rate import RatedOptimizer
from surefoot.engines.contract import SparseStep
from surefoot.rule.rounding import variable_key
from surefoot.variables.tracked import Tracked
from surefoot.variables.variable import (
    accumulator_dtype,
    distinct,
    dtype_of,
    exclusion_test,
    is_low_precision,
)


class MomentSlots(RatedOptimizer):
    """An optimizer with a first and a second moment of each variable, or one of them, or none."""

    SPARSE_STEP: ClassVar[SparseStep] = "moments"
    """What a sparse gradient changes besides the rows that it has."""

    FIRST_MOMENT: ClassVar[str] = "m"
    """The name of the first moment's slot."""

    BY_NORM: ClassVar[bool] = False
    """Whether a step depends on the norms of whole tensors."""

    def build(self, variables: Any) -> None:
        """Create the moments for ``variables``, a list of trainable variables."""
        if self.built:
            return
        variables = distinct(variables)
        super().build(variables)
        for variable in variables:
            if getattr(variable, "overwrite_with_gradient", False):
                self.slots.skip(variable)
                continue
            for slot_name, dtype in self.slot_dtypes(variable).items():
                if slot_name in (*self.moment_names, "master"):  # the others are Keras's
                    self.add_moment(variable, slot_name, dtype)
        self._track_variables(variables)
        self.restore_pending_slots()

    def slot_dtypes(self, variable: Any) -> dict[str, str]:
        """The slots that this optimizer has for a variable, and their dtypes."""
        exact = accumulator_dtype(variable)
        moments = "bfloat16" if self.moments == "bfloat16" else exact
        dtypes = super().slot_dtypes(variable) | dict.fromkeys(self.moment_names, moments)
        if self.low_precision == "master" and is_low_precision(variable):
            # A bfloat16 variable is the upper half of its master already.
            dtypes["master"] = "int16" if dtype_of(variable) == "bfloat16" else exact
        return dtypes

    @property
    def low_precision(self) -> str:
        """How variables below float32 are rounded; fixed at construction."""
        return self._low_precision

    @property
    def moments(self) -> str:
        """How the moments are stored, "float32" or "bfloat16"; fixed at construction."""
        return self._moments

    @property
    def rounds_at_random(self) -> bool:
        """Whether random bits decide what is stored."""
        return self.moments == "bfloat16" or self.low_precision == "stochastic"

    @property
    def lazy(self) -> bool:
        """Whether a sparse gradient leaves untouched rows' moments alone."""
        return self.sparse_step in ("nothing", "undecayed")

    @property
    def sparse_step(self) -> SparseStep:
        """What a sparse gradient changes besides the rows that it has."""
        return "nothing" if self._lazy else self.SPARSE_STEP

    @property
    def keeps_first_moment(self) -> bool:
        """Whether there is a first moment; else gradients stand for it."""
        return self.FIRST_MOMENT in self.moment_names

    @classmethod
    def takes_lazy(cls) -> bool:
        """Whether ``lazy`` is an argument."""
        return cls.SPARSE_STEP in ("moments", "all")

    @property
    def seed(self) -> int:
        """Seed of the random bits by which numbers are rounded."""
        return self._seed

    @property
    def amsgrad(self) -> bool:
        """Whether the largest second moment so far is used; fixed at construction."""
        return self._amsgrad

    @property
    def moment_names(self) -> list[str]:
        """The slots of the rule, in the originals' order."""
        return ["m", "v", "vhat"] if self._amsgrad else ["m", "v"]

    def add_moment(self, variable: Any, slot_name: str, dtype: str) -> None:
        """Add a slot of the rule, which starts at zero."""
        scalar = slot_name in self.SCALAR_SLOTS
        self.add_variable_from_reference(variable, slot_name, dtype=dtype, scalar=scalar)

    def steps_by_norm(self, variable: Any) -> bool:
        """Whether the step of a variable depends on the norms of whole tensors."""
        del variable
        return self.BY_NORM

    def rule_state(self) -> list[Any]:
        """The slots that only the rule writes, so that a step may reuse their memory."""
        return [
            slot
            for t in self.tracked_variables
            for slot in (*t.moments, t.master)
            if slot is not None
        ]

    def clips_in_update(self) -> bool:
        """True: the engine's update clips gradients by value, in its pass over memory."""
        return True

    def widens_gradients(self) -> bool:
        """True, in the same pass."""
        return True

    def _track_variables(self, variables: list[Any]) -> None:
        tracked = []
        for index, variable in enumerate(variables):
            slots = self.slots.of(variable)
            tracked.append(
                Tracked(
                    variable=variable,
                    m=slots.get(self.FIRST_MOMENT),
                    v=slots.get("v"),
                    vhat=slots.get("vhat"),
                    master=slots.get("master"),
                    decays=self._decays(variable),
                    index=index,
                    key=variable_key(self.seed, index),
                    by_norm=self.steps_by_norm(variable),
                )
            )
        self.__dict__["tracked_variables"] = tracked

    # Weight decay.

    def exclude_from_weight_decay(
        self, var_list: Any = None, var_names: list[str] | None = None
    ) -> None:
        """Choose the variables that weight decay leaves alone, at any time.

        Args:
            var_list: Variables to exclude.
            var_names: Regular expressions; a variable is excluded if one is
                found in its path (such as ``"dense_1/bias"``) or its name.

        Raises:
            TypeError: If ``var_names`` is a string or holds anything else.
        """
        excluded = exclusion_test(var_list, var_names)
        with self.changing_structure("a call of `exclude_from_weight_decay`"):
            self.__dict__["_excluded"] = excluded
            self._track_variables([t.variable for t in self.tracked_variables])

    def _decays(self, variable: Any) -> bool:
        return self._excluded is None or not self._excluded(variable)
