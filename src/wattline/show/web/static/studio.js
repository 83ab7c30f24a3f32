// The studio: one state, one answer, several views of it. An edit asks for a preview at once and for the exact
// answer after it; what an older request brings is thrown away, and a refused edit keeps the last good picture.

import * as charts from "./charts.js";
import { byId, el, percent, round, scale, show, signed, table, tooltip } from "./dom.js";
import * as knobs from "./knobs.js";
import * as play from "./play.js";
import * as server from "./server.js";
import * as site from "./site.js";
import { fromLink, State, toLink } from "./state.js";

const state = new State();
const page = { answer: null, layers: [], pins: [], turn: 0, task: null, per: "whole", lost: false };
const tab = crypto.randomUUID?.() ?? `${Math.random()}`.slice(2);

// ---- asking --------------------------------------------------------------------------------------

function changed(next) {
  if (state.change(next)) refresh();
}

async function refresh() {
  const turn = ++page.turn;
  editor();
  byId("undo").disabled = !state.past.length;
  byId("redo").disabled = !state.future.length;
  if (page.task) {
    server.stop(page.task).catch(() => {});
    page.task = null;
  }
  link();
  const began = performance.now();
  try {
    if (page.answer) {
      busy("Working out a preview");
      const quick = await server.preview(state.request(`${tab}-p${turn}`));
      if (turn !== page.turn) return;
      page.layers = merge(quick.layers);
      good();
      knobs.draw(page.layers, state.now, changed);
      sketch(quick);
      document.documentElement.dataset.preview = String(Math.round(performance.now() - began));
    }
    busy("Solving exactly", `${tab}-${turn}`);
    const answer = await server.plan(state.request(page.task));
    if (turn !== page.turn) return;
    page.answer = answer;
    page.layers = answer.layers;
    draw();
    calm(`Exact, ${show((performance.now() - began) / 1000, "s", 2)}`);
    document.documentElement.dataset.answered = String(turn);
    warm();
  } catch (error) {
    if (turn !== page.turn) return;
    if (error instanceof server.Lost) return;
    document.documentElement.dataset.answered = String(turn);
    if (!(error instanceof server.Refused)) {
      calm("The page failed");
      throw error;
    }
    bad(error);
  }
}

// A first preview of a scenario costs an exact solve that later ones reuse: it is asked for while nobody waits.
let warmed = "";
function warm() {
  const key = state.now.scenario + Object.keys(state.now.files).join();
  if (key === warmed) return;
  warmed = key;
  server
    .preview(state.request(""))
    .then(() => {
      document.documentElement.dataset.warm = "yes";
    })
    .catch(() => {});
}

// The knobs of a preview carry no elasticities; those of the last answer stand in until the exact one is here.
function merge(layers) {
  const before = new Map(page.layers.map((k) => [k.key, k.elasticity]));
  return layers.map((k) => ({ ...k, elasticity: k.elasticity ?? before.get(k.key) ?? null }));
}

let polling = 0;
function busy(words, task = null) {
  byId("state").textContent = words;
  byId("progress").hidden = byId("stop").hidden = task === null;
  page.task = task;
  clearInterval(polling);
  if (task === null) return;
  byId("progress").removeAttribute("value");
  polling = setInterval(async () => {
    const found = await server.progress(task).catch(() => null);
    if (!found?.running || page.task !== task) return;
    if (found.total) {
      byId("progress").max = found.total;
      byId("progress").value = found.done;
    }
    byId("state").textContent = `${words}, ${show(found.elapsed_s, "s", 2)}`;
  }, 300);
}

function calm(words) {
  clearInterval(polling);
  page.task = null;
  byId("progress").hidden = byId("stop").hidden = true;
  byId("state").textContent = words;
}

