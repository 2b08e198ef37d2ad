/* The images of a distilled set beside their prototypes, and a dialogue with a slot's candidates.
   Cells are kept and only changed ones are drawn anew, so that focus, scrolling and loaded images
   survive while a set fills. Given by gr.HTML: element, props, trigger, watch. */
const root = element.querySelector(".sample-grid");
let open = null; // key of the slot in the dialogue
let opener = null;

function picture(url, alt) {
  if (url) return make("img", { src: url, alt, loading: "lazy" });
  return make("span", { class: "blank", role: "img", "aria-label": `${alt}: not made yet` });
}

function mark(text, title) {
  return make("span", { class: "mark", title }, text);
}

function scoreBadge({ right, predicted, score }) {
  const title = right
    ? "Score; the latent classifier names its class right"
    : `Score; the latent classifier takes it for ${predicted}`;
  return make("span", { class: `score ${right ? "right" : "wrong"}`, title }, score);
}

function badges(shown) {
  const list = make("span", { class: "badges" });
  if (!shown?.image) return list;
  list.append(scoreBadge(shown));
  if (shown.pinned) list.append(mark("pinned", "Kept when the set is made again"));
  if (shown.by_hand) list.append(mark("by hand", "Chosen by hand, not by its score"));
  return list;
}

function figure(url, alt, label, shown) {
  const caption = make("figcaption", {}, label);
  if (shown) caption.append(badges(shown));
  return make("figure", {}, picture(url, alt), caption);
}

function drawCell({ cell, beside }) {
  const own = cell.busy ? "sampling …" : beside ? "this set" : "distilled";
  const images = make(
    "div",
    { class: "images" },
    figure(cell.prototype, `Prototype of ${cell.title}`, "real"),
    figure(cell.image, `Distilled image of ${cell.title}`, own, cell),
  );
  if (cell.beside) {
    images.append(
      figure(cell.beside.image, `${cell.title} in ${beside}`, "other set", cell.beside),
    );
  }
  const face = makeButton("", () => show(cell.key, face), {
    class: "face",
    disabled: !cell.image,
    "aria-label": `${cell.title}, score ${cell.score || "none yet"}. Open its candidates`,
  });
  face.append(make("b", {}, cell.title), images, make("p", { class: "caption" }, cell.caption));
  return make("li", { class: cell.busy ? "busy" : "" }, face);
}

function drawBar(value) {
  part("note").textContent = value.note;
  const sheet = part("sheet");
  sheet.hidden = !value.sheet;
  if (value.sheet) {
    sheet.href = value.sheet;
    sheet.download = value.sheet_name;
  }
  part("pages").hidden = value.pages < 2;
  part("page").textContent = `page ${value.page + 1} of ${value.pages}`;
  part("previous").disabled = value.page === 0;
  part("next").disabled = value.page >= value.pages - 1;
}

function find(key) {
  return (props.value?.cells || []).find((cell) => cell.key === key);
}

function send(name, cell, more) {
  trigger(name, { set: props.value.set, class_name: cell.class, slot: cell.slot, ...more });
}

function drawCandidate(cell, candidate, number) {
  const { index, chosen, right, score } = candidate;
  const said = right ? "named right" : `taken for ${candidate.predicted}`;
  const choose = makeButton(
    "",
    () => {
      if (!chosen) send("choose_candidate", cell, { index });
    },
    {
      "data-index": index,
      "aria-pressed": String(chosen),
      disabled: cell.busy || !props.value.finished,
      "aria-label": `Candidate ${number}, score ${score}, ${said}${chosen ? ", chosen" : ""}`,
    },
  );
  const word = make("span", {}, chosen ? "chosen" : "choose");
  choose.append(
    picture(candidate.url, `Candidate ${number}`),
    make("span", { class: "line" }, scoreBadge(candidate), word),
    make("small", {}, said),
  );
  if (candidate.note) choose.append(make("small", {}, candidate.note));
  if (candidate.round) choose.append(make("small", {}, `round ${candidate.round + 1}`));
  return make("li", { class: chosen ? "chosen" : "" }, choose);
}

