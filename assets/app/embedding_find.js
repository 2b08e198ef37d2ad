/* What the map shows and selects without a lasso: a filter of class, split, cluster, score and words,
   lists of near-duplicates and outliers, saved selections, and the images most like one. */
const ALIKE = 0.97; // of two images that are nearly the same
const filters = { split: "", cluster: "", words: "", score: "", from: "", to: "" };

/* What a row can be found by. */
function haystack(row) {
  const { data } = state;
  const entry = data.classes[data.cls[row]];
  const caption = data.captions[entry.name]?.[data.cluster[row]] || "";
  return `${data.ids[row]} ${entry.readable} ${caption}`.toLowerCase();
}

function passing() {
  const { data } = state;
  const only = data.classes.findIndex((entry) => entry.name === state.filter);
  const words = filters.words.toLowerCase().split(/\s+/).filter(Boolean);
  const values = filters.score ? data[filters.score] : null;
  const low = filters.from === "" ? -Infinity : Number(filters.from);
  const high = filters.to === "" ? Infinity : Number(filters.to);
  const inside = (row) => {
    if (!values) return !filters.score;
    const value = values[row];
    return value !== null && value >= low && value <= high;
  };
  return (row) =>
    (only < 0 || data.cls[row] === only) &&
    (filters.split === "" || data.split[row] === Number(filters.split)) &&
    (filters.cluster === "" || data.cluster[row] === Number(filters.cluster)) &&
    (!filters.score || inside(row)) &&
    (!words.length || words.every((word) => haystack(row).includes(word)));
}

function fillFind() {
  const { data } = state;
  const numbers = new Set(
    data.cluster.filter(
      (value, row) =>
        value >= 0 && (!state.filter || data.classes[data.cls[row]].name === state.filter),
    ),
  );
  const options = [...numbers].sort((a, b) => a - b);
  if (!numbers.has(Number(filters.cluster))) filters.cluster = "";
  part("cluster").replaceChildren(
    make("option", { value: "" }, "all"),
    ...options.map((number) =>
      make("option", { value: number, selected: String(number) === filters.cluster }, number),
    ),
  );
  const saved = Object.entries(data.selections || {});
  part("saved").hidden = !saved.length;
  part("saved").replaceChildren(
    make("option", { value: "" }, "Saved selections …"),
    ...saved.map(([name, rows]) => make("option", { value: name }, `${name} (${rows.length})`)),
  );
  part("duplicates").disabled = !data.near;
  part("duplicates").title = data.near
    ? "Images that another one nearly equals"
    : "Known after the next clustering";
}

/* A list that is looked at as a selection: in its own order, with its own way to act. */
function list(rows, order, name) {
  state.order = order;
  choose(rows, name);
  draw();
  if (!rows.length) say(`There are no ${name} among the images shown.`);
}

function duplicates() {
  const { data } = state;
  const shows = passing();
  const rows = new Set();
  for (const [row, near] of data.near.entries()) {
    if (data.alike[row] >= ALIKE && shows(row)) rows.add(row).add(near);
  }
  list([...rows], "pairs", "near-duplicates");
}

function outliers() {
  const { data } = state;
  const shows = passing();
  const known = data.ids
    .map((_, row) => row)
    .filter((row) => data.outlier[row] !== null && shows(row));
  known.sort((a, b) => data.outlier[b] - data.outlier[a]);
  list(known.slice(0, Math.max(12, Math.ceil(known.length / 50))), "outlier", "outliers");
}

/* Of images that are nearly the same all but the first. */
function secondOnes(rows) {
  const { data } = state;
  const kept = new Set();
  const dropped = [];
  for (const row of [...rows].sort((a, b) => a - b)) {
    if (data.alike[row] >= ALIKE && kept.has(data.near[row])) dropped.push(row);
    else kept.add(row);
  }
  return dropped;
}

/* The images most like one, as the server has found them. */
function takeFound(found) {
  if (!found || found.asked === state.asked || !state.data) return;
  state.asked = found.asked;
  state.similar = new Map(found.rows.map((row, place) => [row, found.alike[place]]));
  list(found.rows, "found", "similar images");
}

/* Cosine that the gallery tells beside an image, where the order is by likeness. */
function likenessOf(row) {
  if (state.order === "found") return state.similar?.get(row);
  return state.order === "pairs" ? state.data.alike?.[row] : undefined;
}

for (const name of Object.keys(filters)) {
  const field = part(name);
  field.addEventListener(field.tagName === "SELECT" ? "change" : "input", () => {
    filters[name] = field.value;
    say("");
    draw();
  });
  field.addEventListener("keydown", (event) => event.stopPropagation());
}
part("take").addEventListener("click", () => {
  if (state.data) list(state.rows, "class", "images");
});
part("duplicates").addEventListener("click", duplicates);
part("outliers").addEventListener("click", () => {
  if (state.data) outliers();
});
part("saved").addEventListener("change", (event) => {
  const name = event.target.value;
  if (name) list(state.data.selections[name] || [], "class", name);
  event.target.value = "";
});
