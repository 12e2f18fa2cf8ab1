"""One training run: equal to a fresh one, equal to plain Keras, stopped when it diverges."""

import dataclasses

import keras
import numpy as np
import pytest

from compare.training import finish, run
from surefoot.compare import UsageError
from surefoot.compare.search.expression import parse
from surefoot.compare.search.registry import resolve
from surefoot.compare.search.schedule import Schedule
from surefoot.compare.trials.checks import check_task
from surefoot.compare.trials.measures import bounds, validation_noise
from surefoot.compare.trials.task import Task, _only_task, load_task
from surefoot.compare.trials.trial import Trainer

STEPS = 24
# The same float32 operations in the same order, compiled by `fit` instead of step by step.
SAME_RUN = 1e-5


@pytest.fixture(scope="module")
def task(task_file) -> Task:
    return load_task(f"{task_file}:line")


@pytest.fixture
def own(task_file) -> str:
    return f"{task_file}:Mine(momentum=0.9)"


@pytest.mark.parametrize(
    "expression",
    [
        *("adam", "adamw", "radam(total_steps=24)", "nadam", "ranger(sync_period=5)"),
        *("lookahead(sgd(momentum=0.9))", "radam(amsgrad=True)+warmup(0.5)+cosine", "OWN"),
    ],
)
def test_a_run_after_others_equals_a_fresh_one(task, own, expression):
    recipe = resolve(parse(own if expression == "OWN" else expression))
    used = Trainer(task, STEPS)
    # A high learning rate leaves large moments behind, and another seed other weights.
    finish(used.run(recipe, 3.0, 5))
    finish(used.run(recipe, 0.1, 1))
    after_others = finish(used.run(recipe, 0.02, 1))
    fresh = finish(Trainer(task, STEPS).run(recipe, 0.02, 1))
    assert after_others.curve == fresh.curve
    assert after_others.result == fresh.result


BACKBONE = keras.layers.Dense(3)


def with_shared_layer() -> keras.Model:
    """A backbone that is built once outside: later runs would start from what it has learned."""
    return keras.Sequential([keras.Input((1,)), BACKBONE, keras.layers.Dense(1)])


SHARED = with_shared_layer()


def with_unseeded_weights() -> keras.Model:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.set_weights([np.random.default_rng().normal(size=w.shape) for w in model.get_weights()])
    return model


@pytest.mark.parametrize(
    ("model", "match"),
    [
        (
            with_shared_layer,
            r"shared 2 of 4 variables \(.*dense.*/kernel.* Create every layer inside",
        ),
        (lambda: SHARED, "shared 4 of 4 variables"),
        (
            with_unseeded_weights,
            r"same weights for the same seed.*weights from the second: .*dense.*/kernel",
        ),
    ],
)
def test_models_that_depend_on_earlier_runs_are_refused(task, model, match):
    with pytest.raises(UsageError, match=match):
        check_task(dataclasses.replace(task, model=model))
    check_task(task)


def test_nan_is_named_before_the_first_trial(task):
    x, y = (np.array(array) for array in task.train)
    x[7], x[9] = np.nan, np.nan
    given = dataclasses.replace(task, validation=(x, y))
    with pytest.raises(UsageError, match=r"Task.validation has NaN or .* inputs.*example 7"):
        check_task(given)
    replacing = keras.layers.Lambda(lambda t: keras.ops.where(keras.ops.isnan(t), 0.0, t))
    layers = [keras.Input(x.shape[1:]), replacing]

    def model() -> keras.Model:
        return keras.Sequential([*layers, keras.layers.Dense(1)])

    check_task(dataclasses.replace(given, model=model))
    # What the model does not replace may stand behind what it does.
    x[11] = np.inf
    with pytest.raises(UsageError, match=r"Task.validation has NaN or .* inputs.*example 11"):
        check_task(dataclasses.replace(given, model=model, validation=(x, y)))
    y[3] = np.nan
    with pytest.raises(UsageError, match=r"NaN or infinity in the targets of 1 .*example 3"):
        check_task(dataclasses.replace(task, train=(task.train[0], y)))


def test_a_metric_may_be_an_object(task):
    metric = keras.metrics.MeanAbsoluteError(name="distance")
    named = dataclasses.replace(task, metric=metric, higher_is_better=False)
    assert named.metric_name == "validation distance"
    by_name = dataclasses.replace(task, metric="mae", higher_is_better=False)
    for one in (named, by_name):
        trainer = Trainer(one, STEPS)
        run(trainer, "adam", 0.1, 3)
        result = run(trainer, "sgd", 0.1, 3).result
        assert result == run(Trainer(by_name, STEPS), "sgd", 0.1, 3).result
    assert not metric.variables or not np.any(keras.ops.convert_to_numpy(metric.variables[0]))


def test_the_noise_of_the_validation_data_is_that_of_its_examples(task):
    """Of a loss, by its spread over the examples; of an accuracy, by its value."""
    trainer = Trainer(task, STEPS)
    noise = run(trainer, "sgd", 0.01, 0).validation_noise
    x, y = task.validation
    errors = (keras.ops.convert_to_numpy(trainer._model(x)) - y)[:, 0] ** 2
    assert noise == pytest.approx(errors.std(ddof=1) / len(y) ** 0.5, rel=1e-5)
    # One target per example beside outputs of one column, as a column of a frame gives them.
    signs = [(x, y > 0), (x, (y > 0)[:, 0])]
    column, flat = (
        dataclasses.replace(task, train=each, validation=each, loss="binary_crossentropy")
        for each in signs
    )
    noises = [run(Trainer(each, STEPS), "sgd", 0.01, 0).validation_noise for each in (column, flat)]
    assert noises[0] == pytest.approx(noises[1], rel=1e-5)
    classes = (y > 0).astype("float32")
    sorting = dataclasses.replace(
        task, validation=(x, classes), metric="binary_accuracy", higher_is_better=True
    )
    outcome = run(Trainer(sorting, STEPS), "sgd", 0.01, 0)
    p = outcome.result
    assert 0 < p < 1
    assert outcome.validation_noise == pytest.approx((p * (1 - p) / len(y)) ** 0.5)
    # That all are right is no certainty.
    assert validation_noise(sorting, None, 1.0) == pytest.approx(1 / len(y), rel=0.05)
    assert bounds(sorting) == (0, 1)
    assert bounds(task) == (0, None)
    auc = dataclasses.replace(task, metric=keras.metrics.AUC(), higher_is_better=True)
    assert bounds(auc) == (0, 1)
    assert bounds(dataclasses.replace(task, loss=lambda y, p: p)) == (None, None)