function drawActs(cell) {
  const closed = !props.value.finished;
  const pin = makeButton(
    cell.pinned ? "Unpin" : "Pin",
    () => send("pin_slot", cell, { on: !cell.pinned }),
    {
      "data-act": "pin",
      disabled: closed,
      title: "A pinned image is never sampled anew and can be taken over into another set",
    },
  );
  const anew = makeButton(
    cell.busy ? "Sampling …" : "Reject and sample anew",
    () => send("sample_anew", cell, {}),
    {
      "data-act": "anew",
      class: "anew",
      disabled: closed || cell.busy || cell.pinned,
      title: cell.pinned
        ? "Unpin it first"
        : "Adds new candidates from other seeds and takes the best of them",
    },
  );
  return make("div", { class: "acts" }, pin, anew);
}

function drawDialogue() {
  const dialogue = root.querySelector("dialog");
  const cell = open && find(open);
  if (!cell?.image) {
    if (dialogue.open) dialogue.close();
    return;
  }
  const { index, act } = dialogue.contains(document.activeElement)
    ? document.activeElement.dataset
    : {};
  const close = makeButton("Close", () => dialogue.close(), { class: "close" });
  const prototype = figure(cell.prototype, `Prototype of ${cell.title}`, "real prototype");
  const list = cell.candidates.map((one, place) => drawCandidate(cell, one, place + 1));
  dialogue.replaceChildren(
    make("header", {}, make("h3", {}, cell.title), close),
    make(
      "div",
      { class: "prototype" },
      prototype,
      make(
        "div",
        { class: "about" },
        make("p", {}, cell.caption),
        make("p", { class: "why" }, make("b", {}, "Why this image: "), cell.why || ""),
        make("p", { class: "why" }, make("b", {}, "Score: "), `${props.value.score || "none"}.`),
        make("p", { class: "why" }, make("b", {}, "By hand: "), props.value.by_hand || ""),
      ),
    ),
    make("ul", { class: "candidates" }, ...list),
    drawActs(cell),
  );
  if (!dialogue.open) dialogue.showModal();
  const held = index ? `[data-index="${index}"]` : act && `[data-act="${act}"]`;
  if (held) (dialogue.querySelector(held) || close).focus();
}

function show(key, from) {
  open = key;
  opener = from;
  drawDialogue();
}

/* The focus goes back to the cell, also if it has been drawn anew. */
function closed() {
  const cells = [...root.querySelectorAll(".cells li")];
  const again = cells.find((cell) => cell.dataset.key === open)?.querySelector("button");
  open = null;
  (opener?.isConnected ? opener : again)?.focus();
}

/* Arrow keys go from cell to cell. */
function step(event) {
  const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const faces = [...root.querySelectorAll("button.face:not(:disabled)")];
  const next = by && faces[faces.indexOf(document.activeElement) + by];
  if (!next) return;
  next.focus();
  event.preventDefault();
}

function build() {
  const turn = (by) => () => trigger("turn_page", { page: props.value.page + by });
  const pages = make(
    "nav",
    { class: "pages", "data-part": "pages", "aria-label": "Pages" },
    makeButton("Previous", turn(-1), { "data-part": "previous" }),
    make("span", { "data-part": "page" }),
    makeButton("Next", turn(1), { "data-part": "next" }),
  );
  const note = make("span", { class: "note", "data-part": "note", role: "status" });
  const sheet = make("a", { class: "sheet", "data-part": "sheet" }, "Download contact sheet");
  const dialogue = make("dialog", {
    "aria-label": "Candidates of one image",
    onclose: closed,
    onclick: (event) => {
      if (event.target === dialogue) dialogue.close();
    },
  });
  const cells = make("ul", { class: "cells", onkeydown: step });
  root.replaceChildren(make("div", { class: "bar" }, note, pages, sheet), cells, dialogue);
}

function draw() {
  const value = props.value || { cells: [], pages: 0, page: 0, note: "" };
  drawBar(value);
  const items = value.cells.map((cell) => ({
    key: cell.key,
    cell,
    beside: value.beside,
    set: value.set,
  }));
  drawKeyed(root.querySelector(".cells"), items, drawCell);
  drawDialogue();
}

build();
draw();
watch("value", draw);
