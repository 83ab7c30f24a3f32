/* What charts are drawn with: elements, the width of words, scales from numbers and names to places and colours. Rows of
 * bars and areas that share a place are stacked here. Used by `marks.js` and `draw.js`, which stand after it on a page. */
window.Scales = (() => {
  const PALETTE = [
    "#4c78a8",
    "#f58518",
    "#e45756",
    "#72b7b2",
    "#54a24b",
    "#eeca3b",
    "#b279a2",
    "#ff9da6",
    "#9d755d",
    "#bab0ac",
  ];
  const PLASMA = [
    "#0d0887",
    "#41049d",
    "#6a00a8",
    "#8f0da4",
    "#b12a90",
    "#cc4778",
    "#e16462",
    "#f2844b",
    "#fca636",
    "#fcce25",
    "#f0f921",
  ];
  const SIZE = 12;
  const LABEL = 360;
  const pen = document.createElement("canvas").getContext("2d");

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
    pen.font = `${SIZE}px ${theme.font}`;
    return pen.measureText(text).width;
  }

  function cut(text, theme) {
    let kept = String(text);
    while (wide(kept, theme) > LABEL) kept = `${kept.slice(0, -2)}…`;
    return kept;
  }

  function mix(stops, share) {
    const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1),
      low = Math.min(Math.floor(at), stops.length - 2);
    const part = (hex, k) => parseInt(hex.slice(1 + 2 * k, 3 + 2 * k), 16);
    const one = (k) => Math.round(part(stops[low], k) + (at - low) * (part(stops[low + 1], k) - part(stops[low], k)));
    return `rgb(${[0, 1, 2].map(one).join(",")})`;
  }

  // ---- scales ------------------------------------------------------------------------------------

  /** Every definition of some channels among the marks of a panel. */
  const uses = (marks, ...channels) => marks.flatMap((m) => channels.map((c) => m.encoding[c]).filter((d) => d?.field));
  const option = (defs, name) => first(defs.map((d) => d.scale?.[name]));

  /** Names in the order of a nominal channel: as listed, as they come where sort is null, else ascending. */
  function names(marks, channel) {
    const defs = uses(marks, channel),
      domain = option(defs, "domain"),
      sort = first(defs.map((d) => d.sort));
    const found = new Set(Array.isArray(sort) ? sort : []);
    for (const m of marks) {
      const def = m.encoding[channel];
      if (def?.field) for (const row of m.rows) if (known(row[def.field])) found.add(row[def.field]);
    }
    if (domain) return domain;
    const all = [...found];
    return sort === undefined ? all.sort((a, b) => (typeof a === "number" ? a - b : a < b ? -1 : 1)) : all;
  }

  function step(span, count) {
    const raw = span / Math.max(count, 1),
      power = 10 ** Math.floor(Math.log10(raw)),
      error = raw / power;
    return power * (error >= 7.07 ? 10 : error >= 3.16 ? 5 : error >= 1.41 ? 2 : 1);
  }

  /** A scale of numbers from its domain to [0, length], turned over for y. */
  function numbers(marks, channel, length, turned) {
    const defs = uses(marks, channel),
      log = option(defs, "type") === "log",
      given = option(defs, "domain");
    let [low, high] = given || extent(marks, channel);
    const to = log ? Math.log10 : (x) => x,
      from = log ? (x) => 10 ** x : (x) => x;
    if (!given) {
      if (!(high > low))
        [low, high] = log ? [low / 2, low * 2] : low === 0 ? [0, 1] : [Math.min(low, 0), Math.max(low, 0)];
      const pad =
        ((option(defs, "padding") || 0) * (to(high) - to(low))) /
        Math.max(length - 2 * (option(defs, "padding") || 0), 1);
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
    return Object.assign(scale, {
      ticks: ticks(low, high, log, length, first(defs.map((d) => d.axis?.values))),
    });
  }

  function extent(marks, channel) {
    let low = Infinity,
      high = -Infinity;
    for (const m of marks)
      for (const row of m.rows)
        for (const value of [m.encoding[channel], m.encoding[`${channel}2`]]
          .map((d) => d?.field && row[d.field])
          .concat(m.stacked && m.stacked.channel === channel ? m.stacked.ends.get(row) : []))
          if (known(value) && value !== false) [low, high] = [Math.min(low, value), Math.max(high, value)];
    return low <= high ? [low, high] : [0, 1];
  }

  function ticks(low, high, log, length, given) {
    if (given) return given.map((v) => [v, short(v)]);
    if (log) {
      const decades = Math.log10(high / low),
        each = decades > 6 ? [1] : decades > 1.5 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9];
      const found = [];
      for (let d = Math.floor(Math.log10(low)); d <= Math.ceil(Math.log10(high)); d++)
        for (const e of each)
          if (e * 10 ** d >= low * (1 - 1e-9) && e * 10 ** d <= high * (1 + 1e-9)) found.push(e * 10 ** d);
      return found.map((v) => [v, short(v)]);
    }
    const by = step(high - low, Math.min(10, Math.max(2, length / 55))),
      digits = Math.max(0, -Math.floor(Math.log10(by) + 1e-9));
    const found = [];
    for (let k = Math.ceil(low / by - 1e-9) || 0; k * by <= high + 1e-9 * by; k++)
      found.push([
        k * by,
        (k * by || 0).toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits }),
      ]);
    return found;
  }

  function short(v) {
    const size = Math.abs(v);
    return size && (size < 1e-4 || size >= 1e6) ? v.toExponential().replace("e+", "e") : String(+v.toPrecision(6));
  }

  /** A scale of names: the middle of each band. */
  function bands(domain, length) {
    const place = new Map(domain.map((name, k) => [name, k])),
      band = length / Math.max(domain.length, 1);
    return Object.assign((name) => band * (place.get(name) + 0.5), { band, domain });
  }

  /** The colours of a channel, color or fill. */
  function colours(marks, channel) {
    const defs = uses(marks, channel),
      def = defs[0];
    if (!def) return { of: () => undefined };
    if (number(def)) {
      const [low, high] = option(defs, "domain") || extent(marks, channel);
      return { def, low, high, of: (value) => mix(PLASMA, (value - low) / (high - low || 1)) };
    }
    const domain = names(marks, channel),
      range = option(defs, "range") || PALETTE;
    const of = new Map(domain.map((name, k) => [name, range[k % range.length]]));
    return { def, domain, of: (value) => of.get(value) };
  }

  /** What a nominal channel such as shape or size says of a row. */
  function table(marks, channel, fallback) {
    const domain = names(marks, channel),
      range = option(uses(marks, channel), "range") || fallback;
    return (value) => range[Math.max(domain.indexOf(value), 0) % range.length];
  }

  /** Put bars or areas of different colours on top of each other, in the order of their colours or of `order`. */
  function stack(m, domain) {
    const { x, y, x2, y2, order } = m.encoding,
      colour = m.encoding.color;
    const channel = m.mark.type === "area" ? "y" : m.mark.type === "bar" && number(x) ? "x" : "y";
    const def = channel === "x" ? x : y,
      along = channel === "x" ? y : x;
    if (!["bar", "area"].includes(m.mark.type) || x2 || y2 || !colour || number(colour) || !number(def)) return null;
    const rank = (row) => (order ? row[order.field] : domain.indexOf(row[colour.field]));
    const sums = new Map(),
      ends = new Map();
    for (const row of [...m.rows].sort((a, b) => rank(a) - rank(b))) {
      const key = row[along.field],
        low = sums.get(key) || 0;
      ends.set(row, [low, low + row[def.field]]);
      sums.set(key, low + row[def.field]);
    }
    return { channel, ends };
  }

  return {
    PALETTE,
    PLASMA,
    SIZE,
    pen,
    element,
    wide,
    cut,
    mix,
    uses,
    option,
    names,
    numbers,
    bands,
    colours,
    table,
    stack,
    short,
    fixed,
    known,
    number,
    first,
  };
})();
