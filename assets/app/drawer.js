/* Opens and closes the settings of a stage. Until the stage has been run they are open; then they
   are as the visitor has left them. Given by gr.HTML: element, props, watch. */
const DRAWERS = "dpd-drawers";
const button = element.querySelector("button");
const { stage, label } = props;

function show(open) {
  document.documentElement.classList.toggle(`open-${stage}`, open);
  button.setAttribute("aria-expanded", String(open));
  button.setAttribute("aria-controls", `${stage}-drawer`);
  button.textContent = `${open ? "▾" : "▸"} ${label}`;
}

function fill() {
  show(!props.value?.done || stored(DRAWERS)[stage] === true);
}

button.addEventListener("click", () => {
  const open = button.getAttribute("aria-expanded") !== "true";
  show(open);
  store(DRAWERS, (drawers) => {
    drawers[stage] = open;
  });
});
watch("value", fill);
fill();
