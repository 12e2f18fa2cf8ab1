"""Comparisons in this process: what is searched, extended, confirmed, resumed and added to."""

import json
import math
import statistics
from collections import Counter
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from surefoot.compare import Study, Task, UsageError, compare
from surefoot.compare.search.studies import FILE as OPTUNA
from surefoot.compare.statistics.method import in_short
from surefoot.compare.trials import rounds
from surefoot.compare.trials.store import FILE, FIRST_FRESH_SEED, read

pytestmark = pytest.mark.once

X = np.random.default_rng(0).normal(size=(96, 3)).astype("float32")
Y = X @ np.array([[1.0], [-2.0], [0.5]], "float32")


def line(steps: int = 12) -> Task:
    def model() -> keras.Model:
        return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])

    return Task(
        model=model,
        train=(X[:64], Y[:64]),
        validation=(X[64:], Y[64:]),
        loss="mse",
        batch_size=16,
        steps=steps,
        learning_rates="0.01:0.3:4",
    )


def run(folder, *optimizers: str, **options: object) -> Study:
    given = {"seeds": 2, "fresh_seeds": 2, "show_progress": False, **options}
    return compare(line(), list(optimizers) or None, folder=folder, **given)


def searched(study: Study, optimizer: str) -> list[float]:
    trials = study.trials()
    chosen = trials[(trials["optimizer"] == optimizer) & (trials["seed"] < FIRST_FRESH_SEED)]
    return sorted(set(chosen["learning_rate"]))


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Study, object]:
    """The optimum of SGD is within the range, that of Adam above it."""
    folder = tmp_path_factory.mktemp("run")
    return run(folder, "sgd", "adam+warmup(0.5)"), folder


def test_all_optimizers_are_tried_at_the_same_settings_and_beyond_an_edge(finished):
    study, _ = finished
    tried = searched(study, "SGD")
    assert tried == searched(study, "Adam+warmup(0.5)")
    within = [rate for rate in tried if rate <= 0.3]
    assert len(within) == 4
    # Two more at a time, twice if need be; that differs between backends.
    assert len(tried) in (4 + 2, 4 + 4)
    # The spacing of the range goes on from the highest learning rate tried.
    assert tried[4] / tried[3] == pytest.approx(30 ** (1 / 3), rel=1e-3)
    text = " ".join(study.verdict)
    assert "A best learning rate was the lowest or highest tried, so" in text


def test_the_verdict_follows_from_the_rows(finished):
    study, folder = finished
    again = Study.load(folder)
    assert again.verdict == study.verdict
    table, trials = study.table(), study.trials()
    for optimizer in ("SGD", "Adam+warmup(0.5)"):
        rate = table.loc[optimizer, "learning_rate"]
        own = trials[(trials["optimizer"] == optimizer) & (trials["learning_rate"] == rate)]
        fresh = own[own["seed"] >= FIRST_FRESH_SEED]["result"]
        assert len(fresh) == 2
        assert table.loc[optimizer, study.summary.metric] == statistics.fmean(fresh)
    (difference,) = study.summary.differences
    assert table.loc[difference.other, "p-value"] == difference.p_value
    assert {trace.name for trace in study.figure().data} >= {"SGD", "SGD, fresh seeds"}
    assert len(study.curves().data) == 4
    assert "<table" in study._repr_html_()
    text = " ".join(study.verdict)
    assert "fall to zero (cosine)" in text
    assert "with Adam+warmup(0.5) the learning rate changes as it was given" in text


