"""Intervals, widths, targets and the verdict, against values worked out by hand or in tables."""

import math
import statistics

import numpy as np
import pytest
from scipy import stats

from compare.runs import made_up, record
from surefoot.compare.statistics.analysis import summarize
from surefoot.compare.statistics.differences import more_seeds
from surefoot.compare.statistics.verdict import verdict
from surefoot.compare.trials.store import FIRST_FRESH_SEED, Run, Trial

pytestmark = pytest.mark.once

# Student's t for 95 % and two degrees of freedom, from a printed table.
T_TWO = 4.303


def by_label(summary):
    return {each.label: each for each in summary.optimizers}


def test_mean_spread_and_interval_over_seeds():
    summary = summarize(made_up({"a": {0.1: [0.8, 0.9, 0.7], 1.0: [0.5, 0.5, 0.5]}}))
    best = summary.optimizers[0].best
    assert best.learning_rate == 0.1
    assert best.mean == pytest.approx(0.8)
    assert best.deviation == pytest.approx(0.1)
    assert best.high - best.mean == pytest.approx(T_TWO * 0.1 / math.sqrt(3), rel=1e-4)
    assert best.mean - best.low == pytest.approx(T_TWO * 0.1 / math.sqrt(3), rel=1e-4)
    # Seeds that agree exactly leave nothing to estimate an interval from.
    assert summary.optimizers[0].points[1].low is None


def test_of_several_that_are_as_good_the_middle_one_is_chosen():
    """Where all examples are right, the lowest learning rate is no edge of what is good."""
    rates = {10.0**i: [1.0, 1.0] for i in range(-4, 0)} | {1.0: [0.5, 0.5]}
    (found,) = summarize(made_up({"a": rates})).optimizers
    assert found.chosen == 1e-3
    assert not found.is_at_edge


def test_width_is_interpolated_in_the_logarithm_and_open_at_the_ends():
    rates = {1e-3: [0.95], 1e-2: [1.0], 1e-1: [0.99], 1.0: [0.97]}
    wide = {1e-3: [0.995], 1e-2: [0.995], 1e-1: [0.995], 1.0: [None]}
    poor = {1e-3: [0.5], 1e-2: [0.5], 1e-1: [0.98], 1.0: [0.5]}
    found = by_label(summarize(made_up({"a": rates, "wide": wide, "poor": poor}, near_best=0.02)))
    # Down: 0.98 lies 2/5 of the way from 1.0 to 0.95. Up: half the way from 0.99 to 0.97.
    assert found["a"].width.low == pytest.approx(10 ** (-2 - 0.4))
    assert found["a"].width.high == pytest.approx(10 ** (-1 + 0.5))
    assert found["a"].width.factor == pytest.approx(10**1.9)
    assert not found["a"].width.low_is_open
    # It ends at the last learning rate before one that diverges, and is open below.
    assert (found["wide"].width.low, found["wide"].width.high) == (1e-3, 1e-1)
    assert (found["wide"].width.low_is_open, found["wide"].width.high_is_open) == (True, False)
    # A peak that just touches the bound is a range of one point.
    assert found["poor"].width.factor == pytest.approx(1)


def test_one_learning_rate_has_no_range_beside_those_that_have_several():
    """As after `surefoot report` of two runs; the best one is that with a single learning rate."""
    several = {1e-3: [0.9, 0.91], 1e-2: [0.99, 0.98]}
    text = " ".join(verdict(summarize(made_up({"one": {0.1: [1.0, 0.99]}, "several": several}))))
    assert "The widest range of good ones is several's" in text
    assert "one's" not in text


def test_lower_is_better_turns_everything_around():
    run = made_up(
        {"a": {0.1: [1.0, 1.1], 1.0: [2.0, 2.0]}, "b": {0.1: [1.3, 1.2], 1.0: [3.0, 3.0]}},
        higher_is_better=False,
        metric="validation loss",
    )
    summary = summarize(run)
    assert [each.label for each in summary.optimizers] == ["a", "b"]
    assert summary.bound == pytest.approx(1.05 * 1.05)
    assert by_label(summary)["b"].width is None


