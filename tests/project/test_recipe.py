"""The recipe of CONTRIBUTING.md for a new optimizer, followed in a copy of the project."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECIPE = Path(__file__).parent / "recipe"

pytestmark = pytest.mark.once


def insert(path: Path, before: str, line: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, line + before, 1))


def reference_and_scenarios(copy: Path) -> None:
    # The reference of Adam is there: those of others build on it.
    plain = '_named("Adam", {n: SHARED[n] for n in ("plain", "clipnorm")})\n    + '
    insert(copy / "tests" / "scenarios.py", '_named("Nadam", SHARED', plain)


def module_and_export(copy: Path) -> None:
    optimizers = copy / "src" / "surefoot" / "optimizers"
    shutil.copy(RECIPE / "adam.py", optimizers)
    exports = optimizers / "__init__.py"
    insert(
        exports, "from surefoot.optimizers.lookahead", "from surefoot.optimizers.adam import Adam\n"
    )
    insert(exports, '    "AdamW",', '    "Adam",\n')


def page_and_changelog(copy: Path) -> None:
    (copy / "docs" / "optimizers" / "adam.md").write_text("# Adam\n\nThe optimizer.\n")
    insert(copy / "CHANGELOG.md", "## ", "- Adam.\n\n")


STEPS: dict[str, Callable[[Path], None]] = {
    "reference and scenarios": reference_and_scenarios,
    "module and export": module_and_export,
    "page and changelog": page_and_changelog,
}

USE = """
import keras, surefoot
from surefoot.compare.search.expression import parse
from surefoot.compare.search.registry import resolve
from benchmarks.contenders import keras_optimizers

surefoot.optimizers.Adam, keras.optimizers.get({"class_name": "surefoot>Adam", "config": {}})
assert isinstance(resolve(parse("surefoot.adam")).factory(0.1), surefoot.Adam)
assert "Adam" in keras_optimizers()
"""


def run(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy / "src")},
        capture_output=True,
        text=True,
        check=False,
    )


def pytest_in(copy: Path, chosen: str, *tests: str) -> subprocess.CompletedProcess[str]:
    return run(copy, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", *tests, "-k", chosen)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    leave_out = shutil.ignore_patterns("__pycache__", "data", "results", "images")
    for folder in ("src", "tests", "docs", "benchmarks", "evidence"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=leave_out)
    # What was recorded is not needed, but its list.
    lists = Path("tests", "data", "trajectories")
    shutil.copytree(ROOT / lists, tmp_path / lists, ignore=shutil.ignore_patterns("*.npz"))
    for file in ("pyproject.toml", "CHANGELOG.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / file, tmp_path)
    return tmp_path


def test_the_recipe_is_written_down() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    section = text.partition("## How an optimizer is added")[2].partition("\n## ")[0]
    assert len(re.findall(r"^\d\. ", section, re.M)) == len(STEPS)


def test_an_optimizer_is_added_in_three_steps(copy: Path) -> None:
    policies, reference = "tests/project/test_policies.py", "tests/optimizers/test_reference.py"
    STEPS["module and export"](copy)
    done = pytest_in(copy, "described_and_checked", policies)
    assert "test_every_optimizer_is_described_and_checked[Adam]" in done.stdout
    assert "1 failed" in done.stdout
    STEPS["reference and scenarios"](copy)
    STEPS["page and changelog"](copy)
    chosen = "Adam-plain or policies and (Adam or adam or documented or raises or circle)"
    done = pytest_in(copy, chosen, policies, reference)
    assert done.returncode == 0, done.stdout
    done = run(copy, "-c", USE)
    assert done.returncode == 0, done.stderr
