"use strict";
(function () {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const charts = read("charts"), themes = read("themes");
  let views = [];
  async function draw(night) {
    views.forEach((view) => view.finalize());
    views = [];
    for (const [name, spec] of Object.entries(charts)) {
      const result = await vegaEmbed("#chart-" + name, spec, {
        mode: "vega-lite",
        renderer: "svg",
        config: themes[night ? "dark" : "light"],
        actions: { export: true, source: false, compiled: false, editor: false },
        downloadFileName: "wattline-" + name,
        tooltip: { theme: night ? "dark" : "light" },
      });
      views.push(result);
    }
    document.documentElement.dataset.drawn = night ? "dark" : "light";
  }
  dark.addEventListener("change", (event) => draw(event.matches));
  window.addEventListener("beforeprint", () => dark.matches && draw(false));
  window.addEventListener("afterprint", () => dark.matches && draw(true));
  draw(dark.matches);
})();
