"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";
  const COLOURS = 8;
  const J_PER_KWH = 3.6e6;

  // Text becomes text nodes and attributes alone: programs of models are hostile.
  function make(name, attributes = {}, ...children) {
    const svg = ["svg", "g", "path", "line", "text", "circle", "rect"].includes(name);
    const node = svg ? document.createElementNS(SVG, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (value !== null && value !== undefined) node.setAttribute(key, value);
    }
    node.append(...children);
    return node;
  }
  const colour = (i) => `var(--c${i % COLOURS})`;
  const several = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

  function digits(value, count = 3) {
    if (value === null || value === undefined) return "-";
    if (value === 0) return "0";
    const places = Math.min(8, Math.max(0, count - 1 - Math.floor(Math.log10(Math.abs(value)))));
    return value.toLocaleString("en", { minimumFractionDigits: places, maximumFractionDigits: places });
  }
  const tickText = (value) =>
    value.toLocaleString("en", { maximumSignificantDigits: 3, useGrouping: true });

  // One kind of runs is shown at a time, and of it what the filters let through.
  const TITLES = { model: "Model", quant: "Quantization", batch: "Batch", engine: "Engine", generation: "Generation" };
  let group, items, facets, coloured, shaped, sized;
  const isShown = (item) => facets.every((facet) => !facet.off.has(facet.of(item)));
  const shown = () => items.filter(isShown);

  function chooseGroup() {
    group = data.groups[byId("group").value];
    items = group.configurations.map((own, c) => ({ ...own, c }));
    facets = [...new Set(items.flatMap((item) => Object.keys(item.settings)))]
      .map((key) => {
        const of = (item) => item.settings[key] ?? "-";
        return { key, of, values: [...new Set(items.map(of))], off: new Set() };
      })
      .filter((facet) => facet.values.length > 1);
    const batch = facets.find((facet) => facet.key === "batch");
    batch?.values.sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
    shaped = facets.find((facet) => facet.key === "engine");
    sized = batch;
    const free = facets.filter((facet) => facet !== shaped && facet !== sized);
    coloured = free.find((f) => f.key === "model" && f.values.length <= COLOURS) ?? free.find((f) => f.key === "quant") ?? free[0] ?? facets[0];
    for (const item of items) {
      item.name = facets.map((facet) => facet.of(item)).join(" ") || item.name;
    }
    axes = AXES.filter((axis) => items.some((item) => item[axis.key] !== null));
    if (!items.some((item) => item.pass_at_1 !== null)) axes = axes.filter((axis) => axis.key !== "energy_per_solved_task_j");
    byId("axis").replaceChildren(...axes.map((axis) => make("option", { value: axis.key }, axis.name)));
    buildFacets();
    buildRows();
    draw();
  }
  const colourOf = (item) => colour(coloured ? coloured.values.indexOf(coloured.of(item)) : 0);

  function buildFacets() {
    const home = byId("facets");
    home.replaceChildren(...facets.map((facet) => {
      const field = make("fieldset", {}, make("legend", {}, TITLES[facet.key] ?? facet.key));
      for (const value of facet.values) {
        const box = make("input", { type: "checkbox", "data-facet": facet.key, value });
        box.checked = true;
        box.addEventListener("change", () => {
          facet.off[box.checked ? "delete" : "add"](value);
          draw();
        });
        field.append(make("label", {}, box, value));
      }
      return field;
    }));
    byId("filters").hidden = !facets.length;
  }

  // Axes.
  function niceTicks(low, high, count) {
    const raw = (high - low) / count || 1;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = power * [1, 2, 5, 10].find((m) => m * power >= raw);
    const ticks = [];
    for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-6; v += step) {
      ticks.push(Number(v.toPrecision(12)));
    }
    return ticks;
  }
  function logTicks(low, high, most) {
    for (const factors of [[1, 2, 5], [1, 3], [1]]) {
      const ticks = [];
      for (let p = Math.floor(Math.log10(low)); p <= Math.log10(high); p++) {
        for (const f of factors) {
          const v = f * 10 ** p;
          if (v >= low && v <= high) ticks.push(Number(v.toPrecision(3)));
        }
      }
      if (ticks.length <= most) return ticks;
    }
    return [low, high];
  }
  function frame(home, { label, low, high, log, xLabel, yLow, yHigh, yLabel, many }) {
    const width = Math.max(280, home.clientWidth);
    const height = Math.round(Math.min(480, Math.max(many ? 480 : 340, width * 0.62)));
    const box = { left: 46, right: width - 14, top: 30, bottom: height - 46 };
    const part = (v) => (log ? Math.log(v / low) / Math.log(high / low) : (v - low) / (high - low));
    const x = (v) => box.left + part(v) * (box.right - box.left);
    const y = (v) => box.bottom - ((v - yLow) / (yHigh - yLow)) * (box.bottom - box.top);
    const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": label });
    const most = Math.max(3, Math.floor(width / 90));
    for (const v of log ? logTicks(low, high, most) : niceTicks(low, high, most)) {
      svg.append(
        make("line", { class: "grid", x1: x(v), x2: x(v), y1: box.top, y2: box.bottom }),
        make("text", { class: "tick", x: x(v), y: box.bottom + 18, "text-anchor": "middle" }, tickText(v)));
    }
    const ticks = niceTicks(yLow, yHigh, 5);
    for (const v of ticks) {
      svg.append(
        make("line", { class: "grid", x1: box.left, x2: box.right, y1: y(v), y2: y(v) }),
        make("text", { class: "tick", x: box.left - 8, y: y(v) + 4, "text-anchor": "end" }, tickText(v)));
    }
    svg.append(
      make("text", { x: box.right, y: height - 8, "text-anchor": "end" }, xLabel),
      make("text", { x: 0, y: 14 }, yLabel));
    home.replaceChildren(svg);
    return { svg, x, y, box, width, ticks };
  }
  function empty(home, words) {
    home.replaceChildren(make("p", { class: "empty" }, words));
  }
  function tip(home, px, py, text, width) {
    untip(home);
    const node = make("div", { class: "tip", role: "presentation" }, text);
    home.append(node);
    const scale = home.clientWidth / width;
    const left = Math.min(px * scale + 14, home.clientWidth - node.offsetWidth);
    const above = py * scale - node.offsetHeight - 12;
    node.style.left = `${Math.max(0, left)}px`;
    node.style.top = `${above < 0 ? py * scale + 14 : above}px`;
  }
  const untip = (home) => home.querySelector(".tip")?.remove();

  // Energy against pass@1, or against speed where nothing is judged.
  const AXES = [
    { name: "J per correct program", key: "energy_per_solved_task_j", total: true },
    { name: "J per task", key: "energy_per_task_j" },
    { name: "J per output token", key: "energy_per_output_token_j" },
    { name: "energy of all tasks", key: "energy_total_j", total: true, large: true },
  ];
  let axes = [];
  const SHAPES = [
    (x, y, s) => make("circle", { cx: x, cy: y, r: s }),
    (x, y, s) => make("path", { d: `M${x - s} ${y - s}h${2 * s}v${2 * s}h${-2 * s}Z` }),
    (x, y, s) => make("path", { d: `M${x} ${y - 1.3 * s}L${x + 1.25 * s} ${y + s}H${x - 1.25 * s}Z` }),
    (x, y, s) => make("path", { d: `M${x} ${y - 1.4 * s}L${x + 1.4 * s} ${y}L${x} ${y + 1.4 * s}L${x - 1.4 * s} ${y}Z` }),
    (x, y, s) => make("path", { d: `M${x} ${y + 1.3 * s}L${x + 1.25 * s} ${y - s}H${x - 1.25 * s}Z` }),
    (x, y, s) => make("path", { d: `M${x - s / 3} ${y - 1.2 * s}h${s / 1.5}v${s * 0.87}h${s * 0.87}v${s / 1.5}h${-s * 0.87}v${s * 0.87}h${-s / 1.5}v${-s * 0.87}h${-s * 0.87}v${-s / 1.5}h${s * 0.87}Z` }),
  ];
  const sizeOf = (place) => 4.5 + (sized && sized.values.length > 1 ? (4.5 * place) / (sized.values.length - 1) : 1.5);
  function shape(item, px, py, fill = colourOf(item)) {
    const draw = SHAPES[(shaped ? shaped.values.indexOf(shaped.of(item)) : 0) % SHAPES.length];
    const node = draw(px, py, sizeOf(sized ? sized.values.indexOf(sized.of(item)) : 0));
    for (const [key, value] of [["fill", fill], ["stroke", fill], ["stroke-width", 2]]) node.setAttribute(key, value);
    if (group.kind !== "measured") node.setAttribute("fill-opacity", group.kind === "estimate" ? 0.35 : 0);
    return node;
  }
  function frontOf(points, key, y) {
    let best = -Infinity;
    return [...points]
      .sort((a, b) => a[key] - b[key] || b[y] - a[y])
      .filter((p) => p[y] > best && ((best = p[y]), true));
  }
  function drawPareto() {
    const home = byId("pareto");
    const axis = axes.find((a) => a.key === byId("axis").value);
    const judged = items.some((item) => item.pass_at_1 !== null);
    const yKey = judged ? "pass_at_1" : "throughput_tokens_per_s";
    const own = shown();
    const points = axis ? own.filter((i) => i[axis.key] !== null && i[yKey] !== null) : [];
    const without = own.length - points.length;
    byId("shown").textContent = `${own.length} of ${several(items.length, "configuration")}` +
      (without && points.length ? `; ${without} without this figure` : "");
    drawLegend(points);
    if (!points.length) {
      byId("pareto-caption").textContent = "";
      return empty(home, `Nothing to draw: no configuration shown has both energy and ${judged ? "pass@1" : "speed"}.`);
    }
    const values = points.map((p) => p[axis.key]);
    const kwh = axis.large && Math.max(...values) >= 1e5;
    const scale = kwh ? J_PER_KWH : 1;
    const unit = axis.large ? (kwh ? "kWh" : "J") : "";
    const least = Math.min(...values) / scale;
    const most = Math.max(...values) / scale;
    const log = most / least > 8;
    const many = points.length > 16;
    const room = (most - least || most) * 0.12;
    const ys = points.map((p) => p[yKey]);
    const span = Math.max(...ys) - Math.min(...ys);
    const pad = judged ? Math.max(0.02, span * 0.25) : (span || Math.max(...ys)) * 0.15;
    const estimate = group.kind === "measured" && axis.total && group.total_estimate ? "evaluation: estimate" : group.kind;
    const f = frame(home, {
      label: `${axis.name} against ${judged ? "pass@1" : "tokens/s"}, ${several(points.length, "configuration")}`,
      low: log ? least / 1.5 : Math.max(0, least - room), high: log ? most * 1.3 : most + room, log,
      xLabel: `${axis.name}${unit && ` [${unit}]`}${estimate === "measured" ? "" : ` (${estimate})`}${log ? ", logarithmic" : ""}`,
      yLow: Math.max(0, Math.min(...ys) - pad), yHigh: judged ? Math.min(1, Math.max(...ys) + pad) : Math.max(...ys) + pad,
      yLabel: judged ? "pass@1" : "tokens/s", many,
    });
    const at = (p) => [f.x(p[axis.key] / scale), f.y(p[yKey])];
    const front = frontOf(points, axis.key, yKey);
    if (front.length > 1) {
      const path = front.map((p, i) => (i ? `H${at(p)[0]}V${at(p)[1]}` : `M${at(p)[0]} ${at(p)[1]}`));
      f.svg.append(make("path", { class: "front", d: path.join("") }));
    }
    const leaders = f.svg.appendChild(make("g"));
    const boxes = points.map((p) => {
      const [px, py] = at(p);
      const s = 1.3 * sizeOf(sized ? sized.values.indexOf(sized.of(p)) : 0);
      return { l: px - s, r: px + s, t: py - s, b: py + s };
    });
    for (const v of f.ticks) boxes.push({ l: 0, r: f.box.left - 6, t: f.y(v) - 6, b: f.y(v) + 6 });
    // In the order of energy, so that the Tab key goes from left to right.
    for (const p of [...points].sort((a, b) => a[axis.key] - b[axis.key])) {
      const [px, py] = at(p);
      const sign = group.kind === "estimate" ? "~" : "";
      const interval = p.pass_at_1_ci_low === null ? "" : ` [${p.pass_at_1_ci_low.toFixed(2)}, ${p.pass_at_1_ci_high.toFixed(2)}]`;
      const text = [
        p.label, `${group.kind}, ${several(p.runs, "run")}`,
        ...(judged ? [`pass@1 ${p.pass_at_1.toFixed(3)}${interval}`] : []),
        ...axes.filter((a) => p[a.key] !== null).map((a) => `${sign}${digits(p[a.key])} ${a.large ? "J for all tasks" : a.name}`),
        `${digits(p.throughput_tokens_per_s)} tokens/s`,
      ].join("\n");
      const mark = make("g", { class: "mark", tabindex: 0, role: "img", "aria-label": text.replaceAll("\n", ", ") });
      if (judged && p.pass_at_1_ci_low !== null) {
        const ends = [p.pass_at_1_ci_low, p.pass_at_1_ci_high].map((v) => Math.min(f.box.bottom, Math.max(f.box.top, f.y(v))));
        mark.append(make("line", { class: "whisker", stroke: colourOf(p), x1: px, x2: px, y1: ends[0], y2: ends[1] }));
      }
      mark.append(shape(p, px, py), make("circle", { class: "halo", cx: px, cy: py, r: 13 }));
      for (const event of ["mouseenter", "focus"]) mark.addEventListener(event, () => tip(home, px, py, text, f.width));
      for (const event of ["mouseleave", "blur"]) mark.addEventListener(event, () => untip(home));
      f.svg.append(mark);
    }
    const order = [...front, ...points.filter((p) => !front.includes(p))];
    const left = placeLabels(f, leaders, order.map((p) => ({ text: p.name, fill: colourOf(p), at: at(p), most: !many ? 220 : front.includes(p) ? 110 : 45 })), boxes);
    byId("pareto-caption").textContent =
      `Up and to the left is better${front.length > 1 ? "; the dashed line is the Pareto front of the configurations shown" : ""}. ` +
      (judged ? "A mark shows its figures and its 95 % interval of pass@1 when pointed at or reached with the Tab key." : "Nothing was judged, so speed stands in place of pass@1.") +
      (left ? ` ${several(left, "label")} found no room: filter, or point at the mark.` : "");
  }
  // Each label in the nearest free place around its mark, with a line to it unless no other mark
  // is as near.
  function placeLabels(f, leaders, labels, taken) {
    const marks = labels.map((label) => label.at);
    let left = 0;
    for (const { text, fill, most, at: [px, py] } of labels) {
      const node = f.svg.appendChild(make("text", { class: "label", "aria-hidden": "true", style: `fill: ${fill}` }, text));
      const wide = node.getComputedTextLength();
      const free = (o) => o.l >= 2 && o.r <= f.width - 2 && o.t >= f.box.top - 12 && o.b <= f.box.bottom &&
        !taken.some((t) => o.l < t.r && o.r > t.l && o.t < t.b && o.b > t.t);
      let found = null;
      for (let far = 13; far < most && !found; far += far < 30 ? 5 : 12) {
        for (let turn = 0; turn < 16 && !found; turn++) {
          // From the upper left on: there is nothing beyond the front.
          const angle = (Math.PI * (10 + (turn % 2 ? -1 : 1) * Math.ceil(turn / 2))) / 8;
          const [cx, cy] = [px + far * 1.15 * Math.cos(angle), py + far * Math.sin(angle)];
          const l = Math.cos(angle) > 0.3 ? cx : Math.cos(angle) < -0.3 ? cx - wide : cx - wide / 2;
          const own = { l: l - 3, r: l + wide + 3, t: cy - 8, b: cy + 8 };
          if (free(own)) found = own;
        }
      }
      if (!found) {
        node.remove();
        left += 1;
        continue;
      }
      const near = ([x, y]) => [Math.min(found.r, Math.max(found.l, x)), Math.min(found.b, Math.max(found.t, y))];
      const gap = ([x, y]) => Math.hypot(near([x, y])[0] - x, near([x, y])[1] - y);
      node.setAttribute("x", found.l + 3);
      node.setAttribute("y", found.b - 4);
      if (gap([px, py]) > 14 || marks.some((at) => (at[0] !== px || at[1] !== py) && gap(at) < 1.5 * gap([px, py]))) {
        const [x2, y2] = near([px, py]);
        leaders.append(make("line", { class: "leader", style: `stroke: ${fill}`, x1: px, y1: py, x2, y2 }));
      }
      taken.push(found);
    }
    return left;
  }
  function swatch(draw) {
    const svg = make("svg", { width: 22, height: 20, viewBox: "0 0 22 20", "aria-hidden": "true" });
    svg.append(draw);
    return svg;
  }
  // The marks have their names beside them: this says what shape and size mean.
  function drawLegend(points) {
    const rows = [];
    for (const [facet, word] of [[shaped, "shape"], [sized, "size"]]) {
      if (!facet || !points.length) continue;
      const own = facet.values.map((value) => [value, points.find((p) => facet.of(p) === value)]).filter(([, p]) => p);
      rows.push(make("span", {}, `${word}: ${facet.key}`), ...own.map(([value, p]) => make("span", {}, swatch(shape(p, 11, 10, "var(--soft)")), value)));
    }
    byId("pareto-legend").replaceChildren(...rows);
  }

  // Energy over that of the unquantized model, by batch; both axes are logarithmic.
  function drawCurves() {
    const home = byId("curves");
    if (!home) return;
    const own = group.curves;
    byId("curves-caption").textContent = "";
    byId("curves-legend").replaceChildren();
    if (!own.length) return empty(home, "No quantized model here was run at two batches beside the unquantized one.");
    const width = Math.max(280, home.clientWidth);
    const height = Math.round(Math.min(440, Math.max(320, width * 0.55)));
    const box = { left: 46, right: width - 14, top: 30, bottom: height - 46 };
    const batches = [...new Set(own.flatMap((c) => c.batches))].sort((a, b) => a - b);
    const values = own.flatMap((c) => [...c.ratios, ...c.lows, ...c.highs]).filter((v) => v !== null && v > 0);
    const [low, high] = [Math.min(0.9, ...values) / 1.08, Math.max(1.1, ...values) * 1.08];
    const part = (v, a, b) => Math.log(v / a) / Math.log(b / a);
    const x = (v) => box.left + 12 + part(v, batches[0], batches.at(-1)) * (box.right - box.left - 24);
    const y = (v) => box.bottom - part(v, low, high) * (box.bottom - box.top);
    const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": `energy over that of the unquantized model by batch, ${several(own.length, "curve")}` });
    let free = -Infinity;
    for (const b of batches) {
      svg.append(make("line", { class: "grid", x1: x(b), x2: x(b), y1: box.top, y2: box.bottom }));
      if (x(b) < free) continue;
      free = x(b) + 30;
      svg.append(make("text", { class: "tick", x: x(b), y: box.bottom + 18, "text-anchor": "middle" }, tickText(b)));
    }
    const ticks = [0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10].filter((v) => v >= low && v <= high);
    for (const v of ticks) {
      svg.append(
        make("line", { class: v === 1 ? "front" : "grid", x1: box.left, x2: box.right, y1: y(v), y2: y(v) }),
        make("text", { class: "tick", x: box.left - 8, y: y(v) + 4, "text-anchor": "end" }, tickText(v)));
    }
    svg.append(
      make("text", { x: box.right, y: height - 8, "text-anchor": "end" }, "batch, logarithmic"),
      make("text", { x: 0, y: 14 }, `energy over unquantized${group.kind === "measured" ? "" : ` (${group.kind})`}`));
    own.forEach((c, n) => {
      const points = c.batches.map((b, i) => [x(b), y(c.ratios[i])]);
      svg.append(make("path", { class: "curve", stroke: colour(n), d: `M${points.map((p) => p.join(" ")).join("L")}` }));
      c.batches.forEach((b, i) => {
        const [px, py] = points[i];
        const known = c.lows[i] !== null && c.highs[i] !== null;
        const text = `${c.label}, batch ${b}: ${digits(c.ratios[i])}${known ? ` [${digits(c.lows[i])}, ${digits(c.highs[i])}]` : ""}`;
        const mark = make("g", { class: "mark", tabindex: 0, role: "img", "aria-label": text });
        if (known) mark.append(make("line", { class: "interval", stroke: colour(n), x1: px, x2: px, y1: y(c.lows[i]), y2: y(c.highs[i]) }));
        mark.append(
          make("circle", { cx: px, cy: py, r: 4.5, fill: group.kind === "measured" ? colour(n) : "var(--back)", stroke: colour(n), "stroke-width": 2 }),
          make("circle", { class: "halo", cx: px, cy: py, r: 11 }));
        for (const event of ["mouseenter", "focus"]) mark.addEventListener(event, () => tip(home, px, py, text, width));
        for (const event of ["mouseleave", "blur"]) mark.addEventListener(event, () => untip(home));
        svg.append(mark);
      });
    });
    home.replaceChildren(svg);
    byId("curves-legend").replaceChildren(...own.map((c, n) => make("span", {}, swatch(make("path", { d: "M1 10H21", stroke: colour(n), "stroke-width": 3 })), `${c.label}: ${c.conclusion}`)));
    const known = own.some((c) => c.lows.some((v) => v !== null));
    byId("curves-caption").textContent = "Below the dashed line quantization takes less energy than the unquantized model with all other settings equal. " +
      (known ? "Bars are 95 % intervals between runs." : "These figures have no intervals: nothing is shown by them.");
  }

  // Power over time: a strip per run, all with the same axes, so that areas compare.
  const STRIPS = 12;
  function drawPower() {
    const home = byId("power");
    if (!home) return;
    const all = group.power.map((own) => ({ ...own, item: items[own.configuration] })).filter((own) => isShown(own.item)).sort((a, b) => a.energy_j - b.energy_j);
    const own = all.slice(0, STRIPS);
    byId("power-caption").textContent = "";
    if (!own.length) return empty(home, "No run shown has power over time with its windows.");
    const width = Math.max(280, home.clientWidth);
    const [tall, head, left] = [46, 20, 8];
    const end = Math.max(...own.map((o) => o.end_s));
    const most = Math.max(...own.flatMap((o) => o.power_w));
    const x = (v) => left + (v / end) * (width - left - 16);
    const height = own.length * (tall + head) + 40;
    const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": `power over time of ${several(own.length, "run")}` });
    for (const v of niceTicks(0, end, Math.max(3, Math.floor(width / 110)))) {
      svg.append(
        make("line", { class: "grid", x1: x(v), x2: x(v), y1: head, y2: height - 36 }),
        make("text", { class: "tick", x: x(v), y: height - 20, "text-anchor": "middle" }, tickText(v)));
    }
    svg.append(make("text", { x: width - 8, y: height - 2, "text-anchor": "end" }, `seconds from the first window; full height ${digits(most)} W`));
    own.forEach((o, i) => {
      const base = (i + 1) * (tall + head);
      const y = (w) => base - (w / most) * tall;
      const step = o.end_s / o.power_w.length;
      for (const [a, b] of o.windows_s) {
        svg.append(make("rect", { class: "window", x: x(a), width: Math.max(0.5, x(b) - x(a) - 0.6), y: base - tall, height: tall }));
      }
      const d = o.power_w.map((w, k) => `L${x(k * step).toFixed(1)} ${y(w ?? 0).toFixed(1)}H${x((k + 1) * step).toFixed(1)}`);
      const sign = group.kind === "estimate" ? "~" : "";
      const name = o.item.name + (o.item.runs > 1 ? `, ${o.run}` : "");
      const text = `${name}: ${sign}${digits(o.energy_j)} J in ${digits(o.end_s)} s, ${several(o.windows, "window")}`;
      svg.append(
        make("path", { class: "area", fill: colourOf(o.item), stroke: colourOf(o.item), role: "img", "aria-label": text, d: `M${x(0)} ${base}${d.join("")}V${base}Z` }),
        make("text", { class: "label", x: left, y: base - tall - 5 }, text));
    });
    home.replaceChildren(svg);
    const off = Math.max(...own.filter((o) => o.energy_j).map((o) => Math.abs(o.sampled_j / o.energy_j - 1)));
    byId("power-caption").textContent =
      "All strips have the same axes; windows are shaded. The area inside them is the run's energy" +
      (Number.isFinite(off) ? `: power samples and windows differ by at most ${digits(100 * off, 2)} % here.` : ".") +
      (all.length > STRIPS ? ` The first ${STRIPS} of ${all.length} runs: filter for others.` : "");
  }

  // Tasks.
  let rows = [];
  let found = [];
  let sortRows = () => {};

  function buildRows() {
    const t = group.tasks;
    rows = !t ? [] : t.ids.map((id, task) => ({
      id, task, of: t.domains_of[task].map((d) => t.domains[d]),
      domains: t.domains_of[task].map((d) => t.domains[d]).join(", "), own: [],
    }));
    t?.configurations.forEach((c, k) => t.task[k].forEach((task, i) => rows[task].own.push({
      item: items[c], energy: t.energy_j[k][i], tokens: t.output_tokens[k][i], passed: t.passed[k][i],
    })));
    const select = byId("x-domain");
    select?.replaceChildren(make("option", { value: "" }, "all"), ...(t?.domains ?? []).map((value) => make("option", { value }, value)));
  }
  const mean = (values) => {
    const known = values.filter((v) => v !== null);
    return known.length ? known.reduce((a, b) => a + b, 0) / known.length : null;
  };
  function drawExplorer() {
    if (!byId("rows")) return;
    const [domain, result] = ["x-domain", "x-result"].map((id) => byId(id).value);
    const text = byId("x-text").value.trim().toLowerCase();
    const known = rows.map((r) => {
      const own = r.own.filter((o) => isShown(o.item));
      const judged = own.filter((o) => o.passed !== null);
      const passed = judged.reduce((sum, o) => sum + o.passed, 0);
      return {
        ...r, own, passed, judged: judged.length, share: judged.length ? passed / judged.length : null,
        energy: mean(own.map((o) => o.energy)), tokens: mean(own.map((o) => o.tokens)),
      };
    }).filter((r) => r.own.length);
    const wanted = { "": () => true, differs: (s) => s > 0 && s < 1, none: (s) => s === 0, all: (s) => s === 1 }[result];
    found = known.filter((r) => wanted(r.share) && (!domain || r.of.includes(domain)) && (!text || r.id.toLowerCase().includes(text)));
    byId("explorer-body").hidden = !known.length;
    byId("explorer-empty").hidden = known.length > 0;
    byId("x-count").textContent = `${found.length.toLocaleString("en")} of ${several(known.length, "task")}`;
    drawDomains();
    drawRows();
  }
  function drawDomains() {
    const means = [...new Set(found.flatMap((r) => r.of))].map((name) => {
      const tasks = found.filter((r) => r.of.includes(name));
      return { name, tasks: tasks.length, energy: mean(tasks.map((r) => r.energy)), passed: mean(tasks.map((r) => r.share)) };
    }).sort((a, b) => (b.energy ?? 0) - (a.energy ?? 0));
    const most = Math.max(...means.map((m) => m.energy ?? 0));
    const sign = group.kind === "estimate" ? "~" : "";
    byId("domains").tBodies[0].replaceChildren(...means.map((m) => make("tr", {},
      make("th", { scope: "row" }, m.name), make("td", { class: "number" }, String(m.tasks)),
      bar(m.energy === null ? "-" : sign + digits(m.energy), m.energy === null || !most ? 0 : m.energy / most),
      bar(m.passed === null ? "-" : m.passed.toFixed(3), m.passed ?? 0))));
  }
  function bar(text, share) {
    const track = make("span", { class: "track" });
    track.style.width = `${(100 * share).toFixed(1)}%`;
    return make("td", { class: "number bar" }, text, track);
  }
  function drawRows() {
    const sign = group.kind === "estimate" ? "~" : "";
    const passed = (r) => `${Number.isInteger(r.passed) ? r.passed : r.passed.toFixed(1)} of ${r.judged}`;
    byId("rows").tBodies[0].replaceChildren(...found.map((r) => {
      const open = make("button", { type: "button", class: "open" }, r.id);
      open.addEventListener("click", () => showTask(r));
      const cells = [r.judged ? passed(r) : "not judged", r.energy === null ? "-" : sign + digits(r.energy), digits(r.tokens, 1)];
      return make("tr", {}, make("th", { scope: "row" }, open), make("td", { class: "text" }, r.domains),
        ...cells.map((cell) => make("td", { class: "number" }, cell)));
    }));
    sortRows();
  }

  // What a task's configurations were asked and answered; those that say the same stand together.
  function showTask(row) {
    const answers = (group.attempts[row.task] ?? []).filter(([c]) => isShown(items[c]));
    const gather = (key) => {
      const sets = new Map();
      for (const answer of answers) sets.set(key(answer), [...(sets.get(key(answer)) ?? []), answer]);
      return [...sets.values()];
    };
    const names = (own) => own.map(([c]) => items[c].name).join(", ");
    const block = (name, number, open) => {
      const details = make("details", {}, make("summary", {}, name), make("pre", { tabindex: 0 }, data.texts[number]));
      details.open = open;
      return details;
    };
    const body = [];
    const prompts = gather((a) => a[4]).filter(([a]) => a[4] !== null);
    for (const own of prompts) body.push(block(prompts.length > 1 ? `Prompt of ${names(own)}` : "Prompt", own[0][4], false));
    for (const own of gather((a) => a.slice(1, 4).join())) {
      const [, status, program, said] = own[0];
      const known = own.map(([c]) => row.own.find((o) => o.item.c === c)).filter((o) => o);
      const chips = known.map((o) => make("li", {}, `${o.item.name} ${group.kind === "estimate" ? "~" : ""}${digits(o.energy)} J`));
      body.push(make("section", {},
        make("h3", {}, make("span", { class: `verdict ${status ?? ""}` }, status ?? "not judged"),
          ` ${several(own.length, "configuration")}, ${several(Math.round(mean(known.map((o) => o.tokens))), "token")}`),
        make("ul", { class: "chips" }, ...chips),
        ...(program === null ? [make("p", {}, "An empty program.")] : [block("Program", program, true)]),
        ...(said === null ? [] : [block("Test output", said, true)])));
    }
    if (!answers.length) body.push(make("p", {}, "The page does not hold the texts of this task: they are in the runs' artifacts."));
    else if (!prompts.length) body.unshift(make("p", { class: "note" }, "These runs did not record their prompts."));
    byId("task-name").textContent = row.id;
    byId("task-body").replaceChildren(...body);
    byId("task").showModal();
    byId("task").scrollTop = 0;
  }

  // Headings that sort; what is returned sorts anew after rows have changed.
  const figure = (text) => Number.parseFloat(text.replace(/[~<,\s]/g, ""));
  function makeSortable(table) {
    const heads = [...table.tHead.rows[0].cells];
    const sort = () => {
      const i = heads.findIndex((head) => head.hasAttribute("aria-sort"));
      if (i < 0) return;
      const sign = heads[i].getAttribute("aria-sort") === "ascending" ? 1 : -1;
      const number = heads[i].classList.contains("number");
      const value = (row) => row.cells[i].textContent;
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort((a, b) => {
        if (!number) return sign * value(a).localeCompare(value(b), "en", { numeric: true });
        const [p, q] = [figure(value(a)), figure(value(b))];
        if (Number.isNaN(p) || Number.isNaN(q)) return Number.isNaN(p) - Number.isNaN(q);
        return sign * (p - q);
      }));
    };
    for (const head of heads) {
      const button = make("button", { type: "button" }, head.textContent);
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const before = head.getAttribute("aria-sort") ?? (head.classList.contains("number") ? "ascending" : "descending");
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", before === "ascending" ? "descending" : "ascending");
        sort();
      });
    }
    return sort;
  }

  function drawFigures() {
    drawPareto();
    drawCurves();
    drawPower();
  }
  function draw() {
    drawFigures();
    drawExplorer();
  }
  byId("group").replaceChildren(...data.groups.map((own, g) => make("option", { value: g }, own.short)));
  byId("group-label").hidden = data.groups.length < 2;
  byId("group").addEventListener("change", chooseGroup);
  byId("axis").addEventListener("change", drawPareto);
  byId("filters").open = window.innerWidth > 640;
  document.querySelectorAll("table.sortable").forEach(makeSortable);
  if (byId("rows")) {
    sortRows = makeSortable(byId("rows"));
    for (const id of ["x-domain", "x-result", "x-text"]) byId(id).addEventListener("input", drawExplorer);
  }
  if (data.groups.length) chooseGroup();
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    drawFigures();
  });
  window.addEventListener("beforeprint", () => {
    for (const node of document.querySelectorAll("main details")) {
      node.dataset.closed = node.open ? "" : "yes";
      node.open = true;
    }
  });
  window.addEventListener("afterprint", () => {
    for (const node of document.querySelectorAll("details[data-closed=yes]")) node.open = false;
  });
})();