def test_steps_to_target_are_the_median_over_all_seeds():
    # The curves are straight lines looked at every 10 steps: 0.6 is reached at 30, 40, never.
    run = made_up({"a": {0.1: [0.8, 0.6, 0.5]}, "b": {0.1: [0.8, 0.1, None]}}, target=0.6)
    found = by_label(summarize(run))
    assert found["a"].points[0].steps_to_target == 40
    assert found["a"].points[0].reached == 2
    assert found["a"].seconds_to_target == pytest.approx(0.4)
    assert found["b"].points[0].steps_to_target is None
    assert found["b"].best is None
    assert found["b"].diverged == 1


def test_a_difference_is_claimed_only_where_the_interval_leaves_zero_out():
    near = made_up({"a": {0.1: [0.90, 0.92, 0.94]}, "b": {0.1: [0.89, 0.92, 0.93]}})
    text = " ".join(verdict(summarize(near)))
    assert "no difference can be shown with 3 seeds" in text
    assert "better than" not in text
    far = made_up({"a": {0.1: [0.90, 0.91, 0.92]}, "b": {0.1: [0.50, 0.52, 0.51]}})
    text = " ".join(verdict(summarize(far)))
    assert "a is better than b (by 0.4), each at its own best learning rate." in text
    assert "no difference" not in text


@pytest.mark.parametrize("values", [[0.9], [0.9, 0.9, 0.9]])
def test_without_spread_nothing_is_claimed(values):
    run = made_up({"a": {0.1: values}, "b": {0.1: [each / 2 for each in values]}})
    text = " ".join(verdict(summarize(run)))
    assert "better than" not in text
    assert "no interval" in text


def test_seeds_are_paired():
    """A small difference that every seed shows, under a spread that all optimizers share."""
    seeds = [0.1, 0.5, 0.9, 0.3, 0.7]
    shifted = [x + d for x, d in zip(seeds, [0.010, 0.012, 0.011, 0.009, 0.010], strict=True)]
    run = made_up({"a": {0.1: shifted}, "b": {0.1: seeds}})
    (difference,) = summarize(run).differences
    assert difference.p_value == pytest.approx(stats.ttest_rel(shifted, seeds).pvalue)
    assert difference.is_shown
    # The same results with the seeds of one the other way round are far from showing it.
    turned = made_up({"a": {0.1: shifted}, "b": {0.1: seeds[::-1]}})
    assert not summarize(turned).differences[0].is_shown
    # Seeds that only one of them has are left out.
    del run.records[Trial("b", 0.1, 0)]
    (fewer,) = summarize(run).differences
    assert fewer.p_value == pytest.approx(stats.ttest_rel(shifted[1:], seeds[1:]).pvalue)


def test_an_open_question_gets_the_number_of_seeds_that_decides():
    """A difference of half its spread: tables of power say 34 pairs for 80 % at 5 %."""
    values = [0.5 - math.sqrt(0.75), 0.5, 0.5, 0.5 + math.sqrt(0.75), 0.5]
    values = [0.5 + (v - 0.5) / statistics.stdev(values) for v in values]
    assert len(values) + more_seeds(values, 0.05) == 34
    assert more_seeds([1e-4, 1, -1], 0.05) is None
    run = made_up({"a": {0.1: [0.90, 0.92, 0.94]}, "b": {0.1: [0.89, 0.925, 0.93]}})
    text = " ".join(verdict(summarize(run)))
    assert "so many more seeds would probably (80 %) show them: " in text
    alike = made_up({"a": {0.1: [0.9, 0.8, 0.7]}, "b": {0.1: [0.9, 0.6, 0.9 - 1e-4]}})
    text = " ".join(verdict(summarize(alike)))
    assert "The difference from b is so small that 1000 more seeds would not show it." in text


def test_intervals_stay_within_the_bounds_of_the_measure():
    results = {"a": {0.1: [0.5, 0.99, 0.98]}, "b": {0.1: [0.01, 0.3, 0.02]}}
    found = by_label(summarize(made_up(results, bounds=[0.0, 1.0])))
    free = by_label(summarize(made_up(results)))
    assert free["a"].best.high > 1
    assert found["a"].best.high == 1
    assert found["a"].best.low == free["a"].best.low
    assert found["b"].best.low == 0
    # A measure that is called an accuracy, but is none.
    percent = made_up({"a": {0.1: [50.0, 99.0, 98.0]}}, bounds=[0.0, 1.0])
    assert summarize(percent).optimizers[0].best.high > 100


