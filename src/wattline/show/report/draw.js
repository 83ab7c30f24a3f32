/* Draws the charts of a page: the part of Vega-Lite that `vega.py` says charts in, as SVG, in the colours of the reader's
 * theme and as wide as their place. Panels of layers of marks; scales shared by the layers of a panel. */
(() => {
  const {
    PLASMA,
    SIZE,
    bands,
    colours,
    cut,
    element,
    first,
    fixed,
    known,
    mix,
    names,
    number,
    numbers,
    short,
    stack,
    table,
    uses,
    wide,
  } = window.Scales;
  const { draw, looks, symbol } = window.Marks;
  const ROW = 18;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const charts = read("charts"),
    themes = read("themes");
  const tip = document.body.appendChild(document.createElement("div"));
  tip.className = "tip";
  tip.hidden = true;

  // ---- one panel ---------------------------------------------------------------------------------

  /** The marks of a panel with their rows, bars and areas stacked. */
  function parts(spec) {
    const marks = (spec.layer || [spec]).map((one) => ({
      mark: one.mark,
      encoding: one.encoding || {},
      rows: (one.data || spec.data || { values: [] }).values,
    }));
    for (const m of marks) m.stacked = stack(m, colours(marks, "color").domain || []);
    return marks;
  }

  /** The vertical scale of a panel, the words beside it, and how much room they take. */
  function side(marks, spec, theme) {
    const defs = uses(marks, "y"),
      domain = defs.some(number) ? null : names(marks, "y");
    const height =
      typeof spec.height === "number" ? spec.height : (spec.height?.step || 20) * Math.max((domain || []).length, 1);
    const scale = domain ? bands(domain, height) : numbers(marks, "y", height, true);
    const labels = domain ? domain.map((n) => [n, cut(n, theme)]) : scale.ticks,
      title = first(defs.map((d) => d.title)) ?? null;
    const margin = Math.ceil(Math.max(0, ...labels.map(([, text]) => wide(text, theme)))) + 10 + (title ? 20 : 0);
    return { height, scale, labels, title, margin, named: domain !== null };
  }

  function panel(svg, spec, outer, top, left, theme, legends, least) {
    const marks = parts(spec),
      colour = colours(marks, "color"),
      fills = colours(marks, "fill");
    const { height, scale: y, labels: yLabels, title: yTitle, named: yNamed, margin: own } = side(marks, spec, theme);
    const margin = Math.max(own, least);
    const xs = uses(marks, "x"),
      xNames = xs.some(number) ? null : names(marks, "x"),
      xTitle = first(xs.map((d) => d.title)) ?? null;
    const width = Math.max(outer - margin - 12, 60);
    const x = xNames ? bands(xNames, width) : numbers(marks, "x", width, false);

    let down = top;
    if (spec.title) {
      for (const [k, text] of [spec.title.text, ...[].concat(spec.title.subtitle || [])].entries()) {
        element(
          svg,
          "text",
          {
            x: left,
            y: down + 13,
            fill: k ? theme.axis.labelColor : theme.text.color,
            "font-size": k ? 12 : 13,
            "font-weight": k ? 400 : 600,
          },
          text,
        );
        down += 17;
      }
      down += 4;
    }
    if (legends) down = legend(svg, marks, colour, left + margin, down, width, theme);
    const body = element(svg, "g", { transform: `translate(${left + margin},${down + 6})` });
    const soft = theme.axis.labelColor,
      grid = theme.axis.gridColor;

    let last = -Infinity;
    for (const [value, text] of xNames ? xNames.map((n) => [n, n]) : x.ticks) {
      const at = fixed(x(value)),
        half = wide(text, theme) / 2;
      if (at < -1 || at > width + 1) continue;
      if (!xNames) element(body, "line", { x1: at, x2: at, y1: 0, y2: height, stroke: grid });
      if (at - half < last + 6) continue;
      element(body, "text", { x: at, y: height + 16, fill: soft, "text-anchor": "middle" }, text);
      last = at + half;
    }
    last = Infinity;
    for (const [value, text] of yLabels) {
      const at = fixed(y(value));
      if (at < -1 || at > height + 1) continue;
      if (!yNamed) element(body, "line", { x1: 0, x2: width, y1: at, y2: at, stroke: grid });
      if (Math.abs(last - at) < SIZE + 1) continue;
      element(body, "text", { x: -8, y: at + 4, fill: soft, "text-anchor": "end" }, text);
      last = at;
    }
    element(body, "line", { x1: 0, x2: width, y1: height, y2: height, stroke: grid });
    element(body, "line", { x1: 0, x2: 0, y1: 0, y2: height, stroke: grid });
    const heavy = { fill: theme.axis.titleColor, "font-weight": theme.axis.titleFontWeight, "text-anchor": "middle" };
    const titled = xTitle ? lines(xTitle, width + margin, theme) : [];
    for (const [k, text] of titled.entries()) {
      // In the middle of the axis, or as far right as keeps a long title inside the picture.
      const at = Math.min(width / 2, width + 12 - wide(text, theme) / 2);
      element(body, "text", { ...heavy, x: at, y: height + 36 + 16 * k }, text);
    }
    if (yTitle)
      element(body, "text", { ...heavy, transform: `translate(${-margin + 12},${height / 2}) rotate(-90)` }, yTitle);

    for (const m of marks) {
      const look = looks(m, marks, m.encoding.fill ? fills : colour, theme);
      draw[m.mark.type](element(body, "g", {}), m, { x, y, width, height, ...look });
    }
    return down + 6 + height + (titled.length ? 28 + 16 * titled.length : 26) - top;
  }

  // A title in as few lines as fit `room`, broken between words.
  function lines(text, room, theme) {
    const out = [""];
    for (const word of text.split(" ")) {
      const longer = out.at(-1) ? `${out.at(-1)} ${word}` : word;
      if (out.at(-1) && wide(longer, theme) * 1.08 > room) out.push(word);
      else out[out.length - 1] = longer;
    }
    return out;
  }

  function legend(svg, marks, colour, left, top, width, theme) {
    let at = left,
      down = top;
    const text = (words, more) => {
      element(svg, "text", { x: at, y: down + 12, fill: theme.legend.labelColor, ...more }, words);
      at += wide(words, theme) + 14;
    };
    const title = (def) =>
      known(def.title ?? undefined) && text(def.title, { fill: theme.legend.titleColor, "font-weight": 500 });
    if (colour.def && number(colour.def)) {
      title(colour.def);
      text(short(Math.ceil(colour.low)));
      at -= 8;
      for (let k = 0; k < 60; k++)
        element(svg, "rect", { x: at + 2 * k, y: down + 3, width: 2.2, height: 10, fill: mix(PLASMA, k / 59) });
      at += 126;
      text(short(Math.floor(colour.high)));
      return down + ROW + 4;
    }
    for (const channel of ["color", "shape"]) {
      const defs = uses(marks, channel).filter((d) => d.legend !== null),
        domain = names(marks, channel);
      if (!defs.length) continue;
      at = left;
      title(defs[0]);
      for (const name of domain) {
        const shown = cut(name, theme);
        if (at > left && at + 16 + wide(shown, theme) > left + width) [at, down] = [left, down + ROW];
        if (channel === "shape")
          element(svg, "path", {
            d: symbol(table(marks, "shape", ["circle", "square"])(name), 90),
            transform: `translate(${at + 6},${down + 8})`,
            fill: theme.legend.labelColor,
          });
        else element(svg, "rect", { x: at, y: down + 2, width: 12, height: 12, rx: 2, fill: colour.of(name) });
        at += 18;
        text(shown);
      }
      down += ROW;
    }
    return down > top ? down + 4 : down;
  }

  // ---- a chart in its place ----------------------------------------------------------------------

  function chart(name, spec, theme) {
    const place = document.getElementById(`chart-${name}`);
    if (!place) return;
    place.replaceChildren();
    const panels = spec.vconcat || spec.concat || [spec],
      spacing = spec.spacing || 16;
    const width = Math.max(place.clientWidth, 300),
      columns = spec.concat && width > 560 ? spec.columns || 1 : 1;
    const each = (width - spacing * (columns - 1)) / columns,
      own = spec.vconcat !== undefined;
    const svg = element(place, "svg", { width, role: "presentation", "font-family": theme.font, "font-size": SIZE });
    element(svg, "rect", { width, height: "100%", fill: theme.background });
    // Panels below each other share their left edge.
    const least = columns === 1 ? Math.max(...panels.map((one) => side(parts(one), one, theme).margin)) : 0;
    let top = 0,
      row = 0;
    for (const [k, one] of panels.entries()) {
      const column = k % columns;
      if (column === 0 && k) [top, row] = [top + row + spacing, 0];
      row = Math.max(
        row,
        panel(svg, one, each, top, column * (each + spacing), theme, own || k === 0 || columns === 1, least),
      );
    }
    svg.setAttribute("height", Math.ceil(top + row));
    svg.setAttribute("viewBox", `0 0 ${width} ${Math.ceil(top + row)}`);
    place.append(saving(svg, name));
  }

  function saving(svg, name) {
    const line = document.createElement("p");
    line.className = "save";
    const text = () => `<?xml version="1.0"?>${new XMLSerializer().serializeToString(svg)}`;
    const save = (address, ending) =>
      Object.assign(document.createElement("a"), { href: address, download: `wattline-${name}.${ending}` }).click();
    for (const [label, act] of [
      ["SVG", () => save(`data:image/svg+xml;charset=utf-8,${encodeURIComponent(text())}`, "svg")],
      [
        "PNG",
        () => {
          const picture = new Image(),
            canvas = document.createElement("canvas");
          picture.onload = () => {
            Object.assign(canvas, { width: 2 * svg.clientWidth, height: 2 * svg.clientHeight });
            canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
            save(canvas.toDataURL("image/png"), "png");
          };
          picture.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text())}`;
        },
      ],
    ]) {
      const button = line.appendChild(document.createElement("button"));
      button.type = "button";
      button.textContent = `Save as ${label}`;
      button.addEventListener("click", act);
    }
    return line;
  }

  document.addEventListener("pointermove", (event) => {
    const told = event.target.told;
    tip.hidden = !told;
    if (!told) return;
    tip.replaceChildren(
      ...told.map(([key, value]) => {
        const row = document.createElement("div");
        row.append(Object.assign(document.createElement("span"), { textContent: key }), ` ${value}`);
        return row;
      }),
    );
    const flip = event.clientX + tip.offsetWidth + 24 > window.innerWidth;
    tip.style.left = `${flip ? event.clientX - tip.offsetWidth - 12 : event.clientX + 12}px`;
    tip.style.top = `${Math.min(event.clientY + 12, window.innerHeight - tip.offsetHeight - 8)}px`;
  });

  function drawAll(night) {
    for (const [name, spec] of Object.entries(charts)) chart(name, spec, themes[night ? "dark" : "light"]);
    document.documentElement.dataset.drawn = night ? "dark" : "light";
    // In a notebook the page stands in a frame, which is made as high as it.
    if (window.frameElement) window.frameElement.style.height = `${document.body.scrollHeight + 16}px`;
  }
  let later = 0;
  window.addEventListener("resize", () => {
    clearTimeout(later);
    later = setTimeout(() => drawAll(dark.matches), 100);
  });
  dark.addEventListener("change", (event) => drawAll(event.matches));
  window.addEventListener("beforeprint", () => dark.matches && drawAll(false));
  window.addEventListener("afterprint", () => dark.matches && drawAll(true));
  drawAll(dark.matches);
})();
