// Small helpers for building the page: elements, SVG, quantities as the command line writes them, one tooltip.

export const byId = (id) => document.getElementById(id);

export function el(tag, attributes = {}, ...children) {
  const out = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) out.addEventListener(name.slice(2), value);
    else if (typeof value === "boolean") out[name] = value;
    else if (value !== null && value !== undefined) out.setAttribute(name, value);
  }
  out.append(...children.filter((child) => child !== null && child !== undefined));
  return out;
}

export function svg(tag, attributes = {}, ...children) {
  const out = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) out.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) out.setAttribute(name, value);
  }
  out.append(...children);
  return out;
}

const PREFIX = [
  ["E", 1e18],
  ["P", 1e15],
  ["T", 1e12],
  ["G", 1e9],
  ["M", 1e6],
  ["k", 1e3],
  ["", 1],
  ["m", 1e-3],
  ["µ", 1e-6],
  ["n", 1e-9],
  ["p", 1e-12],
];

export function round(value, digits = 3) {
  if (value === 0) return "0";
  const places = Math.max(0, digits - 1 - Math.floor(Math.log10(Math.abs(value))));
  return value.toLocaleString("en-US", { maximumFractionDigits: Math.min(places, 20), minimumFractionDigits: 0 });
}

// An SI value for a person, with a prefix that keeps 1 to 999 before the point (units.show).
export function show(value, unit, digits = 3) {
  if (!Number.isFinite(value)) return `${value} ${unit}`;
  if (unit === "s") {
    for (const [name, scale] of [
      ["d", 86400],
      ["h", 3600],
      ["min", 60],
    ])
      if (Math.abs(value) >= 2 * scale) return `${round(value / scale, digits)} ${name}`;
  } else if (unit === "J" && Math.abs(value) >= 3.6e6) return show(value / 3600, "Wh", digits);
  else if (unit === "g" && Math.abs(value) >= 1e6) return show(value / 1e6, "t", digits);
  else if (unit === "" || unit === "USD") return `${round(value, digits)} ${unit}`.trim();
  for (const [prefix, scale] of PREFIX) {
    if (unit === "s" && scale > 1) continue;
    if (Math.abs(value) >= scale * (1 - 0.5 * 10 ** -digits)) return `${round(value / scale, digits)} ${prefix}${unit}`;
  }
  return `${round(value, digits)} ${unit}`;
}

export const percent = (share, digits = 3) => `${round(100 * share, digits)} %`;

export function signed(share) {
  return `${share > 0 ? "+" : ""}${round(100 * share, 3)} %`;
}

// The unit that keeps most of a range of values short, and the factor into it.
export function scale(value, unit) {
  const text = show(value, unit).split(" ").pop();
  const known = { d: 86400, h: 3600, min: 60, Wh: 3600 };
  for (const [prefix, size] of PREFIX) {
    known[prefix + unit] ??= size;
    if (unit === "J") known[`${prefix}Wh`] = size * 3600;
  }
  return [text, 1 / (known[text] ?? 1)];
}

export function table(head, rows, left = 1) {
  const cells = (row, tag) =>
    row.map((cell, i) =>
      el(
        i === 0 && tag === "td" ? "th" : tag,
        tag === "td" && i > 0 && (i < left || String(cell).length > 28)
          ? { class: "left" }
          : i === 0 && tag === "td"
            ? { scope: "row" }
            : tag === "th"
              ? { scope: "col" }
              : {},
        cell,
      ),
    );
  return el(
    "div",
    { class: "scroll" },
    el(
      "table",
      {},
      el("thead", {}, el("tr", {}, ...cells(head, "th"))),
      el("tbody", {}, ...rows.map((row) => el("tr", {}, ...cells(row, "td")))),
    ),
  );
}

const tip = () => byId("tip");

export function tooltip(element, text) {
  const put = (x, y) => {
    const box = tip();
    box.textContent = typeof text === "function" ? text() : text;
    box.hidden = false;
    const { width, height } = box.getBoundingClientRect();
    box.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - width - 8))}px`;
    box.style.top = `${Math.max(4, y + height + 22 > innerHeight ? y - height - 12 : y + 16)}px`;
  };
  element.addEventListener("pointermove", (event) => put(event.clientX, event.clientY));
  element.addEventListener("pointerleave", () => {
    tip().hidden = true;
  });
  element.addEventListener("focus", () => {
    const box = element.getBoundingClientRect();
    put(box.x + box.width / 2, box.y + box.height);
  });
  element.addEventListener("blur", () => {
    tip().hidden = true;
  });
  return element;
}
