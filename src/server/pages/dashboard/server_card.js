// The card of a server: how it is, what it does, and what can be asked of it.

import { jobPage } from "./api.js";
import { icon, make, setAttribute, setIcon, setText } from "./elements.js";
import { operateButton } from "./operate.js";
import { speedLine } from "./speed_line.js";
import { text } from "./texts.js";

const STATES = { connecting: ["held", "dot"], connected: ["ok", "check"], unreachable: ["away", "away"], held_elsewhere: ["held", "dot"], contested: ["warn", "warn"], stalled: ["away", "warn"], sick: ["away", "warn"], paused: ["held", "pause"], draining: ["held", "pause"] };

export class ServerCard {
  #name;
  #icon = icon("dot");
  #said = make("span");
  #state;
  #reason = make("p", [], { className: "reason" });
  #queue = make("dd");
  #link = make("a");
  #percent = make("span");
  #until = make("dd");
  #speed = make("dd");
  #verbs = make("p", [], { className: "verbs" });
  #shown = {};

  constructor(name) {
    this.#name = name;
    this.#state = make("span", [this.#icon, this.#said]);
    const rows = { queue: this.#queue, runs_now: make("dd", [this.#link, this.#percent]), ends: this.#until, speed: this.#speed };
    this.element = make("article", [
      make("h2", [make("span", name, { className: "one", title: name }), this.#state]),
      this.#reason,
      make("dl", Object.entries(rows).flatMap(([key, value]) => [make("dt", text(key)), value])),
      this.#verbs,
    ], { className: "server sheet" });
  }

  /** Shows what is said of the server. */
  draw({ status, asks, said, reason, queue, running, until, speed }) {
    const [state, symbol] = STATES[status] ?? ["warn", "warn"];
    setAttribute(this.element, "data-state", state);
    setAttribute(this.#state, "class", `st ${state}`);
    setIcon(this.#icon, symbol);
    setText(this.#said, said);
    setText(this.#reason, reason);
    this.#reason.hidden = !reason;
    setText(this.#queue, queue);
    this.#link.hidden = !running;
    setText(this.#link, running?.id ?? "");
    if (running) setAttribute(this.#link, "href", jobPage(running.id));
    setText(this.#percent, running ? ` ${running.percent}` : text("nothing"));
    setText(this.#until, until);
    show(this.#until, until);
    if (this.#isNew("speed", speed)) this.#speed.replaceChildren(...(speed.length ? speedLine(speed) : []));
    show(this.#speed, speed.length);
    if (this.#isNew("verbs", asks)) this.#verbs.replaceChildren(...asks.map((verb) => operateButton(verb, this.#name, "btn")));
    this.#verbs.hidden = asks.length === 0;
  }

  #isNew(what, value) {
    const key = JSON.stringify(value);
    const isNew = this.#shown[what] !== key;
    this.#shown[what] = key;
    return isNew;
  }
}

/** Shows a row of the list, or hides it. */
function show(row, isShown) {
  row.hidden = row.previousElementSibling.hidden = !isShown;
}
