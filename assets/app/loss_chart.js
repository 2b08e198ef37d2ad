// Three small charts over the training step, drawn as SVG. Redrawn in place: the page keeps the
// element, so the place pointed at, the smoothing and the hidden runs survive new values.
const NS = "http://www.w3.org/2000/svg";
const PANELS = [
  { key: "diffusion", title: "Diffusion loss", hint: "how far the predicted noise is off" },
  { key: "consistency", title: "Consistency loss", hint: "how far predicted images are from their class" },
  { key: "classifier_accuracy", title: "Classifier accuracy", hint: "share of predicted images named right", percent: true },
];
const COLOURS = ["#0d9488", "#d97706", "#7c3aed", "#db2777", "#2563eb", "#65a30d"];
const SIZE = { width: 360, height: 190, left: 46, right: 10, top: 10, bottom: 24 };

const root = element.querySelector(".loss-chart");
const state = { smooth: true, step: null, hidden: new Set() };

function node(name, attributes = {}, text) {
  const made = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function html(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// Exponential moving average over about a tenth of the points.
function smoothed(values) {
  const weight = 2 / (Math.max(values.length / 10, 3) + 1);
  let mean = null;
  return values.map((value) => {
    if (value === null) return mean;
    mean = mean === null ? value : mean + weight * (value - mean);
    return mean;
  });
}

function shown() {
  const runs = (props.value && props.value.runs) || [];
  return runs.map((run, place) => ({ ...run, colour: COLOURS[place % COLOURS.length] }))
    .filter((run) => !state.hidden.has(run.id));
}

function format(value, percent) {
  if (value === null || value === undefined) return "–";
  if (percent) return `${(100 * value).toFixed(0)} %`;
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

function niceTicks(low, high, count) {
  const span = high - low || Math.abs(high) || 1;
  const rough = span / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const unit = [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= rough);
  const ticks = [];
  for (let tick = Math.ceil(low / unit) * unit; tick <= high + unit / 1e6; tick += unit) ticks.push(tick);
  return ticks;
}

function path(points) {
  let line = "";
  let pen = false;
  for (const [x, y] of points) {
    if (y === null) { pen = false; continue; }
    line += `${pen ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
    pen = true;
  }
  return line;
}

function scales(panel, runs) {
  const last = Math.max(1, ...runs.map((run) => Math.max(run.total || 0, ...run.steps)));
  const values = runs.flatMap((run) => (run.series[panel.key] || []).filter((v) => v !== null));
  let [low, high] = panel.percent ? [0, 1] : [Math.min(...values), Math.max(...values)];
  if (!values.length) [low, high] = [0, 1];
  if (!panel.percent) { const pad = (high - low || Math.abs(high) || 1) * 0.06; low = Math.max(0, low - pad); high += pad; }
  const width = SIZE.width - SIZE.left - SIZE.right;
  const height = SIZE.height - SIZE.top - SIZE.bottom;
  return {
    last, low, high,
    x: (step) => SIZE.left + (width * step) / last,
    y: (value) => (value === null ? null : SIZE.top + height * (1 - (value - low) / (high - low || 1))),
    step: (pixel) => ((pixel - SIZE.left) / width) * last,
  };
}

function drawPanel(panel) {
  const runs = shown();
  const scale = scales(panel, runs);
  panel.scale = scale;
  const svg = panel.svg;
  svg.replaceChildren();
  for (const tick of niceTicks(scale.low, scale.high, 4)) {
    const y = scale.y(tick);
    svg.append(node("line", { class: "grid", x1: SIZE.left, x2: SIZE.width - SIZE.right, y1: y, y2: y }));
    svg.append(node("text", { class: "tick", x: SIZE.left - 6, y: y + 4, "text-anchor": "end" }, format(tick, panel.percent)));
  }
  const ticks = niceTicks(0, scale.last, 4).filter((tick) => Number.isInteger(tick));
  for (const tick of ticks) {
    const anchor = scale.x(tick) > SIZE.width - 30 ? "end" : "middle";
    svg.append(node("text", { class: "tick", x: scale.x(tick), y: SIZE.height - 8, "text-anchor": anchor }, tick.toLocaleString("en")));
  }
  for (const run of [...runs].reverse()) {
    const values = run.series[panel.key] || [];
    const points = (list) => list.map((value, place) => [scale.x(run.steps[place]), scale.y(value)]);
    if (state.smooth) {
      svg.append(node("path", { class: "raw", d: path(points(values)), stroke: run.colour }));
      svg.append(node("path", { class: "line", d: path(points(smoothed(values))), stroke: run.colour }));
    } else {
      svg.append(node("path", { class: "line", d: path(points(values)), stroke: run.colour }));
    }
    const known = values.map((v, place) => [run.steps[place], v]).filter(([, v]) => v !== null);
    if (known.length === 1) {
      svg.append(node("circle", { cx: scale.x(known[0][0]), cy: scale.y(known[0][1]), r: 3, fill: run.colour }));
    }
  }
  if (!runs.some((run) => (run.series[panel.key] || []).some((v) => v !== null))) {
    svg.append(node("text", { class: "empty", x: SIZE.width / 2, y: SIZE.height / 2, "text-anchor": "middle" },
      emptyNote(panel, runs)));
  }
  drawCursor(panel, runs);
}

function emptyNote(panel, runs) {
  if (!runs.length) return "no training yet";
  if (!runs.some((run) => run.steps.length)) {
    return runs.every((run) => run.finished) ? "too short for a curve" : "no values yet";
  }
  return "not measured in this run";
}

function nearest(run, step) {
  let best = 0;
  run.steps.forEach((one, place) => { if (Math.abs(one - step) < Math.abs(run.steps[best] - step)) best = place; });
  return best;
}

function drawCursor(panel, runs) {
  const parts = [];
  panel.svg.querySelectorAll(".cursor").forEach((one) => one.remove());
  if (state.step !== null) {
    const x = panel.scale.x(state.step);
    panel.svg.append(node("line", { class: "cursor", x1: x, x2: x, y1: SIZE.top, y2: SIZE.height - SIZE.bottom }));
    for (const run of runs) {
      if (!run.steps.length) continue;
      const place = nearest(run, state.step);
      const values = run.series[panel.key] || [];
      const value = (state.smooth ? smoothed(values) : values)[place];
      if (value === null || value === undefined) continue;
      panel.svg.append(node("circle", { class: "cursor", cx: panel.scale.x(run.steps[place]), cy: panel.scale.y(value), r: 3.5, fill: run.colour }));
      parts.push(`${runs.length > 1 ? `${run.label}: ` : ""}${format(value, panel.percent)}`);
    }
  } else {
    for (const run of runs.slice(0, 1)) {
      const values = smoothed(run.series[panel.key] || []);
      if (values.length) parts.push(`now ${format(values[values.length - 1], panel.percent)}`);
    }
  }
  panel.readout.textContent = parts.join("  ·  ");
}

function point(step) {
  const runs = shown();
  const main = runs.find((run) => run.steps.length);
  state.step = main && step !== null ? main.steps[nearest(main, step)] : null;
  for (const panel of PANELS) drawCursor(panel, runs);
  const where = state.step === null ? "" : `step ${state.step.toLocaleString("en")}`;
  root.querySelector(".where").textContent = where;
}

function move(by) {
  const main = shown().find((run) => run.steps.length);
  if (!main) return;
  const place = state.step === null ? main.steps.length - 1 : nearest(main, state.step) + by;
  point(main.steps[Math.min(Math.max(place, 0), main.steps.length - 1)]);
}

function build() {
  const bar = html("div", "bar");
  const label = html("label", "smooth");
  const toggle = html("input");
  toggle.type = "checkbox";
  toggle.checked = state.smooth;
  toggle.addEventListener("change", () => { state.smooth = toggle.checked; draw(); });
  label.append(toggle, " Smooth the curves");
  const where = html("span", "where");
  where.setAttribute("aria-live", "polite");
  bar.append(html("ul", "legend"), where, label);
  const panels = html("div", "panels");
  for (const panel of PANELS) {
    const figure = html("figure");
    const caption = html("figcaption");
    panel.readout = html("span", "readout");
    caption.append(html("b", "", panel.title), panel.readout);
    panel.svg = node("svg", { viewBox: `0 0 ${SIZE.width} ${SIZE.height}`, role: "img", tabindex: "0",
      "aria-label": `${panel.title} by training step: ${panel.hint}. Arrow keys move along the steps.` });
    panel.svg.addEventListener("pointermove", (event) => {
      const box = panel.svg.getBoundingClientRect();
      point(panel.scale.step(((event.clientX - box.left) / box.width) * SIZE.width));
    });
    panel.svg.addEventListener("pointerleave", () => point(null));
    panel.svg.addEventListener("keydown", (event) => {
      if (event.key === "ArrowLeft") move(-1);
      else if (event.key === "ArrowRight") move(1);
      else if (event.key === "Escape") point(null);
      else return;
      event.preventDefault();
    });
    figure.append(caption, panel.svg, html("small", "", panel.hint));
    panels.append(figure);
  }
  root.replaceChildren(bar, panels);
}

function drawLegend() {
  const list = root.querySelector(".legend");
  const runs = (props.value && props.value.runs) || [];
  list.replaceChildren(...runs.map((run, place) => {
    const item = html("li");
    const button = html("button", state.hidden.has(run.id) ? "off" : "");
    button.type = "button";
    button.title = "Show or hide this run";
    button.setAttribute("aria-pressed", String(!state.hidden.has(run.id)));
    const dot = html("i");
    dot.style.background = COLOURS[place % COLOURS.length];
    button.append(dot, run.label);
    button.addEventListener("click", () => {
      if (!state.hidden.delete(run.id)) state.hidden.add(run.id);
      draw();
    });
    item.append(button);
    return item;
  }));
}

function draw() {
  drawLegend();
  for (const panel of PANELS) drawPanel(panel);
}

build();
draw();
watch("value", draw);
