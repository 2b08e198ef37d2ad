/* The map: Plotly WebGL, hover card, pin, lasso. Given by gr.HTML: element, props, trigger, watch.
   Nothing but decisions crosses the wire; rows are numbers into the columns of the data. */
const state = {
  data: null,
  version: null,
  rows: [],
  stars: [],
  selected: [],
  pinned: null,
  page: 0,
  order: "class",
  tool: "lasso",
  by: "cls",
  filter: "",
  stale: false,
  clearing: false,
};
const plot = part("plot");

function say(text) {
  part("message").textContent = text;
  part("message").hidden = !text;
}

async function refresh() {
  const { base, version, empty } = props.value || {};
  takeFound(props.value?.found);
  if (!base || version === state.version) return;
  state.version = version;
  try {
    const [response] = await Promise.all([
      fetch(`${base}/data/prototypes?v=${encodeURIComponent(version)}`),
      loadPlotly(props.plotly),
    ]);
    if (version !== state.version) return; // a newer one is on its way
    if (!response.ok) {
      state.data = null;
      say(empty || "There is nothing to show yet.");
    } else adopt(await response.json(), empty);
  } catch {
    state.version = null;
    say("The map could not be loaded. Reload the page.");
  }
  draw();
  showDetail();
  showGallery();
  takeFound(props.value?.found);
}

function adopt(data, empty) {
  data.isPrototype = new Set(data.prototypes);
  data.isChosen = new Set(data.chosen);
  data.isExcluded = new Set(data.excluded);
  data.isOutlier = new Set(data.outliers);
  data.movedFrom = new Map(data.moved);
  if (!state.data || state.data.key !== data.key)
    Object.assign(state, { selected: [], pinned: null });
  state.data = data;
  const filter = part("filter");
  filter.replaceChildren(
    make("option", { value: "" }, "all classes"),
    ...data.classes.map((entry) =>
      make("option", { value: entry.name, selected: entry.name === state.filter }, entry.readable),
    ),
  );
  state.filter = filter.value;
  fillFind();
  part("first").hidden = !data.first;
  say(data.x.some((value) => value !== null) ? "" : empty);
}

/* Plotly measures its box, so a hidden tab is drawn when it is shown. */
function draw() {
  state.stale = !plot.offsetWidth;
  if (state.stale || !window.Plotly) return;
  const { data } = state;
  if (!data) {
    window.Plotly.purge(plot);
    part("legend").replaceChildren();
    return;
  }
  const shows = passing();
  state.rows = [];
  for (let row = 0; row < data.ids.length; row++) {
    if (data.x[row] !== null && shows(row)) state.rows.push(row);
  }
  part("take").textContent = `Select the ${state.rows.length.toLocaleString("en")} shown`;
  state.stars = state.rows.filter((row) => data.isPrototype.has(row) || data.isChosen.has(row));
  const colours = colouring(data, state.by);
  window.Plotly.react(plot, traces(colours), layout(), {
    displayModeBar: false,
    scrollZoom: true,
    responsive: true,
    doubleClick: "autosize",
  });
  listen();
  showLegend(colours);
  placeRing();
}

function traces(colours) {
  const { data, rows, stars, selected } = state;
  const chosen = new Set(selected);
  const marked = (list) =>
    selected.length ? list.flatMap((row, place) => (chosen.has(row) ? [place] : [])) : null;
  const column = (name, list) => list.map((row) => data[name][row]);
  const shaped = colours.shapes || data.excluded.length;
  const shape = (row) => (data.isExcluded.has(row) ? "x" : (colours.shapes?.[row] ?? "circle"));
  const faded = { marker: { color: NOTHING, opacity: 0.18 } };
  const common = { type: "scattergl", mode: "markers", hoverinfo: "none", unselected: faded };
  const outline = getComputedStyle(element).color;
  return [
    {
      ...common,
      x: column("x", rows),
      y: column("y", rows),
      selectedpoints: marked(rows),
      selected: { marker: { opacity: 0.95 } },
      marker: {
        color: rows.map((row) => colours.colours[row]),
        opacity: 0.85,
        size: rows.length > 3000 ? 5 : rows.length > 600 ? 7 : 9,
        symbol: shaped ? rows.map(shape) : "circle",
      },
    },
    {
      ...common,
      x: column("x", stars),
      y: column("y", stars),
      selectedpoints: marked(stars),
      selected: { marker: { opacity: 1 } },
      marker: {
        color: stars.map((row) => colours.colours[row]),
        size: 15,
        opacity: 1,
        symbol: stars.map((row) => (data.isPrototype.has(row) ? "star" : "star-open")),
        line: { color: outline, width: 1.2 },
      },
    },
  ];
}

