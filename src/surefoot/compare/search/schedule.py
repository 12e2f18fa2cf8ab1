"""Modifiers of an optimizer expression: how the learning rate changes over the run.

`compare` sets the learning rate before every step, so that one compiled training step serves every
learning rate, seed and schedule.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from surefoot.compare.errors import UsageError
from surefoot.compare.search.expression import Call

Decay = Callable[[float], float]


def _warmup(length: float = 0.1) -> float:
    if isinstance(length, bool) or not length > 0 or (length >= 1 and length != int(length)):
        raise ValueError(
            f"length must be a fraction of the run between 0 and 1, or a whole number of steps. "
            f"Received: length={length!r}"
        )
    return length


def _cosine(final: float = 0.0) -> Decay:
    _check_share("final", final)
    return lambda progress: final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))


def _linear(final: float = 0.0) -> Decay:
    _check_share("final", final)
    return lambda progress: final + (1 - final) * (1 - progress)


def _constant() -> Decay:
    return lambda progress: 1.0


def _scale(factor: float) -> float:
    if isinstance(factor, bool) or not 0 < factor < math.inf:
        raise ValueError(f"factor must be a positive number. Received: factor={factor!r}")
    return factor


_DECAYS: dict[str, Callable[..., Decay]] = {
    **{"cosine": _cosine, "linear": _linear, "constant": _constant},
}
_KNOWN = "warmup(fraction or steps), cosine(final=0), linear(final=0), constant, scale(factor)"
WARMUP = 0.05
"""The share of a run in which the learning rate rises, if nothing else is said."""

SCHEDULES = ("cosine", "linear", "constant")
"""What `--schedule` takes: how the learning rate goes on after the warmup; constant has none."""


@dataclass(frozen=True)
class Schedule:
    """The factor on the learning rate at each step of a run.

    Args:
        scale: Constant factor.
        warmup: Length of the linear warmup: a fraction of the run below 1, or a number of steps.
        decay: Factor as a function of the progress from 0 to 1 after the warmup, or `None`.

    Example:
        >>> from surefoot.compare.search.expression import parse
        >>> from surefoot.compare.search.schedule import Schedule
        >>> schedule = Schedule.of(parse("adam+warmup(2)+linear").modifiers)
        >>> [round(schedule.factor(step, steps=6), 2) for step in range(6)]
        [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    """

    scale: float = 1.0
    warmup: float = 0.0
    decay: Decay | None = None

    @classmethod
    def of(cls, modifiers: tuple[Call, ...]) -> "Schedule":
        """Make a schedule of the modifiers of an expression.

        Raises:
            UsageError: If a modifier is unknown, given twice or has wrong arguments.
        """
        given: dict[str, object] = {}
        for call in modifiers:
            kind = "decay" if call.name in _DECAYS else call.name
            if kind in given:
                raise UsageError(f"+{call} is a second {kind}; give at most one")
            given[kind] = cls._read(call)
        return cls(**given)  # type: ignore[arg-type]

    @staticmethod
    def _read(call: Call) -> object:
        makers: dict[str, Callable[..., object]] = {"warmup": _warmup, "scale": _scale, **_DECAYS}
        if call.name not in makers:
            raise UsageError(f"unknown modifier +{call}; known are {_KNOWN}")
        try:
            return makers[call.name](*call.args, **dict(call.kwargs))
        except (TypeError, ValueError) as error:
            raise UsageError(f"+{call} cannot be used: {error}; known are {_KNOWN}") from None

    @property
    def is_identity(self) -> bool:
        """Whether the factor is 1 at every step."""
        return self.scale == 1 and not self.warmup and self.decay is None

    @property
    def is_chosen(self) -> bool:
        """Whether it says how the learning rate changes, which is then left as it is."""
        return bool(self.warmup) or self.decay is not None

    def or_default(self, name: str) -> "Schedule":
        """This schedule, or if it says nothing, that of `--schedule` with its scale."""
        if self.is_chosen or name == "constant":
            return self
        return replace(self, warmup=WARMUP, decay=_DECAYS[name]())

    def factor(self, step: float, steps: int) -> float:
        """The factor for step `step` (from 0) of a run of `steps`."""
        warmup = self.warmup * steps if self.warmup < 1 else self.warmup
        factor = self.scale
        if step + 1 < warmup:
            return factor * (step + 1) / warmup
        if self.decay is not None:
            factor *= self.decay(min(max(step - warmup, 0) / max(steps - warmup, 1), 1.0))
        return factor


def _check_share(name: str, value: float) -> None:
    if isinstance(value, bool) or not 0 <= value <= 1:
        raise ValueError(f"{name} must be between 0 and 1. Received: {name}={value!r}")
