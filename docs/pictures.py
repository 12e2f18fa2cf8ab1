"""The pictures of the documentation, drawn from surefoot's own formulas by `make pictures`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from surefoot import scalars

FOLDER = Path(__file__).parent / "images"
INK = {"light": "#1f2328", "dark": "#e6edf3"}
COLOURS = ("#0b7285", "#e8590c", "#7048e8", "#2b8a3e")
"""Seen well on white and on near-black."""


def rectification(axes: tuple[Axes, ...]) -> None:
    """RAdam's factor, and what it makes of a learning rate with warmup, for several beta_2."""
    steps = np.arange(1.0, 10_001)
    total_steps = 2000.0
    warmed_up = scalars.warmup_and_decay(
        np.float64(1.0), steps, np.float64(total_steps), np.float64(0.1), np.float64(0.0), np
    )
    factor_axes, rate_axes = axes
    for beta_2, colour in zip((0.9, 0.99, 0.999, 0.9999), COLOURS, strict=True):
        rectified, factor = scalars.rectification(
            np.float64(1) - np.float64(beta_2), steps, np.float64(5.0), np
        )
        drawn = np.where(rectified, factor, np.nan)
        factor_axes.plot(steps, drawn, color=colour, label=f"beta_2 = {beta_2}")
        rate_axes.plot(steps, drawn * warmed_up, color=colour)
    rate_axes.plot(steps, warmed_up, color="#868e96", linestyle=":", label="without rectification")
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
            values = scalars.nesterov_momentum(np.float64(0.1), np.float64(decay), steps, np).mu
        axes[0].plot(steps, values, color=colour, linestyle=style, label=label)
    axes[0].set(title="Nadam's momentum, beta_1 = 0.9", xlabel="update", xscale="log")


PICTURES: dict[str, tuple[Callable[[tuple[Axes, ...]], None], int]] = {
    "rectification": (rectification, 2),
    "momentum": (momentum, 1),
}
"""By file name, what draws it and on how many axes side by side."""


def draw(
    name: str,
    paint: Callable[[tuple[Axes, ...]], None],
    columns: int,
    ink: str,
    path: Path,
    legend_columns: int | None = None,
) -> None:
    """Draw one picture on a transparent ground.

    Args:
        name: Of the picture; makes the names inside the file the same each time.
        paint: Draws onto the axes.
        columns: Number of axes side by side.
        ink: Colour of text and axes.
        path: Where the SVG goes; the same bytes each time.
        legend_columns: In how many columns the legend is set; default: for long entries.
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
        figure = Figure(figsize=(4.8 * columns + 1, 3.6), layout="constrained")
        paint(tuple(figure.subplots(1, columns, squeeze=False)[0]))
        legend_columns = legend_columns or 2 * columns - 1
        figure.legend(loc="outside lower center", ncols=legend_columns, frameon=False)
        figure.savefig(path, transparent=True, metadata={"Date": None})


def draw_both(
    name: str,
    paint: Callable[[tuple[Axes, ...]], None],
    columns: int,
    folder: Path = FOLDER,
    legend_columns: int | None = None,
) -> None:
    """Draw a picture for light and for dark pages."""
    folder.mkdir(parents=True, exist_ok=True)
    for theme, ink in INK.items():
        path = folder / f"{name}-{theme}.svg"
        draw(name, paint, columns, ink, path, legend_columns)


def main() -> None:
    """Draw all of them."""
    for name, (paint, columns) in PICTURES.items():
        draw_both(name, paint, columns)


if __name__ == "__main__":
    main()
