/* The pinned image, what can be done with the selected ones (over the map, where one looks) and
   their gallery below it. Everything that comes from data is put in as
   text. */
const PAGE = 60;
function link(kind, row) {
  const id = state.data.ids[row].split("/").map(encodeURIComponent).join("/");
  return `${props.value.base}/${kind}/${id}`;
}

function flags(row) {
  const { data } = state;
  const moved = data.movedFrom.get(row);
  return [
    data.isPrototype.has(row) && "★ prototype of its cluster",
    data.isChosen.has(row) && "☆ chosen by hand",
    data.isExcluded.has(row) && "✕ excluded from training",
    data.isOutlier.has(row) && "left out of the clustering as an outlier",
    moved && `moved here from ${moved}`,
  ].filter(Boolean);
}

function decide(action, rows, class_name = "") {
  trigger("decide", { action, rows, class_name, key: state.data.key });
}

/* A choice of class and the button that moves rows into it. */
function mover(rows, current) {
  const label = rows.length === 1 ? "Class to move it to" : "Class to move them to";
  const choice = make(
    "select",
    { "aria-label": label },
    make("option", { value: "" }, "Move to class …"),
    ...state.data.classes
      .filter((_, number) => number !== current)
      .map((entry) => make("option", { value: entry.name }, entry.readable)),
  );
  choice.addEventListener("change", () => {
    if (choice.value) decide("move", rows, choice.value);
    choice.value = "";
  });
  return choice;
}

function showDetail() {
  const { data, pinned } = state;
  const panel = part("detail");
  if (!data || pinned === null) {
    panel.replaceChildren(
      make(
        "p",
        { class: "hint" },
        "Point at the map to see an image, click to pin it here. Drag around images to select them; " +
          "turn the wheel to zoom.",
      ),
    );
    return;
  }
  const caption = data.captions[data.classes[data.cls[pinned]].name]?.[data.cluster[pinned]];
  const number = (value, digits) => (value === null ? "none" : value.toFixed(digits));
  const facts = [
    ["Class", data.classes[data.cls[pinned]].readable],
    ["Cluster", data.cluster[pinned] < 0 ? "none" : String(data.cluster[pinned])],
    ["Split", data.split[pinned] ? "test" : "training"],
    ["Margin", number(data.margin[pinned], 4)],
    ["Outlier score", number(data.outlier[pinned], 3)],
    ["Caption", caption || "none yet"],
  ];
  const list = make("dl");
  for (const [name, text] of facts) list.append(make("dt", {}, name), make("dd", {}, text));
  const training = !data.split[pinned];
  const buttons = make("div", { class: "actions" });
  const button = (text, action) =>
    buttons.append(
      make(
        "button",
        { type: "button", "data-action": action, onclick: () => decide(action, [pinned]) },
        text,
      ),
    );
  if (data.isChosen.has(pinned)) button("Give up this choice", "release");
  else if (training && !data.isExcluded.has(pinned) && data.cluster[pinned] >= 0) {
    button(
      data.isPrototype.has(pinned) ? "Keep as prototype" : "Make prototype of its cluster",
      "choose",
    );
  }
  if (data.isExcluded.has(pinned)) button("Include in training again", "include");
  else if (training) button("Exclude from training", "exclude");
  buttons.append(
    makeButton(
      "Find similar images",
      () => trigger("find_similar", { row: pinned, key: data.key }),
      {
        "data-action": "similar",
        disabled: !data.near,
        title: data.near ? "" : "Known after the next clustering",
      },
    ),
    mover([pinned], data.cls[pinned]),
  );
  panel.replaceChildren(
    make("img", {
      src: link("large", pinned),
      alt: `Image ${data.ids[pinned]}`,
      "data-row": pinned,
    }),
    make("p", { class: "id" }, data.ids[pinned]),
    ...flags(pinned).map((text) => make("p", { class: "flag" }, text)),
    list,
    buttons,
    make("button", { type: "button", class: "quiet", onclick: () => pin(null) }, "Unpin"),
  );
}

function ordered(rows) {
  const { data, order } = state;
  const by = {
    outlier: (row) => -(data.outlier[row] ?? -1e9),
    margin: (row) => data.margin[row] ?? 1e9,
    class: (row) => data.cls[row],
    found: (row) => -(state.similar?.get(row) ?? -2),
    // Pairs stand together, the most similar first.
    pairs: (row) => -data.alike[row] + Math.min(row, data.near[row]) * 1e-9,
  }[order];
  return [...rows].sort((a, b) => by(a) - by(b) || a - b);
}

