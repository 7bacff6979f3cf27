"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";
  const DASHES = ["", "7 3", "2 3", "9 3 2 3"];
  const COLOURS = 8;
  const J_PER_KWH = 3.6e6;

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

  function digits(value, count = 3) {
    if (value === null || value === undefined) return "-";
    if (value === 0) return "0";
    const places = Math.max(0, count - 1 - Math.floor(Math.log10(Math.abs(value))));
    return value.toLocaleString("en", {
      minimumFractionDigits: Math.min(places, 8), maximumFractionDigits: Math.min(places, 8),
    });
  }
  const tickText = (value) =>
    value.toLocaleString("en", { maximumSignificantDigits: 3, useGrouping: true });

  // Configurations, and which of them are shown.
  const items = [];
  data.groups.forEach((group, g) =>
    group.configurations.forEach((own, c) => items.push({ ...own, g, c, group, kind: group.kind })));
  const facets = [
    { name: "Energy", of: (item) => item.kind },
    { name: "Runs", of: (item) => item.group.short },
    { name: "Model", of: (item) => item.model },
    { name: "Quantization", of: (item) => item.quant },
    { name: "Batch size", of: (item) => item.batch },
  ].map((facet) => ({ ...facet, values: [...new Set(items.map(facet.of))], off: new Set() }));
  facets[4].values.sort((a, b) => Number(a) - Number(b));
  const isShown = (item) => facets.every((facet) => !facet.off.has(facet.of(item)));
  const shown = () => items.filter(isShown);
  const models = facets[2].values.length;
  const coloured = models > 1 && models <= COLOURS ? facets[2] : facets[3];
  const colourOf = (item) => colour(coloured.values.indexOf(coloured.of(item)));

  function buildFacets() {
    const home = byId("facets");
    for (const facet of facets) {
      if (facet.values.length < 2) continue;
      if (facet.name === "Runs" && facet.values.length === facets[0].values.length) continue;
      const field = make("fieldset", {}, make("legend", {}, facet.name));
      for (const value of facet.values) {
        const box = make("input", { type: "checkbox", "data-facet": facet.name, value });
        box.checked = true;
        box.addEventListener("change", () => {
          facet.off[box.checked ? "delete" : "add"](value);
          draw();
        });
        field.append(make("label", {}, box, value));
      }
      home.append(field);
    }
    byId("filters").hidden = !home.children.length;
    byId("filters").open = window.innerWidth > 640;
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
  function frame(home, { label, low, high, log, xLabel, yLow, yHigh, yLabel, tall }) {
    const width = Math.max(280, home.clientWidth);
    const height = Math.round(Math.min(tall, Math.max(280, width * 0.62)));
    const box = { left: 52, right: width - 14, top: 30, bottom: height - 46 };
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
    for (const v of niceTicks(yLow, yHigh, 5)) {
      svg.append(
        make("line", { class: "grid", x1: box.left, x2: box.right, y1: y(v), y2: y(v) }),
        make("text", { class: "tick", x: box.left - 8, y: y(v) + 4, "text-anchor": "end" }, tickText(v)));
    }
    svg.append(
      make("text", { x: box.right, y: height - 8, "text-anchor": "end" }, xLabel),
      make("text", { x: 0, y: 14 }, yLabel));
    home.replaceChildren(svg);
    return { svg, x, y, box, width, height };
  }
  function empty(home, words) {
    home.replaceChildren(make("p", { class: "empty" }, words));
  }
  function tip(home, px, py, text, width) {
    home.querySelector(".tip")?.remove();
    const node = make("div", { class: "tip", role: "presentation" }, text);
    home.append(node);
    const scale = home.clientWidth / width;
    const left = Math.min(px * scale + 14, home.clientWidth - node.offsetWidth);
    const above = py * scale - node.offsetHeight - 12;
    node.style.left = `${Math.max(0, left)}px`;
    node.style.top = `${above < 0 ? py * scale + 14 : above}px`;
  }
  const untip = (home) => home.querySelector(".tip")?.remove();

  // Energy against pass@1.
  const AXES = [
    { name: "energy per task", key: "energy_per_task_j", what: "generation" },
    { name: "total energy", key: "energy_total_j", what: "generation and evaluation", large: true },
    { name: "energy of generation", key: "energy_generation_j", what: "generation", large: true },
    { name: "energy per solved task", key: "energy_per_solved_task_j", what: "total" },
  ].filter((axis) => items.some((item) => item[axis.key] !== null));

  function words(kinds) {
    const marked = kinds.filter((kind) => kind !== "measured");
    return marked.length ? ` (${marked.join(", ")})` : "";
  }
  function shape(kind, px, py, size, fill) {
    if (kind === "published") {
      const s = size * 0.9;
      return make("rect", { x: px - s, y: py - s, width: 2 * s, height: 2 * s, fill: "var(--back)", stroke: fill, "stroke-width": 2.2 });
    }
    if (kind === "estimate") {
      const s = size * 1.25;
      return make("path", { d: `M${px} ${py - s}L${px + s} ${py}L${px} ${py + s}L${px - s} ${py}Z`, fill });
    }
    return make("circle", { cx: px, cy: py, r: size, fill });
  }
  function frontOf(points, key) {
    let best = -Infinity;
    return [...points]
      .sort((a, b) => a[key] - b[key] || b.pass_at_1 - a.pass_at_1)
      .filter((p) => p.pass_at_1 > best && ((best = p.pass_at_1), true));
  }
  function drawPareto() {
    const home = byId("pareto");
    const axis = AXES.find((a) => a.key === byId("axis").value);
    const points = axis
      ? shown().filter((i) => i[axis.key] !== null && i.pass_at_1 !== null) : [];
    byId("shown").textContent = `${shown().length} of ${items.length} configurations shown`;
    drawParetoLegend(points);
    if (!points.length) {
      return empty(home, "Nothing to draw: no configuration shown has both energy and pass@1.");
    }
    const values = points.map((p) => p[axis.key]);
    const kwh = axis.large && Math.max(...values) >= 1e5;
    const scale = kwh ? J_PER_KWH : 1;
    const unit = kwh ? "kWh" : "J";
    const least = Math.min(...values) / scale;
    const most = Math.max(...values) / scale;
    const log = most / least > 8;
    const pad = log ? 1.25 : 1;
    const room = (most - least || most) * 0.08;
    const whiskers = points.length <= 12;
    const lows = points.map((p) => (whiskers && p.pass_at_1_ci_low !== null ? p.pass_at_1_ci_low : p.pass_at_1));
    const highs = points.map((p) => (whiskers && p.pass_at_1_ci_high !== null ? p.pass_at_1_ci_high : p.pass_at_1));
    const kinds = [...new Set(points.map((p) => (axis.key.match(/total|solved/) && p.group.total_estimate && p.kind === "measured" ? "evaluation: estimate" : p.kind)))];
    const f = frame(home, {
      label: `${axis.name} against pass@1, ${points.length} configurations`,
      low: log ? least / pad ** 3 : Math.max(0, least - room), high: log ? most * pad : most + room, log,
      xLabel: `${axis.name} [${unit}]${words(kinds)}${log ? ", logarithmic" : ""}`,
      yLow: Math.max(0, Math.min(...lows) - 0.03), yHigh: Math.min(1, Math.max(...highs) + 0.03),
      yLabel: "pass@1", tall: 520,
    });
    const at = (p) => [f.x(p[axis.key] / scale), f.y(p.pass_at_1)];
    const labelled = [];
    for (const group of new Set(points.map((p) => p.group))) {
      const front = frontOf(points.filter((p) => p.group === group), axis.key);
      labelled.push(...front);
      const path = front.map((p, i) => {
        const [px, py] = at(p);
        return i ? `H${px}V${py}` : `M${px} ${py}`;
      });
      f.svg.append(make("path", { class: "front", d: path.join("") }));
    }
    const boxes = points.map((p) => {
      const [px, py] = at(p);
      return { l: px - 8, r: px + 8, t: py - 8, b: py + 8 };
    });
    const marks = [...points].sort((a, b) => a[axis.key] - b[axis.key]);
    for (const p of marks) {
      const [px, py] = at(p);
      const sign = p.kind === "estimate" ? "~" : "";
      const interval = p.pass_at_1_ci_low === null ? "" : ` [${p.pass_at_1_ci_low.toFixed(2)}, ${p.pass_at_1_ci_high.toFixed(2)}]`;
      const text = [
        p.label, `${p.kind}, ${p.runs} ${p.runs === 1 ? "run" : "runs"}`,
        `pass@1 ${p.pass_at_1.toFixed(3)}${interval}`,
        `${axis.name} ${sign}${digits(p[axis.key] / scale)} ${unit} (${axis.what})`,
      ].join("\n");
      const mark = make("g", { class: "mark", tabindex: 0, role: "img", "aria-label": text.replaceAll("\n", ", ") });
      if (whiskers && p.pass_at_1_ci_low !== null) {
        mark.append(make("line", { class: "whisker", stroke: colourOf(p), x1: px, x2: px, y1: f.y(p.pass_at_1_ci_low), y2: f.y(p.pass_at_1_ci_high) }));
      }
      mark.append(shape(p.kind, px, py, 6, colourOf(p)), make("circle", { class: "halo", cx: px, cy: py, r: 11 }));
      const show = () => tip(home, px, py, text, f.width);
      for (const event of ["mouseenter", "focus"]) mark.addEventListener(event, show);
      for (const event of ["mouseleave", "blur"]) mark.addEventListener(event, () => untip(home));
      f.svg.append(mark);
    }
    placeLabels(f, labelled.map((p) => ({ text: p.label, at: at(p) })), boxes);
  }
  function placeLabels(f, labels, taken) {
    for (const { text, at: [px, py] } of labels) {
      const node = make("text", { class: "label", "aria-hidden": "true" }, text);
      f.svg.append(node);
      const wide = node.getComputedTextLength();
      const places = [
        // Up and to the left of the front there is nothing.
        [px - 9 - wide, py - 9], [px - 12 - wide, py + 4], [px - wide / 2, py - 14],
        [px + 9, py - 9], [px + 9, py + 20], [px - 9 - wide, py + 20], [px + 12, py + 4],
      ];
      const free = places.find(([l, b]) =>
        l >= f.box.left && l + wide <= f.box.right + 10 && b - 12 >= f.box.top - 8 && b <= f.box.bottom &&
        !taken.some((o) => l < o.r && l + wide > o.l && b - 12 < o.b && b + 3 > o.t));
      if (!free) {
        node.remove();
        continue;
      }
      node.setAttribute("x", free[0]);
      node.setAttribute("y", free[1]);
      taken.push({ l: free[0] - 2, r: free[0] + wide + 2, t: free[1] - 13, b: free[1] + 4 });
    }
  }
  function swatch(draw) {
    const svg = make("svg", { width: 18, height: 16, viewBox: "0 0 18 16", "aria-hidden": "true" });
    svg.append(draw);
    return svg;
  }
  function drawParetoLegend(points) {
    const legend = byId("pareto-legend");
    legend.replaceChildren();
    for (const kind of new Set(points.map((p) => p.kind))) {
      legend.append(make("span", {}, swatch(shape(kind, 9, 8, 5, "var(--soft)")), kind));
    }
    for (const value of coloured.values.filter((v) => points.some((p) => coloured.of(p) === v))) {
      const fill = colour(coloured.values.indexOf(value));
      legend.append(make("span", {}, swatch(make("rect", { x: 4, y: 3, width: 10, height: 10, fill })), value));
    }
  }

  // Lines over time.
  function drawLines(name, series, { xLabel, yLabel, words: none }) {
    const home = byId(name);
    const legend = byId(`${name}-legend`);
    legend.replaceChildren();
    if (!series.length) return empty(home, none);
    const f = frame(home, {
      label: `${yLabel} against ${xLabel}, ${series.length} lines`, low: 0, log: false, yLow: 0,
      high: Math.max(...series.map((s) => s.x.at(-1))) || 1,
      yHigh: 1.05 * Math.max(...series.map((s) => s.y.reduce((a, b) => Math.max(a, b), 0))) || 1,
      xLabel, yLabel, tall: 380,
    });
    const paths = series.map((s, i) => {
      const d = s.x.map((v, k) => `${k ? "L" : "M"}${f.x(v).toFixed(1)} ${f.y(s.y[k]).toFixed(1)}`);
      const path = make("path", { class: "line", d: d.join(""), stroke: colour(i), "stroke-dasharray": DASHES[Math.floor(i / COLOURS) % DASHES.length] });
      f.svg.append(path);
      return path;
    });
    const light = (chosen) =>
      paths.forEach((p, k) => p.classList.toggle("faded", chosen !== null && k !== chosen));
    let held = null;
    series.forEach((s, i) => {
      const line = make("line", { x1: 0, x2: 18, y1: 8, y2: 8, stroke: colour(i), "stroke-width": 2.5, "stroke-dasharray": DASHES[Math.floor(i / COLOURS) % DASHES.length] });
      const button = make("button", { type: "button", "aria-pressed": "false" }, swatch(line), `${s.label}: ${s.value}`);
      const enter = () => light(i);
      const leave = () => light(held);
      button.addEventListener("click", () => {
        held = held === i ? null : i;
        [...legend.children].forEach((b, k) => b.setAttribute("aria-pressed", String(k === held)));
        light(held);
      });
      button.addEventListener("mouseenter", enter);
      button.addEventListener("focus", enter);
      button.addEventListener("mouseleave", leave);
      button.addEventListener("blur", leave);
      const middle = Math.floor(s.x.length / 2);
      paths[i].addEventListener("mouseenter", () => {
        light(i);
        tip(home, f.x(s.x[middle]), f.y(s.y[middle]), `${s.label}\n${s.value}`, f.width);
      });
      paths[i].addEventListener("mouseleave", () => { light(held); untip(home); });
      legend.append(button);
    });
  }
  const mark = (item) => (item.kind === "measured" ? "" : ` (${item.kind})`);
  function drawTime() {
    const lookup = new Map(items.map((item) => [`${item.g} ${item.c}`, item]));
    const power = data.power
      .map((own) => ({ ...own, item: lookup.get(`${own.group} ${own.configuration}`) }))
      .filter((own) => isShown(own.item));
    const single = new Set(power.map((p) => p.device)).size < 2;
    const kinds = [...new Set(power.map((p) => p.item.kind))];
    drawLines("power", power.map((own) => {
      const mean = own.power_w.reduce((a, b) => a + b, 0) / own.power_w.length;
      return {
        label: own.item.label + (own.item.runs > 1 ? `, ${own.run}` : "") + (single ? "" : `, ${own.device}`) + mark(own.item),
        value: `${digits(mean)} W over ${digits(own.time_s.at(-1))} s`, x: own.time_s, y: own.power_w,
      };
    }), { xLabel: "time [s]", yLabel: `power [W]${words(kinds)}`, words: "No run shown has power over time: it is recorded where a counter or sensor gives it." });
    const energy = [];
    data.groups.forEach((group, g) => group.tasks?.configurations.forEach((c, k) => {
      const item = lookup.get(`${g} ${c}`);
      if (isShown(item)) energy.push({ item, ...added(group.tasks, k) });
    }));
    const known = energy.filter((e) => e.y.length);
    const most = Math.max(0, ...known.map((e) => e.y.at(-1)));
    const [scale, unit] = most >= 1e5 ? [J_PER_KWH, "kWh"] : [1, "J"];
    drawLines("cumulative", known.map((e) => ({
      label: e.item.label + mark(e.item), x: e.x, y: e.y.map((v) => v / scale),
      value: `${e.item.kind === "estimate" ? "~" : ""}${digits(e.y.at(-1) / scale)} ${unit}`,
    })), {
      xLabel: "tasks answered", words: "No configuration shown has figures of single tasks.",
      yLabel: `energy of generation [${unit}]${words([...new Set(known.map((e) => e.item.kind))])}`,
    });
  }
  function added(tasks, k) {
    const order = tasks.order[k].map((place, i) => [place, tasks.energy_j[k][i]])
      .filter(([, e]) => e !== null).sort((a, b) => a[0] - b[0]);
    const every = Math.max(1, Math.floor(order.length / 200));
    const x = [];
    const y = [];
    let sum = 0;
    order.forEach(([, e], i) => {
      sum += e;
      if (i % every === every - 1 || i === order.length - 1) {
        x.push(i + 1);
        y.push(sum);
      }
    });
    return { x, y };
  }

  // Tasks and domains.
  const COLUMNS = [
    { name: "task", of: (r) => r.id }, { name: "configuration", of: (r) => r.item.label },
    { name: "domains", of: (r) => r.domains },
    { name: "energy [J]", of: (r) => r.energy, number: true, text: (r) => (r.energy === null ? "-" : (r.item.kind === "estimate" ? "~" : "") + digits(r.energy)) },
    { name: "output tokens", of: (r) => r.tokens, number: true, text: (r) => digits(r.tokens, 4) },
    { name: "latency [s]", of: (r) => r.latency, number: true, text: (r) => digits(r.latency) },
    { name: "passed", of: (r) => r.passed, number: true, text: (r) => (r.passed === null ? "not judged" : r.passed === 1 ? "yes" : r.passed === 0 ? "no" : r.passed.toFixed(2)) },
  ];
  const PAGE = 25;
  const rows = [];
  let sorted = { column: 3, down: true };
  let page = 0;
  let found = [];

  function buildRows() {
    const lookup = new Map(items.map((item) => [`${item.g} ${item.c}`, item]));
    data.groups.forEach((group, g) => group.tasks?.configurations.forEach((c, k) => {
      const t = group.tasks;
      t.task[k].forEach((task, i) => rows.push({
        item: lookup.get(`${g} ${c}`), id: t.ids[task], of: t.domains_of[task].map((d) => t.domains[d]),
        domains: t.domains_of[task].map((d) => t.domains[d]).join(", "), energy: t.energy_j[k][i],
        tokens: t.output_tokens[k][i], latency: t.latency_s[k][i], passed: t.passed[k][i],
      }));
    }));
  }
  function options(select, values) {
    const before = select.value;
    select.replaceChildren(make("option", { value: "" }, "all"));
    for (const value of values) select.append(make("option", { value }, value));
    select.value = values.includes(before) ? before : "";
  }
  function buildExplorer() {
    const head = byId("rows").tHead.rows[0];
    COLUMNS.forEach((column, i) => {
      const button = make("button", { type: "button" }, column.name);
      button.addEventListener("click", () => {
        sorted = { column: i, down: sorted.column === i ? !sorted.down : Boolean(column.number) };
        page = 0;
        drawRows();
      });
      head.append(make("th", { scope: "col", class: column.number ? "number" : "text" }, button));
    });
    options(byId("x-domain"), [...new Set(rows.flatMap((r) => r.of))].sort());
    for (const id of ["x-configuration", "x-domain", "x-result"]) {
      byId(id).addEventListener("change", drawExplorer);
    }
    byId("x-text").addEventListener("input", drawExplorer);
    byId("x-back").addEventListener("click", () => { page -= 1; drawRows(); });
    byId("x-next").addEventListener("click", () => { page += 1; drawRows(); });
  }
  function drawExplorer() {
    const own = rows.filter((r) => isShown(r.item));
    byId("explorer-body").hidden = !own.length;
    byId("explorer-empty").hidden = own.length > 0;
    options(byId("x-configuration"), [...new Set(own.map((r) => r.item.label))]);
    const [configuration, domain, result] = ["x-configuration", "x-domain", "x-result"].map((id) => byId(id).value);
    const text = byId("x-text").value.trim().toLowerCase();
    found = own.filter((r) =>
      (!configuration || r.item.label === configuration) && (!domain || r.of.includes(domain)) &&
      (!result || (r.passed !== null && (result === "pass") === (r.passed > 0))) &&
      (!text || r.id.toLowerCase().includes(text)));
    page = 0;
    drawDomains();
    drawRows();
  }
  function drawDomains() {
    const sums = new Map();
    for (const r of found) {
      for (const name of r.of) {
        if (!sums.has(name)) sums.set(name, { tasks: new Set(), energy: 0, n: 0, passed: 0, judged: 0, estimate: false });
        const s = sums.get(name);
        s.tasks.add(r.id);
        s.estimate ||= r.item.kind === "estimate";
        if (r.energy !== null) { s.energy += r.energy; s.n += 1; }
        if (r.passed !== null) { s.passed += r.passed; s.judged += 1; }
      }
    }
    const means = [...sums].map(([name, s]) => ({
      name, tasks: s.tasks.size, energy: s.n ? s.energy / s.n : null, estimate: s.estimate,
      passed: s.judged ? s.passed / s.judged : null,
    })).sort((a, b) => (b.energy ?? 0) - (a.energy ?? 0));
    const most = Math.max(...means.map((m) => m.energy ?? 0));
    byId("domains").tBodies[0].replaceChildren(...means.map((m) => make("tr", {},
      make("th", { scope: "row" }, m.name), make("td", { class: "number" }, String(m.tasks)),
      bar(m.energy === null ? "-" : (m.estimate ? "~" : "") + digits(m.energy), m.energy === null || !most ? 0 : m.energy / most),
      bar(m.passed === null ? "-" : m.passed.toFixed(3), m.passed ?? 0))));
  }
  function bar(text, share) {
    const track = make("span", { class: "track" });
    track.style.width = `${(100 * share).toFixed(1)}%`;
    return make("td", { class: "number bar" }, text, track);
  }
  function drawRows() {
    const column = COLUMNS[sorted.column];
    const sign = sorted.down ? -1 : 1;
    const key = (r) => column.of(r);
    found.sort((a, b) => {
      const [p, q] = [key(a), key(b)];
      if (p === null || q === null) return (p === null) - (q === null);
      return sign * (column.number ? p - q : p.localeCompare(q, "en", { numeric: true }));
    });
    [...byId("rows").tHead.rows[0].cells].forEach((cell, i) => {
      if (i === sorted.column) cell.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    });
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    byId("rows").tBodies[0].replaceChildren(...found.slice(page * PAGE, (page + 1) * PAGE).map((r) =>
      make("tr", {}, ...COLUMNS.map((c, i) => {
        const text = c.text ? c.text(r) : c.of(r);
        return i ? make("td", { class: c.number ? "number" : "text" }, text) : make("th", { scope: "row" }, text);
      }))));
    byId("x-count").textContent = `${found.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} answers`;
    byId("x-page").textContent = `page ${page + 1} of ${pages}`;
    byId("x-back").disabled = page === 0;
    byId("x-next").disabled = page >= pages - 1;
  }

  function drawFigures() {
    drawPareto();
    drawTime();
  }
  function draw() {
    drawFigures();
    drawExplorer();
  }
  for (const axis of AXES) byId("axis").append(make("option", { value: axis.key }, axis.name));
  byId("axis").addEventListener("change", drawPareto);
  buildFacets();
  buildRows();
  buildExplorer();
  draw();
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    drawFigures();
  });
  window.addEventListener("beforeprint", () => {
    for (const node of document.querySelectorAll("details")) {
      node.dataset.closed = node.open ? "" : "yes";
      node.open = true;
    }
  });
  window.addEventListener("afterprint", () => {
    for (const node of document.querySelectorAll("details[data-closed=yes]")) node.open = false;
  });
})();
