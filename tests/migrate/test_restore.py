"""State goes into models that the user's own code has built, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest

import surefoot
from migrate.legacy_files import (
    BATCHES,
    GOLDEN_CASES,
    OWN,
    SAVED_AFTER,
    assert_golden,
    assert_weights,
    expected,
    load,
    path_of,
    state_of,
    train,
    train_golden,
)
from surefoot.migrate import MigrationError, restore


def regressor(hidden: str = "hidden", units: int = 8, named: bool = True) -> keras.Model:
    """The shared recordings' model as its owner would write it for Keras 3."""

    def name(given: str) -> str | None:
        return given if named else None

    features = keras.Input((9,), name="features")
    x = keras.layers.Dense(units, activation="tanh", name=name(hidden))(features)
    x = keras.layers.LayerNormalization(name=name("norm"))(x)
    return keras.Model(features, keras.layers.Dense(1, name=name("output"))(x), name="regressor")


OPTIMIZERS: dict[str, Callable[[], keras.optimizers.Optimizer]] = {
    "radam": surefoot.RectifiedAdam,
    "radam_amsgrad": lambda: surefoot.RectifiedAdam(amsgrad=True),
    "nadam": surefoot.Nadam,
    "ranger": lambda: surefoot.Lookahead(surefoot.RectifiedAdam(), sync_period=4),
}


def snapshot(model: keras.Model) -> list[np.ndarray]:
    optimizer = getattr(model, "optimizer", None)
    return [np.copy(w) for w in model.get_weights()] + (state_of(optimizer) if optimizer else [])


@pytest.mark.parametrize("case", GOLDEN_CASES)
def test_checkpoint_goes_on_in_a_compiled_model(case: str) -> None:
    model = regressor()
    model.compile(optimizer=OPTIMIZERS[case](), loss="mse")
    report = restore(path_of(case, "checkpoint"), model)
    recorded = expected(case)
    assert report.step == int(model.optimizer.iterations) == SAVED_AFTER
    assert len(report.weights) == len(model.weights)
    for step in range(SAVED_AFTER, BATCHES):
        train_golden(model, step)
        assert_golden(model, recorded, step + 1)


@pytest.mark.parametrize("case", ["radam", "radam_amsgrad", "nadam"])
def test_checkpoint_alone_says_what_it_assumes(case: str) -> None:
    model = regressor()
    report = restore(path_of(case, "checkpoint"), model)
    assert any("epsilon=1e-07 is assumed" in note for note in report.notes)
    # The file's arguments, which are not the class's defaults.
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)
    model.compile(optimizer=model.optimizer, loss="mse")
    train_golden(model, SAVED_AFTER)
    assert_golden(model, expected(case), SAVED_AFTER + 1)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("case", "optimizer"),
    [
        pytest.param(
            "sgd_momentum_legacy",
            lambda: keras.optimizers.SGD(momentum=0.5, nesterov=True),
            marks=pytest.mark.extended,
        ),
        ("rmsprop_text_legacy", lambda: keras.optimizers.RMSprop(centered=True)),
        (
            "adam_amsgrad",
            lambda: keras.optimizers.Adam(amsgrad=True, weight_decay=0.01, epsilon=1e-4),
        ),
        ("ranger_text", lambda: surefoot.Ranger(sync_period=3)),
        ("frozen", surefoot.RectifiedAdam),
        ("radam_normalized", surefoot.RectifiedAdam),
        (
            "radam_loss_scaled",
            lambda: keras.optimizers.LossScaleOptimizer(surefoot.RectifiedAdam()),
        ),
        ("adam_loss_scaled", keras.optimizers.Adam),
        ("adamw", lambda: keras.optimizers.AdamW(weight_decay=0.02, clipnorm=0.5)),
        ("addons_adamw", lambda: surefoot.AdamW(0.5, amsgrad=True)),
        ("addons_sgdw", lambda: surefoot.SGDW(0.5, momentum=0.5)),
        pytest.param(
            "adabelief", lambda: surefoot.AdaBelief(epsilon=1e-8), marks=pytest.mark.extended
        ),
        ("yogi", surefoot.Yogi),
        pytest.param("lazy_adam", surefoot.LazyAdam, marks=pytest.mark.extended),
        ("lamb", lambda: surefoot.LAMB(exclude_from_weight_decay=["bias"])),
        ("novograd", surefoot.NovoGrad),
    ],
)
def test_checkpoints_of_other_models_and_optimizers(
    case: str, optimizer: Callable[[], keras.optimizers.Optimizer]
) -> None:
    built = load(case, "h5")
    model = keras.models.clone_model(built)
    model.compile(**{**built._compile_config.config, "optimizer": optimizer()})
    restore(path_of(case, "checkpoint"), model)
    recorded = expected(case)
    assert_weights(model, recorded, SAVED_AFTER, exact=True)
    for step in range(SAVED_AFTER, SAVED_AFTER + 3):
        train(model, recorded, step)
        assert_weights(model, recorded, step + 1)


@pytest.mark.parametrize("kind", ["h5", "savedmodel"])
def test_whole_model_files_restore_too_and_bring_loss_and_optimizer(kind: str) -> None:
    model = regressor()
    report = restore(path_of("ranger", kind), model)
    assert model.loss == "mse"
    assert model.optimizer.sync_period == 4
    assert report.new_optimizer == "surefoot.Lookahead(surefoot.RectifiedAdam)"
    train_golden(model, SAVED_AFTER)
    assert_golden(model, expected("ranger"), SAVED_AFTER + 1)


def test_the_optimizer_that_keras_puts_there_is_no_ones_choice() -> None:
    model = regressor()
    model.compile(loss="mae")
    restore(path_of("radam", "h5"), model)
    assert isinstance(model.optimizer, surefoot.RectifiedAdam)
    assert model.loss == "mae"


