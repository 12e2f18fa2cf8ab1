"use strict";
// Draws the charts of the report from the data in the page.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const symbols = ["circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon", "pentagon"];
  const dashes = ["solid", "dash", "dot", "dashdot"];

  const style = (index) => ({
    colour: data.colours[index % data.colours.length],
    symbol: symbols[index % symbols.length],
    // Colours repeat only after all of them are used; then the dashes differ.
    dash: dashes[Math.floor(index / data.colours.length) % dashes.length],
  });
  const shown = (value) => Number(value.toPrecision(4)).toString();
  const faint = (colour) => colour + "26";

  // ---- the traces of each chart -------------------------------------------------------------

  // Mean result against learning rate, with the interval over seeds as a band.
  function ratesTraces(section, optimizer, look) {
    const points = optimizer.points.filter((point) => point.mean !== null);
    const x = points.map((point) => point.learning_rate);
    const edge = (values, more) => ({
      x, y: values, mode: "lines", line: { width: 0 }, hoverinfo: "skip", reading: false, ...more,
    });
    const traces = [
      edge(points.map((point) => point.low ?? point.mean)),
      edge(points.map((point) => point.high ?? point.mean), { fill: "tonexty", fillcolor: faint(look.colour) }),
      line(optimizer.label, look, x, points.map((point) => point.mean), points.map((point) =>
        `learning rate ${shown(point.learning_rate)}: ${shown(point.mean)}` +
        (point.low === null ? "" : `, interval ${shown(point.low)} to ${shown(point.high)}`) +
        `, ${point.seeds} seed${point.seeds === 1 ? "" : "s"}` +
        (point.diverged ? `, ${point.diverged} diverged` : ""))),
    ];
    const diverged = optimizer.points.filter((point) => point.diverged);
    if (diverged.length) {
      // Learning rates at which seeds diverged get a cross at the bad end of the chart.
      const means = section.summary.optimizers.flatMap((each) => each.points.map((point) => point.mean))
        .filter((mean) => mean !== null);
      const worst = means.length ? (section.summary.higher_is_better ? Math.min : Math.max)(...means) : 0;
      const cross = line(optimizer.label, look, diverged.map((point) => point.learning_rate),
        diverged.map(() => worst), diverged.map((point) =>
          `learning rate ${shown(point.learning_rate)}: ${point.diverged} of ${point.seeds} diverged`));
      cross.mode = "markers";
      cross.marker = { color: look.colour, symbol: "x", size: 10 };
      traces.push(cross);
    }
    return traces;
  }

  // One line per seed along the run.
  function curvesTraces(section, optimizer, look, choice) {
    const rate = choice.rate === "best" ? optimizer.best?.learning_rate : Number(choice.rate);
    return section.trials
      .filter((trial) => trial.optimizer === optimizer.label && trial.learning_rate === rate)
      .map((trial) => {
        const kept = trial.curve.step.map((_, i) => i).filter((i) => trial.curve[choice.value][i] !== null);
        const x = kept.map((i) => trial.curve.step[i] * (choice.unit === "seconds" ? trial.seconds_per_step : 1));
        const y = kept.map((i) => trial.curve[choice.value][i]);
        const trace = line(optimizer.label, look, x, y, kept.map((i, at) =>
          `learning rate ${shown(rate)}, seed ${trial.seed}, ` +
          `${choice.unit === "seconds" ? `${shown(x[at])} s` : `step ${trial.curve.step[i]}`}: ${shown(y[at])}` +
          (trial.status === "diverged" ? ", diverged" : "")));
        trace.mode = "lines";
        return trace;
      });
  }

  // Median time to the target against learning rate; learning rates that do not reach it are omitted.
  function targetTraces(section, optimizer, look, choice) {
    const points = optimizer.points.filter((point) => point.steps_to_target !== null);
    const unit = choice.unit === "seconds" ? optimizer.seconds_per_step : 1;
    const y = points.map((point) => point.steps_to_target * unit);
    return [line(optimizer.label, look, points.map((point) => point.learning_rate), y, points.map((point, i) =>
      `learning rate ${shown(point.learning_rate)}: ${shown(y[i])} ${choice.unit === "seconds" ? "s" : "steps"}, ` +
      `reached by ${point.reached} of ${point.seeds}`))];
  }

  function line(label, look, x, y, texts) {
    return {
      x, y, name: label, text: texts.map((text) => `${label}, ${text}`), hoverinfo: "text",
      mode: "lines+markers", reading: true,
      line: { color: look.colour, dash: look.dash, width: 2 },
      marker: { color: look.colour, symbol: look.symbol, size: 7 },
    };
  }

  const charts = {
    rates: { traces: ratesTraces, x: () => "learning rate", y: (section) => section.summary.metric, logX: true },
    curves: {
      traces: curvesTraces,
      x: (_, choice) => (choice.unit === "seconds" ? "seconds of training" : "steps"),
      y: (section, choice) => ({
        result: section.summary.metric, validation_loss: "validation loss", train_loss: "training loss",
      })[choice.value],
    },
    target: {
      traces: targetTraces, logX: true, x: () => "learning rate", fromZero: true,
      y: (_, choice) => (choice.unit === "seconds" ? "seconds to target" : "steps to target"),
    },
  };

  // ---- drawing -------------------------------------------------------------------------------

  function draw(figure, section, visible) {
    const chart = charts[figure.dataset.chart];
    const plot = figure.querySelector(".plot");
    const choice = Object.fromEntries([...figure.querySelectorAll("select")].map((each) => [each.name, each.value]));
    const css = getComputedStyle(document.documentElement);
    const colour = (name) => css.getPropertyValue(name).trim();
    const traces = section.summary.optimizers.flatMap((optimizer, index) =>
      visible.has(optimizer.label) ? chart.traces(section, optimizer, style(index), choice) : []);
    const axis = (title) => ({
      title: { text: title }, gridcolor: colour("--line"), linecolor: colour("--line"), zeroline: false,
      automargin: true,
    });
    const means = traces.filter((trace) => trace.reading).flatMap((trace) => trace.y);
    const margin = means.length ? (Math.max(...means) - Math.min(...means)) * 0.07 || 0.01 : 1;
    const yaxis = axis(chart.y(section, choice));
    if (chart.fromZero) {
      yaxis.rangemode = "tozero";
    } else if (means.length) {
      // The means fill the chart; the wide band of an unstable learning rate may be cut off.
      yaxis.range = [Math.min(...means) - margin, Math.max(...means) + margin];
    }
    const xaxis = axis(chart.x(section, choice));
    if (chart.logX) Object.assign(xaxis, { type: "log", exponentformat: "power", dtick: 1 });
    const layout = {
      paper_bgcolor: colour("--ground"), plot_bgcolor: colour("--ground"), showlegend: false,
      font: { family: css.fontFamily, color: colour("--ink"), size: 13 },
      margin: { l: 60, r: 12, t: 12, b: 50 }, hovermode: "closest", xaxis, yaxis,
      hoverlabel: { bgcolor: colour("--tint"), font: { color: colour("--ink") } },
      annotations: traces.some((trace) => trace.reading && trace.x.length) ? [] : [{
        text: "nothing to show", showarrow: false, xref: "paper", yref: "paper", x: 0.5, y: 0.5,
      }],
    };
    plot.reading = { trace: -1, point: 0 };
    figure.querySelector(".reading").textContent = "";
    return Plotly.react(plot, traces, layout, { responsive: true, displayModeBar: false });
  }

  // ---- keyboard ------------------------------------------------------------------------------

  function read(figure, event) {
    const plot = figure.querySelector(".plot");
    const lines = plot.data.map((trace, i) => i).filter((i) => plot.data[i].reading && plot.data[i].x.length);
    const moves = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };
    const place = plot.reading;
    const output = figure.querySelector(".reading");
    if (event.key === "Escape") {
      place.trace = -1;
      output.textContent = "";
      Plotly.Fx.unhover(plot);
      return;
    }
    if (!(event.key in moves) || !lines.length) return;
    event.preventDefault();
    if (place.trace < 0) {
      Object.assign(place, { trace: 0, point: 0 });
    } else {
      const [byLine, byPoint] = moves[event.key];
      place.trace = (place.trace + byLine + lines.length) % lines.length;
      place.point += byPoint;
    }
    const trace = plot.data[lines[place.trace]];
    place.point = Math.min(Math.max(place.point, 0), trace.x.length - 1);
    Plotly.Fx.hover(plot, [{ curveNumber: lines[place.trace], pointNumber: place.point }]);
    output.textContent = trace.text[place.point];
  }

  // ---- saving --------------------------------------------------------------------------------

  function save(name, type, content) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([content], { type }));
    link.download = name;
    link.click();
    URL.revokeObjectURL(link.href);
  }

  // ---- setup ---------------------------------------------------------------------------------

  const redraws = [];
  for (const element of document.querySelectorAll(".comparison")) {
    const section = data.sections[Number(element.dataset.section)];
    const boxes = [...element.querySelectorAll(".filter input")];
    const visible = () => new Set(boxes.filter((box) => box.checked).map((box) => box.value));
    const figures = [...element.querySelectorAll("figure")];
    const redraw = () => figures.forEach((figure) => draw(figure, section, visible()));
    redraws.push(redraw);

    const rates = [...new Set(section.trials.map((trial) => trial.learning_rate))].sort((a, b) => a - b);
    for (const select of element.querySelectorAll('select[name="rate"]')) {
      for (const rate of rates) select.add(new Option(shown(rate), rate));
    }
    boxes.forEach((box) => box.addEventListener("change", redraw));
    for (const [name, checked] of [["all", true], ["none", false]]) {
      element.querySelector(`.filter .${name}`)?.addEventListener("click", () => {
        boxes.forEach((box) => { box.checked = checked; });
        redraw();
      });
    }
    for (const figure of figures) {
      for (const select of figure.querySelectorAll("select")) {
        select.addEventListener("change", () => draw(figure, section, visible()));
      }
      figure.querySelector(".plot").addEventListener("keydown", (event) => read(figure, event));
      for (const button of figure.querySelectorAll(".save")) {
        button.addEventListener("click", () => Plotly.downloadImage(figure.querySelector(".plot"), {
          format: button.dataset.format, width: 1000, height: 600,
          filename: `${section.run.task}-${figure.dataset.chart}`.replace(/[^\w.-]+/g, "-"),
        }));
      }
    }
    redraw();
  }

  document.getElementById("save-csv").addEventListener("click", () => save("results.csv", "text/csv", data.csv));
  const isDark = matchMedia("(prefers-color-scheme: dark)");
  const redrawAll = () => redraws.forEach((redraw) => redraw());
  isDark.addEventListener("change", redrawAll);
  document.getElementById("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const now = root.dataset.theme ?? (isDark.matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
    redrawAll();
  });
})();
