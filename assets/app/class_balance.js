// Draws the rows of app/views/dataset.py:balance. Text goes in as text, never as markup.
// A field in which somebody types keeps its text when the rows are drawn again.
const make = (tag, className, text) => {
  const node = document.createElement(tag);
  node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
};

const bar = (className, width, title) => {
  const node = make("span", `bar ${className}`);
  node.style.width = `${Number(width) || 0}%`;
  node.title = title;
  return node;
};

const line = (row) => {
  const node = make("div", "row");
  const field = make("input", "name");
  field.value = row.readable;
  field.maxLength = 100;
  field.dataset.name = row.name;
  field.title = `Folder ${row.name}. Change the name that captions use, then press Enter.`;
  field.setAttribute("aria-label", `Readable name of the class ${row.name}`);
  field.addEventListener("change", () =>
    trigger("rename_class", { name: row.name, readable: field.value }),
  );
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") field.blur();
  });
  const bars = make("div", "bars");
  bars.append(
    bar("train", row.train_width, `${row.train} for training`),
    bar("test", row.test_width, `${row.test} for testing`),
  );
  node.append(field, bars, make("span", "count", `${row.train} + ${row.test}`));
  return node;
};

const draw = () => {
  const box = element.querySelector(".balance");
  if (!box) return;
  const active = document.activeElement;
  const typing = box.contains(active) ? { name: active.dataset.name, text: active.value } : null;
  const rows = Array.isArray(props.value) ? props.value : [];
  const legend = make("div", "legend");
  legend.append(make("span", "hint", "✎ names can be changed"), make("span", "key train", "training"), make("span", "key test", "test"));
  box.replaceChildren(...(rows.length ? [legend] : []), ...rows.map(line));
  if (typing) {
    const field = [...box.querySelectorAll("input")].find((node) => node.dataset.name === typing.name);
    if (field) {
      field.value = typing.text;
      field.focus();
    }
  }
};

watch("value", draw);
draw();
