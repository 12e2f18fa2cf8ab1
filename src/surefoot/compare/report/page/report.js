"use strict";
// Draws the charts of the report from the data in the page.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const PAPER = 680;  // the width of a chart in print, in pixels: A4 without its margins

  function choices(figure) {
    return Object.fromEntries([...figure.querySelectorAll("select")].map((each) => [each.name, each.value]));
  }

  // ---- drawing -------------------------------------------------------------------------------

  function draw(figure, section, visible, width) {
    const kind = figure.dataset.chart;
    const chart = charts.kinds[kind];
    const plot = figure.querySelector(".plot");
    const chosen = choices(figure);
    const css = getComputedStyle(document.body);
    const colour = (name) => css.getPropertyValue(name).trim();
    const traces = section.summary.optimizers.flatMap((optimizer, index) => visible.has(optimizer.label)
      ? chart.traces(section, optimizer, charts.look(index, data.colours), chosen) : []);
    const axis = (text) => ({
      title: { text, font: { size: 13 } }, gridcolor: colour("--line"), linecolor: colour("--line"), zeroline: false, automargin: true,
    });
    const { bound, higher_is_better: higher } = section.summary;
    const xaxis = axis(chart.x(chosen, section));
    const yaxis = axis(chart.y(section, chosen));
    const range = charts.range(kind, section, visible, traces, chosen);
    const rows = kind === "best";
    const logY = chosen.scale === "log" || (kind === "decay" && !traces.some((trace) => trace.y.includes(0)));
    if (rows) {
      const labels = traces.filter((trace) => trace.reading).map((trace) => trace.name).reverse();
      Object.assign(yaxis, { type: "category", categoryarray: labels, tickvals: labels, ticktext: charts.ticks(labels) });
      if (range) xaxis.range = range;
    } else if (chart.fromZero) yaxis.rangemode = "tozero";
    else if (logY) Object.assign(yaxis, { type: "log", exponentformat: "power", ...(kind === "decay" ? { dtick: 1 } : {}) });
    else if (kind === "decay") yaxis.type = "category";
    else if (range) yaxis.range = range;
    // Of learning rates at which seeds diverged there is no mean; their crosses stand at the bad end.
    for (const trace of traces.filter((each) => each.atWorst)) {
      const worst = range ? range[higher ? 0 : 1] + (range[1] - range[0]) * (higher ? 0.03 : -0.03) : 0;
      trace.y = trace.x.map(() => worst);
    }
    if (chart.logX) {
      // The same for all charts, so that they can be compared.
      const rates = section.trials.map((trial) => Math.log10(trial.learning_rate));
      const [low, high] = [Math.min(...rates), Math.max(...rates)];
      Object.assign(xaxis, { type: "log", exponentformat: "power", range: [low - 0.15, high + 0.15] });
      if (high - low >= 1) xaxis.dtick = 1;
    }
    const good = chart.bound && bound !== null && traces.length > 0;
    const empty = !traces.some((trace) => trace.reading && trace.x.length);
    const note = { showarrow: false, xref: "paper", yref: "paper", font: { color: colour("--soft"), size: 12 } };
    const text = `good: ${higher ? "at least" : "at most"} ${charts.shown(bound ?? 0)}`;
    const at = rows
      ? { xref: "x", x0: bound, x1: bound, yref: "paper", y0: 0, y1: 1 }
      : { xref: "paper", x0: 0, x1: 1, yref: "y", y0: bound, y1: bound };
    const label = rows
      ? { xref: "x", x: bound, xanchor: "auto", y: 1, yanchor: "bottom" }
      : { x: 0, xanchor: "left", yref: "y", y: bound, yanchor: "bottom" };
    const { validation_noise: noise, optimizers: [first] } = section.summary;
    const band = rows && noise !== null && visible.has(first.label)
      ? [{ type: "rect", xref: "x", x0: first.best.mean - noise, x1: first.best.mean + noise, yref: "paper", y0: 0, y1: 1,
        fillcolor: colour("--line"), opacity: 0.6, line: { width: 0 }, layer: "below" }] : [];
    const height = rows ? 90 + 42 * yaxis.tickvals.length : undefined;
    plot.style.height = rows ? `${height}px` : "";
    const layout = {
      paper_bgcolor: colour("--ground"), plot_bgcolor: colour("--ground"), showlegend: false,
      font: { family: css.fontFamily, color: colour("--ink"), size: 13 },
      margin: { l: 50, r: 12, t: rows ? 24 : 12, b: 45 }, hovermode: "closest", xaxis, yaxis,
      hoverlabel: { bgcolor: colour("--tint"), font: { family: css.fontFamily, color: colour("--ink") } },
      shapes: [...band, ...(good ? [{ type: "line", line: { color: colour("--soft"), dash: "dot", width: 1.5 }, ...at }] : [])],
      annotations: [
        ...(good ? [{ ...note, ...label, text, bgcolor: colour("--ground"), opacity: 0.85 }] : []),
        ...(empty ? [{ ...note, x: 0.5, y: 0.5, text: "nothing to show" }] : []),
      ],
      ...(width ? { width, height: height ?? width * 0.5 } : { autosize: true }),
    };
    plot.reading = { trace: -1, point: 0 };
    figure.querySelector(".spoken").textContent = "";
    const { far } = charts.choice(section, visible);
    const outside = chosen.scale === "near" ? far : [];
    figure.querySelector(".outside").textContent = outside.length ? `Worse than this range: ${outside.join(", ")}.` : "";
    Plotly.react(plot, traces, layout, { responsive: !width, displayModeBar: false });
    fill(figure);
  }

  // ---- the same as a table, for those who do not see the chart ----------------------------------

  function fill(figure) {
    const details = figure.querySelector(".as-table");
    if (!details.open) return;
    const plot = figure.querySelector(".plot");
    const rows = plot.data.filter((trace) => trace.reading).flatMap((trace) => trace.x.map((x, i) =>
      [trace.name, charts.shown(x), trace.atWorst ? "-" : trace.y[i], trace.text[i].slice(trace.name.length + 2)]
        .map((cell) => (typeof cell === "number" ? charts.shown(cell) : cell))));
    const titles = ["optimizer", plot.layout.xaxis.title.text, plot.layout.yaxis.title.text, "in words"];
    if (!titles[2]) [titles, ...rows].forEach((cells) => cells.splice(2, 1));  // the rows are the optimizers
    const row = (cells, tag) => {
      const made = document.createElement("tr");
      made.append(...cells.map((text) => Object.assign(document.createElement(tag), { textContent: text })));
      return made;
    };
    const head = document.createElement("thead");
    head.append(row(titles, "th"));
    const body = document.createElement("tbody");
    body.append(...rows.map((cells) => row(cells, "td")));
    details.querySelector("table").replaceChildren(head, body);
  }

  // ---- keyboard ------------------------------------------------------------------------------

  function read(figure, event) {
    const plot = figure.querySelector(".plot");
    const lines = plot.data.map((trace, i) => i).filter((i) => plot.data[i].reading && plot.data[i].x.length);
    const moves = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };
    const place = plot.reading;
    const output = figure.querySelector(".spoken");
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
  const redrawAll = (width) => redraws.forEach((redraw) => redraw(width));
  for (const element of document.querySelectorAll(".comparison")) {
    const section = data.sections[Number(element.dataset.section)];
    const boxes = [...element.querySelectorAll(".filter input")];
    const visible = () => new Set(boxes.filter((box) => box.checked).map((box) => box.value));
    const figures = [...element.querySelectorAll("figure")];
    const redraw = (width) => figures.forEach((figure) => draw(figure, section, visible(), width));
    redraws.push(redraw);

    const rates = [...new Set(section.trials.map((trial) => trial.learning_rate))].sort((a, b) => a - b);
    for (const select of element.querySelectorAll('select[name="rate"]')) {
      for (const rate of rates) select.add(new Option(charts.shown(rate), rate));
    }
    boxes.forEach((box) => box.addEventListener("change", () => redraw()));
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
      figure.querySelector(".as-table").addEventListener("toggle", () => fill(figure));
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
  document.getElementById("save-json").addEventListener("click", () =>
    save("results.json", "application/json", JSON.stringify({ sections: data.sections }, null, 1)));
  const root = document.documentElement;
  const isDark = matchMedia("(prefers-color-scheme: dark)");
  isDark.addEventListener("change", () => redrawAll());
  document.getElementById("theme").addEventListener("click", () => {
    const now = root.dataset.theme ?? (isDark.matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
    redrawAll();
  });
  // Paper is white, and as wide as it is.
  let theme;
  addEventListener("beforeprint", () => {
    document.querySelectorAll("details.method").forEach((details) => { details.open = true; });
    theme = root.dataset.theme;
    root.dataset.theme = "light";
    redrawAll(PAPER);
  });
  addEventListener("afterprint", () => {
    if (theme === undefined) delete root.dataset.theme;
    else root.dataset.theme = theme;
    redrawAll();
  });
})();
