"""The page `docs/evidence.md` and its pictures, made from the recorded results."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from docs import pictures
from evidence.claims import (
    NOT_RUN,
    OPEN,
    REFUTED,
    REPRODUCED,
    Claim,
    Finding,
    Results,
    judge,
)
from evidence.experiment import Experiment, count_missing
from surefoot.compare.trials.store import FIRST_FRESH_SEED

DOCS = Path(__file__).parents[1] / "docs"
LEGEND_COLUMNS = 3
_NARROW, _LARGE = 0.2, 10
"""Intervals narrower than the one get three digits, means from the other on get one."""
_ONE = ("mean (95 % interval)",)
_BOTH = ("at a constant learning rate", "with warmup and decay")
_INTRODUCTION = """\
% Made by `make evidence` from evidence/results; do not edit.

# Evidence

What the papers say about these optimizers, and what was said of them in trials before this code
was written, put to small experiments that anyone can repeat: `make evidence` in a clone runs what
has no recorded result and writes this page. {counts}

The verdicts are computed. Each claim is made precise as one quantity and the values of it for which
the claim holds. The quantity is measured once a seed, between runs that share initial weights and
batches, and its mean gets a 95 % interval (Student's t). A claim is **reproduced** if the whole
interval lies where it holds, **refuted here** if the whole interval lies where it does not, and
**not reproduced** if it reaches into both: then these runs cannot tell.

What depends on how a model is trained is measured in two ways:

- **At a constant learning rate**, from a grid. Optimizers that are compared at their best are
  compared at the learning rate that did best on the same seeds, so the choice is a part of the
  result.
- **With warmup and decay**, as `surefoot compare` does by default. The learning rate rises over
  the first 5 % of a run and falls to zero along a cosine; `+cosine` means the decay without the
  warmup. Every optimizer gets the same number of quasi-random learning rates, and the range is
  extended where a best one lies at its edge. Each optimizer is then trained again at its best,
  and only these ten fresh seeds, numbered from {fresh}, count.

These are small models on two data sets, and three to ten seeds: a refuted claim is refuted
*here*. Seeds change the initial weights and the batches, not the validation data, which are 500
images or 64 sequences of text: an interval says nothing about other data. Of {number} intervals
of 95 %, one or the other may miss by chance. All runs are on the JAX backend with one thread,
with no weight decay and no gradient clipping; `post-norm` means normalized after each block,
`pre-norm` before.
"""


def find(experiments: Sequence[Experiment], load: Callable[[str], Results | None]) -> list[Finding]:
    """What became of every claim, by each of its measures."""
    return [
        finding
        for experiment in experiments
        for claim in experiment.claims
        for finding in judge(claim, load(experiment.name))
    ]


def render(experiments: Sequence[Experiment], load: Callable[[str], Results | None]) -> str:
    """The page as Markdown.

    Args:
        experiments: In the order of the page.
        load: Gives an experiment's results by name, `None` where there are none.
    """
    findings = find(experiments, load)
    parts = [
        _INTRODUCTION.format(counts=_counts(findings), number=len(findings), fresh=FIRST_FRESH_SEED)
    ]
    for experiment in experiments:
        parts.append("\n".join(_section(experiment, load(experiment.name))))
    return "\n".join(parts)


def _counts(findings: Sequence[Finding]) -> str:
    scheduled = [finding for finding in findings if finding.is_scheduled]
    others = [finding for finding in findings if not finding.is_scheduled]
    text = f"Of {len(others)} claims: {_verdicts(others)}."
    if scheduled:
        text += f" Of {len(scheduled)} with warmup and decay: {_verdicts(scheduled)}."
    return text


def _verdicts(findings: Sequence[Finding]) -> str:
    verdicts = [finding.verdict for finding in findings]
    words = (REPRODUCED, REFUTED, OPEN, NOT_RUN)
    return ", ".join(f"{verdicts.count(word)} {word}" for word in words if word in verdicts)


def _section(experiment: Experiment, results: Results | None) -> list[str]:
    lines = [f"## {experiment.title}", "", experiment.about, ""]
    is_both = any(claim.scheduled is not None for claim in experiment.claims)
    columns = _BOTH if is_both else _ONE
    lines += [
        f"| claim | who | what is measured | holds | {' | '.join(columns)} |",
        "|---|---|---|---:|" + "---|" * len(columns),
        *(_row(claim, judge(claim, results), len(columns)) for claim in experiment.claims),
        "",
    ]
    if results is None:
        return [*lines, f"**Not run**: there is no `evidence/results/{experiment.name}.json`.", ""]
    lines += [*experiment.table(results), ""]
    if experiment.picture is not None:
        for theme in pictures.INK:
            path = f"images/evidence-{experiment.name}-{theme}.svg"
            lines += [
                f"```{{image}} {path}",
                f":alt: {experiment.picture.alt}",
                f":class: only-{theme}",
                "```",
                "",
            ]
    return lines + _origin(experiment.name, results)


def _row(claim: Claim, findings: Sequence[Finding], columns: int) -> str:
    found = {each.is_scheduled: f"{_measured(each)}**{each.verdict}**" for each in findings}
    cells = (
        f"[{claim.statement}]{{#{claim.key}}}",
        claim.source,
        claim.quantity,
        _region(claim.holds),
        *(found.get(is_scheduled, "-") for is_scheduled in (False, True)[:columns]),
    )
    return f"| {' | '.join(cells)} |"


def _measured(finding: Finding) -> str:
    found = finding.estimate
    if found is None:
        return ""
    if not math.isfinite(found.low):
        return f"{found.mean:.2f} (no interval): "
    # So many digits that an interval beside a bound shows on which side it lies.
    digits = 3 if found.high - found.low < _NARROW else 1 if abs(found.mean) >= _LARGE else 2
    mean, low, high = (f"{x:z.{digits}f}" for x in (found.mean, found.low, found.high))
    return f"{mean} ({low} to {high}): "


def _region(holds: tuple[float, float]) -> str:
    low, high = holds
    if low == -math.inf:
        return f"below {high:g}"
    if high == math.inf:
        return f"above {low:g}"
    return f"{low:g} to {high:g}"


def _origin(name: str, results: Results) -> list[str]:
    """How to repeat it: commands and versions of the runs in the results."""
    runs = [results] if "commands" in results else list(results.values())
    count = count_missing(results)
    commands = [each for run in runs if isinstance(run, dict) for each in run.get("commands", ())]
    lines = [f"Recorded in `evidence/results/{name}.json`, with all seeds and versions."]
    if count:
        lines += ["", f"**Not run**: {count} trials of the runs below.", ""]
    if commands:
        lines += ["Run as:", "", "```console", *(f"$ {command}" for command in commands), "```"]
    return [*lines, ""]


def write(
    experiments: Sequence[Experiment], load: Callable[[str], Results | None], docs: Path = DOCS
) -> None:
    """Write page and pictures."""
    for experiment in experiments:
        results, picture = load(experiment.name), experiment.picture
        if results is not None and picture is not None:
            paint = partial(picture.draw, results=results)
            name = f"evidence-{experiment.name}"
            pictures.draw_both(
                name, paint, picture.columns, docs / "images", legend_columns=LEGEND_COLUMNS
            )
    (docs / "evidence.md").write_text(render(experiments, load), encoding="utf-8")
