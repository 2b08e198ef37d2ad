/* What the page's components share; put before each component's own script (app/ui/html.py).
   Given by gr.HTML: element, props, trigger, watch. Text goes in as text, never as markup. */

/* A node. Attributes that begin with "on" are listeners; false, null and undefined leave one out. */
function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) {
      made.setAttribute(name, value === true ? "" : value);
    }
  }
  made.append(...children);
  return made;
}

function makeButton(text, onclick, attributes = {}) {
  return make("button", { type: "button", onclick, ...attributes }, text);
}

function part(name) {
  return element.querySelector(`[data-part="${name}"]`);
}

/* Children by key: those whose content is as before stay (with focus, scrolling and loaded images),
   changed ones are drawn anew, and they come into the order of the items. */
function drawKeyed(box, items, draw) {
  const there = new Map([...box.children].map((child) => [child.dataset.key, child]));
  let before = null;
  for (const item of items) {
    const content = JSON.stringify(item);
    let child = there.get(String(item.key));
    if (!child || child.content !== content) {
      const focused = child?.contains(document.activeElement);
      const made = draw(item);
      made.dataset.key = item.key;
      made.content = content;
      if (child) child.replaceWith(made);
      if (focused) made.querySelector("button")?.focus();
      child = made;
    }
    there.delete(String(item.key));
    const place = before ? before.nextSibling : box.firstChild;
    if (place !== child) box.insertBefore(child, place);
    before = child;
  }
  for (const gone of there.values()) gone.remove();
}

/* Small things that this browser keeps; one without storage keeps nothing. */
function stored(name) {
  try {
    return JSON.parse(localStorage.getItem(name)) || {};
  } catch {
    return {};
  }
}

function store(name, change) {
  try {
    const values = stored(name);
    change(values);
    localStorage.setItem(name, JSON.stringify(values));
  } catch {
    /* full or forbidden */
  }
}