def test_optuna_opens_the_studies(finished):
    import optuna

    study, folder = finished
    backend = optuna.storages.journal.JournalFileBackend(str(folder / OPTUNA))
    storage = optuna.storages.JournalStorage(backend)
    names = optuna.get_all_study_names(storage)
    assert sorted(names) == ["Adam+warmup(0.5)", "SGD"]
    opened = optuna.load_study(study_name="SGD", storage=storage)
    trials = study.trials()
    own = trials[(trials["optimizer"] == "SGD") & (trials["seed"] < FIRST_FRESH_SEED)]
    means = own.groupby("learning_rate")["result"].mean()
    stable = {t.params["learning_rate"]: t.value for t in opened.trials if t.value is not None}
    assert stable == pytest.approx({rate: mean for rate, mean in means.items() if rate in stable})
    assert opened.best_params["learning_rate"] == study.table().loc["SGD", "learning_rate"]
    assert study.optuna("SGD").best_value == opened.best_value
    # What its tools show: the measure, the task, the results of all seeds, and when.
    assert opened.metric_names == ["validation loss"]
    assert opened.user_attrs["steps"] == 12
    results = opened.best_trial.user_attrs
    assert list(results) == ["seed 0", "seed 1", "fresh seed 10000", "fresh seed 10001"]
    mean = statistics.fmean(list(results.values())[2:])
    assert mean == study.table().loc["SGD", "validation loss"]
    assert all(t.datetime_start < t.datetime_complete for t in opened.trials)
    with pytest.raises(KeyError, match="no trial of 'Sgd'"):
        study.optuna("Sgd")


def test_nothing_is_overwritten_unasked(finished):
    _, folder = finished
    before = (folder / FILE).read_bytes()
    with pytest.raises(UsageError, match=r"holds a run.*--resume.*--overwrite"):
        run(folder, "sgd")
    with pytest.raises(UsageError, match="give one of them"):
        run(folder, "sgd", resume=True, overwrite=True)
    with pytest.raises(UsageError, match="none in"):
        run(folder / "nothing", add=["sgd"])
    assert (folder / FILE).read_bytes() == before


def test_an_added_optimizer_is_tried_where_the_others_were(tmp_path):
    before = run(tmp_path, "sgd", "adam", schedule="linear")
    assert len(searched(before, "SGD")) > 4
    rows = (tmp_path / FILE).read_bytes()
    # The options of the first start hold; only what is new is trained.
    study = compare(line(), add=["radam"], folder=tmp_path, show_progress=False)
    assert (tmp_path / FILE).read_bytes().startswith(rows)
    added = [json.loads(x) for x in (tmp_path / FILE).read_bytes()[len(rows) :].splitlines()]
    radam = searched(study, "RectifiedAdam")
    assert radam[: len(searched(before, "SGD"))] == searched(before, "SGD")
    assert searched(study, "SGD") == radam
    new = [x for x in added if x["kind"] == "trial" and x["learning_rate"] in set(radam)]
    assert {x["optimizer"] for x in new if x["learning_rate"] < 0.3} == {"RectifiedAdam"}
    assert study.summary.is_confirmed
    assert {each.label for each in study.summary.optimizers} == {"SGD", "Adam", "RectifiedAdam"}


def test_tpe_searches_where_results_are_good_and_goes_on_as_before(tmp_path):
    options = {"search": "tpe", "learning_rates": "1e-6:1:16", "seeds": 1, "fresh_seeds": 0}
    study = run(tmp_path / "a", "sgd", **options)
    rates = read(tmp_path / "a" / FILE).settings("SGD", "search")
    chosen = [each.learning_rate for each in rates[8:]]
    assert len(chosen) == 8
    # Half of the range, in its logarithm, is below 1e-3; nothing is learned there.
    assert statistics.median(chosen) > 1e-3
    # Cut after the twelfth trial, it goes on with the same settings.
    lines = (tmp_path / "a" / FILE).read_text().splitlines(keepends=True)
    twelfth = [i for i, x in enumerate(lines) if '"kind": "trial"' in x][11]
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / FILE).write_text("".join(lines[: twelfth + 1]))
    resumed = run(tmp_path / "b", "sgd", **options, resume=True)
    assert read(tmp_path / "b" / FILE).settings("SGD", "search") == rates
    assert resumed.trials()["result"].equals(study.trials()["result"])


