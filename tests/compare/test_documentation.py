"""The tasks shown in docs/compare.md, run as shown."""

import re
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs" / "compare.md"


@pytest.mark.sampled(3)
def test_the_models_shown_can_be_compared(surefoot, backend, tmp_path):
    blocks = re.findall(r"```python\n# (\S+)\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    for name, code in blocks:
        (tmp_path / name).write_text(code)
    done = surefoot(
        *("compare", f"{tmp_path / f'mine_{backend}.py'}:task", "--optimizers", "adam", "ranger"),
        *("--learning-rates", "0.01", "--seeds", 2, "--steps", 60, "--out", tmp_path / "out"),
        *("--backend", backend),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 of 4 trials" in done.stdout
    results = (tmp_path / "out" / "results.csv").read_text()
    assert results.count("finished") == 4
    # Another seed is another start: a model that ignored the seed would give one result twice.
    first, second = (line.split(",")[7] for line in results.splitlines()[1:3])
    assert first != second
