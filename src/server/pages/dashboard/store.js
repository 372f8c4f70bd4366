// The states of all shown jobs. Every place of a page reads them here, and all are drawn in the same frame, so that no
// two places disagree.

import { relayNow } from "./clock.js";
import { FINAL } from "../client/status.js";

export { FINAL };

/** The shortest time between two frames that change numbers, in milliseconds; states need not come more often. */
export const MIN_INTERVAL = 250;

/** How many jobs that have ended are kept: those of the lanes. */
const MAX_ENDED = 500;

/** An end is never nearer than this, in milliseconds, until it is there. */
const MIN_LEFT = 500;

/** For how long what a job has left is not said anew, in milliseconds, so that it can be read. */
const HOLD = 2_000;

const jobs = new Map();
const drawers = new Set();
const enders = new Set();
let endedCount = 0;
let frame = 0;
let timer;
let isBehind = false;

/** Calls `draw(jobs)` after changes and every second, at most four times a second. */
export function onDraw(draw) {
  drawers.add(draw);
}

/** Calls `ended(job)` when a job that was seen open has ended. */
export function onEnd(ended) {
  enders.add(ended);
}

/** Takes a state, unless it is older than the one that is known. */
export function put(state) {
  const known = jobs.get(state.job_id);
  if (known && (FINAL.has(known.status) ? !FINAL.has(state.status) : state.seq < known.seq)) return;
  const isEnd = FINAL.has(state.status) && !FINAL.has(known?.status);
  // States on the socket have not all fields of those of lists.
  const job = known ? Object.assign(known, EMPTY, state) : { ...EMPTY, ...state };
  job.at = Date.parse(job.timestamp);
  if (isEnd) job.endedAt = Date.parse(job.completed_at ?? job.timestamp);
  const began = Date.parse(job.started_at);
  if (began) job.began = began;
  else if (job.elapsed != null) job.began = (job.endedAt ?? job.at) - job.elapsed * 1000;
  if (isEnd) {
    if (job.elapsed == null && job.began) job.elapsed = (job.endedAt - job.began) / 1000;
    forget();
  }
  jobs.set(job.job_id, job);
  if (isEnd && known) for (const ended of enders) ended(job);
  drawSoon();
}

/** What a newer state may leave out. */
const EMPTY = { node: undefined, estimated_start: undefined, estimated_completion: undefined, estimated_low: undefined, estimated_high: undefined, queue_position: undefined, cancelling: undefined, error: undefined, backend: undefined, waiting_for: undefined, attempt: undefined };

/** Takes a list of all open jobs: those that it does not hold have ended elsewhere, or were forgotten. Returns their ids. */
export function putOpen(states) {
  const open = new Set(states.map((state) => state.job_id));
  states.forEach(put);
  return [...jobs.values()].filter((job) => !FINAL.has(job.status) && !open.has(job.job_id)).map((job) => job.job_id);
}

/** Removes a job that the relay does not know any more. */
export function drop(id) {
  jobs.delete(id);
  drawSoon();
}

/** The oldest ended jobs are not needed for the lanes. */
function forget() {
  endedCount += 1;
  if (endedCount <= MAX_ENDED) return;
  for (const job of jobs.values()) {
    if (!FINAL.has(job.status)) continue;
    jobs.delete(job.job_id);
    endedCount -= 1;
    return;
  }
}

/** One job. */
export function get(id) {
  return jobs.get(id);
}

/** All jobs. */
export function all() {
  return jobs.values();
}

/**
 * What a job has left now, in seconds: `{left, low, high, end}`, `end` in milliseconds since 1970; `null` while it is
 * not known.
 */
export function timeLeft(job, now = relayNow()) {
  const end = Date.parse(job.estimated_completion);
  if (!Number.isFinite(end)) return null;
  const isHeld = job.held?.status === job.status && Math.abs(now - job.held.at) < HOLD;
  if (!isHeld) job.held = { at: now, status: job.status, left: leftAt(job, end, now) };
  return job.held.left;
}

function leftAt(job, end, now) {
  const middle = Math.max(end, now + MIN_LEFT);
  const passed = (now - job.at) / 1000;
  const left = (middle - now) / 1000;
  const low = Math.max(0, Math.min(left, (job.estimated_low ?? job.estimated_remaining) - passed));
  const high = Math.max(left, (job.estimated_high ?? job.estimated_remaining) - passed);
  return { left, low, high, end: middle };
}

/** Draws in one of the next frames. */
export function drawSoon() {
  if (timer !== undefined) return;
  timer = setTimeout(() => requestAnimationFrame(draw), Math.max(0, MIN_INTERVAL - (performance.now() - frame)));
}

/** Draws in the next frame, because this one had no time for all. */
export function drawNext() {
  isBehind = true;
}

function draw() {
  clearTimeout(timer);
  timer = undefined;
  frame = performance.now();
  isBehind = false;
  for (const drawer of drawers) drawer(jobs);
  if (isBehind) timer = setTimeout(() => requestAnimationFrame(draw), 0);
}

setInterval(drawSoon, 1_000);
