"""`surefoot migrate OLD NEW.keras [--inspect]`."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import h5py
import keras
import pytest

from migrate.legacy_files import (
    SAVED_AFTER,
    assert_golden,
    expected,
    path_of,
    train_golden,
)
from surefoot.cli import main
from surefoot.migrate import convert


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


@pytest.mark.parametrize("kind", ["h5", "savedmodel"])
def test_the_new_file_goes_on_where_the_old_one_stopped(
    kind: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "new.keras"
    assert main(["migrate", str(path_of("ranger", kind)), str(target)]) == 0
    shown = capsys.readouterr().out
    for word in (
        "hidden",
        "LayerNormalization",
        "norm/gamma",
        "surefoot.Lookahead(surefoot.RectifiedAdam)",
        "sync_period",
        "inner learning_rate",
        "0.01",
        "step",
        "10",
        str(target),
    ):
        assert word in shown.replace("\n", "")
    assert [entry.name for entry in tmp_path.iterdir()] == ["new.keras"]
    model = keras.models.load_model(target)
    recorded = expected("ranger")
    for step in range(SAVED_AFTER, SAVED_AFTER + 3):
        train_golden(model, step)
        assert_golden(model, recorded, step + 1)


@pytest.mark.once
def test_a_new_process_goes_on_from_the_new_file(tmp_path: pathlib.Path) -> None:
    """With embeddings and a fused normalization, whose classes are surefoot's own."""
    for case in ("ranger_text", "radam_conv"):
        target = tmp_path / f"{case}.keras"
        convert(path_of(case, "h5"), target)
        code = (
            "import sys, keras, surefoot.migrate\n"
            "model = keras.models.load_model(sys.argv[1])\n"
            "print(int(model.optimizer.iterations))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(target)], capture_output=True, text=True, check=False
        )
        assert done.stdout.strip() == str(SAVED_AFTER), done.stderr


@pytest.mark.once
@pytest.mark.parametrize("kind", ["h5", "keras", "savedmodel", "checkpoint"])
def test_inspect_looks_only(
    kind: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "new.keras"
    path = str(path_of("radam_amsgrad", kind))
    assert main(["migrate", path, str(target), "--inspect"]) == 0
    shown = capsys.readouterr().out
    assert "hidden" in shown
    assert "beta_1" in shown
    assert ("no state in the file" if kind == "keras" else "10") in shown
    assert not list(tmp_path.iterdir())


@pytest.mark.once
def test_failures_are_one_line_and_leave_nothing(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "new.keras"
    old = str(path_of("radam", "h5"))
    truncated = tmp_path / "truncated.h5"
    truncated.write_bytes(path_of("radam", "h5").read_bytes()[:9000])
    text = tmp_path / "text.h5"
    text.write_text("hello")
    other = tmp_path / "other.h5"
    other.write_bytes(path_of("radam", "h5").read_bytes())
    with h5py.File(other, "r+") as file:
        training = file.attrs["training_config"].replace("Addons>RectifiedAdam", "Addons>COCOB")
        file.attrs["training_config"] = training
    there = tmp_path / "there.keras"
    there.write_text("precious")
    before = {entry: entry.read_bytes() for entry in tmp_path.iterdir()}
    for arguments, words in (
        (["nowhere.h5", str(target)], "nowhere.h5"),
        ([str(text), str(target)], "neither"),
        ([str(truncated), str(target)], "truncated"),
        ([str(other), str(target)], "'COCOB'. Accepted: "),
        ([old, str(there)], "exists"),
        ([old, str(tmp_path / "no" / "new.keras")], "no directory"),
        ([old, str(tmp_path / "new.h5")], "must end in .keras"),
        ([old], "NEW.keras"),
        ([old, "--inspect", "--weights-only"], "--inspect goes with neither"),
        ([old, "--inspect", "--check", "recorded.npz"], "--inspect goes with neither"),
        ([old, str(target), "--tolerance", "0.1"], "--check"),
        ([old, str(target), "--check", "nowhere.npz"], "nowhere.npz"),
        ([str(path_of("radam", "checkpoint")), str(target)], "restore"),
        ([str(path_of("nadam_scaled", "h5")), str(target)], "--custom file.py:name"),
    ):
        assert main(["migrate", *arguments]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("surefoot migrate: ")
        assert captured.err.count("\n") == 1
        assert words in captured.err
        assert {entry: entry.read_bytes() for entry in tmp_path.iterdir()} == before


@pytest.mark.once
def test_missing_permission(tmp_path: pathlib.Path) -> None:
    """As a user without rights; root may write and read everywhere."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    code = (
        "import os, sys\n"
        "from surefoot.cli import main\n"
        "import keras, surefoot.migrate.command, surefoot.migrate.conversion\n"
        "if os.getuid() == 0:\n"
        "    os.setgid(65534); os.setuid(65534)\n"
        "sys.exit(main(['migrate', *sys.argv[1:]]))"
    )
    old = tmp_path / "old.h5"
    old.write_bytes(path_of("radam", "h5").read_bytes())
    old.chmod(0o444)
    for parent in (tmp_path, *tmp_path.parents[:3]):
        if os.stat(parent).st_uid == os.getuid() and "pytest" in str(parent):
            parent.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", code, str(old), str(closed / "new.keras")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "cannot be written" in done.stderr.splitlines()[-1]
    old.chmod(0o000)
    done = subprocess.run(
        [sys.executable, "-c", code, str(old), str(tmp_path / "new.keras")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "ermission" in done.stderr.splitlines()[-1]
    old.chmod(0o600)


@pytest.mark.once
def test_names_from_a_file_are_shown_as_they_are(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "odd.h5"
    path.write_bytes(path_of("radam", "h5").read_bytes())
    with h5py.File(path, "r+") as file:
        config = file.attrs["training_config"]
        file.attrs["training_config"] = config.replace(
            '"name": "RectifiedAdam"', '"name": "[red]\\u001b[31mx"'
        )
    assert main(["migrate", str(path), "--inspect"]) == 0
    assert "[red]?[31mx" in capsys.readouterr().out
