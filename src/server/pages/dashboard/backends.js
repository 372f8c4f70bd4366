// The servers of the relay, as its health says, and what is said of each.

import { request } from "./api.js";
import { drawSoon } from "./store.js";

const INTERVAL = 3_000;

/** Jobs that no server runs: a producer reports them. */
export const REPORTED = "";

let components = null;

/** The servers in the order of the settings, `{name, status, …}`; `null` until they are known. */
export function servers() {
  return components?.filter(isNamed) ?? null;
}

/** Without the scope `monitor` they have numbers instead of names, and only their jobs say which they are. */
function isNamed(server) {
  return server.queue_running != null;
}

/** Keeps the servers up to date. */
export function watchServers() {
  const look = async () => {
    try {
      components = (await request("api/anime/health")).components.comfyui;
      drawSoon();
    } catch {
      // The socket reports it.
    }
  };
  look();
  setInterval(look, INTERVAL);
}
