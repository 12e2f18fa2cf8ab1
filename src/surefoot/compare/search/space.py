"""What the settings of an optimizer are chosen from: a range of learning rates, and of others."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from surefoot.compare.errors import UsageError
from surefoot.compare.search.learning_rates import parse_learning_rates

_VARIED = re.compile(r"(?P<name>[A-Za-z_]\w*)(=(?P<low>[^:]+):(?P<high>[^:]+))?")
_USUAL = {"weight_decay": (1e-5, 1e-1), "beta_1": (0.8, 0.98), "beta_2": (0.9, 0.9999)}
# The learning rates keep as many digits: they are readable, and the same keys on every machine.
_DIGITS = 4


@dataclass(frozen=True, order=True)
class Setting:
    """The hyperparameters of a trial: a learning rate, and others by name."""

    learning_rate: float
    others: tuple[tuple[str, float], ...] = ()

    def to_dict(self) -> dict[str, float]:
        """The values by name."""
        return {"learning_rate": self.learning_rate, **dict(self.others)}

    @classmethod
    def of(cls, values: dict[str, float]) -> "Setting":
        """The inverse of `to_dict`."""
        others = {name: value for name, value in values.items() if name != "learning_rate"}
        return cls(values["learning_rate"], tuple(sorted(others.items())))


@dataclass(frozen=True)
class Axis:
    """A range in which a hyperparameter is searched on a logarithmic scale.

    Averages forget by 1 - beta, so for betas and momentum that distance from 1 is what is sampled.
    """

    name: str
    low: float
    high: float

    @property
    def is_decay(self) -> bool:
        """Whether the distance from 1 is sampled."""
        return self.name.startswith("beta") or self.name == "momentum"

    @property
    def sampled(self) -> tuple[str, float, float]:
        """Name and range of what is sampled."""
        if self.is_decay:
            return f"1 - {self.name}", self.to_sampled(self.high), self.to_sampled(self.low)
        return self.name, self.low, self.high

    def to_sampled(self, value: float) -> float:
        """What would have been sampled for a value."""
        # Without the rounding error of the difference, as it is shown by Optuna's tools.
        return round(1 - value, 12) if self.is_decay else value

    def from_sampled(self, sample: float) -> float:
        """The value of a sample, rounded and within the range."""
        rounded = float(f"{sample:.{_DIGITS}g}")
        return min(max(round(1 - rounded, 12) if self.is_decay else rounded, self.low), self.high)


@dataclass(frozen=True)
class Space:
    """Where settings are searched.

    Args:
        rates: The learning rates of a list or a grid, in ascending order.
        is_list: Whether they were listed: then there are no others between or beyond them.
        varied: The ranges of further hyperparameters.

    Example:
        >>> from surefoot.compare.search.space import Space
        >>> space = Space.parse("1e-4:1e-1:4", ["weight_decay", "beta_1=0.8:0.95"])
        >>> space.count, [axis.name for axis in space.axes]
        (4, ['learning_rate', 'weight_decay', 'beta_1'])
    """

    rates: tuple[float, ...]
    is_list: bool
    varied: tuple[Axis, ...] = ()

    @classmethod
    def parse(cls, learning_rates: str, varied: Sequence[str] = ()) -> "Space":
        """Read the options `--learning-rates` and `--vary`.

        Raises:
            UsageError: If they cannot be read, or contradict each other.
        """
        rates, is_list = parse_learning_rates(learning_rates), ":" not in learning_rates
        if varied and is_list:
            raise UsageError(
                "--vary needs a range of learning rates, LOW:HIGH:COUNT. "
                f"Received: --learning-rates {learning_rates}"
            )
        return cls(rates, is_list, parse_varied(varied))

    @property
    def count(self) -> int:
        """How many settings of each optimizer are tried."""
        return len(self.rates)

    @property
    def axes(self) -> tuple[Axis, ...]:
        """All that is searched."""
        return (Axis("learning_rate", self.rates[0], self.rates[-1]), *self.varied)

    def beyond(self, rates: Sequence[float], chosen: Sequence[float], count: int) -> list[float]:
        """The next learning rates beyond those tried, on each side on which a chosen one lies.

        Args:
            rates: The learning rates tried.
            chosen: The best ones.
            count: How many on each side.
        """
        if self.is_list:
            return []
        spacing = (self.rates[-1] / self.rates[0]) ** (1 / (len(self.rates) - 1))
        ends = {min(rates): 1 / spacing, max(rates): spacing}
        return [
            float(f"{end * factor**i:.{_DIGITS}g}")
            for end, factor in ends.items()
            for i in range(1, count + 1)
            if end in chosen
        ]


def parse_varied(texts: Sequence[str]) -> tuple[Axis, ...]:
    """Read the option `--vary`.

    Raises:
        UsageError: If a text is not NAME or NAME=LOW:HIGH, or a range cannot be searched.
    """
    axes = [_axis(text) for text in texts]
    names = [axis.name for axis in axes]
    if len(set(names)) < len(names) or "learning_rate" in names:
        raise UsageError(
            f"--vary takes each hyperparameter once, and the learning rate has an option of its "
            f"own, --learning-rates. Received: {' '.join(texts)}"
        )
    return tuple(axes)


def _axis(text: str) -> Axis:
    match = _VARIED.fullmatch(text)
    try:
        if match is None or (match["low"] is None and match["name"] not in _USUAL):
            raise ValueError
        given = match["low"] is not None
        low, high = map(float, match.group("low", "high")) if given else _USUAL[match["name"]]
        axis = Axis(match["name"], low, high)
        _, lowest, highest = axis.sampled
        if not 0 < lowest < highest < math.inf:
            raise ValueError
    except ValueError:
        raise UsageError(
            f"--vary takes NAME=LOW:HIGH with 0 < LOW < HIGH, below 1 for betas and momentum; "
            f"{', '.join(_USUAL)} also without a range. Received: {text!r}"
        ) from None
    return axis
