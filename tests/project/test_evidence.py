"""The evidence: verdicts follow from intervals, the page from the recorded results."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evidence import claims, experiments, page
from evidence.claims import NOT_RUN, OPEN, REFUTED, REPRODUCED
from evidence.comparison import SCHEDULED, Trials
from evidence.experiment import (
    RESULTS,
    Experiment,
    count_missing,
    is_complete,
    is_measured,
    load,
    save,
)
from evidence.experiments import variance
from evidence.rectification import factors, mean_factor
from evidence.showing import edges
from surefoot.compare.trials.store import FIRST_FRESH_SEED

pytestmark = pytest.mark.once

DOCS = Path(__file__).parents[2] / "docs"
R_6, R_1000 = 0.0258211128, 0.6453256523
EVERY_CLAIM = [claim for experiment in experiments.ALL for claim in experiment.claims]


def a_claim(holds: tuple[float, float]) -> claims.Claim:
    return claims.Claim("key", "a paper", "It works", "gain", holds, lambda r: r["values"])


def verdict_of(claim: claims.Claim, results: claims.Results) -> str:
    (finding,) = claims.judge(claim, results)
    return finding.verdict


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([1.0, 1.1, 0.9], "reproduced"),  # 1 ± 0.25
        ([0.6, 0.7, 0.5], "not reproduced"),  # 0.6 ± 0.25 reaches below 0.5
        ([0.1, 0.2, 0.0], "refuted here"),  # 0.1 ± 0.25
        ([0.5, 0.5, 0.5], "not reproduced"),  # A lead of nothing is no lead.
        ([1.0], "not reproduced"),  # One seed has no interval.
        ([], "not reproduced"),
        ([1.0, math.inf, 1.0], "not reproduced"),
    ],
)
def test_verdict_follows_from_the_interval(values: list[float], verdict: str) -> None:
    assert verdict_of(a_claim((0.5, math.inf)), {"values": values}) == verdict


def test_interval_is_student_t_over_seeds() -> None:
    found = claims.estimate([1.0, 2.0, 3.0])
    # Student's t for 95 % and two degrees of freedom, from a printed table.
    assert found.high - found.mean == pytest.approx(4.303 / math.sqrt(3), rel=1e-4)
    assert found.mean - found.low == pytest.approx(4.303 / math.sqrt(3), rel=1e-4)


def test_a_claim_between_two_bounds_can_fail_on_either_side() -> None:
    near = a_claim((-0.1, 0.1))
    for values, verdict in (
        ([0.01, 0.0, -0.01], "reproduced"),
        ([0.31, 0.3, 0.29], "refuted here"),
        ([-0.31, -0.3, -0.29], "refuted here"),
        ([0.11, 0.1, 0.09], "not reproduced"),
    ):
        assert verdict_of(near, {"values": values}) == verdict


def made_up(
    fresh: dict[str, dict[float, list[float]]] | None = None,
    **by_optimizer: dict[float, list[float | None]],
) -> Trials:
    trials = [
        {"optimizer": label, "learning_rate": rate, "seed": first + i, "result": result}
        for found, first in ((by_optimizer, 0), (fresh or {}, FIRST_FRESH_SEED))
        for label, rates in found.items()
        for rate, results in rates.items()
        for i, result in enumerate(results)
    ]
    return Trials({"higher_is_better": True, "trials": trials}, failed=0.0)


def test_good_range_is_interpolated_by_seed() -> None:
    trials = made_up(a={1e-3: [0.95, 0.5], 1e-2: [1.0, 1.0], 1e-1: [0.99, None]})
    (low, high), (other_low, other_high) = trials.good_range("a", 0.98)
    # Down: 0.98 lies 2/5 of the way from 1.0 to 0.95. Up: it ends where the rates tried end.
    assert low == pytest.approx(10 ** (-2 - 0.4))
    assert high == pytest.approx(1e-1)
    assert other_low == pytest.approx(10 ** (-2 - 0.04))
    assert other_high == pytest.approx(10 ** (-2 + 0.02))


def test_leads_pair_the_seeds_and_know_the_better_direction() -> None:
    trials = made_up(a={1.0: [0.5, 0.7]}, b={1.0: [0.4, 0.8]})
    assert trials.advantage(trials.best("a"), trials.best("b")) == pytest.approx([0.1, -0.1])
    trials.higher_is_better = False
    assert trials.advantage(trials.best("a"), trials.best("b")) == pytest.approx([-0.1, 0.1])


def test_the_search_chooses_and_fresh_seeds_alone_count() -> None:
    searched = {1.0: [0.5, 0.7], 2.0: [0.6, 0.9]}
    trials = made_up({"a": {2.0: [0.1, 0.2, 0.3]}}, a=searched, b=searched)
    assert trials.best_rate("a") == 2.0
    assert trials.at("a", 2.0) == [0.6, 0.9]
    assert trials.best("a") == [0.1, 0.2, 0.3]
    with pytest.raises(KeyError):
        trials.best("b")  # Its seeds of the search are not compared with fresh ones.
    with pytest.raises(KeyError):
        made_up({"a": {1.0: [0.1, 0.2]}}, a=searched).best("a")  # These are not at its best.


def test_a_best_learning_rate_at_the_edge_is_known() -> None:
    trials = made_up(a={1.0: [0.5], 2.0: [0.6], 3.0: [0.5]}, b={1.0: [0.5], 2.0: [0.6]})
    assert not trials.is_at_edge("a")
    assert trials.is_at_edge("b")
    assert "edge of those tried for `b`:" in edges(trials)


def test_a_trial_that_diverged_is_counted_and_takes_the_given_value() -> None:
    trials = made_up(a={1.0: [0.5, None]})
    assert trials.at("a", 1.0) == [0.5, 0.0]
    assert trials.diverged["a", 1.0] == 1


def test_results_come_back_as_they_were(tmp_path: Path) -> None:
    results = {"a": 1.5, "b": {"trials": [{"x": 1}, {"x": None}], "empty": {}}, "c": [1, 2]}
    save("made-up", results, tmp_path)
    assert load("made-up", tmp_path) == results
    assert '  {"x": 1},\n' in (tmp_path / "made-up.json").read_text()
    assert load("other", tmp_path) is None


@pytest.mark.parametrize(
    ("results", "measured", "complete", "count"),
    [
        ({"trials": [1], "missing": 0}, True, True, 0),
        ({"trials": [1], "missing": 2}, True, False, 2),
        ({"missing": 6}, False, False, 6),
        ({"a": {"trials": [1], "missing": 0, "facts": {}}, "b": {"missing": 3}}, True, False, 3),
        ({"a": {"missing": 3}, "b": {"missing": 3}}, False, False, 6),
        ({"points": [1]}, True, True, 0),
    ],
)
def test_what_is_missing_is_known(
    results: claims.Results, measured: bool, complete: bool, count: int
) -> None:
    assert is_measured(results) == measured
    assert is_complete(results) == complete
    assert count_missing(results) == count


def test_what_was_not_run_is_said_to_be_so() -> None:
    text = page.render(experiments.ALL, lambda name: None)
    findings = page.find(experiments.ALL, lambda name: None)
    scheduled = sum(finding.is_scheduled for finding in findings)
    constant = len(findings) - scheduled
    assert text.count("**not run**") == len(findings)
    assert f"Of {constant} claims: {constant} not run." in text
    assert f"Of {scheduled} with warmup and decay: {scheduled} not run." in text
    assert not re.search(r"\*\*(reproduced|refuted here|not reproduced)\*\* \|", text)


def test_a_claim_whose_trials_are_missing_was_not_run() -> None:
    assert verdict_of(a_claim((0.5, math.inf)), {}) == "not run"


def test_a_section_shows_verdict_interval_and_command() -> None:
    experiment = Experiment(
        name="made-up",
        title="Made up",
        about="Nothing.",
        run=lambda options: {},
        claims=(a_claim((0.5, math.inf)),),
        table=lambda results: ["a table"],
    )
    results = {"values": [1.0, 1.1, 0.9], "commands": ["surefoot compare digits"]}
    text = page.render([experiment], lambda name: results)
    assert "| above 0.5 | 1.00 (0.75 to 1.25): **reproduced** |" in text
    assert "a table" in text
    assert "$ surefoot compare digits" in text


def test_both_verdicts_on_a_claim_stand_side_by_side() -> None:
    claim = a_claim((0.5, math.inf))
    both = replace(claim, key="both", scheduled=lambda r: r["scheduled"])
    later = replace(both, key="later", measure=None)
    experiment = Experiment("made-up", "", "", dict, (claim, both, later), lambda results: [])  # type: ignore[arg-type]
    results = {"values": [1.0, 1.1, 0.9], "scheduled": [0.1, 0.2, 0.0]}
    text = page.render([experiment], lambda name: results)
    constant, scheduled = (
        "1.00 (0.75 to 1.25): **reproduced**",
        "0.10 (-0.15 to 0.35): **refuted here**",
    )
    assert f"{{#key}} | a paper | gain | above 0.5 | {constant} | - |" in text
    assert f"{{#both}} | a paper | gain | above 0.5 | {constant} | {scheduled} |" in text
    assert f"{{#later}} | a paper | gain | above 0.5 | - | {scheduled} |" in text
    assert "Of 2 claims: 2 reproduced. Of 2 with warmup and decay: 2 refuted here." in text


def test_keys_of_claims_are_unique() -> None:
    keys = [claim.key for claim in EVERY_CLAIM]
    assert len(set(keys)) == len(keys)
    assert all(claim.holds[0] < claim.holds[1] for claim in EVERY_CLAIM)


def test_page_is_made_from_the_recorded_results() -> None:
    assert (DOCS / "evidence.md").read_text() == page.render(experiments.ALL, load)


def test_no_recorded_result_is_without_its_experiment() -> None:
    names = {experiment.name for experiment in experiments.ALL}
    assert {path.stem for path in RESULTS.glob("*.json")} <= names


def recorded_trials() -> Iterator[tuple[str, Trials]]:
    """All recorded runs of `surefoot compare`; a trial that diverged is worse than any other."""
    for path in sorted(RESULTS.glob("*.json")):
        results = load(path.stem) or {}
        for part, found in {"": results, **results}.items():
            if isinstance(found, dict) and "trials" in found:
                worst = -math.inf if found["higher_is_better"] else math.inf
                yield f"{path.stem} {part}", Trials(found, failed=worst)


def test_no_recorded_best_learning_rate_lies_at_the_edge() -> None:
    at_edge = [
        (name, label)
        for name, trials in recorded_trials()
        for label in trials.optimizers
        if trials.is_at_edge(label)
    ]
    assert not at_edge


def test_recorded_fresh_seeds_are_those_of_the_best_learning_rates() -> None:
    fresh = {name: trials for name, trials in recorded_trials() if trials.has_fresh_seeds}
    assert len(fresh) == 3
    for trials in fresh.values():
        # `best` finds none at another learning rate; seeds are paired, so all have the same.
        assert {len(trials.best(label)) for label in trials.optimizers} == {SCHEDULED.fresh_seeds}


def test_only_what_was_left_out_is_not_run() -> None:
    findings = page.find(experiments.ALL, load)
    not_run = {(x.claim.key, x.is_scheduled) for x in findings if x.verdict == NOT_RUN}
    # A decay without a warmup, on the pre-norm transformer.
    left_out = ("radam-replaces-warmup", "radam-beats-adam", "radam-needs-no-warmup")
    assert not_run == {(f"pre-norm-{key}", True) for key in left_out}


def test_claims_cited_elsewhere_are_those_of_the_evidence() -> None:
    found: dict[str, tuple[str, list[str]]] = {}
    for finding in page.find(experiments.ALL, load):
        claim = finding.claim
        found.setdefault(claim.key, (claim.statement, []))[1].append(finding.verdict)
    words = "|".join((REPRODUCED, REFUTED, OPEN, NOT_RUN))
    texts = {path: path.read_text() for path in DOCS.rglob("*.md")}
    cited = [
        (key, (link, re.findall(rf"\*\*({words})\*\*", cells)))
        for text in texts.values()
        for link, key, cells in re.findall(
            r"^\| \[(.*)\]\((?:\.\./)?evidence\.md#([\w-]+)\) \|(.*)\|$", text, re.MULTILINE
        )
    ]
    # Every link to a claim is its statement, and stands in a row with its verdicts.
    assert len(cited) == sum(text.count("evidence.md#") for text in texts.values()) > 0
    wrong = [(key, cells) for key, cells in cited if found.get(key) != cells]
    assert not wrong


@pytest.mark.parametrize("step", [6, 20, 300])
def test_variance_formulas_against_integration(step: int) -> None:
    rho = variance.degrees_of_freedom(step)
    # x = chi^2 with rho degrees of freedom: E[rho / x] and E[sqrt(rho / x)] by quadrature.
    x = np.linspace(1e-9, rho + 60 * math.sqrt(2 * rho), 2_000_001)
    log_density = (rho / 2 - 1) * np.log(x) - x / 2
    density = np.exp(log_density - log_density.max())
    first = np.sum(density * np.sqrt(rho / x)) / np.sum(density)
    second = np.sum(density * rho / x) / np.sum(density)
    assert variance.exact_variance(step) == pytest.approx(second - first**2, rel=1e-3)


def test_mean_factor_counts_steps_that_are_not_rectified_as_zero() -> None:
    rectified = factors(1000)
    assert not rectified[:5].any()
    # Worked out in 50 digits from the paper's algorithm 2.
    assert rectified[5] == pytest.approx(R_6, rel=1e-6)
    assert rectified[999] == pytest.approx(R_1000, rel=1e-6)
    assert mean_factor(300) == pytest.approx(rectified[:300].mean(), abs=5e-5)
