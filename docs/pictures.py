"""The pictures of the documentation, drawn by `make pictures` from formulas and recorded speeds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl

mpl.use("svg")

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from surefoot.compare.report.html import COLOURS
from surefoot.rule import formulas

FOLDER = Path(__file__).parent / "images"
SPEEDS = Path(__file__).parents[1] / "benchmarks" / "results" / "speed.json"
INK = {"light": "#1f2328", "dark": "#e6edf3"}
GREY = "#868e96"
"""Seen well on white and on near-black, all of them."""


def rectification(axes: tuple[Axes, ...]) -> None:
    """RAdam's factor, and what it makes of a learning rate with warmup, for several beta_2."""
    steps = np.arange(1.0, 10_001)
    total_steps = 2000.0
    warmed_up = formulas.warmup_and_decay(
        np.float64(1.0), steps, np.float64(total_steps), np.float64(0.1), np.float64(0.0), np
    )
    factor_axes, rate_axes = axes
    for beta_2, colour in zip((0.9, 0.99, 0.999, 0.9999), COLOURS, strict=False):
        rectified, factor = formulas.rectification(
            np.float64(1) - np.float64(beta_2), steps, np.float64(5.0), np
        )
        drawn = np.where(rectified, factor, np.nan)
        factor_axes.plot(steps, drawn, color=colour, label=f"beta_2 = {beta_2}")
        rate_axes.plot(steps, drawn * warmed_up, color=colour)
    rate_axes.plot(steps, warmed_up, color=GREY, linestyle=":", label="without rectification")
    factor_axes.set(title="Factor r of a rectified step", xlabel="update", xscale="log")
    rate_axes.set(
        title="Learning rate times r, total_steps=2000", xlabel="update", xlim=(0, total_steps)
    )


def momentum(axes: tuple[Axes, ...]) -> None:
    """The momentum of Nadam's three lineages."""
    steps = np.arange(1.0, 100_001)
    schedules = (
        (0.004, "0.96^(0.004 t): here, tf.keras 2, PyTorch", "-"),
        (1.0, "0.96^t: Keras 3", "--"),
        (None, "constant: optax", ":"),
    )
    for (decay, label, style), colour in zip(schedules, COLOURS, strict=False):
        if decay is None:
            values = np.full_like(steps, 0.9)
        else:
            values = formulas.nesterov_momentum(np.float64(0.1), np.float64(decay), steps, np).mu
        axes[0].plot(steps, values, color=colour, linestyle=style, label=label)
    axes[0].set(title="Nadam's momentum, beta_1 = 0.9", xlabel="update", xscale="log")


def idea(axes: tuple[Axes, ...]) -> None:
    """From step and hyperparameters to formulas, to the one rule, to the engines."""
    (drawing,) = axes
    drawing.set(xlim=(0, 100), ylim=(0, 40))
    drawing.axis("off")

    def box(x: float, y: float, size: tuple[float, float], colour: str, *lines: str) -> None:
        width, height = size
        corner = (x - width / 2, y - height / 2)
        style = "round,pad=0,rounding_size=1.2"
        drawing.add_patch(
            FancyBboxPatch(
                corner, *size, boxstyle=style, facecolor="none", edgecolor=colour, lw=1.6
            )
        )
        head, *rest = lines
        above = 1.6 * len(rest)
        drawing.text(x, y + above, head, ha="center", va="center", weight="bold", size=9)
        for number, line in enumerate(rest, 1):
            drawing.text(x, y + above - 3.4 * number, line, ha="center", va="center", size=8)

    def arrow(start: tuple[float, float], end: tuple[float, float]) -> None:
        style = {"arrowstyle": "-|>", "color": GREY, "lw": 1.4, "shrinkA": 0, "shrinkB": 0}
        drawing.annotate("", end, start, arrowprops=style)

    teal, orange, violet, green, *_ = COLOURS
    box(12, 30, (23, 17), teal, "An optimizer", "step t,", "hyperparameters,", "its formula")
    box(40, 30, (20, 17), orange, "Scalars", "a, b, s, w", "once per step,", "float32 or better")
    box(
        68,
        30,
        (23, 17),
        violet,
        "The one rule",
        "m, v  by their averages",
        "d = s √v + ε",
        "p - w p - (a g + b m) / d",
    )
    box(91, 30, (15, 17), GREY, "Each variable", "p, its g,", "its m and v", "")
    for x, text in ((34, "TensorFlow"), (60, "JAX"), (86, "PyTorch")):
        how = {
            "TensorFlow": "ResourceApplyAdam, XLA",
            "JAX": "one step, compiled once",
            "PyTorch": "_fused_adamw_ on all at once",
        }[text]
        box(x, 6, (24, 9), green, f"Engine: {text}", how)
        arrow((68, 21.5), (x, 10.5))
    arrow((23.5, 30), (30, 30))
    arrow((50, 30), (56.5, 30))
    arrow((83.5, 30), (79.5, 30))
    drawing.text(
        10, 6, "the same numbers,\nin each one's own way", ha="center", va="center", size=8
    )


