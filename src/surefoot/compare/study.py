"""A comparison in Python: its verdict, tables and figures."""

import html
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from surefoot.compare.statistics.summary import Summary
    from surefoot.compare.trials.store import Run


class Study:
    """The trials of a comparison, and what follows from them.

    Args:
        run: The trials, as read from disk.
    """

    def __init__(self, run: "Run") -> None:
        self._run = run

    @classmethod
    def load(cls, folder: str | Path) -> "Study":
        """The study in a folder, also of a run of the command that is not finished.

        Raises:
            UsageError: If there is none, or its file is damaged.
        """
        from surefoot.compare.trials.store import FILE, read

        return cls(read(Path(folder) / FILE))

    @cached_property
    def summary(self) -> "Summary":
        """All that is computed from the trials."""
        from surefoot.compare.statistics.analysis import summarize

        return summarize(self._run)

    @cached_property
    def verdict(self) -> list[str]:
        """The answer in sentences, the most important first."""
        from surefoot.compare.statistics.verdict import verdict

        return verdict(self.summary)

    def table(self) -> Any:
        """One row per optimizer, best first, as a data frame of pandas."""
        import pandas

        rows = []
        behind = {each.other: each for each in self.summary.differences}
        for each in self.summary.optimizers:
            best, width, difference = each.best, each.width, behind.get(each.label)
            rows.append(
                {
                    "optimizer": each.label,
                    **(best.setting.to_dict() if best else {}),
                    self.summary.metric: best and best.mean,
                    "low": best and best.low,
                    "high": best and best.high,
                    "seeds": best.seeds if best else 0,
                    "p-value": difference and difference.p_value,
                    "more seeds": difference and difference.more_seeds,
                    "good from": width and width.low,
                    "good to": width and width.high,
                    "steps to target": best and best.steps_to_target,
                    "seconds to target": each.seconds_to_target,
                    "seconds per step": each.seconds_per_step,
                    "diverged": each.diverged,
                    "trials": each.trials,
                }
            )
        return pandas.DataFrame(rows).set_index("optimizer")

    def trials(self) -> Any:
        """One row per trial, with the columns of `results.csv`, as a data frame of pandas."""
        import pandas

        from surefoot.compare.report.results import trial_rows

        return pandas.DataFrame(trial_rows(self._run, self.summary))

    def optuna(self, optimizer: str) -> Any:
        """The study of one optimizer as Optuna's, with its trials in memory.

        Args:
            optimizer: Its name in the tables.

        Raises:
            KeyError: If it has no trial.
        """
        from surefoot.compare.search.studies import study

        labels = [each.label for each in self.summary.optimizers]
        if optimizer not in labels:
            raise KeyError(f"no trial of {optimizer!r}; there are those of {', '.join(labels)}")
        return study(self._run, optimizer, optimizer)

    def figure(self) -> Any:
        """Result against learning rate, with the fresh seeds as points, as a figure of Plotly."""
        import plotly.graph_objects as go

        from surefoot.compare.report.html import COLOURS

        figure = go.Figure()
        for i, each in enumerate(self.summary.optimizers):
            points = [point for point in each.points if point.mean is not None]
            look = {"color": COLOURS[i % len(COLOURS)]}
            figure.add_scatter(
                x=[point.learning_rate for point in points],
                y=[point.mean for point in points],
                mode="markers" if any(point.others for point in points) else "lines+markers",
                line=look,
                name=each.label,
                legendgroup=each.label,
            )
            if each.best is not None and each.is_confirmed:
                figure.add_scatter(
                    x=[each.best.learning_rate] * len(each.results),
                    y=list(each.results),
                    mode="markers",
                    marker={**look, "symbol": "circle-open"},
                    name=f"{each.label}, fresh seeds",
                    legendgroup=each.label,
                )
        figure.update_xaxes(title="learning rate", type="log")
        figure.update_yaxes(title=self.summary.metric)
        return figure

    def curves(self) -> Any:
        """The result along the run, of each optimizer at its best, as a figure of Plotly."""
        import plotly.graph_objects as go

        from surefoot.compare.report.html import COLOURS

        figure = go.Figure()
        for i, each in enumerate(self.summary.optimizers):
            for trial, record in sorted(self._run.records.items()):
                is_best = each.best is not None and trial.setting == each.best.setting
                if trial.optimizer != each.label or not is_best or trial.seed not in each.seeds:
                    continue
                figure.add_scatter(
                    x=record["curve"]["step"],
                    y=record["curve"]["result"],
                    line={"color": COLOURS[i % len(COLOURS)]},
                    name=each.label,
                    legendgroup=each.label,
                    showlegend=trial.seed == each.seeds[0],
                )
        figure.update_xaxes(title="steps")
        figure.update_yaxes(title=self.summary.metric)
        return figure

    def __repr__(self) -> str:
        return "\n".join(self.verdict)

    def _repr_html_(self) -> str:
        sentences = "".join(f"<li>{html.escape(each)}</li>" for each in self.verdict)
        return f"<ul>{sentences}</ul>{self.table().to_html()}"
