// The dashboard: the farm, what runs, and what has ended.

import { TOKEN, jobPage, request } from "./api.js";
import { watchServers } from "./backends.js";
import { notifyEnd, useBell } from "./bell.js";
import { drawCards, takePreview } from "./cards.js";
import { setAttribute } from "./elements.js";
import { drawFarm, showMinutes } from "./farm.js";
import { drawConnection, onFind, useFrame } from "./frame.js";
import { drawHeadline } from "./headline.js";
import { useLaneKeys } from "./keys.js";
import { HistoryList } from "./list.js";
import { connection, follow } from "./live.js";
import { say } from "./said.js";
import { drawSoon, onDraw, onEnd, put } from "./store.js";
import { showTitle } from "./tab.js";
import { text } from "./texts.js";
import { useTips } from "./tip.js";
import { watchTotals } from "./totals.js";
import * as words from "./words.js";

/** How long an ended job can be on the axis, in milliseconds. */
const PAST = 30 * 60_000;

const $ = (id) => document.getElementById(id);

// Links of earlier releases.
const old = new URLSearchParams(location.hash.slice(1)).get("job");
if (old) location.replace(jobPage(old) + (TOKEN ? `#token=${TOKEN}` : ""));

useFrame();
useTips();
useLaneKeys($("lanes"));
useBell($("bell"));
const list = new HistoryList({ page: 10 });
onFind((query) => {
  list.search(query);
  $("history").scrollIntoView({ block: "start" });
});
for (const button of $("span").children) button.textContent = words.span(Number(button.dataset.minutes));
$("span").addEventListener("click", ({ target }) => {
  const chosen = target.closest("button");
  if (!chosen) return;
  for (const button of $("span").children) setAttribute(button, "aria-pressed", button === chosen);
  showMinutes(Number(chosen.dataset.minutes));
  drawSoon();
});
onDraw((jobs) => {
  drawConnection();
  const lanes = drawFarm(jobs);
  drawCards(jobs);
  drawHeadline(jobs, lanes);
  // What is below the farm appears with it: it would be pushed down otherwise.
  if (lanes && (connection.isComplete || connection.state === "off")) $("main").removeAttribute("aria-busy");
  drawTitle(jobs);
});
onEnd((job) => {
  say(text(`now_${job.status}`, { name: job.job_id }));
  notifyEnd(job);
  list.add(job);
});
addEventListener("resize", drawSoon);

function drawTitle(jobs) {
  const counted = { processing: 0, queued: 0 };
  for (const { status } of jobs.values()) if (status in counted) counted[status] += 1;
  showTitle(counted.processing + counted.queued ? `${text("runs", { n: counted.processing })}, ${text("waits", { n: counted.queued })}` : text("free"));
}

watchServers();
watchTotals();
follow(takePreview);
const since = new Date(Date.now() - PAST).toISOString().replace(/\.\d+/, "");
request(`api/anime/jobs?status=completed,failed,cancelled&limit=200&since=${since}`).then(({ jobs }) => jobs.reverse().forEach(put), () => {});
list.load();
