/* Prototypes by class: a click shows the image on the map. Given by gr.HTML: element. */
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-id]");
  if (!button) return;
  window.dispatchEvent(
    new CustomEvent("dpd-prototypes-pin", { detail: { id: button.dataset.id } }),
  );
});