function layout() {
  const axis = { visible: false, zeroline: false };
  return {
    margin: { l: 6, r: 6, t: 6, b: 6 },
    xaxis: axis,
    yaxis: { ...axis },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    showlegend: false,
    hovermode: "closest",
    hoverdistance: 30,
    clickmode: "event",
    dragmode: state.tool,
    // The same revision keeps the zoom; another layout of the points starts anew.
    uirevision: state.data.layout + state.data.key,
    selections: [],
    annotations: names(),
  };
}

/* The classes' names at the median of their points, of so many that it is quick. */
function names() {
  const { data, rows } = state;
  if (state.by !== "cls" || data.classes.length > 40) return [];
  const step = Math.ceil(rows.length / 4000);
  const middle = (values) => values.sort((a, b) => a - b)[values.length >> 1];
  const places = data.classes.map(() => [[], []]);
  for (let place = 0; place < rows.length; place += step) {
    const row = rows[place];
    places[data.cls[row]][0].push(data.x[row]);
    places[data.cls[row]][1].push(data.y[row]);
  }
  const found = places.flatMap(([x, y], number) =>
    x.length ? [{ number, count: x.length, x: middle(x), y: middle(y) }] : [],
  );
  // Of names that would lie over each other only the larger class's is written.
  const wide = Math.max(...found.map((at) => at.x)) - Math.min(...found.map((at) => at.x)) || 1;
  const tall = Math.max(...found.map((at) => at.y)) - Math.min(...found.map((at) => at.y)) || 1;
  const written = [];
  for (const at of found.sort((one, other) => other.count - one.count)) {
    const near = (other) =>
      Math.abs(at.x - other.x) < 0.3 * wide && Math.abs(at.y - other.y) < 0.12 * tall;
    if (!written.some(near)) written.push(at);
  }
  const style = getComputedStyle(element);
  return written.map(({ number, x, y }) => ({
    x,
    y,
    text: escaped(data.classes[number].readable),
    showarrow: false,
    captureevents: false,
    font: { size: 12, color: style.color },
    bgcolor: style.getPropertyValue("--background-fill-primary"),
    opacity: 0.8,
  }));
}

/* Plotly takes some HTML in its texts. */
function escaped(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function rowOf(point) {
  return (point.curveNumber === 1 ? state.stars : state.rows)[point.pointNumber];
}

function listen() {
  if (plot.dataset.listening) return;
  plot.dataset.listening = "yes";
  plot.on("plotly_hover", (event) => hover(rowOf(event.points[0]), event.event));
  plot.on("plotly_unhover", () => {
    part("card").hidden = true;
  });
  plot.on("plotly_click", (event) => pin(rowOf(event.points[0])));
  plot.on("plotly_selected", (event) => {
    if (!event || state.clearing) return;
    const rows = [...new Set(event.points.map(rowOf))];
    choose(rows); // at once; the drawing takes longer
    clearOutline().then(draw);
  });
  plot.on("plotly_deselect", () => {
    if (!state.clearing) select([]);
  });
  for (const name of ["plotly_relayout", "plotly_relayouting", "plotly_afterplot"])
    plot.on(name, placeRing);
}

/* The outline of a lasso would lie over the points and keep the pointer from them. */
async function clearOutline() {
  state.clearing = true;
  await window.Plotly.relayout(plot, { selections: [] });
  state.clearing = false;
}

function hover(row, event) {
  if (row === undefined) return;
  const { data } = state;
  const card = part("card");
  const [image, name, about] = card.children;
  const source = link("thumb", row);
  if (image.getAttribute("src") !== source) image.src = source;
  name.textContent = data.classes[data.cls[row]].readable;
  about.textContent = [data.ids[row].split("/").pop(), ...flags(row)].join(" · ");
  card.dataset.row = row;
  card.hidden = false;
  const { width, height } = card.getBoundingClientRect();
  const fits = (at, size, limit) => (at + 18 + size > limit ? at - 18 - size : at + 18);
  card.style.left = `${Math.max(fits(event.clientX, width, window.innerWidth), 0)}px`;
  card.style.top = `${Math.max(fits(event.clientY, height, window.innerHeight), 0)}px`;
  prefetch(row);
}

/* The images around: the pointer goes to one of them next. */
const fetched = new Set();
function prefetch(row) {
  const { data, rows } = state;
  const { xaxis, yaxis } = plot._fullLayout;
  const across = 1 / (xaxis.range[1] - xaxis.range[0]);
  const up = 1 / (yaxis.range[1] - yaxis.range[0]);
  const far = (other) =>
    ((data.x[other] - data.x[row]) * across) ** 2 + ((data.y[other] - data.y[row]) * up) ** 2;
  const near = rows.filter((other) => far(other) < 0.0025).sort((a, b) => far(a) - far(b));
  for (const other of near.slice(0, 10)) {
    if (fetched.has(other)) continue;
    fetched.add(other);
    new Image().src = link("thumb", other);
  }
}

function pin(row) {
  state.pinned = row === undefined ? null : row;
  placeRing();
  showDetail();
  for (const button of element.querySelectorAll(".items button")) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.row) === state.pinned));
  }
}