function bad(error) {
  calm(error.code === 130 ? "Stopped" : error.code === 1 ? "No plan meets the goal" : "Not understood");
  const where = error.line ? `Line ${error.line}: ` : "";
  byId("error").hidden = false;
  byId("error").textContent =
    error.code === 130 ? "Stopped; the picture shows the last answer." : where + error.message;
  for (const part of document.querySelectorAll(".view, #tiles, #headline")) part.classList.add("stale");
  for (const key of Object.keys(state.now.set))
    document.querySelector(`[data-knob="${CSS.escape(key)}"]`)?.classList.toggle("wrong", error.message.includes(key));
  numbers(error.line ?? 0);
  if (!page.layers.length) byId("tab-text").click();
}

function good() {
  byId("error").hidden = true;
  numbers(0);
  for (const wrong of document.querySelectorAll(".wrong")) wrong.classList.remove("wrong");
}

server.watch(
  () => {
    if (page.lost) return;
    page.lost = true;
    byId("lost").hidden = false;
    calm("No server");
    const again = setInterval(async () => {
      try {
        await server.devices();
      } catch {
        return;
      }
      clearInterval(again);
      refresh();
    }, 1500);
  },
  () => {
    page.lost = false;
    byId("lost").hidden = true;
  },
);

// ---- drawing -------------------------------------------------------------------------------------

function headline(title, saved, slower, words) {
  const gain = el(
    "span",
    { class: "gain" },
    saved >= 0 ? `${signed(slower)} time, ${percent(saved)} less energy` : `${percent(-saved)} more energy`,
  );
  byId("headline").replaceChildren(`${title} takes ${words}. `, gain, " against maximum clocks.");
}

function tiles(all) {
  byId("tiles").replaceChildren(
    ...all
      .filter(Boolean)
      .map(([name, value, small]) =>
        el("div", {}, el("dt", {}, name), el("dd", {}, value, small ? el("small", {}, small) : null)),
      ),
  );
}

const perUnit = (answer) => (answer.kind === "serving" ? " a token" : "");

// What a preview knows: the chosen point and a rough frontier. The rest of the page waits, faded.
function sketch({ row, frontier }) {
  if (!row) {
    for (const part of document.querySelectorAll(".view:not(#view-runs), #tiles, #headline"))
      part.classList.add("stale");
    return;
  }
  for (const id of ["headline", "tiles", "view-frontier"]) byId(id).classList.remove("stale");
  if (!page.answer || page.answer.kind === "fleet" || page.answer.kind === "report") return;
  for (const part of document.querySelectorAll(".view:not(#view-frontier):not(#view-sweep):not(#view-runs)"))
    part.classList.add("stale");
  const { answer } = page;
  headline(
    answer.title,
    row.saving_energy,
    -row.saving_time,
    `${show(row.energy_j, "J")}${perUnit(answer)} and ${show(row.time_s, "s")}`,
  );
  tiles([
    ["Energy", show(row.energy_j, "J"), "preview"],
    ["Time", show(row.time_s, "s"), "preview"],
    ["Average power", show(row.average_power_w, "W"), "preview"],
    ["Saved", percent(row.saving_energy), "of energy"],
  ]);
  if (frontier.length > 1) {
    const base = {
      time_s: row.baseline_time_s,
      energy_j: row.baseline_energy_j,
      average_power_w: row.baseline_energy_j / row.baseline_time_s,
    };
    byId("frontier").replaceChildren(
      charts.frontier(
        { ...answer, frontier, chosen: { ...row, knobs: [] }, baseline: base, timeline: [] },
        page.pins,
        choose,
      ),
    );
  }
}

