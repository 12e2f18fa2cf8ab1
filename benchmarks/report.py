"""The tables of a benchmark, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Record = dict[str, Any]
MEGABYTE = 1e6


def _table(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return [lines[0], "|---" * len(head) + "|", *lines[1:], ""]


def _spread(quartiles: list[float], digits: int) -> str:
    low, middle, high = (f"{value:.{digits}f}" for value in quartiles)
    return f"{middle} ({low} to {high})"


def _name(record: Record) -> str:
    return f"**{record['contender']}**" if record.get("ours") else str(record["contender"])


def _groups(records: list[Record], *keys: str) -> dict[tuple[str, ...], list[Record]]:
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        groups.setdefault(tuple(record[key] for key in keys), []).append(record)
    return groups


def _steps(records: list[Record]) -> list[str]:
    lines = []
    for (backend, tensors), group in _groups(records, "backend", "set").items():
        lines += [f"### {backend}, {tensors}", ""]
        lines += _table(
            ["mode", "optimizer", "times the floor", "over its own bytes", "ms per step"],
            (
                [
                    record["mode"],
                    _name(record),
                    _spread(record["ratio"], 2),
                    f"{record['ratio'][1] / record['own']:.2f}",
                    _spread(record["milliseconds"], 2),
                ]
                for record in group
            ),
        )
    return lines


def _fits(records: list[Record]) -> list[str]:
    return _table(
        ["backend", "optimizer", "times keras Adam", "ms per step", "optimizer's share"],
        (
            [
                record["backend"],
                record["contender"],
                _spread(record["ratio"], 2),
                _spread(record["milliseconds"], 2),
                f"{record['share']:.0f} %",
            ]
            for record in records
        ),
    )


def _known(number: float | None) -> str:
    return "" if number is None else f"{number:.1f}"


def _probes(records: list[Record]) -> list[str]:
    return _table(
        [
            *("backend", "tensors", "mode", "optimizer", "first step, s", "peak, MB", "peak, %"),
            *("launches", "waits"),
        ],
        (
            [
                record["backend"],
                record["set"],
                record["mode"],
                _name(record),
                f"{record['first_step']:.2f}",
                f"{record['peak_bytes'] / MEGABYTE:.1f}",
                f"{record['peak_percent']:.1f}",
                *(_known(record.get(name)) for name in ("launches", "waits")),
            ]
            for record in records
        ),
    )


SECTIONS = {
    "step": (
        "Steps",
        "Median over the rounds, quartiles in brackets. The floor is one fused pass over the same "
        "tensors that reads p, g, m, v and writes p, m, v, run before and after each turn; "
        "amsgrad has a floor of its own with the maximum of v as a fifth stream. On a GPU the "
        "floor is a copy of as many bytes. "
        "Over its own bytes: the ratio divided by what an optimizer must move beyond its floor.",
        _steps,
    ),
    "fit": (
        "Inside `fit`",
        "A small convolutional network on digits, batches of 64, in turns with Keras's Adam; "
        "keras Adam against itself shows the error of the measurement.",
        _fits,
    ),
    "probe": (
        "First step and peak memory",
        "In a process of its own: seconds from initial values to the end of the first step, "
        "tracing and compiling included, and memory that comes and goes during a step, in percent "
        "of p, g, m and v. On a GPU: how many kernels and copies the host starts in a step, and "
        "how often it waits.",
        _probes,
    ),
}


def markdown(results: dict[str, Any]) -> str:
    """The tables of all that was measured, with machine and versions."""
    machine, versions = results["machine"], results["versions"]
    # Results that were added may have been taken with more or fewer rounds.
    rounds = sorted({record["rounds"] for record in results["records"] if "rounds" in record})
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"{machine['system']}, Python {machine['python']}; "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + f". Rounds: {', '.join(map(str, rounds)) or 'none'}.",
        "",
    ]
    for kind, (title, explanation, render) in SECTIONS.items():
        records = [record for record in results["records"] if record["kind"] == kind]
        if records:
            lines += [f"## {title}", "", explanation, "", *render(records)]
    return "\n".join(lines)