def test_weight_decay_and_betas_vary_with_what_has_them(tmp_path):
    study = run(
        tmp_path,
        *("adamw", "sgd", "nadam(beta_2=0.99)"),
        vary=["weight_decay", "beta_2=0.9:0.999"],
        seeds=1,
        fresh_seeds=1,
    )
    trials = study.trials()
    assert set(trials[trials["optimizer"] == "SGD"]["weight_decay"].dropna()) != set()
    assert trials[trials["optimizer"] == "SGD"]["beta_2"].isna().all()
    adamw = trials[(trials["optimizer"] == "AdamW") & (trials["learning_rate"] <= 0.3)]
    assert adamw["beta_2"].between(0.9, 0.999).all()
    assert adamw["weight_decay"].between(1e-5, 1e-1).all()
    counts = trials[trials["seed"] < FIRST_FRESH_SEED]["optimizer"].value_counts()
    assert len(set(counts)) == 1
    text = " ".join(study.verdict)
    assert "beta_2 does not vary with SGD and Nadam(beta_2=0.99)." in text
    header, *_ = (tmp_path / "results.csv").read_text().splitlines()
    assert header.endswith(",seconds_per_step,beta_2,weight_decay")


def test_halving_gives_further_seeds_to_the_better_half(tmp_path):
    study = run(tmp_path, "sgd", learning_rates="0.003:1:8", seeds=3, halving="seeds")
    trials = study.trials()
    searched = trials[trials["seed"] < FIRST_FRESH_SEED]
    seeds = searched.groupby("learning_rate")["seed"].count()
    assert sorted(seeds) == [1] * 4 + [2] * 2 + [3] * 2
    first = searched[searched["seed"] == 0].set_index("learning_rate")["result"]
    assert set(first.nsmallest(4).index) == set(seeds[seeds > 1].index)
    (sgd,) = study.summary.optimizers
    assert sgd.best.learning_rate in seeds[seeds == 3].index
    # What was left behind was tried, too: the best one is not at the edge, and has a range.
    assert len(sgd.points) == 8
    assert not sgd.is_at_edge
    assert sgd.width.low < sgd.best.learning_rate < sgd.width.high
    assert "successive halving" in " ".join(study.verdict)


def test_halving_gives_twice_the_steps_to_the_better_half(tmp_path):
    options = {"learning_rates": "0.003:1:8", "halving": "steps"}
    study = run(tmp_path, "sgd", "sgd(momentum=0.5)", **options)
    found = read(tmp_path / FILE)
    counts = Counter((x.optimizer, x.length, x.seed) for x in found.short)
    labels = ("SGD", "SGD(momentum=0.5)")
    assert counts == {(x, length, 0): n for x in labels for length, n in ((3, 8), (6, 4))}
    for label in labels:
        shortest = {x: r["result"] for x, r in found.short.items() if x.optimizer == label}
        shortest = {x.setting: r for x, r in shortest.items() if x.length == 3 and r is not None}
        longer = {x.setting for x in found.short if x.optimizer == label and x.length == 6}
        assert longer == set(sorted(shortest, key=shortest.__getitem__)[:4])
        assert {x.learning_rate for x in longer} > set(searched(study, label))
    # Of the last two, all seeds ran in full; the edge is that of all eight.
    trials = study.trials()
    assert set(trials["steps"]) == {12}
    assert len(trials) == 2 * (2 * 2 + 2)
    assert all(x.settings == 8 and not x.is_at_edge for x in study.summary.optimizers)
    text = " ".join(study.verdict)
    assert "the better half of an optimizer's settings went on from runs of 3 and 6 steps" in text
    assert "good" not in text
    trials = study.optuna("SGD").trials
    assert sorted(map(len, (x.intermediate_values for x in trials))) == [1] * 4 + [2] * 4
    assert [x.state.name for x in trials].count("COMPLETE") == 2
    # Gone on with, there is nothing left to do.
    again = run(tmp_path, resume=True)
    assert again.summary.to_dict() == study.summary.to_dict()
    assert read(tmp_path / FILE).short == found.short
    with pytest.raises(UsageError, match=r"total_steps=9.* would not know of it"):
        run(tmp_path / "counting", "radam(total_steps=9)", **options)
    assert not (tmp_path / "counting" / FILE).exists()


def test_a_budget_of_trials_is_kept_and_shared_equally(tmp_path):
    study = run(tmp_path, "sgd", "adam", budget=40, learning_rates="1e-6:1e-5:3")
    trials = study.trials()
    assert 36 <= len(trials) <= 40
    assert len(set(trials["optimizer"].value_counts())) == 1
    assert "the budget of 40 allows no more" in " ".join(study.verdict)
    with pytest.raises(UsageError, match="--budget must be 8 trials or more"):
        run(tmp_path / "small", "sgd", "adam", budget=7)
    assert not (tmp_path / "small" / FILE).exists()


