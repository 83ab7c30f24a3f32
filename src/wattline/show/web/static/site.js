// The views of a fleet: its power tree with limits, the price of a megawatt, and the hours.

import { frame, pinColour } from "./charts.js";
import { byId, el, percent, round, scale, show, svg, table, tooltip } from "./dom.js";

const WIDTH = 820;
const LAYERS = {
  clock: "#2f7fc1",
  batch: "#b07a10",
  precision: "#8a63c9",
  placement: "#2c8f6b",
  time: "#c2548f",
  load: "#7a828e",
  chip: "#9c6b4a",
  all: "#c2461f",
};

export function draw(answer) {
  byId("tree").replaceChildren(tree(answer.parts));
  byId("prices").replaceChildren(
    answer.ladder?.steps?.length ? prices(answer.ladder) : el("p", { class: "note" }, "Nothing can be given up."),
  );
  byId("view-hours").hidden = !answer.horizon;
  if (answer.horizon) byId("hours").replaceChildren(...hours(answer.horizon));
  byId("tables").replaceChildren(...answer.tables.flatMap((t) => [el("h3", {}, t.title), table(t.head, t.rows)]));
}

export function tiles(answer) {
  return [
    ["Work", percent(answer.work_share), "of the fleet's full work"],
    ["Site power", show(answer.feed_w, "W"), answer.limit_w ? `limit ${show(answer.limit_w, "W")}` : "no limit"],
    ["PUE", round(answer.pue, 4), "at this load"],
    [
      "Gap to the bound",
      percent(Math.abs(answer.whole_settings?.gap ?? answer.gap), 2),
      "with one setting for each job",
    ],
    answer.cost_usd_per_h === undefined || answer.cost_usd_per_h === null
      ? null
      : ["Electricity", `${round(answer.cost_usd_per_h, 4)} USD`, "an hour"],
    answer.carbon_g_per_h === undefined || answer.carbon_g_per_h === null
      ? null
      : ["Carbon", show(answer.carbon_g_per_h, "g"), "an hour"],
  ];
}

// Every part of the tree in its place, its flow against its limit. Deep trees keep their fullest parts.
function tree(parts) {
  const byName = new Map(parts.map((p) => [p.name, { ...p, children: [] }]));
  const roots = [];
  for (const part of byName.values()) (byName.get(part.on)?.children ?? roots).push(part);
  const rows = [];
  const walk = (part, depth) => {
    rows.push([part, depth]);
    for (const child of part.children) walk(child, depth + 1);
  };
  for (const root of roots) walk(root, 0);
  const shown =
    rows.length > 60 ? rows.filter(([part, depth]) => depth < 2 || part.price_per_w > 0).slice(0, 60) : rows;
  const step = 22,
    left = 210,
    height = shown.length * step + 8,
    most = Math.max(...parts.map((p) => Math.max(p.inflow_w, p.limit_w ?? 0)));
  const x = (w) => left + Math.sqrt(Math.max(0, w) / most) * (WIDTH - left - 90);
  const out = svg("svg", {
    viewBox: `0 0 ${WIDTH} ${height}`,
    class: "chart",
    role: "img",
    "aria-label": `Power tree of ${parts.length} parts; ${
      parts
        .filter((p) => p.price_per_w > 0)
        .map((p) => p.name)
        .join(", ") || "no limit"
    } binds`,
  });
  shown.forEach(([part, depth], i) => {
    const y = i * step + 4,
      full = part.limit_w ? part.inflow_w / part.limit_w : null;
    out.append(svg("text", { x: 8 + depth * 14, y: y + 13, class: part.price_per_w > 0 ? "strong" : "" }, part.name));
    const bar = svg("rect", {
      class: "dot",
      x: left,
      y: y + 3,
      width: Math.max(1, x(part.inflow_w) - left),
      height: step - 9,
      fill: part.price_per_w > 0 ? "var(--chosen)" : "var(--curve)",
      tabindex: 0,
    });
    tooltip(
      bar,
      `${part.name}\n${show(part.inflow_w, "W", 4)} flows in${part.limit_w ? `, limit ${show(part.limit_w, "W", 4)} (${percent(full, 3)})` : ", no limit"}${part.headroom_w ? `\nheadroom ${show(part.headroom_w, "W")}` : ""}${part.price_per_w > 0 ? `\none MW more is worth ${round(part.price_per_w * 1e6, 3)} of work` : ""}`,
    );
    out.append(bar);
    if (part.limit_w)
      out.append(
        svg("line", {
          class: part.price_per_w > 0 ? "binds" : "limit",
          x1: x(part.limit_w),
          x2: x(part.limit_w),
          y1: y,
          y2: y + step - 3,
        }),
      );
    out.append(
      svg(
        "text",
        { x: Math.max(x(part.inflow_w), part.limit_w ? x(part.limit_w) : 0) + 8, y: y + 13 },
        show(part.inflow_w, "W"),
      ),
    );
  });
  return out;
}