function draw() {
  const { answer } = page;
  for (const part of document.querySelectorAll(".stale")) part.classList.remove("stale");
  byId("answer").classList.remove("waiting");
  good();
  const fleet = answer.kind === "fleet",
    report = answer.kind === "report";
  for (const id of ["tree", "prices", "hours", "tables"]) byId(`view-${id}`).hidden = !fleet;
  for (const id of ["frontier", "joules", "help", "plan", "figures", "sweep"])
    byId(`view-${id}`).hidden = fleet || report;
  byId("view-report").hidden = !report;
  byId("view-sure").hidden = report;
  byId("view-levers").hidden = !answer.lever_rows?.length;
  byId("view-simulate").hidden = answer.kind !== "serving";
  byId("pin").disabled = fleet || report;
  if (report) {
    drawReport(answer);
    return;
  }
  if (fleet) {
    drawFleet(answer);
    return;
  }
  const { chosen, savings, uncertainty } = answer;
  headline(
    answer.title,
    savings.energy,
    -savings.time,
    `${show(chosen.energy_j, "J")}${perUnit(answer)} and ${show(chosen.time_s, "s")}`,
  );
  byId("goal").textContent = `Goal: ${answer.goal}.`;
  const cost = chosen.cost_usd ?? chosen.cost_usd_per_million_tokens ?? chosen.electricity_usd_per_million_tokens,
    carbon = chosen.carbon_g ?? chosen.carbon_g_per_million_tokens;
  const each = answer.kind === "serving" ? "per million tokens" : "for the whole job";
  tiles([
    ["Energy", show(chosen.energy_j, "J"), `± ${percent(uncertainty.energy, 2)}, ${answer.work}`],
    ["Time", show(chosen.time_s, "s"), `${signed(-savings.time)} against maximum clocks`],
    ["Average power", show(chosen.average_power_w, "W"), "whole facility"],
    ["Saved", percent(savings.energy), show(answer.baseline.energy_j - chosen.energy_j, "J")],
    cost === undefined ? null : ["Electricity", `${round(cost, 4)} USD`, each],
    carbon === undefined ? null : ["Carbon", show(carbon, "g"), each],
  ]);
  byId("frontier-note").textContent =
    "Each point is a plan that no other beats in both. Point at one for its settings; click it to plan for it.";
  byId("frontier").replaceChildren(charts.frontier(answer, page.pins, choose));
  pinList();
  joules();
  const help = answer.layers
    .filter(
      (k) =>
        k.elasticity &&
        Math.abs(k.elasticity) >= 5e-4 &&
        !["site.pue", "train.tokens", "train.goodput"].includes(k.key),
    )
    .sort((a, b) => Math.abs(b.elasticity) - Math.abs(a.elasticity))
    .slice(0, 14);
  byId("help").replaceChildren(
    help.length
      ? charts.bars(help, knobs.reveal)
      : charts.empty("Nothing moves this energy by more than 0.05 % per percent."),
  );
  plan();
  byId("figures").replaceChildren(
    table(
      ["", "Maximum clocks", "Chosen", "Change"],
      answer.figures.map((f) => [f.title, f.baseline, f.chosen, f.change]),
    ),
  );
  sure();
  byId("levers").replaceChildren(table(["Change", "Energy", "Time", "Set"], answer.lever_rows ?? []));
  knobs.draw(page.layers, state.now, changed);
  byId("sweep-keys").replaceChildren(...page.layers.map((k) => el("option", { value: k.key }, k.title)));
}

// Studies, placements and searches have a page of their own, which is shown whole.
function drawReport(answer) {
  byId("headline").replaceChildren(answer.title);
  byId("goal").textContent = "Change the text and the report is written anew; Export, Report saves it.";
  tiles([]);
  byId("report").src = answer.page;
  knobs.draw([], state.now, changed);
  byId("tab-text").click();
}

function drawFleet(answer) {
  byId("headline").replaceChildren(`${state.now.name || "This fleet"} does ${answer.headline}.`);
  byId("goal").textContent = `Goal: ${answer.goal}. ${answer.words
    .filter(([name]) => name !== "goal")
    .map(([, text]) => text)
    .join("; ")}.`;
  tiles(site.tiles(answer));
  site.draw(answer);
  sure();
  knobs.draw(page.layers, state.now, changed);
}

function choose(point) {
  const { answer } = page;
  const set = Object.fromEntries(
    Object.entries(state.now.set).filter(([k]) => !k.startsWith("goal.") && k !== "serve.tpot"),
  );
  if (answer.kind === "serving")
    changed({ set: { ...set, "serve.tpot": `${Number((point.time_s * 1000).toPrecision(6))} ms` } });
  else changed({ set: { ...set, "goal.deadline": `${Number((point.time_s * (1 + 1e-6)).toPrecision(8))} s` } });
}

