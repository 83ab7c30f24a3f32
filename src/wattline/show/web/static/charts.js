// The pictures, as SVG made by hand: what is drawn is what the answer holds, nothing is fetched to draw it.

import { el, percent, round, scale, show, signed, svg, table, tooltip } from "./dom.js";

const WIDTH = 820;

function ticks(low, high, count = 6) {
  if (!(high > low)) return [low];
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((k) => k * power).find((k) => k >= raw);
  const out = [];
  for (let k = Math.ceil(low / step); k * step <= high + step * 1e-9; k += 1) out.push(k * step);
  return out;
}

export function frame(
  width,
  height,
  xs,
  ys,
  xTitle,
  yTitle,
  margin = { left: 66, right: 16, top: 14, bottom: 46 },
  xWords = (t) => round(t, 4),
) {
  const pad = (values) => {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const room = (high - low || Math.abs(high) || 1) * 0.06;
    return [low - room, high + room];
  };
  const [x0, x1] = pad(xs),
    [y0, y1] = pad(ys);
  const inner = { w: width - margin.left - margin.right, h: height - margin.top - margin.bottom };
  const x = (v) => margin.left + ((v - x0) / (x1 - x0)) * inner.w;
  const y = (v) => margin.top + (1 - (v - y0) / (y1 - y0)) * inner.h;
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart", role: "img" });
  for (const t of ticks(x0, x1, 8)) {
    root.append(
      svg("line", { class: "grid", x1: x(t), x2: x(t), y1: margin.top, y2: margin.top + inner.h }),
      svg("text", { x: x(t), y: height - 26, "text-anchor": "middle" }, xWords(t)),
    );
  }
  for (const t of ticks(y0, y1, 6)) {
    root.append(
      svg("line", { class: "grid", x1: margin.left, x2: width - margin.right, y1: y(t), y2: y(t) }),
      svg("text", { x: margin.left - 8, y: y(t) + 4, "text-anchor": "end" }, round(t, 4)),
    );
  }
  root.append(svg("text", { x: margin.left + inner.w / 2, y: height - 6, "text-anchor": "middle" }, xTitle));
  root.append(
    svg("text", { x: -(margin.top + inner.h / 2), y: 14, transform: "rotate(-90)", "text-anchor": "middle" }, yTitle),
  );
  return { root, x, y, bottom: margin.top + inner.h, left: margin.left, right: width - margin.right, top: margin.top };
}

const PINS = ["#8a63c9", "#b07a10", "#2c8f6b", "#c2548f", "#5d8a2f", "#9c6b4a"];
export const pinColour = (i) => PINS[i % PINS.length];

