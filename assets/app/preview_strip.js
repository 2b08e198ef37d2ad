// One column of images a step. Columns that are there stay, so that scrolling is not disturbed and
// no image is fetched twice; the strip follows new ones only if it was at its end.
const root = element.querySelector(".preview-strip");
let signature = "";

function make(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function column(step, names) {
  const figure = make("figure", "step");
  figure.dataset.step = step.step;
  const images = make("div");
  for (const name of names) {
    const url = step.images[name.key];
    if (!url) { images.append(make("span")); continue; }
    const link = make("a");
    link.href = url;
    link.target = "_blank";
    const image = make("img");
    image.src = url;
    image.alt = `${name.label} at step ${step.step}`;
    image.title = image.alt;
    link.append(image);
    images.append(link);
  }
  figure.append(make("figcaption", "", `step ${step.step.toLocaleString("en")}`), images);
  return figure;
}

function start(value) {
  const scroll = make("div", "scroll");
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "group");
  scroll.setAttribute("aria-label", "Preview images by training step");
  const names = make("figure", "step names");
  const list = make("div");
  for (const name of value.names) list.append(make("span", "", name.label));
  names.append(make("figcaption", "", "class"), list);
  scroll.append(names);
  root.replaceChildren(scroll);
}

function draw() {
  const value = props.value || { names: [], steps: [] };
  if (!value.steps.length) {
    signature = "";
    root.replaceChildren(make("p", "empty", value.note || "No preview images yet."));
    return;
  }
  const now = JSON.stringify([value.run, value.names]);
  if (now !== signature) { start(value); signature = now; }
  const scroll = root.querySelector(".scroll");
  const atEnd = scroll.scrollLeft + scroll.clientWidth >= scroll.scrollWidth - 20;
  const there = new Map([...scroll.querySelectorAll("[data-step]")].map((one) => [one.dataset.step, one]));
  let before = scroll.firstElementChild;
  for (const step of value.steps) {
    const content = JSON.stringify(step.images);
    let figure = there.get(String(step.step));
    if (!figure || figure.content !== content) {
      const made = column(step, value.names);
      made.content = content;
      if (figure) figure.replaceWith(made); else before.after(made);
      figure = made;
    }
    there.delete(String(step.step));
    before = figure;
  }
  for (const gone of there.values()) gone.remove();
  if (atEnd) scroll.scrollLeft = scroll.scrollWidth;
}

draw();
watch("value", draw);
