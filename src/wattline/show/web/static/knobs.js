// The panel of layers: every knob with its value, unit, source and elasticity; an edit is a change to the scenario.

import { spark } from "./charts.js";
import { byId, el, percent, tooltip } from "./dom.js";

const NAMES = {
  model: "Model",
  hardware: "Hardware",
  train: "Training",
  serve: "Serving",
  site: "Site",
  goal: "Goal",
  chip: "Chip",
  node: "Server",
  job: "Jobs",
  grid: "Grid",
};
const ORDER = ["goal", "job", "grid", "model", "hardware", "chip", "node", "train", "serve", "site"];
const OPEN = new Set(["goal", "hardware"]);
let drawn = "";

export function draw(layers, state, change) {
  const wanted = byId("find").value.trim().toLowerCase();
  const key = JSON.stringify([layers.map((k) => [k.key, k.value, k.elasticity, k.source]), state.set, wanted]);
  if (key === drawn) return;
  drawn = key;
  const box = byId("knobs"),
    focus = document.activeElement?.dataset?.key;
  for (const open of box.querySelectorAll("details"))
    open.open ? OPEN.add(open.dataset.section) : OPEN.delete(open.dataset.section);
  const reach = Math.max(0.05, ...layers.map((k) => Math.abs(k.elasticity ?? 0)).filter((e) => e < 0.999));
  const groups = ORDER.map((section) => [
    section,
    layers.filter((k) => k.section === section && matches(k, wanted)),
  ]).filter(([, all]) => all.length);
  box.replaceChildren(
    ...groups.map(([section, all]) =>
      el(
        "details",
        { "data-section": section, open: Boolean(wanted) || OPEN.has(section) },
        el("summary", {}, `${NAMES[section] ?? section} (${all.length})`),
        ...all.map((knob) => row(knob, state, change, reach)),
      ),
    ),
  );
  if (!groups.length) box.append(el("p", { class: "note" }, "No knob is called so."));
  if (focus) box.querySelector(`[data-key="${CSS.escape(focus)}"]`)?.focus({ preventScroll: true });
  const count = Object.keys(state.set).length;
  byId("changed").replaceChildren(
    ...(count
      ? [`${count} changed `, el("button", { onclick: () => change({ set: {} }) }, "Put all back")]
      : ["Change any value; the answer follows."]),
  );
}

const matches = (knob, wanted) => !wanted || `${knob.key} ${knob.title} ${knob.about}`.toLowerCase().includes(wanted);

function row(knob, state, change, reach) {
  const changed = knob.key in state.set,
    id = `knob-${knob.key.replaceAll(".", "-")}`;
  const set = (value) => {
    const next = { ...state.set };
    if (value.trim() === "") delete next[knob.key];
    else {
      if (knob.section === "goal")
        for (const other of Object.keys(next)) if (other.startsWith("goal.")) delete next[other];
      next[knob.key] = value.trim();
    }
    change({ set: next });
  };
  const value = changed ? state.set[knob.key] : knob.value;
  const known = knob.choices.length > 0 && knob.choices.length <= 12;
  const field = known
    ? el(
        "select",
        { id, "data-key": knob.key, onchange: (event) => set(event.target.value) },
        ...[...new Set([value, ...knob.choices])].map((choice) =>
          el("option", { value: choice, selected: choice === value }, choice || "—"),
        ),
      )
    : el("input", {
        id,
        "data-key": knob.key,
        value,
        list: knob.choices.length ? `${id}-list` : null,
        placeholder: knob.unit || "not stated",
        autocomplete: "off",
        onchange: (event) => {
          if (event.target.value !== value) set(event.target.value);
        },
      });
  if (!known) field.addEventListener("keydown", (event) => nudge(event, set));
  const label = el("label", { for: id }, knob.title, el("span", { class: "key" }, knob.key));
  tooltip(
    label,
    `${knob.about}\n${knob.source}${knob.uncertainty ? `, ± ${percent(knob.uncertainty)}` : ""}${knob.elasticity ? `\n1 % more: ${(knob.elasticity > 0 ? "+" : "") + knob.elasticity.toFixed(3)} % energy` : ""}`,
  );
  const back = changed
    ? el(
        "button",
        {
          class: "back",
          title: "Back to what the text says",
          "aria-label": `Put ${knob.key} back`,
          onclick: () => set(""),
        },
        "↺",
      )
    : null;
  const out = el(
    "div",
    { class: `knob${changed ? " set" : ""}`, "data-knob": knob.key },
    label,
    el("span", {}, field, back),
  );
  if (knob.choices.length > 12)
    out.append(el("datalist", { id: `${id}-list` }, ...knob.choices.map((choice) => el("option", { value: choice }))));
  if (knob.elasticity) out.append(el("div", { class: "bar" }, spark(knob.elasticity, reach)));
  return out;
}

// Arrow up and down move a number by a tenth, so that a knob can be turned from the keyboard.
function nudge(event, set) {
  if (event.key !== "ArrowUp" && event.key !== "ArrowDown") return;
  const found = /^\s*([-+]?[\d.,]*\d)(.*)$/.exec(event.target.value);
  if (!found) return;
  event.preventDefault();
  const number = Number(found[1].replaceAll(",", "")),
    whole = Number.isInteger(number) && !found[2].trim();
  const next = whole ? number + (event.key === "ArrowUp" ? 1 : -1) : number * (event.key === "ArrowUp" ? 1.1 : 1 / 1.1);
  event.target.value = `${whole ? next : Number(next.toPrecision(4))}${found[2]}`;
  set(event.target.value);
}

export function reveal(key) {
  byId("tab-layers").click();
  byId("find").value = "";
  byId("find").dispatchEvent(new Event("input"));
  const field = byId("knobs").querySelector(`[data-key="${CSS.escape(key)}"]`);
  field?.closest("details")?.setAttribute("open", "");
  field?.scrollIntoView({ block: "center" });
  field?.focus();
}