def test_the_only_task_of_a_file_is_found(tmp_path):
    start = "from surefoot.compare import Task\n"
    for text, found in (
        ("def helper(): ...\ndef mine() -> Task: ...\n", "mine"),
        ("def build(): ...\ndef task(): ...\n", "task"),
    ):
        file = tmp_path / f"{found}.py"
        file.write_text(start + text)
        assert _only_task(str(file)) == found
    file = tmp_path / "several.py"
    file.write_text(start + "def one() -> Task: ...\ndef other() -> Task: ...\n")
    with pytest.raises(UsageError, match=r"has 2 tasks.*several.py:one, .*several.py:other"):
        load_task(str(file))


def test_a_run_is_what_fit_computes(task):
    """Same weights, batches and optimizer given to `fit`: same loss."""
    outcome = run(Trainer(task, STEPS), "adam+linear", 0.1, 3)

    class Linear(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return 0.1 * (1 - keras.ops.cast(step, "float32") / STEPS)

    keras.utils.set_random_seed(3)
    model = task.model()
    model.compile(keras.optimizers.Adam(Linear()), "mse")
    x, y = task.train
    generator = np.random.default_rng(3)
    order = np.concatenate([generator.permutation(len(x)) for _ in range(STEPS // 4)])
    model.fit(x[order], y[order], batch_size=16, shuffle=False, epochs=1, verbose=0)
    expected = model.evaluate(*task.validation, verbose=0)
    assert outcome.result == pytest.approx(expected, rel=SAME_RUN)


def test_seeds_differ(task):
    trainer = Trainer(task, STEPS)
    assert run(trainer, "adam", 0.1, 0).result != run(trainer, "adam", 0.1, 1).result


def test_a_diverging_run_is_stopped_early(task):
    outcome = run(Trainer(task, 200), "sgd", 10.0, 0)
    assert outcome.status == "diverged"
    assert outcome.result is None
    assert outcome.steps < 100
    finished = run(Trainer(task, STEPS), "sgd", 0.05, 0)
    assert finished.status == "finished"
    assert finished.curve.step[-1] == finished.steps == STEPS
    assert finished.curve.train_loss[0] is None


@pytest.mark.parametrize(
    "name",
    [
        "digits",
        # One backend will do for models of ordinary layers.
        pytest.param("digits-cnn", marks=pytest.mark.once),
        pytest.param("diabetes", marks=pytest.mark.once),
    ],
)
def test_built_in_tasks_learn(name):
    task = load_task(name)
    outcome = run(Trainer(task, 60), "adam", 0.01, 0)
    first, last = outcome.curve.validation_loss[0], outcome.curve.validation_loss[-1]
    assert last < 0.75 * first


@pytest.mark.once
def test_the_text_task_learns_and_records_its_text():
    task = load_task("text")
    assert len(task.facts["SHA-256 of the text"]) == 64
    outcome = run(Trainer(task, 40), "adam", 0.002, 0)
    # Better than the frequencies of the characters cannot be had so soon; worse than at the start
    # would be a mistake of the model.
    assert outcome.result < 3.6 < outcome.curve.result[0]


@pytest.mark.once
def test_both_kinds_of_transformer_are_the_same_but_for_where_they_normalize():
    after, before = (load_task(name).model() for name in ("text", "text-pre-norm"))
    width = before.layers[-2].gamma.shape[0]
    # What leaves the last block has passed no normalization of its own: one more, scale and shift.
    assert before.count_params() == after.count_params() + 2 * width
    assert [type(layer).__name__ for layer in after.layers[-2:]] == ["LayerNormalization", "Dense"]


@pytest.mark.once
@pytest.mark.parametrize(
    "change",
    [
        *({"metric": "mae"}, {"higher_is_better": True}, {"batch_size": 1000}, {"steps": 0}),
        *({"model": None}, {"train": None}, {"validation": (np.zeros(3), np.zeros(4))}),
    ],
)
def test_a_task_that_cannot_work_is_refused(task, change):
    given = {"model": task.model, "train": task.train, "validation": task.validation, "loss": "mse"}
    with pytest.raises(ValueError, match="Task"):
        Task(**{**given, **change})


def test_a_shorter_run_has_the_whole_schedule(task):
    recipe, seen = resolve(parse("sgd")), []
    plain = finish(Trainer(task, STEPS).run(recipe, 0.1, 0, length=6))
    assert plain.curve == finish(Trainer(task, 6).run(recipe, 0.1, 0)).curve
    watched = Schedule(decay=lambda progress: seen.append(progress) or 1.0)
    recipe = dataclasses.replace(recipe, schedule=watched)
    assert finish(Trainer(task, STEPS).run(recipe, 0.1, 0, length=6)).curve == plain.curve
    assert seen == [3 / 24, 7 / 24, 11 / 24, 15 / 24, 19 / 24, 23 / 24]
