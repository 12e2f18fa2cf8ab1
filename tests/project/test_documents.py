"""The Python in README and documentation runs, block after block of each page.

A fence opened with ```` ```python ```` runs on every backend, one with ```` ```python jax ```` on
that one only. A fence opened with ```` ```output ```` holds what the block before it prints. A
block that begins with a file's name (`# mine.py`) is that file and not run here; tests beside what
it is for do that.
"""

from __future__ import annotations

import re
from itertools import zip_longest
from pathlib import Path

import keras
import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
FILE_NAME = re.compile(r"# \S+\.py\n")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> list[tuple[int, str, str | None]]:
    """Line numbers, code and shown output of the blocks that are for the backend in use."""
    found = []
    fences = [token for token in MarkdownIt().parse(page.read_text()) if token.type == "fence"]
    for token, following in zip_longest(fences, fences[1:]):
        language, _, backend = token.info.partition(" ")
        here = backend in ("", keras.backend.backend())
        is_file = FILE_NAME.match(token.content)
        if language == "python" and here and not is_file and token.map:
            shown = following.content if following and following.info == "output" else None
            found.append((token.map[0] + 1, token.content, shown))
    return found


ELSEWHERE = {"migration.md"}  # Its code needs old files; tests/migrate/test_guide.py has them.
WITH_CODE = [
    page for page in PAGES if page.name not in ELSEWHERE and "```python" in page.read_text()
]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: str(page.relative_to(ROOT)))
def test_code_blocks_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for line, code, shown in blocks(page):
        # Blank lines in front, so that a traceback shows the page's own line.
        exec(compile("\n" * line + code, str(page), "exec"), namespace)
        printed = capsys.readouterr().out
        assert shown is None or printed == shown, f"{page}, line {line}, prints\n{printed}"


@pytest.mark.once
@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")), ids=lambda page: page.name)
def test_links_outside_of_the_built_documentation_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    files = [target for target in targets if "://" not in target]
    assert not [target for target in files if not (page.parent / target).exists()]


def test_there_is_code_for_this_backend() -> None:
    start = next(page for page in WITH_CODE if page.name == "start.md")
    everywhere = start.read_text().count("```python\n")
    assert everywhere > 0
    assert len(blocks(start)) > everywhere
