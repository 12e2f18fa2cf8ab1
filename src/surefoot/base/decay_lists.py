"""The two ways in which TensorFlow Addons said which variables decay."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from surefoot.base.decayed_rate import DecayedRate
from surefoot.variables.variable import exclusion_test, identity


class DecayLists(DecayedRate):
    """A `DecayedRate` with the lists of TensorFlow Addons' weight decay.

    Args:
        *args: Those of `DecayedRate`.
        exclude_from_weight_decay: Regular expressions; a variable is excluded if
            one is found in its path or its name.
        **kwargs: Those of `DecayedRate`.
    """

    def __init__(
        self, *args: Any, exclude_from_weight_decay: Iterable[str] | None = None, **kwargs: Any
    ) -> None:
        patterns = listed("exclude_from_weight_decay", exclude_from_weight_decay)
        excluded = None if patterns is None else exclusion_test(None, patterns)
        super().__init__(*args, **kwargs)
        self.__dict__.update(_excluded=excluded, _excluded_names=patterns, _decay_list=None)

    def apply_gradients(
        self,
        grads_and_vars: Iterable[tuple[Any, Any]],
        name: str | None = None,
        experimental_aggregate_gradients: bool = True,
        decay_var_list: Iterable[Any] | None = None,
    ) -> Any:
        """Apply gradients to variables.

        Args:
            grads_and_vars: Pairs of gradient and variable.
            name: Accepted for compatibility.
            experimental_aggregate_gradients: Whether to sum gradients over the
                replicas of a `tf.distribute.Strategy`. Defaults to True.
            decay_var_list: The variables that decay. By default all that are not
                excluded by ``exclude_from_weight_decay``.

        Returns:
            The same as without ``decay_var_list``.

        Raises:
            TypeError: If ``grads_and_vars`` is malformed.
            ValueError: If none of the variables has a gradient, or ``decay_var_list``
                is another one than a compiled function of yours has seen.
        """
        self._decay_only(decay_var_list)
        return super().apply_gradients(grads_and_vars, name, experimental_aggregate_gradients)

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
        super().exclude_from_weight_decay(var_list, var_names)
        self.__dict__["_excluded_names"] = list(var_names or ()) or None

    def _decay_only(self, variables: Iterable[Any] | None) -> None:
        """Let ``variables`` decay, or if there are none, those that are not excluded."""
        chosen = frozenset(map(identity, variables or ()))
        if chosen == (self.__dict__["_decay_list"] or frozenset()):
            return
        with self.changing_structure("another `decay_var_list`"):
            self.__dict__["_decay_list"] = chosen
            self._track_variables([t.variable for t in self.tracked_variables])

    def _decays(self, variable: Any) -> bool:
        chosen = self.__dict__.get("_decay_list")
        return identity(variable) in chosen if chosen else super()._decays(variable)

    def get_config(self) -> dict[str, Any]:
        """The configuration that `from_config` reads: arguments by name."""
        return super().get_config() | {
            "exclude_from_weight_decay": self.__dict__["_excluded_names"]
        }


def listed(name: str, patterns: Iterable[str] | None) -> list[str] | None:
    """An argument that is a list of regular expressions; None if it is empty.

    Raises:
        TypeError: If it is a string.
    """
    if isinstance(patterns, str):
        raise TypeError(
            f"`{name}` must be a list of regular expressions. Received: {name}={patterns!r}"
        )
    return list(patterns) if patterns else None
