/* Curves over the training step, one chart a number. Plotly redraws them in place, so zoom, hidden
   runs and the place pointed at survive new values. */
const PANELS = [
  {
    key: "diffusion",
    title: "Diffusion loss",
    hint: "how far the predicted noise is off; dotted: on test images, which are not trained on",
  },
  {
    key: "consistency",
    title: "Consistency loss",
    hint: "how far predicted images are from their class",
  },
  {
    key: "classifier_accuracy",
    title: "Classifier accuracy",
    hint: "share of predicted images named right",
    percent: true,
  },
];
const COLOURS = ["#0d9488", "#d97706", "#7c3aed", "#db2777", "#2563eb", "#65a30d"];
const smooth = part("smooth");
let stale = false;
/* Runs that the visitor has hidden, by id. */
const hidden = new Set();

/* Exponential moving average over about a tenth of the points. */
function smoothed(values) {
  const weight = 2 / (Math.max(values.length / 10, 3) + 1);
  let mean = null;
  return values.map((value) => {
    if (value !== null) mean = mean === null ? value : mean + weight * (value - mean);
    return mean;
  });
}

function format(value, percent) {
  if (percent) return `${(100 * value).toFixed(0)} %`;
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

function traces(panel, runs) {
  return runs.flatMap((run, place) => {
    const values = run.series[panel.key] || [];
    const colour = COLOURS[place % COLOURS.length];
    const common = {
      x: run.steps,
      mode: run.steps.length > 1 ? "lines" : "markers",
      legendgroup: run.id,
      visible: hidden.has(run.id) ? "legendonly" : true,
    };
    const line = {
      ...common,
      y: smooth.checked ? smoothed(values) : values,
      name: run.label,
      line: { color: colour, width: 2 },
      marker: { color: colour },
      hovertemplate: panel.percent ? "%{y:.0%}" : "%{y:.3g}",
    };
    const raw = { color: colour, width: 1 };
    const behind = { ...common, y: values, line: raw, opacity: 0.3, hoverinfo: "skip" };
    const drawn = smooth.checked ? [behind, line] : [line];
    if (panel.key !== "diffusion" || !run.validation?.steps.length) return drawn;
    const held = {
      ...line,
      x: run.validation.steps,
      y: run.validation.values,
      mode: "lines+markers",
      name: `${run.label}, held-out images`,
      line: { color: colour, width: 2, dash: "dot" },
      marker: { color: colour, size: 5 },
    };
    return [...drawn, held];
  });
}

function emptyNote(panel, runs) {
  if (runs.some((run) => (run.series[panel.key] || []).some((value) => value !== null))) return "";
  if (!runs.length) return "no training yet";
  if (runs.some((run) => run.steps.length)) return "not measured in this run";
  return runs.every((run) => run.finished) ? "too short for a curve" : "no values yet";
}

function layout(panel, runs) {
  const style = getComputedStyle(element);
  const grid = style.getPropertyValue("--border-color-primary");
  const axis = { gridcolor: grid, linecolor: grid, zeroline: false, automargin: true };
  const last = Math.max(1, ...runs.map((run) => Math.max(run.total || 0, ...run.steps)));
  const note = emptyNote(panel, runs);
  return {
    height: 210,
    margin: { l: 40, r: 8, t: 8, b: 28 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: style.color, size: 11, family: style.fontFamily },
    showlegend: false,
    hovermode: "x unified",
    hoverlabel: { bgcolor: style.getPropertyValue("--background-fill-secondary") },
    xaxis: { ...axis, range: [0, last], tickformat: ",d", nticks: 5 },
    yaxis: {
      ...axis,
      rangemode: panel.percent ? "tozero" : "normal",
      range: panel.percent ? [0, 1] : undefined,
      tickformat: panel.percent ? ".0%" : undefined,
      nticks: 5,
    },
    annotations: note
      ? [{ text: note, showarrow: false, xref: "paper", yref: "paper", x: 0.5, y: 0.5 }]
      : [],
    uirevision: "stays",
  };
}

function drawLegend(runs) {
  const list = part("legend");
  list.replaceChildren(
    ...runs.map((run, place) => {
      const dot = make("i", { style: `background:${COLOURS[place % COLOURS.length]}` });
      const toggle = makeButton(
        "",
        () => {
          if (!hidden.delete(run.id)) hidden.add(run.id);
          draw();
        },
        { title: "Show or hide this run", "aria-pressed": String(!hidden.has(run.id)) },
      );
      toggle.append(dot, run.label);
      return make("li", {}, toggle);
    }),
  );
}

/* Plotly measures its box, so a hidden tab is drawn when it is shown. */
function draw() {
  const runs = props.value?.runs || [];
  drawLegend(runs);
  part("warning").textContent = props.value?.warning || "";
  part("warning").hidden = !props.value?.warning;
  stale = !element.offsetWidth;
  if (stale || !window.Plotly) return;
  for (const panel of PANELS) {
    const figure = part(panel.key);
    window.Plotly.react(figure.querySelector(".plot"), traces(panel, runs), layout(panel, runs), {
      displayModeBar: false,
      responsive: true,
    });
    const values = smoothed(runs[0]?.series[panel.key] || []);
    const now = values.at(-1) ?? null;
    figure.querySelector(".now").textContent =
      now === null ? "" : `now ${format(now, panel.percent)}`;
  }
}

part("panels").replaceChildren(
  ...PANELS.map((panel) =>
    make(
      "figure",
      { "data-part": panel.key },
      make("figcaption", {}, make("b", {}, panel.title), make("span", { class: "now" })),
      make("div", {
        class: "plot",
        role: "img",
        "aria-label": `${panel.title} by training step: ${panel.hint}`,
      }),
      make("small", {}, panel.hint),
    ),
  ),
);
smooth.addEventListener("change", draw);
new ResizeObserver(() => {
  if (stale) draw();
}).observe(element);
/* The colours are the theme's. */
new MutationObserver(draw).observe(document.body, { attributeFilter: ["class"] });
watch("value", draw);
draw();
loadPlotly(props.plotly).then(draw, () => {
  part("panels").textContent = "The curves could not be loaded. Reload the page.";
});