function item(row) {
  const { data } = state;
  const words = [data.ids[row], data.classes[data.cls[row]].readable, ...flags(row)].join(", ");
  const marks =
    (data.isPrototype.has(row) ? "★" : "") +
    (data.isChosen.has(row) ? "☆" : "") +
    (data.isExcluded.has(row) ? "✕" : "");
  return make(
    "button",
    {
      type: "button",
      "data-row": row,
      title: words,
      "aria-label": `Pin ${words}`,
      "aria-pressed": String(state.pinned === row),
      class: data.isExcluded.has(row) ? "out" : "",
      onclick: () => pin(row),
    },
    make("img", { src: link("thumb", row), alt: "", width: 84, height: 84 }),
    make("span", {}, `${marks} ${data.classes[data.cls[row]].readable}`),
    ...(likenessOf(row) === undefined ? [] : [make("span", {}, likenessOf(row).toFixed(3))]),
  );
}

function showGallery() {
  const { data, selected } = state;
  const box = part("gallery");
  part("selected").hidden = !data || !selected.length;
  if (!data || !selected.length) {
    box.replaceChildren();
    return;
  }
  const rows = ordered(selected);
  const pages = Math.ceil(rows.length / PAGE);
  state.page = Math.min(state.page, pages - 1);
  const shown = rows.slice(state.page * PAGE, (state.page + 1) * PAGE);
  const turn = (by, text, label) =>
    make(
      "button",
      {
        type: "button",
        "aria-label": label,
        disabled: state.page + by < 0 || state.page + by >= pages,
        onclick: () => {
          state.page += by;
          showGallery();
        },
      },
      text,
    );
  const order = make(
    "select",
    { "aria-label": "Order of the selected images" },
    ...[
      ["class", "by class"],
      ["outlier", "strangest first"],
      ["margin", "smallest margin first"],
      ...(state.order === "found" ? [["found", "most alike first"]] : []),
      ...(data.near ? [["pairs", "pairs of alike images"]] : []),
    ].map(([value, text]) => make("option", { value, selected: state.order === value }, text)),
  );
  order.addEventListener("change", () => {
    state.order = order.value;
    state.page = 0;
    showGallery();
  });
  const training = selected.filter((row) => !data.split[row]);
  const inside = training.filter((row) => !data.isExcluded.has(row));
  const outside = training.filter((row) => data.isExcluded.has(row));
  const classes = new Set(selected.map((row) => data.cls[row]));
  const plural = (count, text) => `${count.toLocaleString("en")} ${text}${count === 1 ? "" : "s"}`;
  const heading = make(
    "b",
    { "data-part": "count" },
    `${plural(selected.length, "image")} selected`,
  );
  const actions = make("div", { class: "actions" }, heading);
  if (inside.length) {
    actions.append(
      make(
        "button",
        { type: "button", "data-action": "exclude", onclick: () => decide("exclude", inside) },
        `Exclude ${inside.length} from training`,
      ),
    );
  }
  if (outside.length) {
    actions.append(
      make(
        "button",
        { type: "button", "data-action": "include", onclick: () => decide("include", outside) },
        `Include ${outside.length} again`,
      ),
    );
  }
  if (state.list === "near-duplicates") {
    actions.append(
      makeButton("Keep one of each", () => list(secondOnes(selected), "pairs", "second ones"), {
        "data-action": "second",
        title: "Selects all but the first of images that are nearly the same",
      }),
    );
  }
  const name = make("input", {
    maxlength: 60,
    placeholder: "name",
    "aria-label": "Name to save by",
  });
  name.addEventListener("keydown", (event) => event.stopPropagation());
  const save = (rows) => {
    if (name.value.trim()) trigger("save_selection", { rows, name: name.value, key: data.key });
    else name.focus();
  };
  actions.append(
    name,
    makeButton("Save selection", () => save(selected), { "data-action": "save" }),
  );
  if (data.selections?.[state.list]) {
    actions.append(
      makeButton("Forget it", () =>
        trigger("save_selection", { rows: [], name: state.list, key: data.key }),
      ),
    );
  }
  actions.append(
    mover(selected, classes.size === 1 ? [...classes][0] : -1),
    make(
      "button",
      { type: "button", class: "quiet", onclick: () => select([]) },
      "Clear selection",
    ),
  );
  const paging =
    pages > 1
      ? make(
          "div",
          { class: "paging" },
          turn(-1, "‹", "Previous page"),
          `${state.page + 1} / ${pages}`,
          turn(1, "›", "Next page"),
        )
      : "";
  part("selected").replaceChildren(actions);
  box.replaceChildren(
    make("header", {}, order, paging),
    make("div", { class: "items" }, ...shown.map(item)),
  );
}
