/* Plotly's own copy, fetched by the first component that draws with it. */
function loadPlotly(url) {
  if (window.Plotly) return Promise.resolve();
  window.dpdPlotly ??= new Promise((resolve, reject) => {
    const tag = make("script", { src: url });
    tag.onload = resolve;
    tag.onerror = () => {
      window.dpdPlotly = undefined;
      reject(new Error("Plotly did not load"));
    };
    document.head.append(tag);
  });
  return window.dpdPlotly;
}
