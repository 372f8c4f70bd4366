// From the states of the jobs of one server to blocks on a time axis.

import { FINAL, timeLeft } from "./store.js";

/** The largest share of a block that is soft on one side. */
const MAX_SOFT = 0.3;

/**
 * A lane: `blocks` in the order of their time, `until` when all known ones are done, `spread` in seconds how far that may
 * be off, and `unknown` how many have no predicted time,
 * `waiting` among them. Moments are in milliseconds.
 *
 * A block: `{job, kind, from, to, softFrom, softTo}`; `kind` is `ended`, `running` or `waiting`. `softFrom` and `softTo`
 * are half of the width over which the start and the end are uncertain.
 */
export function timeline(jobs, now) {
  const open = jobs.filter((job) => !FINAL.has(job.status)).sort(byQueue);
  const blocks = jobs.filter((job) => FINAL.has(job.status) && job.began && job.endedAt).map(endedBlock);
  blocks.sort((a, b) => a.from - b.from);
  const lane = { blocks, until: null, spread: 0, unknown: 0, waiting: [] };
  let before = null;
  for (const job of open) {
    const left = timeLeft(job, now);
    const runs = job.status === "processing";
    if (!left && !runs) {
      lane.unknown += 1;
      lane.waiting.push(job);
      continue;
    }
    const end = left?.end ?? now;
    const spread = left ? (left.high - left.low) * 500 : 0;
    const from = runs ? job.began || now : Math.min(Date.parse(job.estimated_start) || Math.max(before?.to ?? now, now), end);
    const soft = (width) => Math.min(width, (end - from) * MAX_SOFT);
    if (runs && !left) lane.unknown += 1;
    before = { job, kind: runs ? "running" : "waiting", from, to: end, softFrom: runs ? 0 : soft(before?.spread ?? 0), softTo: soft(spread), spread };
    blocks.push(before);
    lane.until = Math.max(lane.until ?? 0, end);
    lane.spread = spread / 1000;
  }
  return lane;
}

function endedBlock(job) {
  return { job, kind: "ended", from: job.began, to: job.endedAt, softFrom: 0, softTo: 0 };
}

/** The running job first, then as they wait. */
function byQueue(a, b) {
  return place(a) - place(b) || a.seq - b.seq;
}

function place({ status, queue_position }) {
  return status === "processing" ? -1 : queue_position ?? Infinity;
}
