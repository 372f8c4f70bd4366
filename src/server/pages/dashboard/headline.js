// The answer in one sentence: when everything is done. Below it, what runs and what needs a look.

import { isQueuePaused } from "./backends.js";
import { relayNow } from "./clock.js";
import { make, setText } from "./elements.js";
import { connection } from "./live.js";
import { mayOperate, resumeQueueButton } from "./operate.js";
import { text } from "./texts.js";
import * as words from "./words.js";

const $ = (id) => document.getElementById(id);

/** The states of a server that somebody should look at. */
const BAD = new Set(["away", "sick", "warn"]);

/** `lanes` is what was drawn of the farm; `null` while the servers are not known. */
export function drawHeadline(jobs, lanes) {
  const counted = { processing: 0, queued: 0 };
  for (const { status } of jobs.values()) if (status in counted) counted[status] += 1;
  if (connection.state === "off") {
    show(text("lost", { time: words.clock(connection.since) }), "");
    return summary([text("lost_more")]);
  }
  if (!lanes || connection.state === "wait") return;
  const ends = lanes.filter(({ until, state }) => until && state !== "away");
  const last = ends.reduce((latest, lane) => (lane.until > (latest?.until ?? 0) ? lane : latest), null);
  const isFree = counted.processing + counted.queued === 0;
  if (isFree) show(text("free"), "");
  else if (last) show(text("all_done", { time: words.clock(last.until) }), words.plusMinus(last.spread).replace(/[()]/g, ""));
  else show(text("unknown_end"), "");
  const unknown = lanes.reduce((sum, lane) => sum + lane.unknown, 0);
  const bad = lanes.filter(({ state }) => BAD.has(state)).length;
  const parts = isFree
    ? [`${text("servers_ready", { n: lanes.filter(({ state }) => state !== "held").length - bad })}, ${text("nothing_waits")}.`]
    : [`${text("runs", { n: counted.processing })}, ${counted.queued ? text("waits", { n: counted.queued }) : text("nothing_waits")}${unknown && last ? `; ${text("unknown_jobs", { n: unknown })}` : ""}.`];
  if (bad > 0) parts.push(make("a", text("need_look", { n: bad }), { href: new URL("servers", new URL("..", import.meta.url)).href }));
  if (isQueuePaused()) parts.push(make("span", text("queue_paused"), { className: "st held" }), mayOperate ? resumeQueueButton() : "");
  summary(parts);
  setText($("wall-clock"), words.clock(Math.floor(relayNow() / 60_000) * 60_000));
}

function show(sentence, deviation) {
  const headline = $("headline");
  const whole = `${sentence}|${deviation}`;
  if (headline.shown === whole) return;
  headline.shown = whole;
  headline.replaceChildren(sentence, ...(deviation.trim() ? [make("span", deviation)] : []));
}

function summary(parts) {
  const key = parts.map((part) => part.textContent ?? part).join(" ");
  if ($("summary").textContent === key) return;
  $("summary").replaceChildren(...parts.flatMap((part, index) => (index ? [" ", part] : [part])));
}
