// The images of a distilled set beside their prototypes. Cells are kept and only changed ones are
// drawn anew, so that focus, scrolling and loaded images survive while a set fills.
// Given by gr.HTML: element, props, trigger, watch.
const root = element.querySelector(".sample-grid");
let open = null; // key of the slot in the dialogue
let opener = null;

function make(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function button(text, act, className) {
  const made = make("button", className, text);
  made.type = "button";
  made.addEventListener("click", act);
  return made;
}

function picture(url, alt) {
  if (!url) {
    const empty = make("span", "blank");
    empty.setAttribute("role", "img");
    empty.setAttribute("aria-label", `${alt}: not made yet`);
    return empty;
  }
  const image = make("img");
  image.src = url;
  image.alt = alt;
  image.loading = "lazy";
  return image;
}

function badges(of) {
  const list = make("span", "badges");
  if (!of || !of.image) return list;
  const score = make("span", of.right ? "score right" : "score wrong", of.score);
  score.title = of.right ? "Score; the latent classifier names its class right"
    : `Score; the latent classifier takes it for ${of.predicted}`;
  list.append(score);
  if (of.pinned) list.append(Object.assign(make("span", "mark", "pinned"), { title: "Kept when the set is made again" }));
  if (of.by_hand) list.append(Object.assign(make("span", "mark", "by hand"), { title: "Chosen by hand, not by its score" }));
  return list;
}

function part(url, alt, label, of) {
  const figure = make("figure");
  figure.append(picture(url, alt), make("figcaption", "", label));
  if (of) figure.lastChild.append(badges(of));
  return figure;
}

function draw_cell(cell, value) {
  const made = make("li", cell.busy ? "busy" : "");
  made.dataset.key = cell.key;
  const face = button("", () => show(cell.key, face), "face");
  face.disabled = !cell.image;
  face.setAttribute("aria-label", `${cell.title}, score ${cell.score || "none yet"}. Open its candidates`);
  const images = make("div", "images");
  images.append(part(cell.prototype, `Prototype of ${cell.title}`, "real"),
    part(cell.image, `Distilled image of ${cell.title}`, cell.busy ? "sampling …" : value.beside ? "this set" : "distilled", cell));
  if (cell.beside) images.append(part(cell.beside.image, `${cell.title} in ${value.beside}`, "other set", cell.beside));
  face.append(make("b", "", cell.title), images, make("p", "caption", cell.caption));
  made.append(face);
  return made;
}

function draw_grid(value) {
  const list = root.querySelector(".cells");
  const there = new Map([...list.children].map((one) => [one.dataset.key, one]));
  let before = null;
  for (const cell of value.cells) {
    const content = JSON.stringify([cell, value.beside, value.set]);
    let item = there.get(cell.key);
    if (!item || item.content !== content) {
      const focused = item && item.contains(document.activeElement);
      const made = draw_cell(cell, value);
      made.content = content;
      if (item) item.replaceWith(made);
      item = made;
      if (focused) made.querySelector("button").focus();
    }
    there.delete(cell.key);
    if (before ? before.nextSibling !== item : list.firstChild !== item) {
      if (before) before.after(item); else list.prepend(item);
    }
    before = item;
  }
  for (const gone of there.values()) gone.remove();
}

function draw_bar(value) {
  root.querySelector(".note").textContent = value.note;
  const sheet = root.querySelector(".sheet");
  sheet.hidden = !value.sheet;
  if (value.sheet) { sheet.href = value.sheet; sheet.download = value.sheet_name; }
  const pages = root.querySelector(".pages");
  pages.hidden = value.pages < 2;
  pages.querySelector("span").textContent = `page ${value.page + 1} of ${value.pages}`;
  pages.querySelector("[data-by='-1']").disabled = value.page === 0;
  pages.querySelector("[data-by='1']").disabled = value.page >= value.pages - 1;
}

function find(key) {
  return ((props.value && props.value.cells) || []).find((cell) => cell.key === key);
}

function send(name, cell, more) {
  trigger(name, { set: props.value.set, class_name: cell.class, slot: cell.slot, ...more });
}

function candidate(cell, one, number) {
  const item = make("li", one.chosen ? "chosen" : "");
  const choose = button("", () => { if (!one.chosen) send("choose_candidate", cell, { index: one.index }); });
  choose.dataset.index = one.index;
  choose.setAttribute("aria-pressed", String(one.chosen));
  choose.disabled = cell.busy || !props.value.finished;
  const said = one.right ? "named right" : `taken for ${one.predicted}`;
  choose.setAttribute("aria-label", `Candidate ${number}, score ${one.score}, ${said}${one.chosen ? ", chosen" : ""}`);
  const score = make("span", one.right ? "score right" : "score wrong", one.score);
  const line = make("span", "line");
  line.append(score, make("span", "", one.chosen ? "chosen" : "choose"));
  choose.append(picture(one.url, `Candidate ${number}`), line, make("small", "", said));
  if (one.round) choose.append(make("small", "", `round ${one.round + 1}`));
  item.append(choose);
  return item;
}

function draw_dialog() {
  const dialog = root.querySelector("dialog");
  const cell = open && find(open);
  if (!cell || !cell.image) { if (dialog.open) dialog.close(); return; }
  const held = dialog.contains(document.activeElement)
    ? document.activeElement.dataset.index || document.activeElement.dataset.act : null;
  const head = make("header");
  head.append(make("h3", "", cell.title), button("Close", () => dialog.close(), "close"));
  const prototype = make("div", "prototype");
  prototype.append(part(cell.prototype, `Prototype of ${cell.title}`, "real prototype"), make("p", "", cell.caption));
  const list = make("ul", "candidates");
  cell.candidates.forEach((one, place) => list.append(candidate(cell, one, place + 1)));
  const acts = make("div", "acts");
  const pin = button(cell.pinned ? "Unpin" : "Pin", () => send("pin_slot", cell, { on: !cell.pinned }));
  pin.dataset.act = "pin";
  pin.title = "A pinned image is never sampled anew and can be taken over into another set";
  const anew = button(cell.busy ? "Sampling …" : "Reject and sample anew", () => send("sample_anew", cell, {}), "anew");
  anew.dataset.act = "anew";
  anew.disabled = cell.busy || cell.pinned;
  anew.title = cell.pinned ? "Unpin it first" : "Adds new candidates from other seeds and takes the best of them";
  for (const one of [pin, anew]) one.disabled = one.disabled || !props.value.finished;
  acts.append(pin, anew);
  dialog.replaceChildren(head, prototype, list, acts);
  if (!dialog.open) dialog.showModal();
  if (held) (dialog.querySelector(`[data-index="${held}"], [data-act="${held}"]`) || dialog.querySelector(".close")).focus();
}

function show(key, from) {
  open = key;
  opener = from;
  draw_dialog();
}

function build() {
  const bar = make("div", "bar");
  const note = make("span", "note");
  note.setAttribute("role", "status");
  const sheet = make("a", "sheet", "Download contact sheet");
  const pages = make("nav", "pages");
  pages.setAttribute("aria-label", "Pages");
  for (const [by, text] of [[-1, "Previous"], [1, "Next"]]) {
    const turn = button(text, () => trigger("turn_page", { page: props.value.page + by }));
    turn.dataset.by = by;
    pages.append(turn);
    if (by < 0) pages.append(make("span"));
  }
  bar.append(note, pages, sheet);
  const dialog = make("dialog");
  dialog.setAttribute("aria-label", "Candidates of one image");
  dialog.addEventListener("close", () => {
    const key = open;
    open = null;
    const back = opener && opener.isConnected ? opener : [...root.querySelectorAll(".cells li")].find((one) => one.dataset.key === key)?.querySelector("button");
    if (back) back.focus();
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  const cells = make("ul", "cells");
  // Arrow keys go from cell to cell.
  cells.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const faces = [...cells.querySelectorAll("button.face:not(:disabled)")];
    const next = by && faces[faces.indexOf(document.activeElement) + by];
    if (next) { next.focus(); event.preventDefault(); }
  });
  root.replaceChildren(bar, cells, dialog);
}

function draw() {
  const value = props.value || { cells: [], pages: 0, page: 0, note: "" };
  draw_bar(value);
  draw_grid(value);
  draw_dialog();
}

build();
draw();
watch("value", draw);
