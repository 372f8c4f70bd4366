// Why an estimate is what it is, and how good it was.

import { make, setText } from "./elements.js";
import { FINAL } from "./store.js";
import { text } from "./texts.js";
import { named } from "./waterfall.js";
import * as words from "./words.js";

/** How many nodes have a row of their own. */
const MAX_ROWS = 5;

/** Shorter nodes than this share of the longest one are one row. */
const MIN_SHARE = 0.02;

const $ = (id) => document.getElementById(id);

/** Draws the table. */
export function drawWhy(explained, job) {
  const isOver = FINAL.has(job.status);
  $("why").hidden = !explained?.nodes?.length;
  if ($("why").hidden) return;
  setText($("h-why"), text(isOver ? "how_good" : "why"));
  const [head, rows, foot] = isOver ? past(explained, job) : coming(explained, job);
  const key = JSON.stringify([head, rows, foot]);
  if ($("why-table").shown === key) return;
  $("why-table").shown = key;
  if (rows.length === 0) return $("why-table").replaceChildren(make("p", text(isOver ? "estimate_lost" : "no_estimate"), { className: "muted" }));
  const cells = (name, row) => row.map((cell, place) => make(place ? name : "th", cell, { className: place && row.length - place <= (isOver ? 2 : 1) ? "n" : place === 1 && !isOver ? "muted" : "", ...(place ? {} : { scope: "row" }) }));
  $("why-table").replaceChildren(make("table", [
    make("thead", make("tr", head.map((cell, place) => make("th", cell, { scope: "col", className: head.length - place <= (isOver ? 2 : 1) ? "n" : "" })))),
    make("tbody", rows.map((row) => make("tr", cells("td", row)))),
    foot ? make("tfoot", make("tr", cells("td", foot))) : "",
  ]));
}

/** The longest nodes, and the sum of the others. */
function divided(nodes, length) {
  const sorted = nodes.filter((node) => length(node) > 0).sort((a, b) => length(b) - length(a));
  const least = (length(sorted[0] ?? {}) || 0) * MIN_SHARE;
  const long = sorted.slice(0, MAX_ROWS).filter((node) => length(node) >= least);
  const short = sorted.slice(long.length);
  return [long, short, short.reduce((sum, node) => sum + length(node), 0)];
}

function coming({ nodes, remaining, low, high }, { status }) {
  const [long, short, rest] = divided(nodes, ({ left }) => left ?? 0);
  const rows = long.map((node) => [named(node), source(node), words.exact(node.left)]);
  if (short.length > 0) rows.push([text("shorter", { n: short.length }), "", words.exact(rest)]);
  // Of a job that waits, the whole has what runs before it in it.
  const foot = remaining == null || status === "queued" ? null : [text("left_h"), low == null ? "" : words.exactBetween(low, high), words.exact(remaining)];
  return [[text("part"), text("source"), text("left_h")], rows, foot];
}

function past({ nodes, at_start: start }, job) {
  const [long, short] = divided(nodes, ({ predicted, took }) => Math.max(predicted ?? 0, took ?? 0));
  const time = (seconds) => (seconds == null ? "–" : words.exact(seconds));
  const rows = long.map((node) => [named(node), time(node.predicted), time(node.took)]);
  if (short.length > 0) {
    const sum = (key) => short.reduce((whole, node) => whole + (node[key] ?? 0), 0);
    rows.push([text("shorter", { n: short.length }), time(sum("predicted")), time(sum("took"))]);
  }
  const hasInterval = start?.low != null && job.elapsed != null && job.status === "completed";
  const isInside = hasInterval && job.elapsed >= start.low && job.elapsed <= start.high;
  const verdict = hasInterval ? `, ${text(isInside ? "inside" : "outside")}` : "";
  const interval = hasInterval ? ` (${words.exactBetween(start.low, start.high)})` : "";
  const foot = start?.remaining == null ? null : [text("all_nodes"), `${time(start.remaining)}${interval}`, `${time(job.elapsed)}${verdict}`];
  return [[text("part"), text("predicted_h"), text("took_h")], rows, foot];
}

/** Where the prediction of a node comes from. */
function source({ source: kind, runs, cold, state, steps, steps_seen: seen }) {
  if (state === "running" && seen > 0 && steps > 1) return text("measured", { seen: Math.floor(seen), steps: Math.round(steps) });
  const known = kind === "table" || !kind ? text("from_table") : text(`from_${kind}`, { n: runs ?? 0 });
  return cold ? `${known}; ${text("cold")}` : known;
}