def _recorded_speeds() -> dict[str, list[dict[str, Any]]]:
    """By backend, what was measured on ResNet-50's tensors."""
    speeds: dict[str, list[dict[str, Any]]] = {}
    for record in json.loads(SPEEDS.read_text())["records"]:
        if record["kind"] == "step" and record["set"] == "resnet50":
            speeds.setdefault(record["backend"], []).append(record)
    return speeds


def speed(axes: tuple[Axes, ...]) -> None:
    """Times the floor by backend, mode and optimizer, with quartiles."""
    for drawing, (backend, records) in zip(axes, _recorded_speeds().items(), strict=True):
        names = [f"{record['contender']}, {record['mode']}" for record in records]
        for row, record in enumerate(records):
            low, middle, high = record["ratio"]
            drawing.errorbar(
                middle,
                row,
                xerr=[[middle - low], [high - middle]],
                fmt="o" if record["ours"] else "s",
                color=COLOURS[1] if record["ours"] else GREY,
                markersize=5,
                capsize=2,
            )
            drawing.text(high * 1.1, row, f"{middle:.1f}", va="center", size=8)
        drawing.set(title=backend, xlabel="times the floor", xscale="log", xlim=(0.9, 60))
        drawing.set_xticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
        drawing.minorticks_off()
        drawing.set_yticks(range(len(names)), names)
        drawing.invert_yaxis()
        drawing.axvline(1, color=GREY, linestyle=":")
    axes[0].plot([], [], "o", color=COLOURS[1], label="surefoot")
    axes[0].plot([], [], "s", color=GREY, label="peers")


class Picture(NamedTuple):
    """What draws a picture, on how many axes side by side, and its size in inches if it has one."""

    paint: Callable[[tuple[Axes, ...]], None]
    columns: int
    size: tuple[float, float] | None = None


def pictures() -> dict[str, Picture]:
    """All pictures by file name."""
    speeds = _recorded_speeds()
    rows = max(map(len, speeds.values()))
    return {
        "rectification": Picture(rectification, 2),
        "momentum": Picture(momentum, 1),
        "idea": Picture(idea, 1, (8.8, 3.6)),
        "speed": Picture(speed, len(speeds), (4.8 * len(speeds) + 1, 1.4 + 0.24 * rows)),
    }


def draw(
    name: str,
    paint: Callable[[tuple[Axes, ...]], None],
    columns: int,
    ink: str,
    path: Path,
    legend_columns: int | None = None,
    size: tuple[float, float] | None = None,
) -> None:
    """Draw one picture on a transparent ground.

    Args:
        name: Of the picture; makes the names inside the file the same each time.
        paint: Draws onto the axes.
        columns: Number of axes side by side.
        ink: Colour of text and axes.
        path: Where the SVG goes; the same bytes each time.
        legend_columns: In how many columns the legend is set; default: for long entries.
        size: Width and height in inches; default: by the number of axes.
    """
    style = {
        "axes.edgecolor": ink,
        "axes.labelcolor": ink,
        "axes.titlecolor": ink,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "font.family": "sans-serif",
        "svg.fonttype": "none",  # Text stays text, in the reader's own font.
        "svg.hashsalt": name,
        "text.color": ink,
        "xtick.color": ink,
        "ytick.color": ink,
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=size or (4.8 * columns + 1, 3.6), layout="constrained")
        paint(tuple(figure.subplots(1, columns, squeeze=False)[0]))
        legend_columns = legend_columns or 2 * columns - 1
        if any(each.get_legend_handles_labels()[0] for each in figure.axes):
            figure.legend(loc="outside lower center", ncols=legend_columns, frameon=False)
        figure.savefig(path, transparent=True, metadata={"Date": None})


def draw_both(
    name: str,
    paint: Callable[[tuple[Axes, ...]], None],
    columns: int,
    folder: Path = FOLDER,
    legend_columns: int | None = None,
    size: tuple[float, float] | None = None,
) -> None:
    """Draw a picture for light and for dark pages."""
    folder.mkdir(parents=True, exist_ok=True)
    for theme, ink in INK.items():
        path = folder / f"{name}-{theme}.svg"
        draw(name, paint, columns, ink, path, legend_columns, size)


def main() -> None:
    """Draw all of them."""
    for name, (paint, columns, size) in pictures().items():
        draw_both(name, paint, columns, size=size)


if __name__ == "__main__":
    main()
