/* History of one caption: gives an earlier text back. Given by gr.HTML: element, trigger. */
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-entry]");
  if (button) trigger("restore_entry", { entry: Number(button.dataset.entry) });
});
