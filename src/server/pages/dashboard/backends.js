// The servers of the relay, as its health says, and what is said of each.

import { request } from "./api.js";
import { drawSoon } from "./store.js";

const INTERVAL = 3_000;

/** Jobs that no server runs: a producer reports them. */
export const REPORTED = "";

let components = null;

/** The servers in the order of the settings, `{name, status, …}`; `null` until they are known. */
export function servers() {
  return components?.comfyui.filter(isNamed) ?? null;
}

/** Whether an operator has paused the whole queue. */
export function isQueuePaused() {
  return components?.queue?.status === "paused";
}

/** Without the scope `monitor` they have numbers instead of names, and only their jobs say which they are. */
function isNamed(server) {
  return server.queue_running != null;
}

/** Reads how the servers are. */
export async function lookAtServers() {
  try {
    ({ components } = await request("api/anime/health"));
    drawSoon();
  } catch {
    // The socket reports it.
  }
}

/** Keeps the servers up to date. */
export function watchServers() {
  lookAtServers();
  setInterval(lookAtServers, INTERVAL);
}
