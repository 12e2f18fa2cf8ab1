"""Formats numbers for the table, the verdict and the report."""

import re
from collections.abc import Sequence

from surefoot.compare.search.space import Setting
from surefoot.compare.statistics.summary import Width


def number(value: float | None, digits: int = 4) -> str:
    """A result with `digits` significant digits; a dash for None."""
    return "-" if value is None else f"{value:.{digits}g}"


def rate(value: float) -> str:
    """A learning rate.

    Example:
        >>> from surefoot.compare.formatting import rate
        >>> rate(0.003162), rate(0.1)
        ('3.16e-3', '1e-1')
    """
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def setting_text(setting: Setting) -> str:
    """A learning rate, with the other hyperparameters that were searched."""
    others = [f"{name} {number(value)}" for name, value in setting.others]
    return ", ".join([f"learning rate {rate(setting.learning_rate)}", *others])


def join(names: Sequence[str]) -> str:
    """A list in a sentence.

    Example:
        >>> from surefoot.compare.formatting import join
        >>> join(["a", "b", "c"])
        'a, b and c'
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def factor_text(width: Width) -> str:
    """A range of learning rates as a factor with its ends; `>=` if it continues beyond them."""
    sign = ">=" if width.low_is_open or width.high_is_open else ""
    return f"{sign}x{width.factor:.2g} ({rate(width.low)} to {rate(width.high)})"


def duration(seconds: float | None) -> str:
    """A time in a suitable unit."""
    if seconds is None:
        return "-"
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} us"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min"


def parts(label: str) -> list[str]:
    """An optimizer's label, cut where a line may end.

    Example:
        >>> from surefoot.compare.formatting import parts
        >>> parts("Lookahead(SGD(momentum=0.9))+warmup(0.1)")
        ['Lookahead(', 'SGD(', 'momentum=0.9))', '+warmup(0.1)']
    """
    return re.split(r"(?<=\w[(,:])(?=[A-Za-z_])|(?=\+[a-z])", label)
