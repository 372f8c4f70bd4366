// The cards of the jobs that run, in the order of the lanes: a card comes where the one before of the same server was.

import { servers } from "./backends.js";
import { blank } from "./blank.js";
import { Card } from "./card.js";
import { relayNow } from "./clock.js";
import { make, setText } from "./elements.js";
import { connection } from "./live.js";
import { text } from "./texts.js";

/** How many cards are shown until the reader asks for all. */
const MOST = 12;

/** The shortest time between two previews of a card, in milliseconds. */
const PREVIEW_INTERVAL = 250;

/** For how long the card of a job that has ended stays, in milliseconds. */
const LINGER = 2_500;

/** For how long there is room for cards that have left, in milliseconds: others may come. */
const ROOM = 10_000;

const $ = (id) => document.getElementById(id);
const cards = new Map();
const newest = new Map();
const inView = new Set();
const observer = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) inView.add(target);
    else inView.delete(target);
  }
});
let most = MOST;
let empty = null;
let all = null;
let room = { cards: 0, since: 0, isKept: false };

/** Takes a preview of a job. Only the newest one of a card in view is drawn. */
export function takePreview({ job_id, blob }) {
  newest.set(job_id, blob);
}

setInterval(() => {
  for (const [id, blob] of newest) {
    const card = cards.get(id);
    if (card && (!inView.has(card.element) || document.hidden)) continue;
    newest.delete(id);
    card?.show(blob);
  }
}, PREVIEW_INTERVAL);

/** Draws the cards. */
export function drawCards(jobs) {
  const running = [...jobs.values()].filter(({ status }) => status === "processing");
  const shown = inOrder([...running, ...justEnded(jobs, running)]).slice(0, most);
  const isLive = connection.state === "on" || connection.state === "stream";
  if (!connection.isComplete && connection.state !== "off") return;
  setText($("n-running"), running.length > shown.length ? text("of_running", { n: shown.length, all: running.length }) : running.length ? String(running.length) : "");
  const gone = new Set(cards.keys());
  let before = null;
  for (const job of shown) {
    gone.delete(job.job_id);
    let card = cards.get(job.job_id);
    if (!card) {
      cards.set(job.job_id, (card = new Card(job)));
      observer.observe(card.element);
    }
    const next = before ? before.nextElementSibling : $("cards").firstElementChild;
    if (next !== card.element) $("cards").insertBefore(card.element, next);
    card.draw(job, job.backend ?? "", isLive);
    before = card.element;
  }
  for (const id of gone) {
    const card = cards.get(id);
    observer.unobserve(card.element);
    inView.delete(card.element);
    card.remove();
    cards.delete(id);
    newest.delete(id);
  }
  drawEmpty(shown.length === 0);
  keepRoom(shown.length);
  drawAll(Math.max(running.length, shown.length), shown.length);
}

/** What is below does not jump up when a card leaves; it follows when no other has come for a while. */
function keepRoom(number) {
  const element = $("cards");
  const now = performance.now();
  if (number !== room.cards && element.offsetHeight > 0) {
    room = { cards: number, since: now, isKept: true };
    element.style.minHeight = `${element.offsetHeight}px`;
  } else if (room.isKept && now - room.since > ROOM) {
    room.isKept = false;
    element.style.minHeight = "";
  }
}

/** Jobs that ended a moment ago keep their cards until the next one of the same server begins, in their place. */
function justEnded(jobs, running) {
  const busy = new Set(running.map(({ backend }) => backend));
  const since = relayNow() - LINGER;
  return [...cards.keys()].map((id) => jobs.get(id)).filter((job) => job?.endedAt > since && !(job.backend && busy.has(job.backend)));
}

/** In the order of the lanes. */
function inOrder(jobs) {
  const places = new Map((servers() ?? []).map(({ name }, place) => [name, place]));
  const place = ({ backend }) => places.get(backend) ?? Infinity;
  return jobs.sort((a, b) => place(a) - place(b) || (a.began || 0) - (b.began || 0) || (a.job_id < b.job_id ? -1 : 1));
}

function drawEmpty(isEmpty) {
  if (isEmpty === (empty !== null)) return;
  if (isEmpty) {
    empty = blank("nothing_runs", "nothing_runs_more", "comfy-relay submit workflow_api.json --watch");
    $("cards").replaceChildren(empty);
  } else {
    empty.remove();
    empty = null;
  }
}

function drawAll(running, shown) {
  if (running <= shown) return void all?.remove();
  all ??= make("button", [], { type: "button", className: "btn all", onclick: () => (most = Infinity) });
  setText(all, text("show_running", { n: running }));
  if ($("cards").lastElementChild !== all) $("cards").append(all);
}
