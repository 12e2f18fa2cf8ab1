"""Parses the learning rates of the command line."""

import math

from surefoot.compare.errors import UsageError

# Rounded, the rates are readable and are the same keys on every machine.
_DIGITS = 4
_EXPECTED = "expected LOW:HIGH:COUNT, like 1e-4:1e-1:7, or a list like 1e-3,3e-3"


def parse_learning_rates(text: str) -> tuple[float, ...]:
    """Parse a range or a list of learning rates.

    Args:
        text: `LOW:HIGH:COUNT`, logarithmically spaced with both ends included, or positive
            numbers separated by commas.

    Returns:
        The learning rates in ascending order, rounded to four significant digits.

    Raises:
        UsageError: If the text is neither, or a rate is not positive or appears twice.

    Example:
        >>> from surefoot.compare.search.learning_rates import parse_learning_rates
        >>> parse_learning_rates("1e-4:1e-1:4")
        (0.0001, 0.001, 0.01, 0.1)
    """
    try:
        if ":" in text:
            low, high, count = _range(text)
            rates = [low * (high / low) ** (i / (count - 1)) for i in range(count)]
        else:
            rates = [float(part) for part in text.split(",")]
    except UsageError:
        raise
    except ValueError:
        raise UsageError(f"cannot read the learning rates {text!r}; {_EXPECTED}") from None
    if not all(0 < rate < math.inf for rate in rates):
        raise UsageError(
            f"learning rates must be positive numbers. Received: {text!r}; {_EXPECTED}"
        )
    rounded = sorted(float(f"{rate:.{_DIGITS}g}") for rate in rates)
    if len(set(rounded)) < len(rounded):
        raise UsageError(f"a learning rate appears twice. Received: {text!r}")
    return tuple(rounded)


def _range(text: str) -> tuple[float, float, int]:
    low_text, high_text, count_text = text.split(":")
    low, high, count = float(low_text), float(high_text), int(count_text)
    if not (0 < low < high < math.inf and count >= 2):
        raise UsageError(
            f"a range of learning rates needs 0 < LOW < HIGH and a COUNT of 2 or more. "
            f"Received: {text!r}; {_EXPECTED}"
        )
    return low, high, count
