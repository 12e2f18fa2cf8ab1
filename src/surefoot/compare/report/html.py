"""The report: one self-contained HTML file, and the files of results next to it."""

import io
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from surefoot.compare.errors import UsageError
from surefoot.compare.formatting import duration, factor_text, number, parts, rate
from surefoot.compare.report.results import section, write_csv, write_results
from surefoot.compare.statistics.analysis import summarize
from surefoot.compare.statistics.differences import MOST_SEEDS
from surefoot.compare.statistics.method import in_short
from surefoot.compare.statistics.summary import Difference, Summary
from surefoot.compare.trials.store import Run, difference

# Distinct for readers with any colour vision, on light and dark backgrounds (after Okabe and Ito).
# Lines also differ in symbols and, where colours repeat, in dashes.
COLOURS = ("#0080c8", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#8a70d6", "#7f7f7f")


def write_report(folder: Path, runs: Sequence[Run]) -> Path:
    """Write `report.html`, `results.csv` and `results.json`.

    Args:
        folder: An existing folder to write to.
        runs: One section each; they need not be complete.

    Returns:
        The path of the report.
    """
    summaries = [summarize(run) for run in runs]
    sections = [section(run, summary) for run, summary in zip(runs, summaries, strict=True)]
    write_results(folder, sections)
    path = folder / "report.html"
    path.write_text(_page(runs, summaries, sections), encoding="utf-8")
    return path


def merge(runs: Sequence[Run]) -> list[Run]:
    """Merge runs of the same task with the same settings.

    Raises:
        UsageError: If two runs have the same trial with different results.
    """
    merged: list[Run] = []
    for run in runs:
        into = next((each for each in merged if difference(each.header, run.header) is None), None)
        if into is None:
            into = Run(run.header)
            merged.append(into)
        into.starts += run.starts
        into.plans += run.plans
        into.failures |= run.failures
        for trial, record in (run.records | run.short).items():
            found = into.short if trial.length else into.records
            known = found.setdefault(trial, record)
            if known["result"] != record["result"]:
                raise UsageError(
                    f"two runs disagree: {trial.optimizer} at learning rate "
                    f"{trial.learning_rate}, seed {trial.seed}, gave {known['result']} and "
                    f"{record['result']}"
                )
    for run in merged:
        for label in {trial.optimizer for trial in run.records} & set(run.failures):
            del run.failures[label]
    return merged


def _page(
    runs: Sequence[Run], summaries: Sequence[Summary], sections: Sequence[dict[str, Any]]
) -> str:
    from plotly.offline import get_plotlyjs

    page = files("surefoot.compare.report") / "page"
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "rate": rate,
        "duration": duration,
        "factor_text": factor_text,
        "breakable": lambda label: Markup("<wbr>").join(parts(label)),
        "zip": lambda first, second: list(zip(first, second, strict=True)),
    }
    csv = io.StringIO()
    write_csv(csv, sections)
    template = environment.from_string((page / "report.html").read_text(encoding="utf-8"))
    return template.render(
        sections=[
            {
                "run": run,
                "summary": summary,
                "verdict": plain["verdict"],
                "in_short": in_short(summary),
                "behind": {each.other: _behind(each) for each in summary.differences},
                "has_decay": any(row.get("weight_decay") is not None for row in plain["trials"]),
            }
            for run, summary, plain in zip(runs, summaries, sections, strict=True)
        ],
        colours=COLOURS,
        style=Markup((page / "report.css").read_text(encoding="utf-8")),
        plotly=Markup(_inline_script(get_plotlyjs())),
        scripts=[
            Markup((page / name).read_text(encoding="utf-8")) for name in ("charts.js", "report.js")
        ],
        data=Markup(
            _inline_json({"sections": sections, "colours": COLOURS, "csv": csv.getvalue()})
        ),
    )


def _behind(difference: Difference) -> str:
    """A cell of the table: a difference, how sure it is, and how it would become so."""
    parts = [number(abs(difference.difference), 2)]
    if difference.p_value is None:
        parts.append("not tested")
    else:
        parts.append(f"p = {number(difference.p_value, 2)}")
        if not difference.is_shown:
            parts.append(f"{difference.more_seeds or f'over {MOST_SEEDS}'} more seeds")
    return ";".join(parts)


def _inline_json(content: object) -> str:
    """JSON that cannot close the script element that contains it."""
    return json.dumps(content, allow_nan=False).replace("<", "\\u003c")


def _inline_script(code: str) -> str:
    return code.replace("</script", "<\\/script")
