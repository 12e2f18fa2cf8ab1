"""What an experiment is, and where its measurements are kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evidence.claims import Claim, Results

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results"


@dataclass(frozen=True)
class Options:
    """How to run an experiment.

    Args:
        full: At the larger size.
        jobs: How many trials at a time, where there are several.
        train: Whether to train what is missing; otherwise only trials that are done are recorded.
    """

    full: bool = False
    jobs: int = 1
    train: bool = True


@dataclass(frozen=True)
class Picture:
    """A picture of the page.

    Args:
        alt: What it shows, for those who cannot see it.
        columns: Number of axes side by side.
        draw: Draws onto them.
    """

    alt: str
    columns: int
    draw: Callable[[tuple[Any, ...], Results], None]


@dataclass(frozen=True)
class Experiment:
    """One experiment: what is run, which claims it bears on, what is shown of it.

    Args:
        name: Of its file of results, its picture and its place on the page.
        title: Its heading.
        about: What is run and why, in Markdown.
        run: Runs it.
        claims: What it bears on.
        table: Its measurements, as lines of Markdown.
        picture: Drawn from the same, if there is something to see.
    """

    name: str
    title: str
    about: str
    run: Callable[[Options], Results]
    claims: tuple[Claim, ...]
    table: Callable[[Results], list[str]]
    picture: Picture | None = None


def load(name: str, folder: Path = RESULTS) -> Results | None:
    """The recorded results of an experiment, or `None` if there are none."""
    path = folder / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def save(name: str, results: Results, folder: Path = RESULTS) -> None:
    """Record results: a line per trial, so that a new run shows what changed."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(_lines(results, "") + "\n", encoding="utf-8")


def _lines(value: Any, indent: str) -> str:
    """JSON with mappings spread over lines, and lists of mappings with one of them a line."""
    inner = indent + " "
    if isinstance(value, dict) and value:
        entries = [f"{json.dumps(key)}: {_lines(each, inner)}" for key, each in value.items()]
        return _block("{", [inner + entry for entry in entries], indent + "}")
    if isinstance(value, list) and value and isinstance(value[0], dict):
        entries = [json.dumps(each, allow_nan=False) for each in value]
        return _block("[", [inner + entry for entry in entries], indent + "]")
    return json.dumps(value, allow_nan=False)


def _block(opening: str, entries: list[str], closing: str) -> str:
    return "\n".join([opening, ",\n".join(entries), closing])


def is_measured(results: Results) -> bool:
    """Whether there is anything in the results, or in a part of them."""
    return "trials" in results or "points" in results or any(map(is_measured, _parts(results)))


def is_complete(results: Results | None) -> bool:
    """Whether an experiment has been run, all of it."""
    if results is None or results.get("missing"):
        return False
    return all(map(is_complete, _parts(results)))


def count_missing(results: Results) -> int:
    """How many trials have not been run."""
    return int(results.get("missing", 0)) + sum(map(count_missing, _parts(results)))


def _parts(results: Results) -> list[Results]:
    return [each for each in results.values() if isinstance(each, dict) and "missing" in each]