function joules() {
  const { answer } = page,
    { chosen } = answer;
  const ways =
    answer.kind === "serving"
      ? [
          ["whole", "per token", 1],
          ["request", "per request", chosen.energy_per_request_j / chosen.energy_j],
        ]
      : [
          ["whole", "the whole job", 1],
          ["iteration", "per iteration", chosen.iteration_energy_j / chosen.energy_j],
          ["token", "per token", chosen.energy_per_token_j / chosen.energy_j],
        ];
  const known = ways.filter(([, , factor]) => Number.isFinite(factor));
  const [name, words, factor] = known.find(([way]) => way === page.per) ?? known[0];
  const buttons = known.map(([way, title]) =>
    el(
      "button",
      {
        role: "radio",
        "aria-checked": String(way === name),
        onclick: () => {
          page.per = way;
          joules();
        },
      },
      title,
    ),
  );
  byId("per").replaceChildren(...buttons);
  byId("joules").replaceChildren(charts.icicle(answer.parts, factor, words));
  byId("joules-table").replaceChildren(charts.partsTable(answer.parts, factor));
}

function plan() {
  const { answer } = page,
    rows = answer.timeline ?? [];
  if (rows.length && "start_s" in rows[0]) {
    byId("plan-note").textContent =
      `Who runs when, and at which clock${answer.timeline_note}. Point at a computation for its setting.`;
    byId("plan").replaceChildren(charts.timeline(rows));
    return;
  }
  byId("plan-note").textContent = "What each point of the frontier sets.";
  const [unit, factor] = scale(answer.chosen.time_s, "s");
  const data = rows.map((r) => ({ t: r.tpot_s * factor, clock: r.clock_hz / 1e6, batch: r.batch }));
  const title = `Time for ${answer.work}, ${unit}`,
    words = (r) => `${round(r.t, 4)} ${unit}\nclock ${round(r.clock, 4)} MHz, batch ${round(r.batch, 3)}`;
  byId("plan").replaceChildren(
    ...(data.length
      ? [
          charts.line(data, "t", "clock", title, "Clock, MHz", words),
          charts.line(data, "t", "batch", title, "Batch, requests", words),
        ]
      : [charts.empty("This answer sets one thing only; see the figures.")]),
  );
}

function sure() {
  const { answer } = page,
    list = (items) => el("ul", {}, ...items.map((item) => el("li", {}, item)));
  byId("sure").replaceChildren(
    answer.kind === "fleet"
      ? ""
      : el(
          "p",
          {},
          `${answer.provenance.kind}; energy ± ${percent(answer.uncertainty.energy, 2)}, time ± ${percent(answer.uncertainty.time, 2)} (one standard deviation).`,
        ),
    list(answer.provenance.sources),
    el("details", {}, el("summary", {}, `${answer.assumptions.length} assumptions`), list(answer.assumptions)),
  );
}

// ---- pins, sweeps, runs --------------------------------------------------------------------------

function pinList() {
  byId("pins").replaceChildren(
    ...page.pins.map((pin, i) => {
      const swatch = charts.pinColour(i),
        box = el("span", { class: "swatch" });
      box.style.background = swatch;
      return el(
        "li",
        {},
        box,
        `${pin.name}: ${show(pin.answer.chosen.energy_j, "J")}, ${show(pin.answer.chosen.time_s, "s")}`,
        el(
          "button",
          {
            "aria-label": `Unpin ${pin.name}`,
            onclick: () => {
              page.pins.splice(i, 1);
              draw();
            },
          },
          "×",
        ),
      );
    }),
  );
}

byId("pin").addEventListener("click", () => {
  if (!page.answer) return;
  const words = Object.entries(state.now.set)
    .map(([k, v]) => `${k} = ${v}`)
    .join(", ");
  page.pins.push({ name: words || state.now.name || "as stated", answer: page.answer });
  draw();
});

