// Talking to the server: one function per route; a lost server is told apart from a refused request.

export class Refused extends Error {
  constructor({ error, exit_code: code, line }) {
    super(error);
    this.code = code;
    this.line = line;
  }
}
export class Lost extends Error {}

let onLost = () => {};
let onFound = () => {};
export function watch(lost, found) {
  onLost = lost;
  onFound = found;
}

async function call(path, body) {
  let reply;
  try {
    reply = await fetch(
      path,
      body === undefined
        ? {}
        : { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) },
    );
  } catch {
    onLost();
    throw new Lost("the server does not answer");
  }
  onFound();
  if (!reply.ok)
    throw new Refused(
      await reply.json().catch(() => ({ error: `the server answered ${reply.status}`, exit_code: 1, line: null })),
    );
  return reply;
}

const json = async (path, body) => (await call(path, body)).json();

export const start = () => json("/api/start");
export const example = (name) => json(`/api/examples/${encodeURIComponent(name)}`);
export const preview = (state) => json("/api/preview", state);
export const plan = (state) => json("/api/plan", state);
export const sweep = (state, grid) => json("/api/whatif", { ...state, grid });
export const simulate = (state, policies) => json("/api/simulate", { ...state, policies });
export const progress = (task) => json(`/api/progress/${encodeURIComponent(task)}`);
export const stop = (task) => json("/api/stop", { task });
export const runs = () => json("/api/runs");
export const devices = () => json("/api/devices");

export async function save(state, kind, chart) {
  const reply = await call("/api/export", { ...state, kind, chart: chart ?? "frontier" });
  const name = /filename="([^"]+)"/.exec(reply.headers.get("content-disposition") ?? "")?.[1] ?? "wattline";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await reply.blob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
