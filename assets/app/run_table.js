/* Buttons and boxes of the table of trainings. The table is rendered anew with its values, so the
   listener sits on the element, which stays. Given by gr.HTML: element, trigger. */
const about = (target) => target.closest("[data-run]").dataset.run;

element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-act]");
  if (!button) return;
  if (button.dataset.act === "load") {
    trigger("load_run", { run: about(button) });
    document.querySelector("#train-settings [aria-expanded='false']")?.click();
  }
  if (button.dataset.act === "use") trigger("use_run", { run: about(button) });
});

element.addEventListener("change", (event) => {
  const box = event.target.closest("input[data-act='compare']");
  if (box) trigger("compare_run", { run: about(box), on: box.checked });
});