// The frontier, the chosen point, the baseline, goal lines, and every pinned answer.
export function frontier(answer, pins, choose) {
  const all = [answer, ...pins.map((pin) => pin.answer)];
  const points = all.flatMap((a) => [...a.frontier, a.chosen, a.baseline]);
  const [tUnit, t] = scale(answer.chosen.time_s, "s"),
    [eUnit, e] = scale(answer.chosen.energy_j, "J");
  const f = frame(
    WIDTH,
    370,
    points.map((p) => p.time_s * t),
    points.map((p) => p.energy_j * e),
    `Time for ${answer.work}, ${tUnit}`,
    `Energy, ${eUnit}`,
  );
  f.root.setAttribute(
    "aria-label",
    `Frontier of time and energy: ${answer.frontier.length} points; chosen ${show(answer.chosen.time_s, "s")}, ${show(answer.chosen.energy_j, "J")}`,
  );
  const draw = (a, colour, name) => {
    const path = a.frontier
      .map((p, i) => `${i ? "L" : "M"}${f.x(p.time_s * t).toFixed(2)},${f.y(p.energy_j * e).toFixed(2)}`)
      .join("");
    f.root.append(svg("path", { class: "curve", d: path, stroke: colour }));
    if (name)
      f.root.append(
        svg("rect", {
          x: f.x(a.chosen.time_s * t) - 4,
          y: f.y(a.chosen.energy_j * e) - 4,
          width: 8,
          height: 8,
          fill: colour,
          transform: `rotate(45 ${f.x(a.chosen.time_s * t)} ${f.y(a.chosen.energy_j * e)})`,
        }),
      );
  };
  for (const [i, pin] of pins.entries()) draw(pin.answer, pinColour(i), pin.name);
  draw(answer, "var(--curve)");
  const cx = f.x(answer.chosen.time_s * t),
    cy = f.y(answer.chosen.energy_j * e);
  f.root.append(
    svg("line", { class: "goal", x1: cx, x2: cx, y1: f.top, y2: f.bottom }),
    svg("line", { class: "goal", x1: f.left, x2: f.right, y1: cy, y2: cy }),
  );
  const base = answer.baseline;
  const words = (p, extra = "") =>
    `${show(p.time_s, "s", 4)}, ${show(p.energy_j, "J", 4)}, ${show(p.average_power_w, "W")}\nagainst maximum clocks: ${signed(p.time_s / base.time_s - 1)} time, ${signed(p.energy_j / base.energy_j - 1)} energy${extra}`;
  const every = Math.max(1, Math.ceil(answer.frontier.length / 120));
  answer.frontier.forEach((p, i) => {
    if (i % every && i !== answer.frontier.length - 1) return;
    const knobs = knobsAt(answer, p);
    const dot = svg("circle", {
      class: "dot",
      cx: f.x(p.time_s * t),
      cy: f.y(p.energy_j * e),
      r: 4.5,
      fill: "var(--curve)",
      tabindex: 0,
      role: "button",
      "aria-label": `${show(p.time_s, "s", 4)}, ${show(p.energy_j, "J", 4)}`,
    });
    tooltip(dot, words(p, `${knobs}\nclick to plan for this point`));
    const pick = () => choose(p);
    dot.addEventListener("click", pick);
    dot.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        pick();
      }
    });
    f.root.append(dot);
  });
  const bx = f.x(base.time_s * t),
    by = f.y(base.energy_j * e);
  f.root.append(
    tooltip(
      svg("rect", { class: "dot", x: bx - 6, y: by - 6, width: 12, height: 12, fill: "var(--base)" }),
      `maximum clocks\n${words(base)}`,
    ),
  );
  f.root.append(
    tooltip(
      svg("rect", {
        class: "dot",
        x: cx - 6,
        y: cy - 6,
        width: 12,
        height: 12,
        fill: "var(--chosen)",
        transform: `rotate(45 ${cx} ${cy})`,
      }),
      () => `chosen\n${words(answer.chosen, knobsAt(answer, answer.chosen))}`,
    ),
  );
  const label = (x, y, text) =>
    svg(
      "text",
      {
        class: "strong",
        x: x > WIDTH - 150 ? x - 12 : x + 12,
        y: y - 9,
        "text-anchor": x > WIDTH - 150 ? "end" : "start",
      },
      text,
    );
  f.root.append(label(bx, by, "maximum clocks"), label(cx, cy, "chosen"));
  return f.root;
}

// What a point sets: serving answers say it for every point, training ones for the chosen.
function knobsAt(answer, point) {
  if (answer.kind === "serving") {
    const rows = answer.timeline ?? [];
    const near = rows.reduce(
      (best, row) =>
        best === null || Math.abs(row.tpot_s - point.time_s) < Math.abs(best.tpot_s - point.time_s) ? row : best,
      null,
    );
    return near ? `\nclock ${show(near.clock_hz, "Hz", 4)}, batch ${round(near.batch, 3)}` : "";
  }
  if (point !== answer.chosen || !answer.chosen.knobs?.length) return "";
  const clocks = answer.chosen.knobs.flatMap((k) => (k.clock_hz === undefined ? [] : [k.clock_hz]));
  return clocks.length ? `\nclocks ${show(Math.min(...clocks), "Hz", 4)} to ${show(Math.max(...clocks), "Hz", 4)}` : "";
}

