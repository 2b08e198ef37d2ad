/* The button beside each planned run. Given by gr.HTML: element, trigger. */
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-job]");
  if (!button) return;
  button.disabled = true;
  trigger("remove_job", { job: button.dataset.job });
});