byId("sweep").addEventListener("submit", async (event) => {
  event.preventDefault();
  const key = byId("sweep-key").value.trim(),
    values = byId("sweep-values")
      .value.split(",")
      .map((v) => v.trim())
      .filter(Boolean);
  const task = `${tab}-s${Date.now()}`;
  busy(`Sweeping ${values.length} values`, task);
  try {
    const found = await server.sweep(state.request(task), { [key]: values });
    calm("Swept");
    const base = found.base;
    const cells = (row) =>
      row.error
        ? [row.error, "", "", ""]
        : [
            show(row.time_s, "s"),
            show(row.energy_j, "J"),
            show(row.average_power_w, "W"),
            base.error ? "" : signed(row.energy_j / base.energy_j - 1),
          ];
    byId("sweep-rows").replaceChildren(
      table(
        [key, "Time", "Energy", "Average power", "Energy against unchanged"],
        [["unchanged", ...cells(base)], ...found.rows.map((row) => [row[key], ...cells(row)])],
      ),
    );
  } catch (error) {
    if (error instanceof server.Lost) return;
    calm(error.code === 130 ? "Stopped" : "No sweep");
    byId("sweep-rows").replaceChildren(charts.empty(error.message));
  }
});

byId("simulate").addEventListener("submit", async (event) => {
  event.preventDefault();
  const task = `${tab}-m${Date.now()}`,
    request = state.request(task);
  request.set = {
    ...request.set,
    "serve.count": byId("simulate-count").value.trim(),
    "serve.replicas": byId("simulate-replicas").value.trim(),
    "serve.policy": byId("simulate-policy").value,
  };
  busy("Simulating", task);
  try {
    byId("simulated").replaceChildren(...play.draw(await server.simulate(request, byId("simulate-all").checked)));
    calm("Simulated");
  } catch (error) {
    if (error instanceof server.Lost) return;
    calm(error.code === 130 ? "Stopped" : "No simulation");
    if (!(error instanceof server.Refused)) throw error;
    byId("simulated").replaceChildren(charts.empty(error.message));
  }
});

async function measured() {
  try {
    const [{ devices }, { runs }] = await Promise.all([server.devices(), server.runs()]);
    byId("devices").replaceChildren(
      devices.length
        ? table(
            ["Device", "Power", "Energy since opened", "Clock", "Limit"],
            devices.map((d) => [
              d.name || d.device,
              d.power_w === null ? "" : show(d.power_w, "W"),
              d.energy_j === null ? "" : show(d.energy_j, "J"),
              d.clock_hz ? show(d.clock_hz, "Hz") : "",
              d.power_limit_w ? show(d.power_limit_w, "W") : "",
            ]),
          )
        : charts.empty("Nothing here can be measured; wattline doctor says why."),
    );
    byId("runs").replaceChildren(
      runs.length
        ? table(
            ["Run", "Name", "State", "Time", "Energy"],
            runs.map((r) => [
              r.run,
              r.name,
              r.state,
              show(r.duration_s, "s"),
              r.energy_j === null ? "" : show(r.energy_j, "J"),
            ]),
          )
        : charts.empty("No run is kept yet; wattline run --keep -- CMD keeps one."),
    );
  } catch {
    /* a lost server is told elsewhere */
  }
}

// ---- editing -------------------------------------------------------------------------------------

function numbers(wrong) {
  const count = byId("scenario").value.split("\n").length;
  byId("numbers").replaceChildren(
    ...Array.from({ length: count }, (_, i) =>
      i + 1 === wrong ? el("b", {}, String(i + 1)) : document.createTextNode(`${i + 1}\n`),
    ),
  );
}

function editor() {
  if (byId("scenario").value !== state.now.scenario) byId("scenario").value = state.now.scenario;
  numbers(0);
  byId("filelist").replaceChildren(
    ...Object.entries(state.now.files).map(([name, content]) =>
      el(
        "li",
        {},
        `${name}, ${show(content.length * 0.75, "B")} `,
        el(
          "button",
          {
            "aria-label": `Remove ${name}`,
            onclick: () => {
              const files = { ...state.now.files };
              delete files[name];
              changed({ files });
            },
          },
          "×",
        ),
      ),
    ),
  );
  const pick = byId("example");
  if (![...pick.options].some((o) => o.value === state.now.name))
    pick.append(el("option", { value: state.now.name }, state.now.name || "own"));
  pick.value = state.now.name;
}

