/* Cards of captions: opens one, marks some, and shows which have unsaved text.
   Given by gr.HTML: element, props, trigger, watch. */
const DRAFTS = "dpd-studio-caption-drafts";

function place(card) {
  return { class_name: card.dataset.class, cluster: Number(card.dataset.cluster) };
}

/* The marks are the browser's; the server only says when it has changed them (its epoch). */
let marks = { epoch: null, selected: [] };

/* Texts come escaped for the template (app/ui/html.py). */
function plain([class_name, cluster]) {
  return [class_name.replace(/\\([\\$])/g, "$1"), cluster];
}

/* What the server cannot know, or what a rewritten attribute does not change. */
function dress() {
  const value = props.value || {};
  if (value.epoch !== marks.epoch)
    marks = { epoch: value.epoch, selected: (value.selected || []).map(plain) };
  const unsaved = stored(DRAFTS);
  const chosen = new Set(marks.selected.map((mark) => JSON.stringify(mark)));
  for (const card of element.querySelectorAll(".caption-card")) {
    const { class_name, cluster } = place(card);
    card.querySelector("input").checked = chosen.has(JSON.stringify([class_name, cluster]));
    card.querySelector(".unsaved").hidden = !(card.dataset.key in unsaved);
  }
}

element.addEventListener("click", (event) => {
  const card = event.target.closest(".caption-card");
  if (card && !event.target.closest("label")) trigger("open_card", place(card));
});

element.addEventListener("keydown", (event) => {
  const card = event.target.closest(".caption-card");
  if (!card || event.target.matches("input")) return;
  if (event.key === "Enter") {
    event.preventDefault();
    trigger("open_card", place(card));
  }
});

element.addEventListener("change", (event) => {
  if (!event.target.matches(".caption-card input")) return;
  const { class_name, cluster } = place(event.target.closest(".caption-card"));
  const mine = JSON.stringify([class_name, cluster]);
  const others = marks.selected.filter((other) => JSON.stringify(other) !== mine);
  marks.selected = event.target.checked ? [...others, [class_name, cluster]] : others;
  trigger("mark_cards", { selected: marks.selected });
});

window.addEventListener("dpd-caption-drafts", dress);
watch("value", dress);
dress();
