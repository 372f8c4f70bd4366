// The card of a job that runs: its newest preview, how far it is, and when it is done.

import { jobPage } from "./api.js";
import { pegs } from "./blank.js";
import { cancelButton, drawCancel } from "./cancel.js";
import { make, setAttribute, setText } from "./elements.js";
import { Rail } from "./rail.js";
import { FINAL, timeLeft } from "./store.js";
import { text } from "./texts.js";
import * as words from "./words.js";

/** What a job does: its node and the step of it. */
function activity({ node, message }) {
  if (!node) return message ?? "";
  const name = node.title ?? node.class_type;
  // A node that was made at run time has no name.
  if (!name) return message;
  return node.steps ? `${text("step", node)} · ${name}` : name;
}

/** A space as wide as a figure: the percentage stays where it is. */
const FIGURE = "\u2007";

export class Card {
  #image = make("img", [], { alt: "", hidden: true });
  #server = make("span", [], { className: "chip" });
  #link = make("a", [], { className: "one" });
  #number = make("span");
  #workflow = make("p", [], { className: "muted one" });
  #left = make("b");
  #done = make("span", [], { className: "long" });
  #doneShort = make("span", [], { className: "short" });
  #activity = make("span", [], { className: "one" });
  #rail;
  #cancel;
  #address = null;

  constructor(job) {
    const id = job.job_id;
    setText(this.#link, id);
    Object.assign(this.#link, { href: jobPage(id), title: id });
    setAttribute(this.#image, "alt", text("preview_of", { name: id }));
    this.#rail = new Rail(id);
    this.#cancel = cancelButton(id);
    const percent = make("span", [this.#number, make("span", "%", { className: "unit" })], { className: "pct" });
    this.element = make("article", [
      make("div", [pegs(), this.#image, this.#server], { className: "pic" }),
      make("div", [
        make("div", [this.#link, percent], { className: "name" }),
        this.#workflow,
        this.#rail.element,
        make("p", [this.#left, this.#done, this.#doneShort], { className: "eta" }),
        make("div", [this.#activity, this.#cancel], { className: "foot" }),
      ], { className: "body" }),
    ], { className: "card sheet" });
  }

  /** `server` is how it is shown; `isLive` whether the state is of now. */
  draw(job, server, isLive) {
    const isOver = FINAL.has(job.status);
    const left = isLive ? timeLeft(job) : null;
    const said = isOver ? text(job.status) : isLive ? words.timeLeft(left) : text("not_known_now");
    setText(this.#number, String(job.progress).padStart(3, FIGURE));
    setText(this.#server, server);
    this.#server.hidden = server === "";
    setText(this.#workflow, job.workflow ?? (job.nodes ? text("nodes_done", { done: job.nodes.done, all: job.nodes.total }) : "\u00a0"));
    this.#rail.draw(job, left, said);
    setText(this.#left, said);
    const time = words.clock(isLive && left ? left.end : job.at);
    setText(this.#done, !isLive ? text("seen", { time }) : left ? text("done_at", { time }) : "");
    setText(this.#doneShort, !isLive || left ? time : "");
    setText(this.#activity, isOver ? job.error ?? "" : activity(job));
    setAttribute(this.#activity, "title", job.message);
    drawCancel(this.#cancel, job);
  }

  /** Shows a preview once it is decoded: the picture before it stays until then. */
  async show(blob) {
    const address = URL.createObjectURL(blob);
    const next = new Image();
    next.src = address;
    try {
      await next.decode();
    } catch {
      return URL.revokeObjectURL(address);
    }
    this.#image.src = address;
    this.#image.hidden = false;
    if (this.#address) URL.revokeObjectURL(this.#address);
    this.#address = address;
  }

  /** Frees its picture. */
  remove() {
    this.element.remove();
    if (this.#address) URL.revokeObjectURL(this.#address);
  }
}
