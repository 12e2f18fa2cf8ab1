"""The loops that the rule becomes, one for each set of moments and scalars that there is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from surefoot.engines import loops
from surefoot.engines.compiler.loop import Loop
from surefoot.rule.update import StepScalars

_ADAM = StepScalars(0.1, 0.01, None, 0.05, 1.5, 1e-7, 1.0, 0.01)
_YOGI = _ADAM._replace(one_minus_beta_2=None, sign_weight=0.01, l1=0.05, l2=0.1)
_DESCENT = _ADAM._replace(one_minus_beta_2=None, root_scale=None, epsilon=None, adaptive=0.0)
_MOMENTUM = _DESCENT._replace(moment_weight=-1.0, gradient_share=-0.05)
_M_AND_V = (True, True, False)

# Whether there is an m, a v and a vhat, and the scalars.
KINDS: dict[str, tuple[tuple[bool, ...], StepScalars]] = {
    "adam": (_M_AND_V, _ADAM),
    "amsgrad": ((True, True, True), _ADAM),
    "nesterov": (_M_AND_V, _ADAM._replace(gradient_weight=0.02)),
    "nesterov amsgrad": ((True, True, True), _ADAM._replace(gradient_weight=0.02)),
    "belief": (_M_AND_V, _ADAM._replace(belief_epsilon=1e-14)),
    "yogi": (_M_AND_V, _YOGI),
    "yogi without m": ((False, True, False), _YOGI),
    "momentum": ((True, False, False), _MOMENTUM),
    "momentum nesterov": ((True, False, False), _MOMENTUM._replace(gradient_weight=0.05)),
    "descent": ((False, False, False), _DESCENT),
}


class RuleLoop(NamedTuple):
    """A loop, the scalars of a step that it reads, and which of its arrays are not negative."""

    loop: Loop
    scalars: list[float]
    squares: list[int]


def rule_loops() -> Iterator[tuple[str, RuleLoop]]:
    """Every loop of the rule by name, in both dtypes, with and without a bound of the gradient."""
    for dtype in ("float32", "float64"):
        for kind, (moments, scalars) in KINDS.items():
            for clips in (False, True):
                given = {name: x for name, x in scalars._asdict().items() if x is not None}
                loop = loops.rule_loop(dtype, moments, tuple(given), clips)
                first = 1 + moments[0]
                yield (
                    f"rule {dtype} {kind}{' clips' * clips}",
                    RuleLoop(
                        loop, [*given.values(), *[0.5] * clips], [*range(first, loop.inputs - 1)]
                    ),
                )
