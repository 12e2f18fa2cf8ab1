"""The loops that the rule becomes, one for each set of moments and scalars that there is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import surefoot
from surefoot.base.shadow import _value_of_weight
from surefoot.engines import loops
from surefoot.engines.assignment_loops import assignment_loop
from surefoot.engines.compiler.loop import Loop
from surefoot.rule.rounding import AT_RANDOM, LOWER, NEAREST, UPPER
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


STATES = {
    "float32": ("float32", "float32", False),
    "float64": ("float64", "float64", False),
    "bfloat16 moments": ("float32", "bfloat16", False),
    "bfloat16": ("bfloat16", "float32", True),
    "all bfloat16": ("bfloat16", "bfloat16", True),
}
"""The dtypes of a variable and of its slots, and whether it is the upper half of its master."""

HALVES = {"step_low": 3.0, "step_high": 1.0}


class RuleLoop(NamedTuple):
    """A loop, the scalars of a step that it reads, and which of its arrays are not negative."""

    loop: Loop
    scalars: list[float]
    squares: list[int]


def rule_loops() -> Iterator[tuple[str, RuleLoop]]:
    """The loops of the rule by name: every kind in each dtype, and Adam's in each state."""
    for state, (dtype, slots, splits) in STATES.items():
        rounds = slots == "bfloat16"
        for kind, (moments, scalars) in KINDS.items():
            if (rounds or splits) and kind not in ("adam", "nesterov amsgrad", "momentum"):
                continue
            stored = (dtype, *[slots] * sum(moments), *["int16"] * splits, dtype)
            own = scalars._replace(**HALVES) if rounds and any(moments) else scalars
            given = {name: x for name, x in own._asdict().items() if x is not None}
            for clips in (False, True):
                loop = loops.rule_loop(stored, moments, tuple(given), clips=clips)
                first = 1 + moments[0]
                squares = [*range(first, 1 + sum(moments))]
                name = f"rule {state} {kind}{' clips' * clips}"
                yield name, RuleLoop(loop, [*given.values(), *[0.5] * clips], squares)


def shadow_loops() -> Iterator[tuple[str, RuleLoop]]:
    """Slow weights from the fast ones, and where both meet."""
    for state, (dtype, slots, splits) in STATES.items():
        rounds = slots == "bfloat16"
        form = AT_RANDOM if rounds else NEAREST
        scalars = [0.25, *(HALVES.values() if rounds else ())]
        master = ["int16"] * splits
        given = (slots, dtype, *master), (form,), (1, 2 if splits else None), len(scalars)
        yield f"start {state}", RuleLoop(assignment_loop(_value_of_weight, *given), scalars, [])
        stored = (dtype, *master, slots)
        forms = (UPPER, LOWER, form) if splits else (NEAREST, form)
        places = (0, 1 if splits else None, len(stored) - 1)
        meet = assignment_loop(surefoot.Lookahead.shadow_value, stored, forms, places, len(scalars))
        yield f"meet {state}", RuleLoop(meet, scalars, [])