// Joules from the site down to the component: an icicle, widths in proportion.
export function icicle(parts, factor, words) {
  const root = { name: "Site", title: "Everything", value: 0, children: new Map() };
  for (const part of parts) {
    let node = root;
    root.value += part.energy_j;
    for (const name of [...part.path.slice(1), null]) {
      const key = name ?? part.name;
      if (!node.children.has(key))
        node.children.set(key, {
          title: name ?? part.title,
          value: 0,
          children: new Map(),
          colour: name ? null : part.colour,
        });
      node = node.children.get(key);
      node.value += part.energy_j;
    }
  }
  const depth = (node) => 1 + Math.max(0, ...[...node.children.values()].map(depth));
  const levels = depth(root),
    row = 44,
    height = levels * row + 4;
  const out = svg("svg", {
    viewBox: `0 0 ${WIDTH} ${height}`,
    class: "chart",
    role: "img",
    "aria-label": `Energy by component: ${parts
      .slice(0, 5)
      .map((p) => `${p.title} ${percent(p.share)}`)
      .join(", ")}`,
  });
  const place = (node, x, level) => {
    const width = (node.value / root.value) * WIDTH;
    if (width < 0.5) return;
    const leaf = !node.children.size;
    const tall = leaf ? (levels - level) * row : row;
    const cell = svg("rect", {
      class: "cell",
      x,
      y: level * row,
      width,
      height: tall,
      fill: node.colour ?? (level % 2 ? "var(--line)" : "var(--panel)"),
      "fill-opacity": node.colour ? 0.3 : 1,
      tabindex: 0,
      role: "img",
      "aria-label": `${node.title}: ${show(node.value * factor, "J")}, ${percent(node.value / root.value)}`,
    });
    tooltip(cell, `${node.title}\n${show(node.value * factor, "J", 4)} ${words}, ${percent(node.value / root.value)}`);
    out.append(cell);
    if (node.colour)
      out.append(
        svg("rect", { x: x + 1, y: level * row + 1, width: Math.min(4, width), height: tall - 2, fill: node.colour }),
      );
    const room = Math.floor((width - 12) / 7.4);
    if (room >= 5) {
      const title = node.title.length > room ? `${node.title.slice(0, room - 1)}…` : node.title;
      out.append(svg("text", { x: x + 9, y: level * row + 18, class: "strong" }, title));
      const figure = `${show(node.value * factor, "J")}, ${percent(node.value / root.value, 2)}`;
      if (figure.length <= room) out.append(svg("text", { x: x + 9, y: level * row + 34 }, figure));
    }
    let at = x;
    for (const child of [...node.children.values()].sort((a, b) => b.value - a.value)) {
      place(child, at, level + 1);
      at += (child.value / root.value) * WIDTH;
    }
  };
  place(root, 0, 0);
  return out;
}

export function partsTable(parts, factor) {
  return table(
    ["Component", "Energy", "Share"],
    parts.map((p) => [p.title, show(p.energy_j * factor, "J"), p.share < 5e-4 ? "< 0.1 %" : percent(p.share)]),
  );
}

// Bars left and right of zero: what one percent more of a parameter does.
export function bars(rows, pick) {
  const step = 26,
    left = 250,
    height = rows.length * step + 34;
  const reach = Math.max(...rows.map((r) => Math.abs(r.elasticity)), 1e-9) * 1.12;
  const x = (v) => left + 10 + ((v + reach) / (2 * reach)) * (WIDTH - left - 30);
  const out = svg("svg", {
    viewBox: `0 0 ${WIDTH} ${height}`,
    class: "chart",
    role: "img",
    "aria-label": `Elasticities: ${rows
      .slice(0, 4)
      .map((r) => `${r.title} ${round(r.elasticity, 2)}`)
      .join(", ")}`,
  });
  for (const t of ticks(-reach, reach, 8))
    out.append(
      svg("line", { class: "grid", x1: x(t), x2: x(t), y1: 0, y2: height - 30 }),
      svg("text", { x: x(t), y: height - 14, "text-anchor": "middle" }, round(t, 2)),
    );
  rows.forEach((row, i) => {
    const [a, b] = [x(Math.min(0, row.elasticity)), x(Math.max(0, row.elasticity))];
    const bar = svg("rect", {
      class: "dot",
      x: a,
      y: i * step + 4,
      width: Math.max(1, b - a),
      height: step - 8,
      fill: row.elasticity > 0 ? "var(--less)" : "var(--more)",
      tabindex: 0,
      role: "button",
      "aria-label": `${row.title}: ${round(row.elasticity, 3)} %`,
    });
    tooltip(
      bar,
      `${row.title} (${row.key})\nnow ${row.value}\n1 % ${row.elasticity > 0 ? "less" : "more"} saves ${round(Math.abs(row.elasticity), 3)} %\nclick to change it`,
    );
    bar.addEventListener("click", () => pick(row.key));
    bar.addEventListener("keydown", (event) => {
      if (event.key === "Enter") pick(row.key);
    });
    const title = row.title.length > 38 ? `${row.title.slice(0, 37)}…` : row.title;
    out.append(svg("text", { x: left, y: i * step + 17, "text-anchor": "end" }, title), bar);
  });
  out.append(svg("line", { class: "axis", x1: x(0), x2: x(0), y1: 0, y2: height - 30 }));
  return out;
}

// A perceptual ramp (plasma, Smith and van der Walt) from slow to fast clocks.
const RAMP = [
  [13, 8, 135],
  [84, 2, 163],
  [139, 10, 165],
  [185, 50, 137],
  [219, 92, 104],
  [244, 136, 73],
  [254, 188, 43],
  [240, 249, 33],
];
export function ramp(share) {
  const at = Math.max(0, Math.min(1, share)) * (RAMP.length - 1),
    i = Math.min(RAMP.length - 2, Math.floor(at)),
    k = at - i;
  return `rgb(${RAMP[i].map((c, j) => Math.round(c + k * (RAMP[i + 1][j] - c))).join(",")})`;
}

