/* One column of images a step. Columns that are there stay, so that scrolling is not disturbed and
   no image is fetched twice; the strip follows new ones only if it was at its end.
   Given by gr.HTML: element, props, watch. */
const root = element.querySelector(".preview-strip");
let signature = "";

function drawImage(name, step) {
  const url = step.images[name.key];
  if (!url) return make("span");
  const text = `${name.label} at step ${step.step}`;
  return make(
    "a",
    { href: url, target: "_blank" },
    make("img", { src: url, alt: text, title: text }),
  );
}

function drawStep(item) {
  const caption = make("figcaption", {}, `step ${item.step.toLocaleString("en")}`);
  const images = make("div", {}, ...item.names.map((name) => drawImage(name, item)));
  return make("figure", { class: "step", "data-step": item.step }, caption, images);
}

/* The names stand still beside the columns, which scroll. */
function start(names) {
  const list = make("div", {}, ...names.map((name) => make("span", {}, name.label)));
  root.replaceChildren(
    make(
      "div",
      {
        class: "scroll",
        tabindex: 0,
        role: "group",
        "aria-label": "Preview images by training step",
      },
      make("figure", { class: "step names" }, make("figcaption", {}, "class"), list),
      make("div", { class: "steps" }),
    ),
  );
}

function draw() {
  const value = props.value || { names: [], steps: [] };
  if (!value.steps.length) {
    signature = "";
    root.replaceChildren(make("p", { class: "empty" }, "No preview images yet."));
    return;
  }
  const now = JSON.stringify([value.run, value.names]);
  if (now !== signature) start(value.names);
  signature = now;
  const scroll = root.querySelector(".scroll");
  const atEnd = scroll.scrollLeft + scroll.clientWidth >= scroll.scrollWidth - 20;
  const items = value.steps.map((step) => ({ ...step, key: step.step, names: value.names }));
  drawKeyed(scroll.querySelector(".steps"), items, drawStep);
  if (atEnd) scroll.scrollLeft = scroll.scrollWidth;
}

draw();
watch("value", draw);
