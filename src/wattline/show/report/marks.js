/* The marks of a chart: a function each that draws the rows of a layer, given its scales and looks. */
window.Marks = (() => {
  const { PALETTE, element, fixed, pen, table } = window.Scales;

  /** How the rows of a mark look, and what they say when pointed at. */
  function looks(m, marks, colour, theme) {
    const { color, fill, size, shape, tooltip, text } = m.encoding,
      by = color || fill;
    const sizes = size && table(marks, "size", [30, 60]),
      shapes = shape && table(marks, "shape", ["circle", "square"]);
    const own = m.mark.color || (m.mark.type === "text" ? theme.text.color : PALETTE[0]);
    const told = [].concat(tooltip || []);
    const said = (row, def) => {
      const value = row[def.field];
      return [def.title || def.field, def.format === "," ? Number(value).toLocaleString("en-US") : String(value)];
    };
    return {
      paint: (row) => (by?.field ? colour.of(row[by.field]) : own),
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
    const r = Math.sqrt(size) / 2,
      c = Math.sqrt(size / Math.PI),
      d = Math.sqrt(size / (2 * Math.tan(Math.PI / 6))) * 0.9,
      a = r * 0.42,
      n = (...p) => p.map(fixed).join(",");
    if (shape === "square") return `M${n(-r, -r)}H${fixed(r)}V${fixed(r)}H${fixed(-r)}Z`;
    if (shape === "diamond") return `M${n(0, -d)}L${n(d * 0.6, 0)}L${n(0, d)}L${n(-d * 0.6, 0)}Z`;
    if (shape === "cross")
      return `M${n(-a, -r)}H${fixed(a)}V${fixed(-a)}H${fixed(r)}V${fixed(a)}H${fixed(a)}V${fixed(r)}H${fixed(-a)}V${fixed(a)}H${fixed(-r)}V${fixed(-a)}H${fixed(-a)}Z`;
    return `M${n(c, 0)}A${n(c, c)},0,1,1,${n(-c, 0)}A${n(c, c)},0,1,1,${n(c, 0)}Z`;
  }

  /** Rows by colour, each group in the order of x. */
  function series(m) {
    const by = m.encoding.color,
      groups = new Map(),
      along = m.encoding.x.field;
    for (const row of m.rows) {
      const key = by?.field ? row[by.field] : "";
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

  const place = (def, scale, row, other) => (def?.field ? scale(row[def.field]) : other);

  function dots(g, rows, m, c, size) {
    const { x, y } = m.encoding;
    for (const row of rows) {
      const [px, py] = [place(x, c.x, row, c.width / 2), place(y, c.y, row, c.height / 2)];
      if (!Number.isFinite(px) || !Number.isFinite(py)) continue;
      c.tell(
        element(g, "path", {
          d: symbol(c.shape(row), size(row)),
          transform: `translate(${fixed(px)},${fixed(py)})`,
          fill: c.paint(row),
          "fill-opacity": m.mark.opacity ?? 0.7,
        }),
        row,
      );
    }
  }

  // A label right of its place, or left of it where there is no room, or only its last part where neither fits.
  function fitted(whole, reach, side, width, back) {
    const short = whole.split(", ").at(-1);
    for (const words of side === "start" ? [whole, short] : []) {
      const wide = pen.measureText(words).width;
      if (reach + wide <= width + 10) return { words, over: false };
      if (reach - back - wide >= 4) return { words, over: true };
    }
    return { words: side === "start" ? short : whole, over: false };
  }

  const draw = {
    line(g, m, c) {
      const { x, y } = m.encoding;
      for (const rows of series(m)) {
        const points = rows.map((row) => [c.x(row[x.field]), c.y(row[y.field])]);
        element(g, "path", {
          d: way(points, m.mark.interpolate),
          fill: "none",
          stroke: c.paint(rows[0]),
          "stroke-width": m.mark.strokeWidth || 2,
          "stroke-dasharray": m.mark.strokeDash?.join(" "),
          "stroke-linejoin": "round",
        });
        // Points carry the words; where none are asked for they are there all the same, not to be seen.
        const seen = m.mark.point,
          size = seen?.size || (seen ? 30 : 120);
        dots(g, rows, { ...m, mark: { opacity: seen ? 1 : 0 } }, c, () => size);
      }
    },
    area(g, m, c) {
      const { x } = m.encoding;
      for (const rows of series(m)) {
        const ends = (row) => (m.stacked ? m.stacked.ends.get(row) : [0, row[m.encoding.y.field]]);
        const above = rows.map((row) => [c.x(row[x.field]), c.y(ends(row)[1])]),
          below = rows.map((row) => [c.x(row[x.field]), c.y(ends(row)[0])]);
        // The lower edge is walked backwards; a step after a point is then one before it.
        const back =
          m.mark.interpolate === "step-after"
            ? below
                .reverse()
                .map(([px, py], k, _all) => (k ? `V${fixed(py)}H${fixed(px)}` : `L${fixed(px)},${fixed(py)}`))
                .join("")
            : way(below.reverse(), m.mark.interpolate).replace("M", "L");
        element(g, "path", {
          d: `${way(above, m.mark.interpolate) + back}Z`,
          fill: c.paint(rows[0]),
          "fill-opacity": m.mark.opacity ?? 0.7,
        });
        for (const [k, row] of rows.entries()) {
          const [px, py] = above[k],
            next = k + 1 < rows.length ? above[k + 1][0] : px + 4;
          c.tell(
            element(g, "rect", {
              x: fixed(px),
              y: fixed(py),
              width: fixed(Math.max(next - px, 1)),
              height: fixed(Math.max(c.y(ends(row)[0]) - py, 0)),
              fill: "transparent",
            }),
            row,
          );
        }
      }
    },
    bar(g, m, c) {
      const { x, x2, y } = m.encoding;
      for (const row of m.rows) {
        const [a, b] = m.stacked
          ? m.stacked.ends.get(row).map(c.x)
          : [x2 ? c.x(row[x2.field]) : c.x(0), c.x(row[x.field])];
        const tall = c.y.band * 0.9;
        c.tell(
          element(g, "rect", {
            x: fixed(Math.min(a, b)),
            y: fixed(c.y(row[y.field]) - tall / 2),
            width: fixed(Math.max(Math.abs(b - a), 0.5)),
            height: fixed(tall),
            rx: m.mark.cornerRadiusEnd,
            fill: c.paint(row),
            stroke: m.mark.stroke,
            "stroke-width": m.mark.strokeWidth,
            "stroke-opacity": m.mark.strokeOpacity,
          }),
          row,
        );
      }
    },
    rule(g, m, c) {
      const { x, y, x2, y2 } = m.encoding;
      for (const row of m.rows) {
        const [px, py] = [place(x, c.x, row), place(y, c.y, row)];
        const ends = {
          x1: px ?? 0,
          x2: x2 ? c.x(row[x2.field]) : (px ?? c.width),
          y1: py ?? 0,
          y2: y2 ? c.y(row[y2.field]) : (py ?? c.height),
        };
        for (const key of Object.keys(ends)) ends[key] = fixed(ends[key]);
        c.tell(
          element(g, "line", {
            ...ends,
            stroke: c.paint(row),
            "stroke-width": m.mark.strokeWidth || 1,
            "stroke-opacity": m.mark.opacity,
            "stroke-dasharray": m.mark.strokeDash?.join(" "),
          }),
          row,
        );
      }
    },
    circle: (g, m, c) => dots(g, m.rows, m, c, c.size),
    point: (g, m, c) => dots(g, m.rows, m, c, c.size),
    tick(g, m, c) {
      for (const row of m.rows) {
        const px = c.x(row[m.encoding.x.field]),
          py = c.y(row[m.encoding.y.field]),
          half = (m.mark.size || 14) / 2;
        c.tell(
          element(g, "line", {
            x1: fixed(px),
            x2: fixed(px),
            y1: fixed(py - half),
            y2: fixed(py + half),
            stroke: c.paint(row),
            "stroke-width": m.mark.thickness || 1,
          }),
          row,
        );
      }
    },
    text(g, m, c) {
      const { x, y } = m.encoding;
      for (const row of m.rows) {
        const reach = place(x, c.x, row, c.width / 2) + (m.mark.dx || 0),
          side = m.mark.align === "left" ? "start" : "middle";
        pen.font = `${m.mark.fontWeight || 400} ${pen.font.replace(/^\d{3} /, "")}`;
        const { words, over } = fitted(c.words(row), reach, side, c.width, 2 * (m.mark.dx || 0));
        element(
          g,
          "text",
          {
            x: fixed(over ? reach - 2 * (m.mark.dx || 0) : reach),
            y: fixed(place(y, c.y, row, c.height / 2) + (m.mark.dy || 0) + 4),
            fill: c.paint(row),
            "font-weight": m.mark.fontWeight,
            "text-anchor": over ? "end" : side,
            "pointer-events": "none",
          },
          words,
        );
      }
    },
  };

  return { draw, looks, symbol };
})();
