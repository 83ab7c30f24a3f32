"use strict";
/* Draws the charts of a page: the part of Vega-Lite that `vega.py` says charts in, as SVG, in the colours of the reader's
 * theme and as wide as their place. Panels of layers of marks; scales shared by the layers of a panel. */
(function () {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const charts = read("charts"), themes = read("themes");
  const PALETTE = ["#4c78a8", "#f58518", "#e45756", "#72b7b2", "#54a24b", "#eeca3b", "#b279a2", "#ff9da6", "#9d755d", "#bab0ac"];
  const PLASMA = ["#0d0887", "#41049d", "#6a00a8", "#8f0da4", "#b12a90", "#cc4778", "#e16462", "#f2844b", "#fca636", "#fcce25", "#f0f921"];
  const SIZE = 12, LABEL = 360, ROW = 18;
  const pen = document.createElement("canvas").getContext("2d");
  const tip = document.body.appendChild(document.createElement("div"));
  tip.className = "tip";
  tip.hidden = true;

  // ---- small things ------------------------------------------------------------------------------

  const fixed = (x) => +x.toFixed(2);
  const known = (x) => x !== undefined && x !== null;
  const number = (def) => def && def.type === "quantitative";
  const first = (values) => values.find((v) => v !== undefined);

  function element(parent, name, attributes, text) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) if (known(value)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return parent.appendChild(made);
  }

  function wide(text, theme) {
    pen.font = SIZE + "px " + theme.font;
    return pen.measureText(text).width;
  }

  function cut(text, theme) {
    let kept = String(text);
    while (wide(kept, theme) > LABEL) kept = kept.slice(0, -2) + "…";
    return kept;
  }

  function mix(stops, share) {
    const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1), low = Math.min(Math.floor(at), stops.length - 2);
    const part = (hex, k) => parseInt(hex.slice(1 + 2 * k, 3 + 2 * k), 16);
    const one = (k) => Math.round(part(stops[low], k) + (at - low) * (part(stops[low + 1], k) - part(stops[low], k)));
    return "rgb(" + [0, 1, 2].map(one).join(",") + ")";
  }

  // ---- scales ------------------------------------------------------------------------------------

  /** Every definition of some channels among the marks of a panel. */
  const uses = (marks, ...channels) =>
    marks.flatMap((m) => channels.map((c) => m.encoding[c]).filter((d) => d && d.field));
  const option = (defs, name) => first(defs.map((d) => (d.scale || {})[name]));

  /** Names in the order of a nominal channel: as listed, as they come where sort is null, else ascending. */
  function names(marks, channel) {
    const defs = uses(marks, channel), domain = option(defs, "domain"), sort = first(defs.map((d) => d.sort));
    const found = new Set(Array.isArray(sort) ? sort : []);
    for (const m of marks) {
      const def = m.encoding[channel];
      if (def && def.field) for (const row of m.rows) if (known(row[def.field])) found.add(row[def.field]);
    }
    if (domain) return domain;
    const all = [...found];
    return sort === undefined ? all.sort((a, b) => (typeof a === "number" ? a - b : a < b ? -1 : 1)) : all;
  }

  function step(span, count) {
    const raw = span / Math.max(count, 1), power = 10 ** Math.floor(Math.log10(raw)), error = raw / power;
    return power * (error >= 7.07 ? 10 : error >= 3.16 ? 5 : error >= 1.41 ? 2 : 1);
  }

  /** A scale of numbers from its domain to [0, length], turned over for y. */
  function numbers(marks, channel, length, turned) {
    const defs = uses(marks, channel), log = option(defs, "type") === "log", given = option(defs, "domain");
    let [low, high] = given || extent(marks, channel);
    const to = log ? Math.log10 : (x) => x, from = log ? (x) => 10 ** x : (x) => x;
    if (!given) {
      if (!(high > low)) [low, high] = log ? [low / 2, low * 2] : low === 0 ? [0, 1] : [Math.min(low, 0), Math.max(low, 0)];
      const pad = ((option(defs, "padding") || 0) * (to(high) - to(low))) / Math.max(length - 2 * (option(defs, "padding") || 0), 1);
      [low, high] = [from(to(low) - pad), from(to(high) + pad)];
      const plain = marks.every((m) => m.mark.type === "line" || m.mark.type === "area");
      const zero = option(defs, "zero") ?? !(log || (channel === "x" && plain));
      if (zero) [low, high] = [Math.min(low, 0), Math.max(high, 0)];
      if (option(defs, "nice") !== false && !log) {
        const by = step(high - low, 10);
        [low, high] = [Math.floor(low / by + 1e-9) * by, Math.ceil(high / by - 1e-9) * by];
      } else if (option(defs, "nice") !== false) {
        [low, high] = [10 ** Math.floor(Math.log10(low)), 10 ** Math.ceil(Math.log10(high))];
      }
    }
    const clamp = option(defs, "clamp");
    const scale = (x) => {
      let share = (to(Number(x)) - to(low)) / (to(high) - to(low));
      if (clamp) share = Math.min(Math.max(share, 0), 1);
      return turned ? length * (1 - share) : length * share;
    };
    return Object.assign(scale, { ticks: ticks(low, high, log, length, first(defs.map((d) => (d.axis || {}).values))) });
  }

  function extent(marks, channel) {
    let low = Infinity, high = -Infinity;
    for (const m of marks)
      for (const row of m.rows)
        for (const value of [m.encoding[channel], m.encoding[channel + "2"]].map((d) => d && d.field && row[d.field]).concat(m.stacked && m.stacked.channel === channel ? m.stacked.ends.get(row) : []))
          if (known(value) && value !== false) [low, high] = [Math.min(low, value), Math.max(high, value)];
    return low <= high ? [low, high] : [0, 1];
  }

  function ticks(low, high, log, length, given) {
    if (given) return given.map((v) => [v, short(v)]);
    if (log) {
      const decades = Math.log10(high / low), each = decades > 6 ? [1] : decades > 1.5 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9];
      const found = [];
      for (let d = Math.floor(Math.log10(low)); d <= Math.ceil(Math.log10(high)); d++)
        for (const e of each) if (e * 10 ** d >= low * (1 - 1e-9) && e * 10 ** d <= high * (1 + 1e-9)) found.push(e * 10 ** d);
      return found.map((v) => [v, short(v)]);
    }
    const by = step(high - low, Math.min(10, Math.max(2, length / 55))), digits = Math.max(0, -Math.floor(Math.log10(by) + 1e-9));
    const found = [];
    for (let k = Math.ceil(low / by - 1e-9) || 0; k * by <= high + 1e-9 * by; k++)
      found.push([k * by, (k * by || 0).toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits })]);
    return found;
  }

  function short(v) {
    const size = Math.abs(v);
    return size && (size < 1e-4 || size >= 1e6) ? v.toExponential().replace("e+", "e") : String(+v.toPrecision(6));
  }

  /** A scale of names: the middle of each band. */
  function bands(domain, length) {
    const place = new Map(domain.map((name, k) => [name, k])), band = length / Math.max(domain.length, 1);
    return Object.assign((name) => band * (place.get(name) + 0.5), { band, domain });
  }

  /** The colours of a channel, color or fill. */
  function colours(marks, channel) {
    const defs = uses(marks, channel), def = defs[0];
    if (!def) return { of: () => undefined };
    if (number(def)) {
      const [low, high] = option(defs, "domain") || extent(marks, channel);
      return { def, low, high, of: (value) => mix(PLASMA, (value - low) / (high - low || 1)) };
    }
    const domain = names(marks, channel), range = option(defs, "range") || PALETTE;
    const of = new Map(domain.map((name, k) => [name, range[k % range.length]]));
    return { def, domain, of: (value) => of.get(value) };
  }

  /** What a nominal channel such as shape or size says of a row. */
  function table(marks, channel, fallback) {
    const domain = names(marks, channel), range = option(uses(marks, channel), "range") || fallback;
    return (value) => range[Math.max(domain.indexOf(value), 0) % range.length];
  }

  /** Put bars or areas of different colours on top of each other, in the order of their colours or of `order`. */
  function stack(m, domain) {
    const { x, y, x2, y2, order } = m.encoding, colour = m.encoding.color;
    const channel = m.mark.type === "area" ? "y" : m.mark.type === "bar" && number(x) ? "x" : "y";
    const def = channel === "x" ? x : y, along = channel === "x" ? y : x;
    if (!["bar", "area"].includes(m.mark.type) || x2 || y2 || !colour || number(colour) || !number(def)) return null;
    const rank = (row) => (order ? row[order.field] : domain.indexOf(row[colour.field]));
    const sums = new Map(), ends = new Map();
    for (const row of [...m.rows].sort((a, b) => rank(a) - rank(b))) {
      const key = row[along.field], low = sums.get(key) || 0;
      ends.set(row, [low, low + row[def.field]]);
      sums.set(key, low + row[def.field]);
    }
    return { channel, ends };
  }

  // ---- one panel ---------------------------------------------------------------------------------

  /** The marks of a panel with their rows, bars and areas stacked. */
  function parts(spec) {
    const marks = (spec.layer || [spec]).map((one) => ({
      mark: one.mark, encoding: one.encoding || {}, rows: (one.data || spec.data || { values: [] }).values,
    }));
    for (const m of marks) m.stacked = stack(m, colours(marks, "color").domain || []);
    return marks;
  }

  /** The vertical scale of a panel, the words beside it, and how much room they take. */
  function side(marks, spec, theme) {
    const defs = uses(marks, "y"), domain = defs.some(number) ? null : names(marks, "y");
    const height = typeof spec.height === "number" ? spec.height : ((spec.height || {}).step || 20) * Math.max((domain || []).length, 1);
    const scale = domain ? bands(domain, height) : numbers(marks, "y", height, true);
    const labels = domain ? domain.map((n) => [n, cut(n, theme)]) : scale.ticks, title = first(defs.map((d) => d.title)) ?? null;
    const margin = Math.ceil(Math.max(0, ...labels.map(([, text]) => wide(text, theme)))) + 10 + (title ? 20 : 0);
    return { height, scale, labels, title, margin, named: domain !== null };
  }

  function panel(svg, spec, outer, top, left, theme, legends, least) {
    const marks = parts(spec), colour = colours(marks, "color"), fills = colours(marks, "fill");
    const { height, scale: y, labels: yLabels, title: yTitle, named: yNamed, margin: own } = side(marks, spec, theme);
    const margin = Math.max(own, least);
    const xs = uses(marks, "x"), xNames = xs.some(number) ? null : names(marks, "x"), xTitle = first(xs.map((d) => d.title)) ?? null;
    const width = Math.max(outer - margin - 12, 60);
    const x = xNames ? bands(xNames, width) : numbers(marks, "x", width, false);

    let down = top;
    if (spec.title) {
      for (const [k, text] of [spec.title.text, ...[].concat(spec.title.subtitle || [])].entries()) {
        element(svg, "text", { x: left, y: down + 13, fill: k ? theme.axis.labelColor : theme.text.color, "font-size": k ? 12 : 13, "font-weight": k ? 400 : 600 }, text);
        down += 17;
      }
      down += 4;
    }
    if (legends) down = legend(svg, marks, colour, left + margin, down, width, theme);
    const body = element(svg, "g", { transform: `translate(${left + margin},${down + 6})` });
    const soft = theme.axis.labelColor, grid = theme.axis.gridColor;

    let last = -Infinity;
    for (const [value, text] of xNames ? xNames.map((n) => [n, n]) : x.ticks) {
      const at = fixed(x(value)), half = wide(text, theme) / 2;
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
    if (xTitle) element(body, "text", { ...heavy, x: width / 2, y: height + 36 }, xTitle);
    if (yTitle) element(body, "text", { ...heavy, transform: `translate(${-margin + 12},${height / 2}) rotate(-90)` }, yTitle);

    for (const m of marks) {
      const look = looks(m, marks, m.encoding.fill ? fills : colour, theme);
      draw[m.mark.type](element(body, "g", {}), m, { x, y, width, height, ...look });
    }
    return down + 6 + height + (xTitle ? 44 : 26) - top;
  }

  function legend(svg, marks, colour, left, top, width, theme) {
    let at = left, down = top;
    const text = (words, more) => {
      element(svg, "text", { x: at, y: down + 12, fill: theme.legend.labelColor, ...more }, words);
      at += wide(words, theme) + 14;
    };
    const title = (def) => known(def.title ?? undefined) && text(def.title, { fill: theme.legend.titleColor, "font-weight": 500 });
    if (colour.def && number(colour.def)) {
      title(colour.def);
      text(short(Math.ceil(colour.low)));
      at -= 8;
      for (let k = 0; k < 60; k++) element(svg, "rect", { x: at + 2 * k, y: down + 3, width: 2.2, height: 10, fill: mix(PLASMA, k / 59) });
      at += 126;
      text(short(Math.floor(colour.high)));
      return down + ROW + 4;
    }
    for (const channel of ["color", "shape"]) {
      const defs = uses(marks, channel).filter((d) => d.legend !== null), domain = names(marks, channel);
      if (!defs.length) continue;
      at = left;
      title(defs[0]);
      for (const name of domain) {
        const shown = cut(name, theme);
        if (at > left && at + 16 + wide(shown, theme) > left + width) [at, down] = [left, down + ROW];
        if (channel === "shape") element(svg, "path", { d: symbol(table(marks, "shape", ["circle", "square"])(name), 90), transform: `translate(${at + 6},${down + 8})`, fill: theme.legend.labelColor });
        else element(svg, "rect", { x: at, y: down + 2, width: 12, height: 12, rx: 2, fill: colour.of(name) });
        at += 18;
        text(shown);
      }
      down += ROW;
    }
    return down > top ? down + 4 : down;
  }

  // ---- marks -------------------------------------------------------------------------------------

  /** How the rows of a mark look, and what they say when pointed at. */
  function looks(m, marks, colour, theme) {
    const { color, fill, size, shape, tooltip, text } = m.encoding, by = color || fill;
    const sizes = size && table(marks, "size", [30, 60]), shapes = shape && table(marks, "shape", ["circle", "square"]);
    const own = m.mark.color || (m.mark.type === "text" ? theme.text.color : PALETTE[0]);
    const told = [].concat(tooltip || []);
    const said = (row, def) => {
      const value = row[def.field];
      return [def.title || def.field, def.format === "," ? Number(value).toLocaleString("en-US") : String(value)];
    };
    return {
      paint: (row) => (by && by.field ? colour.of(row[by.field]) : own),
      size: (row) => (sizes ? sizes(row[size.field]) : m.mark.size || 60),
      shape: (row) => (shapes ? shapes(row[shape.field]) : "circle"),
      words: (row) => (text ? String(row[text.field]) : ""),
      tell: (made, row) => {
        if (told.length) made.told = told.map((def) => said(row, def));
        return made;
      },
    };
  }

  function symbol(shape, size) {
    const r = Math.sqrt(size) / 2, c = Math.sqrt(size / Math.PI), d = Math.sqrt(size / (2 * Math.tan(Math.PI / 6))) * 0.9, a = r * 0.42, n = (...p) => p.map(fixed).join(",");
    if (shape === "square") return `M${n(-r, -r)}H${fixed(r)}V${fixed(r)}H${fixed(-r)}Z`;
    if (shape === "diamond") return `M${n(0, -d)}L${n(d * 0.6, 0)}L${n(0, d)}L${n(-d * 0.6, 0)}Z`;
    if (shape === "cross") return `M${n(-a, -r)}H${fixed(a)}V${fixed(-a)}H${fixed(r)}V${fixed(a)}H${fixed(a)}V${fixed(r)}H${fixed(-a)}V${fixed(a)}H${fixed(-r)}V${fixed(-a)}H${fixed(-a)}Z`;
    return `M${n(c, 0)}A${n(c, c)},0,1,1,${n(-c, 0)}A${n(c, c)},0,1,1,${n(c, 0)}Z`;
  }

  /** Rows by colour, each group in the order of x. */
  function series(m) {
    const by = m.encoding.color, groups = new Map(), along = m.encoding.x.field;
    for (const row of m.rows) {
      const key = by && by.field ? row[by.field] : "";
      if (!groups.has(key)) groups.set(key, []);
      groups.get(key).push(row);
    }
    return [...groups.values()].map((rows) => [...rows].sort((a, b) => a[along] - b[along]));
  }

  function way(points, interpolate) {
    let d = "";
    for (const [k, [px, py]] of points.entries()) {
      if (k === 0) d += `M${fixed(px)},${fixed(py)}`;
      else if (interpolate === "step-after") d += `H${fixed(px)}V${fixed(py)}`;
      else if (interpolate === "step") d += `H${fixed((points[k - 1][0] + px) / 2)}V${fixed(py)}H${fixed(px)}`;
      else d += `L${fixed(px)},${fixed(py)}`;
    }
    return d;
  }

  const place = (def, scale, row, other) => (def && def.field ? scale(row[def.field]) : other);

  function dots(g, rows, m, c, size) {
    const { x, y } = m.encoding;
    for (const row of rows) {
      const [px, py] = [place(x, c.x, row, c.width / 2), place(y, c.y, row, c.height / 2)];
      if (!isFinite(px) || !isFinite(py)) continue;
      c.tell(element(g, "path", { d: symbol(c.shape(row), size(row)), transform: `translate(${fixed(px)},${fixed(py)})`, fill: c.paint(row), "fill-opacity": m.mark.opacity ?? 0.7 }), row);
    }
  }

  const draw = {
    line(g, m, c) {
      const { x, y } = m.encoding;
      for (const rows of series(m)) {
        const points = rows.map((row) => [c.x(row[x.field]), c.y(row[y.field])]);
        element(g, "path", { d: way(points, m.mark.interpolate), fill: "none", stroke: c.paint(rows[0]), "stroke-width": m.mark.strokeWidth || 2, "stroke-dasharray": m.mark.strokeDash && m.mark.strokeDash.join(" "), "stroke-linejoin": "round" });
        // Points carry the words; where none are asked for they are there all the same, not to be seen.
        const seen = m.mark.point, size = (seen && seen.size) || (seen ? 30 : 120);
        dots(g, rows, { ...m, mark: { opacity: seen ? 1 : 0 } }, c, () => size);
      }
    },
    area(g, m, c) {
      const { x } = m.encoding;
      for (const rows of series(m)) {
        const ends = (row) => (m.stacked ? m.stacked.ends.get(row) : [0, row[m.encoding.y.field]]);
        const above = rows.map((row) => [c.x(row[x.field]), c.y(ends(row)[1])]), below = rows.map((row) => [c.x(row[x.field]), c.y(ends(row)[0])]);
        // The lower edge is walked backwards; a step after a point is then one before it.
        const back = m.mark.interpolate === "step-after" ? below.reverse().map(([px, py], k, all) => (k ? `V${fixed(py)}H${fixed(px)}` : `L${fixed(px)},${fixed(py)}`)).join("") : way(below.reverse(), m.mark.interpolate).replace("M", "L");
        element(g, "path", { d: way(above, m.mark.interpolate) + back + "Z", fill: c.paint(rows[0]), "fill-opacity": m.mark.opacity ?? 0.7 });
        for (const [k, row] of rows.entries()) {
          const [px, py] = above[k], next = k + 1 < rows.length ? above[k + 1][0] : px + 4;
          c.tell(element(g, "rect", { x: fixed(px), y: fixed(py), width: fixed(Math.max(next - px, 1)), height: fixed(Math.max(c.y(ends(row)[0]) - py, 0)), fill: "transparent" }), row);
        }
      }
    },
    bar(g, m, c) {
      const { x, x2, y } = m.encoding;
      for (const row of m.rows) {
        const [a, b] = m.stacked ? m.stacked.ends.get(row).map(c.x) : [x2 ? c.x(row[x2.field]) : c.x(0), c.x(row[x.field])];
        const tall = c.y.band * 0.9;
        c.tell(element(g, "rect", { x: fixed(Math.min(a, b)), y: fixed(c.y(row[y.field]) - tall / 2), width: fixed(Math.max(Math.abs(b - a), 0.5)), height: fixed(tall), rx: m.mark.cornerRadiusEnd, fill: c.paint(row), stroke: m.mark.stroke, "stroke-width": m.mark.strokeWidth, "stroke-opacity": m.mark.strokeOpacity }), row);
      }
    },
    rule(g, m, c) {
      const { x, y, x2, y2 } = m.encoding;
      for (const row of m.rows) {
        const [px, py] = [place(x, c.x, row), place(y, c.y, row)];
        const ends = { x1: px ?? 0, x2: x2 ? c.x(row[x2.field]) : px ?? c.width, y1: py ?? 0, y2: y2 ? c.y(row[y2.field]) : py ?? c.height };
        for (const key of Object.keys(ends)) ends[key] = fixed(ends[key]);
        c.tell(element(g, "line", { ...ends, stroke: c.paint(row), "stroke-width": m.mark.strokeWidth || 1, "stroke-opacity": m.mark.opacity, "stroke-dasharray": m.mark.strokeDash && m.mark.strokeDash.join(" ") }), row);
      }
    },
    circle: (g, m, c) => dots(g, m.rows, m, c, c.size),
    point: (g, m, c) => dots(g, m.rows, m, c, c.size),
    tick(g, m, c) {
      for (const row of m.rows) {
        const px = c.x(row[m.encoding.x.field]), py = c.y(row[m.encoding.y.field]), half = (m.mark.size || 14) / 2;
        c.tell(element(g, "line", { x1: fixed(px), x2: fixed(px), y1: fixed(py - half), y2: fixed(py + half), stroke: c.paint(row), "stroke-width": m.mark.thickness || 1 }), row);
      }
    },
    text(g, m, c) {
      const { x, y } = m.encoding;
      for (const row of m.rows) {
        const words = c.words(row), reach = place(x, c.x, row, c.width / 2) + (m.mark.dx || 0), side = m.mark.align === "left" ? "start" : "middle";
        pen.font = (m.mark.fontWeight || 400) + " " + pen.font.replace(/^\d{3} /, "");
        const over = side === "start" && reach + pen.measureText(words).width > c.width + 10;
        element(g, "text", { x: fixed(over ? reach - 2 * (m.mark.dx || 0) : reach), y: fixed(place(y, c.y, row, c.height / 2) + (m.mark.dy || 0) + 4), fill: c.paint(row), "font-weight": m.mark.fontWeight, "text-anchor": over ? "end" : side, "pointer-events": "none" }, words);
      }
    },
  };

  // ---- a chart in its place ----------------------------------------------------------------------

  function chart(name, spec, theme) {
    const place = document.getElementById("chart-" + name);
    if (!place) return;
    place.replaceChildren();
    const panels = spec.vconcat || spec.concat || [spec], spacing = spec.spacing || 16;
    const width = Math.max(place.clientWidth, 300), columns = spec.concat && width > 560 ? spec.columns || 1 : 1;
    const each = (width - spacing * (columns - 1)) / columns, own = spec.vconcat !== undefined;
    const svg = element(place, "svg", { width, role: "presentation", "font-family": theme.font, "font-size": SIZE });
    element(svg, "rect", { width, height: "100%", fill: theme.background });
    // Panels below each other share their left edge.
    const least = columns === 1 ? Math.max(...panels.map((one) => side(parts(one), one, theme).margin)) : 0;
    let top = 0, row = 0;
    for (const [k, one] of panels.entries()) {
      const column = k % columns;
      if (column === 0 && k) [top, row] = [top + row + spacing, 0];
      row = Math.max(row, panel(svg, one, each, top, column * (each + spacing), theme, own || k === 0 || columns === 1, least));
    }
    svg.setAttribute("height", Math.ceil(top + row));
    svg.setAttribute("viewBox", `0 0 ${width} ${Math.ceil(top + row)}`);
    place.append(saving(svg, name));
  }

  function saving(svg, name) {
    const line = document.createElement("p");
    line.className = "save";
    const text = () => `<?xml version="1.0"?>` + new XMLSerializer().serializeToString(svg);
    const save = (address, ending) => Object.assign(document.createElement("a"), { href: address, download: `wattline-${name}.${ending}` }).click();
    for (const [label, act] of [
      ["SVG", () => save("data:image/svg+xml;charset=utf-8," + encodeURIComponent(text()), "svg")],
      ["PNG", () => {
        const picture = new Image(), canvas = document.createElement("canvas");
        picture.onload = () => {
          Object.assign(canvas, { width: 2 * svg.clientWidth, height: 2 * svg.clientHeight });
          canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
          save(canvas.toDataURL("image/png"), "png");
        };
        picture.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(text());
      }],
    ]) {
      const button = line.appendChild(document.createElement("button"));
      button.type = "button";
      button.textContent = "Save as " + label;
      button.addEventListener("click", act);
    }
    return line;
  }

  document.addEventListener("pointermove", (event) => {
    const told = event.target.told;
    tip.hidden = !told;
    if (!told) return;
    tip.replaceChildren(...told.map(([key, value]) => {
      const row = document.createElement("div");
      row.append(Object.assign(document.createElement("span"), { textContent: key }), " " + value);
      return row;
    }));
    const flip = event.clientX + tip.offsetWidth + 24 > window.innerWidth;
    tip.style.left = (flip ? event.clientX - tip.offsetWidth - 12 : event.clientX + 12) + "px";
    tip.style.top = Math.min(event.clientY + 12, window.innerHeight - tip.offsetHeight - 8) + "px";
  });

  function drawAll(night) {
    for (const [name, spec] of Object.entries(charts)) chart(name, spec, themes[night ? "dark" : "light"]);
    document.documentElement.dataset.drawn = night ? "dark" : "light";
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