def test_a_budget_of_time_is_about_kept(tmp_path, monkeypatch):
    def seconds() -> int:
        """A clock by which each trial takes a second."""
        return (tmp_path / FILE).read_text().count('"kind": "trial"')

    monkeypatch.setattr(rounds, "time", SimpleNamespace(monotonic=seconds))
    study = run(tmp_path, "sgd", budget="30s", learning_rates="1e-6:1e-5:3")
    assert 26 <= len(study.trials()) <= 30


def test_a_target_may_be_what_a_reference_reaches(finished):
    _, folder = finished
    reference = "adam+warmup(0.5)"
    study = compare(line(), target=reference, resume=True, folder=folder, show_progress=False)
    (own,) = [each for each in study.summary.optimizers if each.label.startswith("Adam")]
    means = [p.mean for p in own.points if not p.diverged]
    assert study.summary.target == min(means)
    for text in (" ".join(study.verdict), in_short(study.summary)):
        assert "the best of Adam+warmup(0.5) in the search" in text
    with pytest.raises(UsageError, match="--target must be a number or one of the optimizers, SGD"):
        compare(line(), target="nadam", resume=True, folder=folder, show_progress=False)
    assert math.isfinite(study.summary.target)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"search": "random"}, "known are qmc, tpe, grid"),
        ({"halving": "trials"}, "known are seeds, steps"),
        ({"schedule": "steps"}, "known are cosine, linear, constant"),
        ({"budget": "soon"}, "a time, like"),
        ({"target": "nan"}, "finite number"),
        ({"vary": ["momentum"]}, "NAME=LOW:HIGH"),
        ({"vary": ["beta_1=0.9:1"]}, "below 1"),
        ({"vary": ["learning_rate=0.1:1"]}, "option of its own"),
        ({"vary": ["weight_decay"], "learning_rates": [0.1]}, "needs a range"),
        ({"vary": ["weight_decay"], "search": "grid"}, "--vary does not go with"),
        ({"budget": "30m", "search": "grid"}, "--budget does not go with"),
        ({"budget": "30m", "halving": "steps"}, "--budget does not go with"),
        ({"search": "tpe", "halving": "seeds"}, "--halving does not go with"),
        ({"search": "qmc", "learning_rates": [0.1, 0.2]}, "needs a range"),
    ],
)
def test_requests_that_contradict_themselves_are_refused(tmp_path, options, match):
    with pytest.raises(UsageError, match=match):
        run(tmp_path / "out", "sgd", **{"learning_rates": "0.01:0.1:3", **options})
    assert not (tmp_path / "out" / FILE).exists()


def test_a_schedule_within_the_optimizer_is_left_as_it_is(tmp_path):
    from surefoot.compare.search.expression import parse
    from surefoot.compare.search.registry import resolve

    own = tmp_path / "scheduled.py"
    own.write_text(
        "import keras\n"
        "def decaying(learning_rate):\n"
        "    return keras.optimizers.SGD("
        "keras.optimizers.schedules.ExponentialDecay(learning_rate, 4, 0.5))\n"
    )
    kept = {"sgd": False, "adam+scale(0.5)": False, "adam+constant": True, "sgd+linear": True}
    kept |= {"radam(total_steps=9)": True, "ranger(total_steps=9)": True, "ranger": False}
    kept |= {"lookahead(sgd)": False, f"{own}:decaying": True}
    for text, is_kept in kept.items():
        recipe = resolve(parse(text), "cosine")
        assert recipe.has_own_schedule == is_kept, text
        is_constant = recipe.schedule.factor(99, 100) == recipe.schedule.scale
        assert is_constant == (is_kept and text != "sgd+linear"), text
    with pytest.raises(UsageError, match="a schedule of its own"):
        resolve(parse(f"{own}:decaying+cosine"), "cosine")
    study = run(tmp_path / "out", f"{own}:decaying", seeds=1, fresh_seeds=0)
    assert study.summary.method.own_schedules == (f"{own}:decaying",)
    assert not study.summary.failures