let typing = 0;
byId("scenario").addEventListener("input", () => {
  numbers(0);
  clearTimeout(typing);
  typing = setTimeout(() => changed({ scenario: byId("scenario").value }), 350);
});
byId("scenario").addEventListener("scroll", () => {
  byId("numbers").scrollTop = byId("scenario").scrollTop;
});
byId("find").addEventListener("input", () => knobs.draw(page.layers, state.now, changed));
byId("file").addEventListener("change", async (event) => {
  const files = { ...state.now.files };
  for (const file of event.target.files) {
    const bytes = new Uint8Array(await file.arrayBuffer());
    let text = "";
    for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
    files[file.name] = btoa(text);
  }
  event.target.value = "";
  changed({ files });
});
byId("example").addEventListener("change", async (event) => {
  if (event.target.value === state.now.name) return;
  try {
    const { name, scenario, files } = await server.example(event.target.value);
    page.per = "whole";
    changed({ name, scenario, files, set: {} });
  } catch (error) {
    if (!(error instanceof server.Lost)) bad(error);
  }
});
byId("undo").addEventListener("click", () => state.undo() && refresh());
byId("redo").addEventListener("click", () => state.redo() && refresh());
byId("stop").addEventListener("click", () => page.task && server.stop(page.task).catch(() => {}));
document.addEventListener("keydown", (event) => {
  if (!(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z" || event.target.matches("textarea, input"))
    return;
  event.preventDefault();
  if (event.shiftKey ? state.redo() : state.undo()) refresh();
});
for (const button of document.querySelectorAll("#exports button")) {
  button.addEventListener("click", async () => {
    byId("exports").open = false;
    busy("Writing the file");
    try {
      await server.save(state.request(""), button.dataset.kind, button.dataset.chart);
      calm("Saved");
    } catch (error) {
      if (!(error instanceof server.Lost)) bad(error);
    }
  });
}
for (const button of document.querySelectorAll(".tabs button")) {
  button.addEventListener("click", () => {
    for (const other of document.querySelectorAll(".tabs button")) {
      const mine = other === button;
      other.setAttribute("aria-selected", String(mine));
      other.tabIndex = mine ? 0 : -1;
      byId(other.getAttribute("aria-controls")).hidden = !mine;
    }
  });
  button.addEventListener("keydown", (event) => {
    const all = [...document.querySelectorAll(".tabs button")],
      step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) {
      const next = all[(all.indexOf(button) + step + all.length) % all.length];
      next.focus();
      next.click();
    }
  });
}

async function link() {
  const hash = await toLink(state.now);
  if (hash) history.replaceState(null, "", hash);
  byId("share").disabled = hash === null;
  byId("share").title = hash
    ? "Copy a link that restores all of this"
    : "The files are too long for a link; export the scenario";
}
byId("share").addEventListener("click", async () => {
  const hash = await toLink(state.now);
  if (!hash) return;
  const address = location.origin + location.pathname + hash;
  try {
    await navigator.clipboard.writeText(address);
    byId("state").textContent = "Link copied";
  } catch {
    byId("state").textContent = "The link is in the address bar";
  }
});
addEventListener("hashchange", async () => {
  const found = await fromLink(location.hash);
  if (found) changed(found);
});

// ---- beginning -----------------------------------------------------------------------------------

async function begin() {
  const linked = await fromLink(location.hash);
  const { examples, name, scenario, files } = await server.start();
  byId("example").replaceChildren(...examples.map((e) => el("option", { value: e }, e)));
  state.now = linked ?? { name, scenario, files, set: {} };
  tooltip(byId("pin"), "Keep this answer in the picture, to compare others with it");
  await refresh();
  measured();
  setInterval(() => {
    if (!document.hidden && !page.lost) measured();
  }, 2000);
}
begin().catch(() => {});