def test_layers_whose_names_keras_gave_match_by_structure() -> None:
    keras.backend.clear_session()
    keras.layers.Dense(1)  # so that the names count from another number
    model = keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(6, activation="swish", trainable=False),
            keras.layers.BatchNormalization(trainable=False),
            keras.layers.Dense(4),
            keras.layers.LeakyReLU(negative_slope=0.1),
            keras.layers.Dense(2),
        ]
    )
    report = restore(path_of("frozen", "h5"), model)
    assert len(report.by_structure) >= 2
    for mine, original in zip(model.get_weights(), load("frozen", "h5").get_weights(), strict=True):
        np.testing.assert_array_equal(mine, original)


@pytest.mark.parametrize("kind", ["h5", "checkpoint"])
@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda: regressor(hidden="other"), ["hidden", "other/kernel (9, 8)"]),
        (lambda: regressor(units=7), ["(9, 8)", "hidden/kernel (9, 7)"]),
        (
            lambda: keras.Sequential([keras.Input((9,)), keras.layers.Dense(8, name="hidden")]),
            ["norm", "output", "In the model only: nothing"],
        ),
    ],
)
def test_a_mismatch_lists_both_sides_and_changes_nothing(
    kind: str, model: Callable[[], keras.Model], words: list[str]
) -> None:
    built = model()
    built.compile(optimizer=surefoot.RectifiedAdam(), loss="mse")
    built.optimizer.build(built.trainable_variables)
    before, optimizer = snapshot(built), built.optimizer
    with pytest.raises(MigrationError, match="do not match") as caught:
        restore(path_of("radam", kind), built)
    assert all(word in str(caught.value) for word in words)
    assert built.optimizer is optimizer
    for ours, old in zip(snapshot(built), before, strict=True):
        np.testing.assert_array_equal(ours, old)


@pytest.mark.parametrize(
    ("case", "kind", "optimizer", "message"),
    [
        ("radam", "h5", surefoot.Nadam, "compiled with Nadam"),
        ("ranger", "checkpoint", surefoot.RectifiedAdam, r"Lookahead\(RectifiedAdam\), but the"),
        ("radam_amsgrad", "checkpoint", surefoot.RectifiedAdam, "In the file only: vhat of"),
        (
            "radam",
            "checkpoint",
            lambda: surefoot.RectifiedAdam(amsgrad=True),
            "In the optimizer only: .*vhat",
        ),
        (
            "radam",
            "checkpoint",
            lambda: surefoot.Lookahead(surefoot.RectifiedAdam()),
            r"compiled with Lookahead\(RectifiedAdam\)\.",
        ),
        (
            "ranger",
            "checkpoint",
            None,
            r"all arguments of its optimizer Lookahead\(RectifiedAdam\)\.",
        ),
    ],
)
def test_another_optimizer_is_an_error_that_changes_nothing(
    case: str, kind: str, optimizer: Callable[[], object] | None, message: str
) -> None:
    model = regressor()
    if optimizer is not None:
        model.compile(optimizer=optimizer(), loss="mse")
    before = model.get_weights()
    with pytest.raises(MigrationError, match=message):
        restore(path_of(case, kind), model)
    for ours, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, old)


def test_partial_restores_what_there_is_and_says_what_it_left_out() -> None:
    model = regressor(hidden="other")
    report = restore(path_of("radam", "h5"), model, partial=True)
    assert {new for _, new, _ in report.weights} == {
        "norm/gamma",
        "norm/beta",
        "output/kernel",
        "output/bias",
    }
    assert any("hidden/kernel" in entry for entry in report.left_out)
    assert any("other/kernel" in entry for entry in report.left_out)
    original = load("radam", "h5")
    np.testing.assert_array_equal(
        model.get_layer("output").get_weights()[0], original.get_layer("output").get_weights()[0]
    )


def test_a_schedule_must_come_from_the_users_code() -> None:
    built = load("radam_schedule", "h5")
    model = keras.models.clone_model(built)
    model.compile(optimizer=surefoot.RectifiedAdam(), loss="mse")
    with pytest.raises(MigrationError, match="was a schedule"):
        restore(path_of("radam_schedule", "checkpoint"), model)
    schedule = keras.optimizers.schedules.ExponentialDecay(1e-2, 5, 0.9)
    restore(
        path_of("radam_schedule", "checkpoint"), model, optimizer=surefoot.RectifiedAdam(schedule)
    )
    model.compile(optimizer=model.optimizer, loss="mse")
    assert model.optimizer.sma_threshold == 4.0
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-2 * 0.9**2, rel=1e-6)


def test_names_in_a_checkpoint_can_be_told() -> None:
    with pytest.raises(MigrationError, match=r"no object 'net'; it has \['model', 'optimizer'\]"):
        restore(path_of("radam", "checkpoint"), regressor(), model_name="net")
    model = regressor()
    model.compile(optimizer=surefoot.RectifiedAdam())
    with pytest.raises(MigrationError, match="has no optimizer"):
        restore(path_of("radam", "checkpoint"), model, optimizer_name="trainer")


def test_a_layer_of_the_users_restores_by_name() -> None:
    features = keras.Input((5,))
    x = OWN["Scale"](name="scale")(features)
    model = keras.Model(features, keras.layers.Dense(2, name="output")(x))
    restore(path_of("nadam_scaled", "checkpoint"), model)
    assert_weights(model, expected("nadam_scaled"), SAVED_AFTER, exact=True)


def test_a_model_without_weights_is_refused() -> None:
    model = keras.Sequential([keras.layers.Dense(3)])
    with pytest.raises(MigrationError, match="no weights yet"):
        restore(path_of("radam", "h5"), model)
