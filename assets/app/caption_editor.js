/* One caption's text. What is typed belongs to the person who types: nothing that comes from the
   server ever replaces it. It is kept in this browser until it is saved or discarded.
   Given by gr.HTML: element, props, trigger, watch. */
const DRAFTS = "dpd-studio-caption-drafts";
const OPEN = "dpd-studio-caption-open";
const box = part("text");
const tidy = (text) => text.trim().split(/\s+/).join(" ");

let project = null;
let shown = null; // the server's values of the caption in the box
let base = { text: "", version: 0 }; // what the person saw when starting to type
let sent = null; // text that is being saved
let noted = null; // id of the last note shown
let timer = null;

function keep() {
  store(DRAFTS, (all) => {
    if (dirty())
      all[shown.key] = { text: box.value, ...{ base: base.text, version: base.version } };
    else delete all[shown.key];
  });
  window.dispatchEvent(new Event("dpd-caption-drafts"));
}

const dirty = () => shown !== null && tidy(box.value) !== tidy(base.text);
const conflict = () => dirty() && shown.version !== base.version;

function count() {
  clearTimeout(timer);
  timer = setTimeout(() => trigger("count_tokens", { text: box.value }), 150);
}

function say(text, kind = "") {
  part("status").textContent = text;
  part("status").dataset.kind = kind;
}

function look() {
  part("save").disabled = !dirty() || sent !== null;
  part("discard").hidden = !dirty();
  part("conflict").hidden = !conflict();
  part("theirs").textContent = shown.text || "(no caption)";
  part("their-name").textContent = shown.who;
  if (sent !== null) return;
  if (conflict()) say("Not saved: see above.", "warn");
  else if (dirty()) say("Unsaved; kept in this browser.", "warn");
  else if (part("status").dataset.kind === "warn") say("");
}

function fill() {
  part("panel").hidden = false;
  part("hint").hidden = true;
  part("title").textContent = shown.title;
  part("who").textContent = shown.who;
  part("who").className = `badge ${shown.author}`;
  part("warnings").textContent = shown.warnings.length
    ? `Warning: ${shown.warnings.join(", ")}`
    : "";
  const image = part("image");
  if (image.getAttribute("src") !== shown.image) image.src = shown.image;
  image.alt = shown.alt;
  part("before").disabled = !shown.before;
  part("after").disabled = !shown.after;
  part("reset").hidden = !shown.by_hand;
}

/* Another caption: its own unsaved text, if there is some. */
function begin(value) {
  shown = value;
  sent = null;
  const draft = stored(DRAFTS)[shown.key];
  const kept = draft && typeof draft.text === "string" && tidy(draft.text) !== tidy(shown.text);
  base = kept
    ? { text: String(draft.base), version: Number(draft.version) }
    : { text: shown.text, version: shown.version };
  box.value = kept ? draft.text : shown.text;
  say("");
  fill();
  keep();
  count();
  // On a narrow page the editor stands above the list from which the caption was chosen.
  if (!value.passive && window.innerWidth <= 1000) element.scrollIntoView({ block: "start" });
}

/* News of the caption in the box. */
function update(value) {
  const typing = dirty();
  shown = value;
  const mine = sent !== null && tidy(sent) === shown.text && shown.version > base.version;
  if (mine || !typing) base = { text: shown.text, version: shown.version };
  if (!typing) box.value = shown.text;
  else if (mine && tidy(box.value) === shown.text) box.value = shown.text;
  else if (tidy(box.value) === shown.text) base = { text: shown.text, version: shown.version };
  if (mine) sent = null;
  fill();
  keep();
  if (!typing) count();
}

/* A value that nobody asked for (something changed on disk) never opens or closes a caption. */
function unasked(value) {
  return (
    value.passive && value.project === project && (shown === null ? "" : shown.key) !== value.key
  );
}

function draw() {
  const value = props.value || {};
  if (unasked(value)) return;
  project = value.project;
  if (!value.key) {
    shown = null;
    part("panel").hidden = true;
    part("hint").hidden = false;
    if (project) reopen();
    return;
  }
  if (shown !== null && shown.key === value.key) update(value);
  else begin(value);
  store(OPEN, (all) => {
    all[value.project] = value.place;
  });
  if (value.note && value.note.id !== noted) {
    noted = value.note.id;
    if (value.note.key === value.key) {
      sent = null;
      say(value.note.text, value.note.kind);
    }
  }
  look();
}

/* After a refresh the caption that was open, once. */
let reopened = null;
function reopen() {
  const place = stored(OPEN)[project];
  if (reopened === project || !Array.isArray(place)) return;
  reopened = project;
  trigger("open_card", { class_name: place[0], cluster: place[1] });
}

function go(place) {
  if (place) trigger("open_card", { class_name: place[0], cluster: place[1] });
}

function save() {
  if (!dirty() || sent !== null) return;
  sent = box.value;
  say("Saving …");
  trigger("save_caption", {
    place: shown.place,
    text: box.value,
    version: base.version,
    key: shown.key,
  });
  const asked = sent;
  // Whatever became of it (no network, a stopped server), the text can be saved again.
  setTimeout(() => {
    if (sent === asked) {
      sent = null;
      say("Not saved; try again.", "warn");
      look();
    }
  }, 10000);
  look();
}

box.addEventListener("input", () => {
  keep();
  look();
  count();
});
box.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    save();
  }
  // Gradio's tabs and dialogs listen to keys too; these are the text's.
  event.stopPropagation();
});
part("save").addEventListener("click", save);
part("discard").addEventListener("click", () => {
  base = { text: shown.text, version: shown.version };
  box.value = shown.text;
  keep();
  look();
  count();
  box.focus();
});
part("mine").addEventListener("click", () => {
  base.version = shown.version;
  base.text = shown.text;
  save();
});
part("take").addEventListener("click", () => part("discard").click());
part("before").addEventListener("click", () => go(shown.before));
part("after").addEventListener("click", () => go(shown.after));
part("reset").addEventListener("click", () => trigger("give_back", { place: shown.place }));
part("try").addEventListener("click", () =>
  trigger("try_caption", { place: shown.place, text: box.value }),
);
part("close").addEventListener("click", () => {
  store(OPEN, (all) => {
    delete all[shown.project];
  });
  reopened = shown.project;
  trigger("close_card", {});
});
watch("value", draw);
draw();