// Who runs when: one row per stage, one bar per computation, coloured by its clock.
export function timeline(tasks) {
  const stages = Math.max(...tasks.map((k) => k.stage)) + 1;
  const end = Math.max(...tasks.map((k) => k.start_s + k.time_s));
  const [unit, factor] = scale(end, "s");
  const row = Math.max(8, Math.min(30, 420 / stages)),
    height = stages * row + 70;
  const clocks = tasks.map((k) => k.clock_hz),
    low = Math.min(...clocks),
    high = Math.max(...clocks);
  const x = (s) => 46 + (s / end) * (WIDTH - 56);
  const out = svg("svg", {
    viewBox: `0 0 ${WIDTH} ${height}`,
    class: "chart",
    role: "img",
    "aria-label": `Timeline of ${stages} stages, clocks from ${show(low, "Hz")} to ${show(high, "Hz")}`,
  });
  for (let i = 0; i < 60; i += 1)
    out.append(svg("rect", { x: WIDTH - 250 + i * 2.5, y: 2, width: 2.6, height: 10, fill: ramp(i / 59) }));
  out.append(
    svg("text", { x: WIDTH - 256, y: 12, "text-anchor": "end" }, show(low, "Hz", 4)),
    svg("text", { x: WIDTH - 94, y: 12 }, show(high, "Hz", 4)),
    svg("text", { x: 46, y: 12 }, "Colour: clock"),
  );
  for (let s = 0; s < stages; s += 1)
    out.append(svg("text", { x: 38, y: 24 + s * row + row / 2 + 4, "text-anchor": "end" }, s));
  for (const t of ticks(0, end * factor, 8))
    out.append(svg("text", { x: x(t / factor), y: 24 + stages * row + 16, "text-anchor": "middle" }, round(t, 3)));
  out.append(
    svg(
      "text",
      { x: WIDTH / 2, y: height - 6, "text-anchor": "middle" },
      `Time in the iteration, ${unit}; rows are stages`,
    ),
  );
  for (const k of tasks) {
    const bar = svg("rect", {
      x: x(k.start_s),
      y: 24 + k.stage * row,
      width: Math.max(0.6, x(k.start_s + k.time_s) - x(k.start_s) - 0.3),
      height: row - 1.5,
      fill: ramp(high > low ? (k.clock_hz - low) / (high - low) : 0.5),
    });
    tooltip(
      bar,
      `stage ${k.stage}, microbatch ${k.microbatch}, ${k.instruction}\n${show(k.clock_hz, "Hz", 4)}, ${show(k.time_s, "s")} from ${show(k.start_s, "s")}`,
    );
    out.append(bar);
  }
  return out;
}

// One line over x, as serving plans have: clock and batch over time per token, or power over time.
export function line(rows, xKey, yKey, xTitle, yTitle, format, height = 210) {
  const f = frame(
    WIDTH,
    height,
    rows.map((r) => r[xKey]),
    rows.map((r) => r[yKey]),
    xTitle,
    yTitle,
  );
  const path = rows.map((r, i) => `${i ? "L" : "M"}${f.x(r[xKey]).toFixed(2)},${f.y(r[yKey]).toFixed(2)}`).join("");
  f.root.setAttribute("aria-label", `${yTitle} over ${xTitle}`);
  f.root.append(svg("path", { class: "curve", d: path, stroke: "var(--curve)" }));
  const every = Math.max(1, Math.ceil(rows.length / 120));
  rows.forEach((r, i) => {
    if (i % every === 0)
      f.root.append(
        tooltip(
          svg("circle", { class: "dot", cx: f.x(r[xKey]), cy: f.y(r[yKey]), r: 4, fill: "var(--curve)", tabindex: 0 }),
          format(r),
        ),
      );
  });
  return f.root;
}

// A bar for a knob's elasticity, no wider than its panel.
export function spark(value, reach) {
  const share = Math.max(-1, Math.min(1, value / reach)) * 50;
  return svg(
    "svg",
    { viewBox: "0 0 100 5", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("line", { class: "axis", x1: 50, x2: 50, y1: 0, y2: 5, stroke: "var(--line)" }),
    svg("rect", {
      x: share < 0 ? 50 + share : 50,
      y: 1,
      width: Math.abs(share),
      height: 3,
      fill: share > 0 ? "var(--less)" : "var(--more)",
    }),
  );
}

export const empty = (text) => el("p", { class: "note" }, text);
