// What the page is about: the scenario's text, the values changed on top, the files; its past, and a link to it.

// Most characters of a link that browsers and chat programs carry without cutting.
const LINK = 30000;
const PAST = 100;

export class State {
  constructor() {
    this.now = { scenario: "", set: {}, files: {}, name: "" };
    this.past = [];
    this.future = [];
  }

  // Change something; what was is kept for undo. Equal states are no step.
  change(next) {
    const after = { ...this.now, ...next };
    if (JSON.stringify(after) === JSON.stringify(this.now)) return false;
    this.past = [...this.past.slice(1 - PAST), this.now];
    this.future = [];
    this.now = after;
    return true;
  }

  undo() {
    if (!this.past.length) return false;
    this.future.push(this.now);
    this.now = this.past.pop();
    return true;
  }
  redo() {
    if (!this.future.length) return false;
    this.past.push(this.now);
    this.now = this.future.pop();
    return true;
  }

  request(task) {
    const { scenario, set, files } = this.now;
    return { scenario, set, files, task };
  }
}

const pack = (bytes) =>
  btoa(Array.from(bytes, (b) => String.fromCharCode(b)).join(""))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replace(/=+$/, "");
const unpack = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
const through = async (bytes, stream) =>
  new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(stream)).arrayBuffer());

// The state as the end of a link; null where files make it too long.
export async function toLink(state) {
  const { scenario, set, files, name } = state;
  const bytes = new TextEncoder().encode(JSON.stringify({ scenario, set, files, name }));
  const text = `#s=${pack(await through(bytes, new CompressionStream("deflate-raw")))}`;
  return text.length > LINK ? null : text;
}

export async function fromLink(hash) {
  const found = /^#s=([\w-]+)$/.exec(hash);
  if (!found) return null;
  try {
    const bytes = await through(unpack(found[1]), new DecompressionStream("deflate-raw"));
    const { scenario, set, files, name } = JSON.parse(new TextDecoder().decode(bytes));
    const flat = (map) =>
      Object.fromEntries(Object.entries(map ?? {}).filter(([k, v]) => typeof k === "string" && typeof v === "string"));
    return typeof scenario === "string"
      ? { scenario, set: flat(set), files: flat(files), name: String(name ?? "") }
      : null;
  } catch {
    return null;
  }
}