function prices(ladder) {
  const total = [{ power_w: 0, lost: 0 }];
  for (const step of ladder.steps) {
    const last = total.at(-1);
    total.push({ power_w: last.power_w + step.power_w, lost: last.lost + step.lost });
  }
  const curves = [["all", total], ...Object.entries(ladder.alone)].filter(([, points]) => points.length > 1);
  const every = curves.flatMap(([, points]) => points),
    [unit, factor] = scale(Math.max(...every.map((p) => p.power_w)), "W");
  const f = frame(
    WIDTH,
    330,
    every.map((p) => p.power_w * factor),
    every.map((p) => p.lost),
    `Power given up, ${unit}`,
    "Work lost",
  );
  f.root.setAttribute("aria-label", `Work lost against power given up, for ${curves.map(([name]) => name).join(", ")}`);
  const named = new Map();
  curves.forEach(([name, points], i) => {
    const colour = LAYERS[name] ?? pinColour(i);
    f.root.append(
      svg("path", {
        class: "curve",
        d: points
          .map((p, k) => `${k ? "L" : "M"}${f.x(p.power_w * factor).toFixed(2)},${f.y(p.lost).toFixed(2)}`)
          .join(""),
        stroke: colour,
        "stroke-dasharray": name === "all" ? null : "6 3",
      }),
    );
    const end = points.at(-1),
      x = Math.min(f.x(end.power_w * factor), WIDTH - 30),
      y = f.y(end.lost) - 6;
    const place = [...named.keys()].find((at) => Math.abs(at[0] - x) < 60 && Math.abs(at[1] - y) < 14) ?? [x, y];
    named.set(place, [...(named.get(place) ?? []), name === "all" ? "all layers" : name]);
  });
  for (const [[x, y], names] of named)
    f.root.append(svg("text", { class: "strong", x, y, "text-anchor": "end" }, names.join(", ")));
  ladder.steps.slice(0, 80).reduce(
    (at, step) => {
      const next = { power: at.power + step.power_w, lost: at.lost + step.lost };
      f.root.append(
        tooltip(
          svg("circle", {
            class: "dot",
            cx: f.x(next.power * factor),
            cy: f.y(next.lost),
            r: 4,
            fill: LAYERS[step.layer] ?? "var(--curve)",
            tabindex: 0,
          }),
          `${step.job}: ${step.measure || step.layer}\n${show(step.power_w, "W")} for ${round(step.lost, 3)} of work (${round(step.lost_per_mw, 3)} per MW)`,
        ),
      );
      return next;
    },
    { power: 0, lost: 0 },
  );
  return f.root;
}

function hours(horizon) {
  const edges = horizon.time_s,
    h = edges.slice(0, -1).map((t) => (t - edges[0]) / 3600);
  const step = (title, unit, rows, colours) => {
    const values = rows.flatMap(([, ys]) => ys).filter((v) => v !== null && Number.isFinite(v));
    if (!values.length) return null;
    const [name, factor] = unit === "g/kWh" ? [unit, 1] : scale(Math.max(...values.map(Math.abs)), unit);
    const f = frame(
      WIDTH,
      210,
      h,
      values.map((v) => v * factor),
      "Hours from the start",
      `${title}, ${name}`,
    );
    f.root.setAttribute("aria-label", title);
    rows.forEach(([label, ys], i) => {
      const d = ys
        .map((v, k) =>
          v === null
            ? ""
            : `${k && ys[k - 1] !== null ? "L" : "M"}${f.x(h[k]).toFixed(1)},${f.y(v * factor).toFixed(1)}${k + 1 < ys.length ? `H${f.x(h[k + 1]).toFixed(1)}` : ""}`,
        )
        .join("");
      f.root.append(tooltip(svg("path", { class: "curve", d, stroke: colours[i] }), label));
      f.root.append(
        svg("text", { class: "strong", x: f.left + 8 + i * 150, y: f.top + 4 }, "━ "),
        svg("text", { x: f.left + 26 + i * 150, y: f.top + 4 }, label),
      );
      f.root.lastChild.previousSibling.style.fill = colours[i];
    });
    return f.root;
  };
  return [
    step(
      "Site power",
      "W",
      [
        ["limit", horizon.limit_w],
        ["drawn", horizon.feed_w],
      ],
      ["var(--base)", "var(--curve)"],
    ),
    step(
      "Carbon intensity",
      "g/kWh",
      [["carbon", horizon.carbon_g_per_j.map((v) => (v === null ? null : v * 3.6e6))]],
      ["var(--less)"],
    ),
  ].filter(Boolean);
}
