"""The package as it is installed: a wheel that is complete, and a version that stands once."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import surefoot

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_wheel_holds_every_source_file(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("surefoot/")}
    source = ROOT / "src"
    there = {
        str(path.relative_to(source))
        for path in (source / "surefoot").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == there
    assert "surefoot/py.typed" in held


def test_wheel_runs_as_a_module(wheel: Path, tmp_path: Path) -> None:
    # Unpacked apart: the installed package must not help it.
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    printed = subprocess.run(
        [sys.executable, "-P", "-m", "surefoot", "--version"],
        env={"PYTHONPATH": str(tmp_path), "KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"},
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert printed.stdout.split() == ["surefoot", surefoot.__version__]


@pytest.mark.parametrize("package", ["keras", "tensorflow", "jax", "torch"])
def test_lower_bounds_are_the_versions_that_are_tested(package: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = [*project["dependencies"], *project["optional-dependencies"].get(package, [])]
    (bound,) = (each.split(">=")[1] for each in required if each.startswith(f"{package}>="))
    makefile = (ROOT / "Makefile").read_text()
    name = "KERAS_OLDEST" if package == "keras" else f"OLDEST_{package}"
    tested = re.search(rf"^{name} := (?:\S+==)?(\S+)", makefile, re.M)
    assert tested
    assert f"{tested[1]}.".startswith(f"{bound}.")


def test_changelog_has_a_place_for_the_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert "## [Unreleased]" in changelog or f"## [{surefoot.__version__}]" in changelog
