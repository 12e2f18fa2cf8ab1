"""Outputs that the original computed are compared with those of the migrated model."""

from __future__ import annotations

import pathlib
from typing import Any

import keras
import numpy as np
import pytest

from migrate.legacy_files import OWN, path_of
from surefoot.cli import main
from surefoot.migrate import MigrationError, check, convert, load_model


def outputs_of(model: keras.Model, *inputs: np.ndarray) -> dict[str, np.ndarray]:
    found = keras.tree.flatten(model(list(inputs) if len(inputs) > 1 else inputs[0]))
    arrays = {f"input_{i}": value for i, value in enumerate(inputs)}
    return arrays | {
        f"output_{i}": keras.ops.convert_to_numpy(value) for i, value in enumerate(found)
    }


def test_the_new_file_is_compared_with_what_the_original_computed(tmp_path: pathlib.Path) -> None:
    model = load_model(path_of("radam_two_inputs", "h5"))
    rng = np.random.default_rng(0)
    numbers, words = rng.normal(size=(5, 4)), rng.integers(0, 9, (5, 3))
    recorded = tmp_path / "recorded.npz"
    arrays = outputs_of(model, numbers.astype("float32"), words)
    np.savez(recorded, **arrays)
    report = convert(path_of("radam_two_inputs", "h5"), tmp_path / "new.keras", check=recorded)
    assert report.differences.keys() == {"output_0", "output_1"}
    assert max(report.differences.values()) < 1e-5

    arrays["output_1"] = arrays["output_1"] * 1.01
    np.savez(recorded, **arrays)
    with pytest.raises(MigrationError, match=r"output_1 differs by 0\.0099 of its largest value"):
        convert(path_of("radam_two_inputs", "h5"), tmp_path / "other.keras", check=recorded)
    assert not (tmp_path / "other.keras").exists()
    check(model, recorded, tolerance=0.02)


@pytest.mark.once
def test_layers_of_the_users_are_found_in_the_new_file(tmp_path: pathlib.Path) -> None:
    class Unregistered(OWN["Scale"]):  # type: ignore[misc, name-defined]
        pass

    known = {"Scale": Unregistered}
    model = load_model(path_of("nadam_scaled", "h5"), known)
    recorded = tmp_path / "recorded.npz"
    np.savez(recorded, **outputs_of(model, np.ones((2, 5), "float32")))
    convert(path_of("nadam_scaled", "h5"), tmp_path / "new.keras", known, check=recorded)
    assert (tmp_path / "new.keras").exists()


@pytest.mark.once
@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"input_0": [[0.0] * 9]}, "must contain arrays input_0"),
        ({"output_0": [[0.0]]}, "must contain arrays input_0"),
        ({"input_0": [[0.0] * 9], "output_0": [[0.0]], "x": [1]}, "Received:.*'x'"),
        ({"input_0": [[0.0] * 9], "output_0": [[0.0], [1.0]]}, "has the shape"),
        ({"input_0": [[0.0] * 9], "output_0": [[0.0]], "output_1": [[0.0]]}, "has 1 outputs"),
        ({"input_0": [[0.0] * 9], "input_1": [1], "output_0": [[0.0]]}, "has 1 inputs"),
        ({"input_0": [[0.0] * 8], "output_0": [[0.0]]}, "does not accept the inputs"),
        ({"input_0": [[np.nan] * 9], "output_0": [[1.0]]}, "differs by inf"),
        ({"input_0": np.array([None]), "output_0": [1]}, "cannot be read as a .npz file"),
    ],
)
def test_recorded_outputs_that_do_not_fit(
    arrays: dict[str, Any], words: str, tmp_path: pathlib.Path, capsys: Any
) -> None:
    recorded = tmp_path / "recorded.npz"
    np.savez(recorded, **arrays)
    with pytest.raises(MigrationError, match=words):
        check(load_model(path_of("radam", "h5")), recorded)
    old = str(path_of("radam", "h5"))
    assert main(["migrate", old, "--check", str(recorded)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.once
def test_recorded_outputs_in_something_else(tmp_path: pathlib.Path) -> None:
    model = load_model(path_of("radam", "h5"))
    (tmp_path / "text.npz").write_text("hello")
    np.save(tmp_path / "array.npy", np.ones(3))
    for name in ("text.npz", "array.npy"):
        with pytest.raises(MigrationError, match=r"\.npz file"):
            check(model, tmp_path / name)
    with pytest.raises(FileNotFoundError):
        check(model, tmp_path / "nowhere.npz")
    with pytest.raises(MigrationError, match="Received: -1"):
        check(model, tmp_path / "nowhere.npz", tolerance=-1)
