"""The guide's tables: what is carried, from the recorded files, and what became of each name.

    PYTHONPATH=src:tests python -m migrate.guide_tables

writes them into the guide anew.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import keras

from migrate.legacy_files import CASES, ENDINGS, GOLDEN_CASES, path_of
from surefoot.legacy_api.heirs import HEIRS
from surefoot.migrate import inspect
from surefoot.migrate.loading import read

DOCS = pathlib.Path(__file__).parents[2] / "docs"
KINDS = {
    "h5": "`.h5`",
    "keras": "`.keras`",
    "savedmodel": "SavedModel",
    "checkpoint": "checkpoint",
}
START, END = "<!-- tables: start -->\n", "<!-- tables: end -->"


def recorded(case: str, kind: str) -> bool:
    path = path_of(case, kind)
    return path.with_suffix(".index").exists() if kind == "checkpoint" else path.exists()


def optimizer_of(case: str) -> str:
    """The optimizer by the name that a reader of the guide looks for."""
    name = inspect(path_of(case, "h5")).optimizer
    outer = CASES.get(case, {}).get("optimizer", "")
    name, newer, version = name.partition(" (tf.keras")
    name = f"LossScaleOptimizer({name})" if outer.startswith("LossScale") else name
    return f"`{name}`{newer}{version}"


def cell(cases: list[str], kind: str) -> str:
    steps = {inspect(path_of(case, kind)).step for case in cases if recorded(case, kind)}
    if not steps:
        return "not tried"
    if kind == "checkpoint":
        return "state"
    return "arguments" if None in steps else "arguments, state"


def objects(config: Any) -> Iterator[tuple[str, str]]:
    """Class names of layers, schedules and others that a configuration names, with their kind."""
    if isinstance(config, dict):
        name = config.get("class_name")
        if isinstance(name, str) and isinstance(config.get("config"), dict | str):
            for kind, module in (
                ("layers", keras.layers),
                ("schedules", keras.optimizers.schedules),
                ("losses", keras.losses),
                ("metrics", keras.metrics),
            ):
                if isinstance(getattr(module, name, None), type) and name != "MeanMetricWrapper":
                    yield kind, name
                    break
    inner = config.values() if isinstance(config, dict) else config
    if isinstance(config, dict | list):
        for value in inner:
            yield from objects(value)


def carried() -> str:
    """The tables of what is carried."""
    whole = [case for case in (*GOLDEN_CASES, *CASES) if path_of(case, "h5").exists()]
    rows: dict[str, list[str]] = {}
    for case in whole:
        rows.setdefault(optimizer_of(case), []).append(case)
    assert ENDINGS.keys() <= KINDS.keys()
    lines = [f"| Optimizer | {' | '.join(KINDS.values())} |", f"|---{'|---' * len(KINDS)}|"]
    lines += [
        f"| {name} | {' | '.join(cell(cases, kind) for kind in KINDS)} |"
        for name, cases in sorted(rows.items())
    ]
    found: dict[str, set[str]] = {}
    for case in whole:
        saved = read(path_of(case, "h5"))
        for kind, name in objects([saved.config, saved.training]):
            found.setdefault(kind, set()).add(name)
    lines += ["", "| In these models | |", "|---|---|"]
    lines += [
        f"| {kind} | {', '.join(f'`{name}`' for name in sorted(names))} |"
        for kind, names in sorted(found.items())
    ]
    return "\n".join(lines) + "\n"


def heirs() -> str:
    """The tables of what became of each name."""
    lines = []
    for module, names in HEIRS.items():
        lines += [f"## `tfa.{module}`", "", "| | Now |", "|---|---|"]
        for group, text in names.items():
            shown = ", ".join(f"`{name}`" for name in group.split())
            lines.append(f"| {shown} | {text} |")
        lines.append("")
    return "\n".join(lines)


PAGES = {DOCS / "migration.md": carried, DOCS / "migration_names.md": heirs}


def parts(page: pathlib.Path) -> tuple[str, str, str]:
    """A page before the tables, the tables in it, and the page after them."""
    before, _, rest = page.read_text().partition(START)
    found, _, after = rest.partition(END)
    return before + START, found, END + after


if __name__ == "__main__":
    for page, tables in PAGES.items():
        start, _, end = parts(page)
        page.write_text(start + tables() + end)
