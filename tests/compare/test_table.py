"""The table on the terminal."""

import io

import pytest
from rich.console import Console

from compare.runs import made_up
from surefoot.compare.formatting import parts
from surefoot.compare.report.table import closing_table
from surefoot.compare.statistics.analysis import summarize

LONG = "RectifiedAdam(beta_2=0.999,total_steps=500)+warmup(0.1)+cosine"


@pytest.mark.once
@pytest.mark.parametrize(("width", "lines"), [(80, 5), (140, 1)])
def test_no_name_is_broken_in_the_middle(width, lines):
    rates = {1e-3: [0.9612, 0.9634], 1e-2: [0.9712, 0.9734], 1e-1: [0.5, None]}
    run = made_up({LONG: rates, "own.py:Mine": rates}, metric="validation accuracy")
    run.failures["own.py:Other(momentum=0.5)"] = "no"
    console = Console(width=width, file=io.StringIO())
    console.print(closing_table(summarize(run), width))
    shown = console.file.getvalue().splitlines()
    assert max(map(len, shown)) <= width
    text = "\n".join(shown)
    assert all(part in text for part in (*parts(LONG), *parts("own.py:Other(momentum=0.5)")))
    assert sum(any(part in line for part in parts(LONG)) for line in shown) == lines
    # Numbers and words are whole, too.
    for each in ("0.9723 ±0.0016", "learning", "interval", "could not be trained", "1 of 6"):
        assert each in text
    assert "3 settings of each optimizer, on a grid; schedule constant; target 0.9623" in text
