// Keeps the store up to date: one socket for the states and previews of all open jobs.

import { TOKEN, BASE, RelayError, jobPath, request } from "./api.js";
import { compareClocks, relayNow } from "./clock.js";
import { MIN_INTERVAL, drop, drawSoon, put, putOpen } from "./store.js";
import { askForToken } from "./token.js";
import { JobsSocket } from "../client/jobs_socket.js";

/**
 * How the states come: `wait`, `on`, `stream` (without a socket) or `off`; since when they do not come; and
 * whether all open jobs are known. */
export const connection = { state: "wait", since: 0, isComplete: false };

/** How long to wait before the open jobs are read again, in milliseconds, where they cannot be. */
const PAUSE = 2_000;

/** Follows all open jobs. Calls `preview({job_id, blob})` for each preview. */
export function follow(preview = () => {}) {
  const socket = new JobsSocket({ previews: true, interval: MIN_INTERVAL, server: BASE.href, token: TOKEN });
  socket.addEventListener("progress", ({ detail }) => {
    compareClocks(detail.timestamp);
    put(detail);
  });
  socket.addEventListener("preview", ({ detail }) => preview(detail));
  socket.addEventListener("problem", ({ detail }) => {
    if (detail.code === "unauthenticated") askForToken(TOKEN ? detail.error : undefined);
  });
  socket.addEventListener("state", ({ detail: { state, note } }) => {
    if (state === "open") {
      change(note ? "stream" : "on");
      keepReading(++opened);
    } else if (state !== "connecting") {
      opened += 1;
      change("off");
    }
  });
  socket.connect();
}

/** Counts the connections, and their ends. */
let opened = 0;

/** Jobs may have ended while there was no connection: reads which are open, until an answer comes. */
async function keepReading(number) {
  while (number === opened) {
    try {
      await refresh();
      connection.isComplete = true;
      return drawSoon();
    } catch {
      // The relay, its database, or a proxy does not answer yet.
      await new Promise((done) => setTimeout(done, PAUSE));
    }
  }
}

/** Reads which jobs are open. */
async function refresh() {
  const path = "api/anime/jobs?status=queued,processing&limit=500";
  const open = [];
  for (let cursor = ""; cursor != null; ) {
    const page = await request(cursor ? `${path}&cursor=${encodeURIComponent(cursor)}` : path);
    open.push(...page.jobs);
    cursor = page.next_cursor;
  }
  for (const id of putOpen(open)) await look(id);
}

/** Reads one job. */
async function look(id) {
  try {
    put(await request(jobPath(id)));
  } catch (error) {
    if (!(error instanceof RelayError && error.status === 404)) throw error;
    drop(id);
  }
}

function change(state) {
  if (connection.state !== state && state === "off") connection.since = relayNow();
  connection.state = state;
  drawSoon();
}
