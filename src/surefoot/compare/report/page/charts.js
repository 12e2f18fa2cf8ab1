"use strict";
// What the charts of the report show: for each its lines and points, its axes, and its range.
const charts = (() => {
  const symbols = ["circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon", "pentagon"];
  const dashes = ["solid", "dash", "dot", "dashdot"];
  const FRESH = 10000;  // seeds from here on took no part in the choice of a learning rate

  const shown = (value) => Number(value.toPrecision(4)).toString();
  const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

  function look(index, colours) {
    return {
      colour: colours[index % colours.length],
      symbol: symbols[index % symbols.length],
      // Colours repeat only after all of them are used; then the dashes differ.
      dash: dashes[Math.floor(index / colours.length) % dashes.length],
    };
  }

  // A trace that the keyboard reads and the table lists; `texts` says each point in words.
  function line(label, look, x, y, texts) {
    return {
      x, y, name: label, text: texts.map((text) => `${label}, ${text}`), hoverinfo: "text",
      mode: "lines+markers", reading: true,
      line: { color: look.colour, dash: look.dash, width: 2 },
      marker: { color: look.colour, symbol: look.symbol, size: 7 },
    };
  }

  function dots(x, y, marker) {
    return { x, y, mode: "markers", hoverinfo: "skip", reading: false, marker };
  }

  // The visible optimizers between which there is a choice, and the range of their results. A far
  // worse one would press all others into one line.
  function choice(section, visible) {
    const { optimizers, bound, higher_is_better: higher } = section.summary;
    const ranked = optimizers.filter((each) => visible.has(each.label) && each.best?.mean != null);
    if (!ranked.length || bound === null) return { near: visible, far: [], values: [], good: [], intervals: [] };
    const means = ranked.map((each) => each.best.mean);
    const best = higher ? Math.max(...means) : Math.min(...means);
    // From the bound to the best of the search is what the task calls near.
    const searched = optimizers.flatMap((each) => each.points.map((point) => point.mean)).filter((value) => value !== null);
    const peak = higher ? Math.max(...searched) : Math.min(...searched);
    const reach = 5 * Math.max(Math.abs(peak - bound), 1e-12);
    const near = ranked.filter((each) => Math.abs(each.best.mean - best) <= reach);
    return {
      near: new Set(near.map((each) => each.label)),
      far: ranked.filter((each) => !near.includes(each)).map((each) => each.label),
      values: [bound, ...near.flatMap((each) => [each.best.mean, ...each.results])],
      good: near.flatMap((each) => each.points.map((point) => point.mean))
        .filter((value) => value !== null && (higher ? value > bound : value < bound)),
      intervals: near.flatMap((each) => [each.best.low, each.best.high]).filter((value) => value !== null),
    };
  }

  // One row for each optimizer at its best learning rate: the mean, its interval, and the seeds.
  function bestTraces(section, optimizer, look) {
    const { best, label, results, is_confirmed: fresh } = optimizer;
    if (best?.mean == null) return [];
    const trace = line(label, look, [best.mean], [label], [
      `learning rate ${shown(best.learning_rate)}: ${shown(best.mean)}` +
      (best.low === null ? "" : `, interval ${shown(best.low)} to ${shown(best.high)}`) +
      `, ${plural(best.seeds, fresh ? "fresh seed" : "seed")}`]);
    trace.mode = "markers";
    trace.marker.size = 11;
    if (best.low !== null) {
      trace.error_x = {
        type: "data", symmetric: false, array: [best.high - best.mean], arrayminus: [best.mean - best.low],
        color: look.colour, thickness: 2, width: 6,
      };
    }
    return [dots(results, results.map(() => label), { color: look.colour, symbol: "circle-open", size: 8, line: { width: 1.5 } }), trace];
  }

  // Mean result against learning rate, with the interval over seeds as a band, and all seeds.
  function ratesTraces(section, optimizer, look) {
    const points = optimizer.points.filter((point) => point.mean !== null);
    const x = points.map((point) => point.learning_rate);
    const edge = (values, more) => ({
      x, y: values, mode: "lines", line: { width: 0 }, hoverinfo: "skip", reading: false, ...more,
    });
    const trials = section.trials.filter((each) => each.optimizer === optimizer.label && each.result !== null);
    const [searched, fresh] = [false, true].map((wanted) => trials.filter((each) => (each.seed >= FRESH) === wanted));
    const at = (some) => [some.map((each) => each.learning_rate), some.map((each) => each.result)];
    const traces = [
      edge(points.map((point) => point.low ?? point.mean)),
      edge(points.map((point) => point.high ?? point.mean), { fill: "tonexty", fillcolor: look.colour + "1f" }),
      dots(...at(searched), { color: look.colour, size: 4, opacity: 0.55 }),
      line(optimizer.label, look, x, points.map((point) => point.mean), points.map((point) =>
        `learning rate ${shown(point.learning_rate)}: ${shown(point.mean)}` +
        (point.low === null ? "" : `, interval ${shown(point.low)} to ${shown(point.high)}`) +
        `, ${plural(point.seeds, "seed")}` + (point.diverged ? `, ${point.diverged} diverged` : ""))),
    ];
    if (fresh.length && optimizer.best) {
      const { learning_rate: rate, mean: value, low, high } = optimizer.best;
      const confirmed = line(optimizer.label, look, [rate], [value], [
        `learning rate ${shown(rate)}, fresh seeds: ${shown(value)}` +
        (low === null ? "" : `, interval ${shown(low)} to ${shown(high)}`) + `, ${plural(fresh.length, "seed")}`]);
      Object.assign(confirmed, { mode: "markers", marker: {
        color: look.colour, symbol: look.symbol, size: 13, line: { color: "rgba(127,127,127,0.9)", width: 1.5 } } });
      traces.push(dots(...at(fresh), { color: look.colour, symbol: "circle-open", size: 8, line: { width: 1.5 } }), confirmed);
    }
    const diverged = optimizer.points.filter((point) => point.diverged);
    if (diverged.length) {
      // Learning rates at which seeds diverged get a cross at the bad end of the chart.
      const cross = line(optimizer.label, look, diverged.map((point) => point.learning_rate),
        diverged.map(() => null), diverged.map((point) =>
          `learning rate ${shown(point.learning_rate)}: ${point.diverged} of ${point.seeds} diverged`));
      Object.assign(cross, { mode: "markers", atWorst: true, marker: { color: look.colour, symbol: "x", size: 10 } });
      traces.push(cross);
    }
    return traces;
  }

  // One line per seed along the run; those of fresh seeds are strong.
  function curvesTraces(section, optimizer, look, chosen) {
    const rate = chosen.rate === "best" ? optimizer.best?.learning_rate : Number(chosen.rate);
    const trials = section.trials.filter((each) => each.optimizer === optimizer.label && each.learning_rate === rate);
    const confirmed = trials.some((each) => each.seed >= FRESH);
    return trials.map((trial) => {
      const kept = trial.curve.step.map((_, i) => i).filter((i) => trial.curve[chosen.value][i] !== null);
      const x = kept.map((i) => trial.curve.step[i] * (chosen.unit === "seconds" ? trial.seconds_per_step : 1));
      const y = kept.map((i) => trial.curve[chosen.value][i]);
      const trace = line(optimizer.label, look, x, y, kept.map((i, at) =>
        `learning rate ${shown(rate)}, seed ${trial.seed}, ` +
        `${chosen.unit === "seconds" ? `${shown(x[at])} s` : `step ${trial.curve.step[i]}`}: ${shown(y[at])}` +
        (trial.status === "diverged" ? ", diverged" : "")));
      trace.mode = "lines";
      trace.opacity = confirmed && trial.seed < FRESH ? 0.35 : 1;
      return trace;
    });
  }

  // Median time to the target against learning rate; learning rates that do not reach it are omitted.
  function targetTraces(section, optimizer, look, chosen) {
    const points = optimizer.points.filter((point) => point.steps_to_target !== null);
    const unit = chosen.unit === "seconds" ? optimizer.seconds_per_step : 1;
    const y = points.map((point) => point.steps_to_target * unit);
    return [line(optimizer.label, look, points.map((point) => point.learning_rate), y, points.map((point, i) =>
      `learning rate ${shown(point.learning_rate)}: ${shown(y[i])} ${chosen.unit === "seconds" ? "s" : "steps"}, ` +
      `reached by ${point.reached} of ${point.seeds}`))];
  }

  // Mean result of the chosen optimizer by colour, at each learning rate and weight decay tried.
  function decayTraces(section, optimizer, look, chosen) {
    if (optimizer.label !== chosen.optimizer) return [];
    const groups = new Map();
    for (const trial of section.trials) {
      if (trial.optimizer !== optimizer.label || trial.weight_decay == null || trial.result === null) continue;
      const key = `${trial.learning_rate} ${trial.weight_decay}`;
      groups.set(key, [...(groups.get(key) ?? []), trial]);
    }
    const cells = [...groups.values()].map((trials) => ({ ...trials[0], result: mean(trials.map((each) => each.result)) }));
    const trace = line(optimizer.label, look, cells.map((each) => each.learning_rate),
      cells.map((each) => each.weight_decay), cells.map((each) =>
        `learning rate ${shown(each.learning_rate)}, weight decay ${shown(each.weight_decay)}: ${shown(each.result)}`));
    const { values } = choice(section, new Set([optimizer.label]));
    const results = [...values, ...(values.length ? [] : cells.map((each) => each.result))];
    trace.mode = "markers";
    trace.marker = {
      symbol: "square", size: 22, color: cells.map((each) => each.result), colorscale: "Viridis",
      reversescale: !section.summary.higher_is_better, cmin: Math.min(...results), cmax: Math.max(...results),
      colorbar: { title: { text: section.summary.metric, side: "right" }, thickness: 14 },
    };
    return [trace];
  }

  function padded(values) {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const margin = (high - low) * 0.08 || Math.abs(high) * 0.05 || 0.01;
    return [low - margin, high + margin];
  }

  // The range of the axis of results; undefined leaves it to Plotly.
  function range(kind, section, visible, traces, chosen) {
    const read = traces.filter((trace) => trace.reading);
    const all = read.flatMap((trace) => (kind === "best" ? trace.x : trace.y)).filter((value) => value !== null);
    if (kind === "target" || kind === "decay" || !all.length) return undefined;
    const { near, values, good, intervals } = choice(section, visible);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    if (kind === "best") {
      if (chosen.scale !== "near" || !values.length) return padded([...all, ...intervals]);
      // With two seeds an interval is many times as wide as what it is about; it is cut off then.
      const limit = (value) => Math.min(Math.max(value, low - 3 * (high - low)), high + 3 * (high - low));
      return padded([...values, ...intervals.map(limit)]);
    }
    if (chosen.scale === "near" && kind === "rates" && values.length) {
      // Twice as much behind the bound as before it, so that the ends of the good range are seen.
      const { bound, higher_is_better: higher } = section.summary;
      const best = higher ? Math.max(high, ...good) : Math.min(low, ...good);
      return padded([...values, best, bound - 2 * (best - bound)]);
    }
    if (chosen.scale === "near" && kind === "curves") {
      // The first half of a run is where all of them still fall or rise together.
      const late = read.filter((trace) => near.has(trace.name)).flatMap((trace) => trace.y.slice(trace.y.length >> 1));
      if (late.length) return padded(late);
    }
    // The means fill the chart; the wide band of an unstable learning rate may be cut off.
    return padded(all);
  }

  // Names of optimizers as labels of an axis: plain text, cut where a line may end.
  function ticks(labels) {
    const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;");
    return labels.map((label) => {
      const lines = [""];
      for (const part of label.split(/(?<=\w[(,:])(?=[A-Za-z_])|(?=\+[a-z])/)) {
        if (lines.at(-1).length + part.length > 20 && lines.at(-1)) lines.push("");
        lines[lines.length - 1] += part;
      }
      return lines.map(escaped).join("<br>");
    });
  }

  const units = (chosen, step, seconds) => (chosen.unit === "seconds" ? seconds : step);
  const kinds = {
    best: { traces: bestTraces, x: (_, section) => section.summary.metric, y: () => "", bound: true },
    rates: { traces: ratesTraces, x: () => "learning rate", y: (section) => section.summary.metric, logX: true, bound: true },
    curves: {
      traces: curvesTraces,
      x: (chosen) => units(chosen, "steps", "seconds of training"),
      y: (section, chosen) => ({
        result: section.summary.metric, validation_loss: "validation loss", train_loss: "training loss",
      })[chosen.value],
    },
    target: {
      traces: targetTraces, logX: true, x: () => "learning rate", fromZero: true,
      y: (_, chosen) => units(chosen, "steps to target", "seconds to target"),
    },
    decay: { traces: decayTraces, logX: true, x: () => "learning rate", y: () => "weight decay" },
  };
  return { kinds, look, range, choice, shown, ticks };
})();
