"""The code of the migration guide runs as it stands there."""

from __future__ import annotations

import pathlib
import re
import shutil
import textwrap
from typing import Any

import numpy as np
import pytest

from migrate.legacy_files import GOLDEN, RECORDED

pytestmark = pytest.mark.once

GUIDE = pathlib.Path(__file__).parents[2] / "docs" / "migration.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(), re.DOTALL | re.MULTILINE)


def test_code_blocks_run_one_after_the_other(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(BLOCKS) >= 17
    mentioned = set(
        re.findall(r'"(\w+)(\.h5|\.keras|_savedmodel|_checkpoint|\.npz)', "".join(BLOCKS))
    )
    for name, ending in mentioned - {("new", ".keras"), ("weights", ".keras")}:
        source = next(
            folder / f"{name}{ending}"
            for folder in (GOLDEN, RECORDED, RECORDED / "foreign")
            if (folder / f"{name}{ending}").exists()
        )
        copy: Any = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, tmp_path / source.name)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {
        "x": np.zeros((16, 9), "float32"),
        "y": np.zeros((16, 1), "float32"),
    }
    for number, block in enumerate(BLOCKS):
        exec(compile(block, f"block {number} of {GUIDE.name}", "exec"), names)


def test_every_link_inside_the_guide_leads_somewhere() -> None:
    text = GUIDE.read_text()
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w]+", "-", h.replace("`", "").lower()).strip("-") for h in headings}
    for link in re.findall(r"\]\(#([^)]+)\)", text):
        assert link in anchors, link


def test_what_records_the_originals_outputs_is_what_recorded_those_of_the_tests() -> None:
    (snippet,) = re.findall(r"^```py\n(.*?)^```$", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    program = (pathlib.Path(__file__).parent / "make_legacy_foreign.py").read_text()
    imports, _, body = snippet.partition("\n\n")
    for line in imports.splitlines():
        assert f"{line}\n" in program
    assert textwrap.indent(body, "    ").strip() in program
