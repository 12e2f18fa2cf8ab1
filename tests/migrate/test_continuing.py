"""Loaded models are the originals', and go on as the originals went on."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import surefoot
import surefoot.migrate
from migrate.legacy_files import (
    ABSOLUTE,
    BATCHES,
    BY_WEIGHT,
    CASES,
    GOLDEN_CASES,
    OWN,
    RECORDED,
    RELATIVE,
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

# tf.keras 2.11's Nadam multiplied its momentum product once for every variable: the product is
# far smaller than Keras 3's after as many steps.
NADAM_2_11 = 2e-3


@pytest.mark.sampled(3)
@pytest.mark.parametrize("case", BY_WEIGHT)
def test_ten_more_batches_give_the_originals_weights(case: str) -> None:
    model = load(case, "h5")
    recorded = expected(case)
    assert_weights(model, recorded, SAVED_AFTER, exact=True)
    for step in range(SAVED_AFTER, BATCHES):
        train(model, recorded, step)
        assert_weights(model, recorded, step + 1)
    assert int(model.optimizer.iterations) == BATCHES
    if any(key.startswith("averages/") for key in recorded):
        model.optimizer.assign_average_vars(model.trainable_variables)
        averages = {
            k.replace("averages/", "after/"): recorded[k] for k in recorded if "averages/" in k
        }
        assert_weights(model, averages, BATCHES)


def test_multi_optimizer_goes_on_without_a_state() -> None:
    """The original saved none; the parts keep to the weights that they had."""
    path = RECORDED / "foreign" / "multi.h5"
    model, report = surefoot.migrate.load_model(path, return_report=True)
    assert any("starts anew" in note for note in report.notes)
    surefoot.migrate.check(model, path.with_name("multi_recorded.npz"))
    sgd, adam = model.optimizer.optimizers
    assert [int(o.iterations) for o in (model.optimizer, sgd, adam)] == [3, 0, 0]
    before = [w.copy() for w in model.get_weights()]
    model.train_on_batch(np.ones((8, 5), "float32"), np.ones((8, 1), "float32"))
    assert all(np.any(a != b) for a, b in zip(model.get_weights(), before, strict=True))
    assert len(sgd._trainable_variables) == 2
    assert len(adam._trainable_variables) == 4


def test_nadam_of_2_11_goes_on_nearly() -> None:
    model = load("nadam_2_11", "h5")
    assert isinstance(model.optimizer, keras.optimizers.Nadam)
    recorded = expected("nadam_2_11")
    for step in range(SAVED_AFTER, BATCHES):
        train(model, recorded, step)
    kernel = model.get_layer("hidden").get_weights()[0]
    np.testing.assert_allclose(
        kernel, recorded[f"after/{BATCHES}/hidden/0"], rtol=NADAM_2_11, atol=NADAM_2_11
    )


@pytest.mark.parametrize("kind", ["h5", "savedmodel"])
@pytest.mark.parametrize("case", GOLDEN_CASES)
def test_shared_recordings_go_on(case: str, kind: str) -> None:
    model = load(case, kind)
    recorded = expected(case)
    at_save = [recorded[k] for k in recorded if k.startswith("optimizer_at_save/")]
    for ours, original in zip(model.optimizer.get_weights(), at_save, strict=True):
        np.testing.assert_array_equal(np.asarray(ours, original.dtype), original)
    for step in range(SAVED_AFTER, BATCHES):
        train_golden(model, step)
        assert_golden(model, recorded, step + 1)


@pytest.mark.parametrize("case", BY_WEIGHT)
def test_every_kind_of_file_holds_the_same(case: str) -> None:
    models = {kind: load(case, kind) for kind in ("h5", "keras", "savedmodel")}
    recorded = expected(case)
    for kind, model in models.items():
        assert_weights(model, recorded, SAVED_AFTER, exact=True)
        if kind == "keras" and CASES[case]["legacy"]:
            assert int(model.optimizer.iterations) == 0
            assert model.optimizer.get_config() == models["h5"].optimizer.get_config()
            continue
        for ours, other in zip(
            state_of(model.optimizer), state_of(models["h5"].optimizer), strict=True
        ):
            np.testing.assert_array_equal(ours, other)
        if isinstance(model.loss, str | dict):
            assert model.loss == models["h5"].loss


def test_keras_2_left_the_state_of_an_optimizer_v2_out_of_keras_files() -> None:
    with pytest.warns(surefoot.migrate.MissingOptimizerStateWarning, match="starts at step 0"):
        model, report = surefoot.migrate.load_model(path_of("radam", "keras"), return_report=True)
    assert report.step is None
    assert isinstance(model.optimizer, surefoot.RectifiedAdam)
    assert model.optimizer.weight_decay == pytest.approx(0.01)


@pytest.mark.parametrize(
    "case", ["radam_two_inputs", "ranger_text", "rmsprop_legacy", "nadam_scaled", "ranger_mixed"]
)
def test_a_migrated_model_survives_keras_saving(case: str, tmp_path) -> None:
    model = load(case, "h5")
    model.save(tmp_path / "new.keras")
    again = keras.models.load_model(tmp_path / "new.keras")
    recorded = expected(case)
    for step in range(SAVED_AFTER, SAVED_AFTER + 3):
        train(again, recorded, step)
        assert_weights(again, recorded, step + 1)


def test_report_says_where_everything_went() -> None:
    model, report = surefoot.migrate.load_model(
        path_of("adam_decay_legacy", "h5"), OWN, return_report=True
    )
    assert report.step == SAVED_AFTER
    assert report.optimizer == "Adam"
    assert report.new_optimizer == "keras.optimizers.Adam"
    assert ("scale: scale/factor:0", "scale/factor", (5,)) in report.weights
    assert report.hyperparameters["decay"] == pytest.approx(0.1)
    assert any("InverseTimeDecay" in note for note in report.notes)
    schedule = model.optimizer.get_config()["learning_rate"]
    assert schedule["class_name"] == "InverseTimeDecay"
    assert len(report.state) == 1 + 2 * len(model.trainable_variables)
    assert "step 10" in str(report)


def test_clipping_inside_lookahead_was_never_applied() -> None:
    model, report = surefoot.migrate.load_model(
        path_of("ranger_attention", "h5"), return_report=True
    )
    assert model.optimizer.inner_optimizer.clipvalue is None
    assert any("clipvalue=0.5" in note for note in report.notes)


class Double(keras.layers.Layer):
    """What the recorded model did with `x * 2.0`."""

    def call(self, inputs):
        return inputs * 2.0


@pytest.mark.parametrize("kind", ["h5", "savedmodel"])
def test_an_operation_is_replaced_by_a_layer_of_the_users(kind: str) -> None:
    path = path_of("radam_operations", kind)
    with pytest.raises(
        surefoot.migrate.MigrationError, match=r"custom_objects=\{'tf.math.multiply'"
    ):
        surefoot.migrate.load_model(path)
    model = surefoot.migrate.load_model(path, {"tf.math.multiply": Double})
    recorded = expected("radam_operations")
    for step in range(SAVED_AFTER, SAVED_AFTER + 3):
        train(model, recorded, step)
        for name in ("hidden", "output"):
            for i, value in enumerate(model.get_layer(name).get_weights()):
                wanted = recorded[f"after/{step + 1}/{name}/{i}"]
                np.testing.assert_allclose(value, wanted, rtol=RELATIVE, atol=ABSOLUTE)


def test_keras_own_batch_normalization_can_be_had(tmp_path) -> None:
    model = surefoot.migrate.load_model(
        path_of("adam", "h5"), {"BatchNormalization": keras.layers.BatchNormalization}
    )
    assert type(model.get_layer("conv_norm")) is keras.layers.BatchNormalization
    default = load("adam", "h5")
    assert type(default.get_layer("conv_norm")) is surefoot.migrate.FusedBatchNormalization


@pytest.mark.parametrize("kind", ["h5", "keras", "savedmodel"])
def test_metrics_of_addons_that_keras_has_give_their_values(kind: str) -> None:
    model = load("radam_addons_layers", kind)
    recorded = expected("radam_addons_layers")
    labels = (recorded[f"batch/{SAVED_AFTER - 1}/y/0"] > 0).astype("float32")
    found = model.evaluate(recorded[f"batch/{SAVED_AFTER - 1}/x/0"], labels, verbose=0)
    np.testing.assert_allclose(found, recorded["evaluated"], rtol=RELATIVE)


@pytest.mark.parametrize("kind", ["h5", "keras", "savedmodel"])
def test_losses_are_scaled_where_layers_compute_in_float16(kind: str) -> None:
    model = load("ranger_mixed", kind)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert isinstance(model.optimizer.inner_optimizer, surefoot.Lookahead)
    assert model.optimizer.initial_scale == 2.0**15
    assert model.optimizer.dynamic_growth_steps == 2000


@pytest.mark.parametrize("case", ["radam_loss_scaled", "ranger_fixed_scale", "adam_loss_scaled"])
def test_losses_are_not_scaled_where_that_changes_nothing(case: str) -> None:
    path = path_of(case, "h5")
    model, report = surefoot.migrate.load_model(path, OWN, return_report=True)
    assert not isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert any("LossScaleOptimizer was left out" in note for note in report.notes)