def test_the_noise_of_the_validation_data_is_stated():
    run = made_up({"a": {0.1: [0.98, 0.98, 0.97]}}, validation_examples=500)
    for noise, each in zip([0.006, 0.007, 0.008], run.records.values(), strict=True):
        each["validation_noise"] = noise
    assert "The 500 examples of the validation data alone leave" in " ".join(
        verdict(summarize(run))
    )
    assert summarize(run).validation_noise == 0.007


@pytest.mark.extended
def test_false_claims_are_as_rare_as_stated():
    """Equal optimizers with unequal spread: at most one comparison in twenty may claim a winner."""
    generator = np.random.default_rng(0)
    spreads = {"a": 0.01, "b": 0.02, "c": 0.08}
    rounds, claims = 300, 0
    for _ in range(rounds):
        results = {label: {0.1: list(generator.normal(0.5, s, 3))} for label, s in spreads.items()}
        claims += any(each.is_shown for each in summarize(made_up(results)).differences)
    # Three standard errors of a share of 5 % over this many rounds.
    assert claims / rounds < 0.05 + 3 * math.sqrt(0.05 * 0.95 / rounds)


def with_fresh(run: Run, results: dict[str, list[float | None]], rate: float) -> Run:
    """The run with further trials at a learning rate, of fresh seeds."""
    for label, values in results.items():
        for i, value in enumerate(values):
            run.records[Trial(label, rate, FIRST_FRESH_SEED + i)] = record(value)
    return run


def test_only_fresh_seeds_decide():
    """The search praises `a`; with fresh seeds `b` is better, and `c` has diverged."""
    rates = {0.1: [0.7, 0.7, 0.7], 1.0: [0.99, 0.98, 0.97]}
    lower = {0.1: [0.6, 0.6, 0.6], 1.0: [0.9, 0.91, 0.89]}
    run = made_up({"a": rates, "b": lower, "c": lower})
    fresh = {"a": [0.8, 0.82, 0.81], "b": [0.9, 0.91, 0.92], "c": [0.9, None, 0.91]}
    summary = summarize(with_fresh(run, fresh, 1.0))
    found = by_label(summary)
    assert summary.optimizers[0].label == "b"
    assert found["a"].best.mean == pytest.approx(0.81)
    assert found["a"].points[-1].mean == pytest.approx(0.98)
    assert found["a"].chosen == 1.0
    assert found["a"].is_at_edge
    assert found["c"].best.diverged == 1
    assert summary.is_confirmed
    text = " ".join(verdict(summary))
    assert "b is better than a (by 0.1)" in text
    assert "3 fresh seeds" in text
    assert "too good" not in text
    assert "too good" in " ".join(verdict(summarize(made_up({"a": rates, "b": lower}))))


@pytest.mark.extended
@pytest.mark.parametrize("seeds", [3, 10])
def test_intervals_of_the_chosen_cover_as_stated(seeds):
    """Seven equally good learning rates: the interval of fresh seeds covers the true mean."""
    generator = np.random.default_rng(0)
    rounds = 1000
    covered = {False: 0, True: 0}
    for _ in range(rounds):
        run = made_up({"a": {10.0**-i: generator.normal(0.5, 0.1, seeds) for i in range(7)}})
        (searched,) = summarize(run).optimizers
        fresh = {"a": list(generator.normal(0.5, 0.1, seeds))}
        (confirmed,) = summarize(with_fresh(run, fresh, searched.chosen)).optimizers
        for found in (searched, confirmed):
            covered[found.is_confirmed] += found.best.low <= 0.5 <= found.best.high
    error = 3 * math.sqrt(0.05 * 0.95 / rounds)
    assert covered[True] / rounds > 0.95 - error
    assert covered[False] / rounds < 0.95 - error


def test_the_verdict_names_edges_divergence_failures_and_gaps():
    run = made_up(
        {"a": {0.1: [0.5, 0.6], 1.0: [0.7, 0.8]}, "b": {0.1: [None, 0.2], 1.0: [None, None]}}
    )
    run.failures["c"] = "it does not work"
    run.plans.append({"optimizers": ["c"], "learning_rates": [0.1], "seeds": [0, 1]})
    text = " ".join(verdict(summarize(run)))
    assert "best learning rate of a is at the edge" in text
    assert "3 of 4 with b" in text
    assert "c could not be trained: it does not work." in text
    assert "8 of 10 trials" in text


def test_nothing_finished():
    summary = summarize(made_up({"a": {0.1: [None, None]}}))
    assert summary.bound is None
    assert verdict(summary)[0].startswith("No optimizer finished")