function placeRing() {
  const { data, pinned } = state;
  const ring = part("ring");
  const axes = plot._fullLayout;
  ring.hidden = !data || pinned === null || data.x[pinned] === null || !axes?.xaxis;
  if (ring.hidden) return;
  const left = axes.xaxis.d2p(data.x[pinned]);
  const top = axes.yaxis.d2p(data.y[pinned]);
  ring.hidden = left < 0 || top < 0 || left > axes.xaxis._length || top > axes.yaxis._length;
  ring.style.left = `${axes.xaxis._offset + left}px`;
  ring.style.top = `${axes.yaxis._offset + top}px`;
}

function choose(rows, name = "") {
  state.selected = rows;
  state.list = name;
  if (!name && (state.order === "found" || state.order === "pairs")) state.order = "class";
  state.page = 0;
  showGallery();
}

function select(rows) {
  choose(rows);
  draw();
}

function showLegend(colours) {
  const legend = part("legend");
  const text = (mark, words) => make("span", {}, make("i", {}, mark), ` ${words}`);
  const signs = [
    text("★", "prototype"),
    text("☆", "chosen, from the next clustering on"),
    text("✕", "excluded"),
  ];
  if (colours.scale) {
    const { low, high, missing } = colours.scale;
    const bar = make("span", {
      class: "scale",
      role: "img",
      "aria-label": `Colours from ${low.toFixed(3)} to ${high.toFixed(3)}`,
    });
    bar.style.background = `linear-gradient(90deg, ${SCALE.join(",")})`;
    const grey = missing ? [text("●", "has none (test or excluded)")] : [];
    legend.replaceChildren(`≤ ${low.toFixed(3)}`, bar, `≥ ${high.toFixed(3)}`, ...grey, ...signs);
    return;
  }
  legend.replaceChildren(
    ...colours.entries.map((entry) => {
      const words = text(entry.mark, entry.name);
      words.firstChild.style.color = entry.colour;
      return words;
    }),
    ...signs,
  );
}

part("colour").addEventListener("change", (event) => {
  state.by = event.target.value;
  draw();
});
part("filter").addEventListener("change", (event) => {
  state.filter = event.target.value;
  if (state.data) fillFind();
  draw();
});
part("whole").addEventListener("click", () => {
  if (window.Plotly && state.data) {
    window.Plotly.relayout(plot, { "xaxis.autorange": true, "yaxis.autorange": true });
  }
});
for (const button of element.querySelectorAll("[data-tool]")) {
  button.addEventListener("click", () => {
    state.tool = button.dataset.tool;
    for (const tool of element.querySelectorAll("[data-tool]")) {
      tool.setAttribute("aria-pressed", String(tool === button));
    }
    if (window.Plotly && state.data) window.Plotly.relayout(plot, { dragmode: state.tool });
  });
}
window.addEventListener("dpd-prototypes-pin", (event) => {
  const row = state.data ? state.data.ids.indexOf(event.detail.id) : -1;
  if (row < 0) return;
  pin(row);
  element.scrollIntoView({ behavior: "smooth", block: "nearest" });
});
new ResizeObserver(() => {
  if (state.stale) draw();
}).observe(plot);
watch("value", refresh);
showDetail();
refresh();
