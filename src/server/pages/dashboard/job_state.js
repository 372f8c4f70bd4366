// The state of one job: how far it is, when it is done, and what it does.

import { relayNow } from "./clock.js";
import { icon, make, setIcon, setStyle, setText } from "./elements.js";
import { Rail } from "./rail.js";
import { ICONS } from "./row.js";
import { FINAL, timeLeft } from "./store.js";
import { text } from "./texts.js";
import { named } from "./waterfall.js";
import * as words from "./words.js";

/** Nodes with more steps than this have one bar instead of a mark for each. */
const MAX_STEPS = 60;

export class JobState {
  #number = make("span", "–");
  #unit = make("span", "%", { className: "unit" });
  #icon = icon("dot");
  #status = make("span");
  #badge;
  #left = make("p", "\u00a0", { className: "left" });
  #sub = make("p", "\u00a0", { className: "sub" });
  #rail = new Rail("");
  #from = make("span");
  #to = make("span");
  #node = make("b", [], { className: "one" });
  #step = make("span", [], { className: "muted" });
  #steps = make("div", [], { className: "steps", ariaHidden: "true" });
  #nodeline;

  constructor(element) {
    this.#badge = make("span", [this.#icon, this.#status], { className: "st" });
    this.#nodeline = make("div", [make("p", [this.#node, " ", this.#step]), this.#steps], { className: "nodeline" });
    element.replaceChildren(
      make("div", [make("span", [this.#number, this.#unit], { className: "pct" }), this.#badge], { className: "big" }),
      this.#left, this.#sub, this.#rail.element, make("div", [this.#from, this.#to], { className: "ends" }), this.#nodeline,
    );
  }

  /** Draws a job. `explained` is its explanation, if it is known; `isLive` whether the state is of now. */
  draw(job, explained, isLive) {
    setText(this.#number, String(job.progress));
    this.#unit.hidden = false;
    const isOpen = !FINAL.has(job.status);
    const isOld = isOpen && !isLive;
    const isAway = isOpen && isLive && /^Waiting for ComfyUI/.test(job.message ?? "");
    const said = isAway ? away(job) : isOld ? old(job) : SENTENCES[job.status](job, explained);
    this.#show(said.status ?? text(job.status === "queued" ? "waiting" : job.status), isAway ? "failed" : job.status, isAway ? "away" : ICONS[job.status], said);
    this.#rail.element.hidden = false;
    this.#rail.draw(job, isAway || isOld ? null : timeLeft(job), said.left);
    setText(this.#from, said.from ?? "");
    setText(this.#to, said.to ?? "");
    this.#drawNode(job);
  }

  /** What is said of a job that is not there. */
  drawMissing(status, left, sub) {
    setText(this.#number, "–");
    this.#unit.hidden = true;
    this.#show(status, "queued", "dot", { left, sub });
    this.#rail.element.hidden = true;
    setText(this.#from, "");
    setText(this.#to, "");
    this.#nodeline.hidden = true;
  }

  #show(status, name, symbol, { left, sub }) {
    setText(this.#status, status);
    this.#badge.className = `st ${name}`;
    setIcon(this.#icon, symbol);
    setText(this.#left, left);
    setText(this.#sub, sub);
  }

  #drawNode({ node, status, message }) {
    this.#nodeline.hidden = status !== "processing";
    if (this.#nodeline.hidden) return;
    setText(this.#node, node ? named(node) : message ?? "");
    setText(this.#step, node?.steps ? text("step_of", node) : "");
    const steps = node?.steps ?? 0;
    const marks = steps > MAX_STEPS ? 0 : steps;
    if (this.#steps.childElementCount !== marks) this.#steps.replaceChildren(...Array.from({ length: marks }, () => make("i")));
    [...this.#steps.children].forEach((mark, place) => mark.classList.toggle("on", place < node.step));
    this.#steps.classList.toggle("whole", steps > MAX_STEPS);
    setStyle(this.#steps, "--share", `${steps ? ((100 * node.step) / steps).toFixed(1) : 0}%`);
  }
}

function away(job) {
  return { status: text("server_away"), left: text("unknown_away"), sub: text("last_message", { time: words.clock(job.at) }), from: began(job) };
}

/** The relay does not answer: what it said last is not what is now. */
function old(job) {
  return { left: text("not_known_now"), sub: text("seen", { time: words.clock(job.at) }), from: began(job) };
}

function began(job) {
  return job.began ? text("began", { time: words.exactClock(job.began) }) : "";
}

/** By the status: what is said. */
const SENTENCES = {
  queued(job) {
    const left = timeLeft(job);
    const ahead = job.queue_position ?? 0;
    const { before } = job;
    const starts = before && Number.isFinite(before.end) ? (before.end - relayNow()) / 1000 : null;
    const said = starts == null ? words.timeLeft(left) : starts < 1.5 ? text("starts_now") : text("starts_in", { time: words.about(starts) });
    const parts = [];
    if (ahead > 0 && job.backend) parts.push(text("ahead_on", { n: ahead, server: job.backend }));
    if (left) parts.push(text("done_about", { time: words.clock(left.end) }) + words.plusMinus((left.high - left.low) / 2));
    return { left: said, sub: parts.join("; ") || job.message, from: before ? text("runs_after", { name: before.id }) : "" };
  },
  processing(job) {
    const left = timeLeft(job);
    const sub = left ? text(job.estimated_high == null ? "done_about" : "eight_in_ten", { time: words.clock(left.end) }) : job.message;
    return { left: words.timeLeft(left), sub, from: began(job), to: left ? text("soft_end") : "" };
  },
  completed(job, explained) {
    const took = job.elapsed == null ? text("completed") : text("took_time", { time: words.exact(job.elapsed) });
    return { left: took, sub: ended(job, explained), ...ends(job) };
  },
  failed(job) {
    const stopped = job.elapsed == null ? text("failed") : text("stopped_after", { time: words.exact(job.elapsed) });
    return { left: stopped, sub: ended(job), ...ends(job) };
  },
  cancelled(job) {
    const stopped = job.elapsed == null ? text("never_ran") : text("stopped_after", { time: words.exact(job.elapsed) });
    return { left: stopped, sub: ended(job), ...ends(job) };
  },
};

function ended(job, explained) {
  const end = job.endedAt ? text("ended_at", { time: words.day(job.endedAt) }) : "";
  const start = explained?.at_start;
  if (start?.remaining == null) return end;
  const time = start.low == null ? words.predicted(start.remaining) : words.exactBetween(start.low, start.high);
  return `${text("predicted_began", { time })}; ${end}`;
}

function ends(job) {
  if (!job.began) return {};
  return { from: words.exactClock(job.began), to: job.endedAt ? words.exactClock(job.endedAt) : "" };
}
