// The view of a simulation: power over time, latencies against their promise, and every policy beside the bound.

import { frame } from "./charts.js";
import { el, percent, round, scale, show, svg, table, tooltip } from "./dom.js";

const WIDTH = 820;
const PARTS = [
  ["prefill_w", "prefill", "#2f7fc1"],
  ["decode_w", "decode", "#2c8f6b"],
  ["idle_w", "idle", "#7a828e"],
  ["cold_w", "starting", "#b07a10"],
  ["transfer_w", "transfer", "#8a63c9"],
];

export function draw(found) {
  const promise = found.promise_kept
    ? "kept"
    : `broken by ${found.violations.any.toLocaleString("en-US")} of ${found.requests.toLocaleString("en-US")} requests`;
  const out = [
    el(
      "p",
      {},
      `${found.requests.toLocaleString("en-US")} requests in ${show(found.duration_s, "s")}, ${found.steps.toLocaleString("en-US")} steps, policy ${found.policy}: ${show(found.energy_per_token_j, "J")} of the chips a token; the promise is ${promise}.`,
    ),
    power(found.power),
    latencies(found),
    table(
      ["Where the joules went", "Energy", "Share"],
      Object.entries(found.phases_j)
        .filter(([, j]) => j > 0)
        .map(([name, j]) => [name, show(j, "J"), percent(j / found.energy_j)]),
    ),
  ];
  if (found.policies) out.push(el("h3", {}, "Every policy"), policies(found), policyTable(found));
  return out;
}

// Power stacked by what it did, one column per bin.
function power(bins) {
  const parts = PARTS.filter(([key]) => bins[key]?.some((w) => w > 0)),
    count = bins[parts[0]?.[0]]?.length ?? 0;
  if (!count) return el("p", { class: "note" }, "Nothing ran.");
  const tops = Array.from({ length: count }, (_, i) => parts.reduce((sum, [key]) => sum + bins[key][i], 0));
  const [unit, factor] = scale(Math.max(...tops), "W"),
    [tUnit, t] = scale(count * bins.bin_s, "s");
  const f = frame(
    WIDTH,
    260,
    [0, count * bins.bin_s * t],
    [0, Math.max(...tops) * factor],
    `Time, ${tUnit}`,
    `Power of the chips, ${unit}`,
  );
  f.root.setAttribute("aria-label", `Power over time, at most ${show(Math.max(...tops), "W")}`);
  const x = (i) => f.x(i * bins.bin_s * t).toFixed(2),
    below = new Array(count).fill(0);
  for (const [key, name, colour] of parts) {
    const above = below.map((b, i) => b + bins[key][i]);
    const up = above.map((w, i) => `${i ? "L" : "M"}${x(i)},${f.y(w * factor).toFixed(2)}H${x(i + 1)}`).join("");
    const down = below
      .map((w, i) => `L${x(i + 1)},${f.y(w * factor).toFixed(2)}H${x(i)}`)
      .reverse()
      .join("");
    f.root.append(
      tooltip(
        svg("path", { d: `${up}${down}Z`, fill: colour, "fill-opacity": 0.75 }),
        `${name}: ${show(above.reduce((s, w, i) => s + w - below[i], 0) / count, "W")} on average`,
      ),
    );
    below.splice(0, count, ...above);
  }
  for (const [i, [, name, colour]] of parts.entries()) {
    f.root.append(
      svg("rect", { x: f.left + 10 + i * 90, y: 2, width: 10, height: 10, fill: colour }),
      svg("text", { x: f.left + 24 + i * 90, y: 11 }, name),
    );
  }
  return f.root;
}

function latencies(found) {
  const cells = (name, values) => [
    name,
    ...["p50", "p90", "p99", "max"].map((key) => (values?.[key] === undefined ? "" : show(values[key], "s"))),
  ];
  return table(
    ["Latency", "median", "90 %", "99 %", "longest"],
    [
      cells("first token", found.ttft_s),
      cells("per token", found.tpot_s),
      cells("between tokens", found.itl_s),
      cells("whole request", found.latency_s),
    ],
  );
}

// Energy against latency of every policy: those that keep the promise are filled, those that break it hollow.
function policies(found) {
  const rows = found.policies.rows.filter((r) => Number.isFinite(r.tpot_s) && Number.isFinite(r.energy_per_token_j));
  const [unit, factor] = scale(Math.max(...rows.map((r) => r.energy_per_token_j)), "J");
  const f = frame(
    WIDTH,
    300,
    rows.map((r) => Math.log10(r.tpot_s * 1000)),
    rows.map((r) => r.energy_per_token_j * factor),
    "Time per token at the percentile, ms (each step a factor)",
    `Energy a token, ${unit}`,
    undefined,
    (t) => round(10 ** t, 3),
  );
  f.root.setAttribute("aria-label", "Every policy: energy per token against time per token");
  const named = new Map();
  for (const r of rows) {
    const x = f.x(Math.log10(r.tpot_s * 1000)),
      y = f.y(r.energy_per_token_j * factor),
      fixed = r.policy.startsWith("fixed ");
    const colour = fixed ? "var(--curve)" : "var(--chosen)";
    f.root.append(
      tooltip(
        svg("circle", {
          class: `dot${r.promise_kept ? "" : " open"}${fixed ? "" : " policy"}`,
          cx: x,
          cy: y,
          r: fixed ? 4 : 6,
          fill: r.promise_kept ? colour : "none",
          tabindex: 0,
        }),
        `${r.policy}: ${show(r.energy_per_token_j, "J")} a token, ${show(r.tpot_s, "s")} per token\n${r.promise_kept ? "keeps the promise" : `breaks it for ${r.violations} requests`}`,
      ),
    );
    const place = `${Math.round(x / 6)} ${Math.round(y / 6)}`;
    if (!fixed) named.set(place, { x, y, text: [named.get(place)?.text, r.policy].filter(Boolean).join("; ") });
  }
  for (const { x, y, text } of named.values())
    f.root.append(
      svg(
        "text",
        {
          class: "strong",
          x: x > WIDTH - 260 ? x - 10 : x + 10,
          y: y + 4,
          "text-anchor": x > WIDTH - 260 ? "end" : "start",
        },
        text,
      ),
    );
  return f.root;
}

function policyTable(found) {
  return table(
    ["Policy", "Energy a token", "Per token", "First token", "Promise"],
    found.policies.rows.map((r) => [
      r.policy,
      show(r.energy_per_token_j, "J"),
      show(r.tpot_s, "s"),
      show(r.ttft_s, "s"),
      r.promise_kept ? "kept" : `${round(r.violations, 6)} broken`,
    ]),
  );
}
