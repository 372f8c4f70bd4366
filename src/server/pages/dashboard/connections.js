// Who follows which job.

import { jobPage, request } from "./api.js";
import { make, setText } from "./elements.js";
import { drawConnection, useFrame } from "./frame.js";
import { follow } from "./live.js";
import { onDraw } from "./store.js";
import { showTitle } from "./tab.js";
import { text } from "./texts.js";
import * as words from "./words.js";

const INTERVAL = 3_000;
let shown = "";
const $ = (id) => document.getElementById(id);

useFrame();
showTitle(text("connections"));
follow();
onDraw(drawConnection);

async function look() {
  let connections;
  try {
    ({ connections } = await request("api/anime/websocket/status"));
  } catch {
    return;
  }
  $("main").removeAttribute("aria-busy");
  // Otherwise the focus would be lost each time.
  const key = JSON.stringify(connections);
  if (key === shown) return;
  shown = key;
  const { total_connections: total, connection_details: jobs, truncated } = connections;
  setText($("n-connections"), text("n_connections", { n: total }));
  const lines = Object.entries(jobs).flatMap(([job, { connections }]) => connections.map((connection) => line(job, connection)));
  $("rows").replaceChildren(...lines);
  const hint = lines.length === 0 ? text(total > 0 ? "details_hidden" : "no_connections") : truncated ? text("truncated") : "";
  setText($("n-rows"), hint);
}

function line(job, { connected_at: since, user_info: address, last_ping: sign }) {
  const times = `${text("since", { time: words.day(Date.parse(since)) })}, ${text("last_sign", { time: words.exactClock(Date.parse(sign)) })}`;
  return make("li", [make("a", job, { href: jobPage(job), className: "one" }), make("span", address), make("span", times, { className: "muted" })], { className: "line" });
}

look();
setInterval(look, INTERVAL);
