/* Draws the rows of app/dataset/view.py:balance. A field in which somebody types keeps its text when
   the rows are drawn again. Given by gr.HTML: element, props, trigger, watch. */
function bar(name, width, title) {
  return make("span", { class: `bar ${name}`, style: `width:${Number(width) || 0}%`, title });
}

function drawRow(row) {
  const field = make("input", {
    class: "name",
    value: row.readable,
    maxlength: 100,
    "data-name": row.name,
    title: `Folder ${row.name}. Change the name that captions use, then press Enter.`,
    "aria-label": `Readable name of the class ${row.name}`,
    onchange: () => trigger("rename_class", { name: row.name, readable: field.value }),
    onkeydown: (event) => {
      if (event.key === "Enter") field.blur();
    },
  });
  const bars = make(
    "div",
    { class: "bars" },
    bar("train", row.train_width, `${row.train} for training`),
    bar("test", row.test_width, `${row.test} for testing`),
  );
  const count = make("span", { class: "count" }, `${row.train} + ${row.test}`);
  return make("div", { class: "row" }, field, bars, count);
}

function draw() {
  const box = element.querySelector(".balance");
  if (!box) return;
  const active = document.activeElement;
  const typing = box.contains(active) ? { name: active.dataset.name, text: active.value } : null;
  const rows = Array.isArray(props.value) ? props.value : [];
  const legend = make(
    "div",
    { class: "legend" },
    make("span", { class: "hint" }, "✎ names can be changed"),
    make("span", { class: "key train" }, "training"),
    make("span", { class: "key test" }, "test"),
  );
  box.replaceChildren(...(rows.length ? [legend] : []), ...rows.map(drawRow));
  if (!typing) return;
  const fields = [...box.querySelectorAll("input")];
  const field = fields.find((input) => input.dataset.name === typing.name);
  if (field) {
    field.value = typing.text;
    field.focus();
  }
}

watch("value", draw);
draw();
