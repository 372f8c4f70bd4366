// What a job shows: its previews while it runs, its outputs in the same place once they are there.

import { blank, pegs } from "./blank.js";
import { icon, make, setAttribute } from "./elements.js";
import { kind, showFile } from "./picture.js";
import { FINAL } from "./store.js";
import { text } from "./texts.js";

/** How many previews are kept to look back at. */
const MOST = 12;

/** The shortest time between two previews that are drawn, in milliseconds. */
const INTERVAL = 250;

/** The shortest time between two previews that are kept, in milliseconds. */
const KEPT_INTERVAL = 1_500;

/** The width of the pictures in the strip, in pixels. */
const THUMBNAIL = 208;

export class Gallery {
  #picture;
  #strip;
  /** `{key, name, node, make()}`: what can be shown, the newest first. */
  #previews = [];
  #outputs = [];
  #chosen = null;
  #shown = null;
  #drawnAt = 0;
  #waiting = null;
  #keptAt = 0;
  #id;

  constructor(id) {
    this.#id = id;
    this.#picture = document.getElementById("picture");
    this.#strip = document.getElementById("strip");
    this.#showEmpty(null);
  }

  /** Takes a preview; `name` says of which step it is. */
  takePreview(blob, name) {
    this.#waiting = { blob, name };
    const pause = Math.max(0, this.#drawnAt + INTERVAL - performance.now());
    if (this.#drawnAt === Infinity) return;
    this.#drawnAt = Infinity;
    setTimeout(() => this.#drawPreview(), pause);
  }

  async #drawPreview() {
    const { blob, name } = this.#waiting;
    const address = URL.createObjectURL(blob);
    const image = make("img", [], { src: address, alt: `${text("preview_of", { name: this.#id })}${name ? `, ${name}` : ""}` });
    // The picture before stays until this one can be drawn.
    await image.decode().catch(() => {});
    this.#drawnAt = performance.now();
    const isKept = performance.now() - this.#keptAt > KEPT_INTERVAL || this.#previews.length === 0;
    if (!isKept) URL.revokeObjectURL(this.#previews.shift().address);
    else this.#keptAt = performance.now();
    this.#previews.unshift({ key: address, address, name: name || text("newest"), element: () => image, small: () => make("img", [], { src: address, alt: "" }) });
    for (const old of this.#previews.splice(MOST)) URL.revokeObjectURL(old.address);
    this.#draw();
  }

  /** Takes the newest state: its outputs. */
  take(job) {
    const outputs = job.outputs ?? [];
    const isEnd = FINAL.has(job.status);
    // While it runs, states hold the newest outputs only: their numbers are known at the end.
    const first = (job.outputs_total ?? outputs.length) - outputs.length;
    const files = outputs.map((output, place) => ({ output, number: first + place })).filter(({ output }) => output.type !== "text");
    if (files.length !== this.#outputs.length) {
      this.#outputs = files.map(({ output, number }) => this.#output(output, number));
      this.#draw();
    }
    if (this.#outputs.length + this.#previews.length === 0) this.#showEmpty(isEnd);
  }

  #output(output, number) {
    const { filename: name } = output;
    const alt = text("output", { name });
    const open = (element, options) => showFile(element, this.#id, number, options);
    const media = { controls: true, preload: "metadata", ariaLabel: alt };
    const elements = {
      image: () => open(make("a", open(make("img", [], { alt })), { target: "_blank", title: text("download") }), { property: "href" }),
      video: () => open(make("video", [], { ...media, loop: true, muted: true, playsInline: true })),
      sound: () => open(make("audio", [], media)),
      file: () => open(make("a", [icon("file"), ` ${name}`], { className: "btn", target: "_blank" }), { property: "href" }),
    };
    const what = kind(output);
    const small = () => (what === "image" ? open(make("img", [], { alt: "" }), { width: THUMBNAIL }) : icon(what === "video" ? "play" : "file"));
    return { key: `${number} ${name}`, name, element: elements[what], small, isMain: output.type === "output" };
  }

  #all() {
    return [...this.#outputs, ...this.#previews];
  }

  #draw() {
    const all = this.#all();
    const chosen = all.find(({ key }) => key === this.#chosen);
    const shown = chosen ?? this.#outputs.find(({ isMain }) => isMain) ?? all[0];
    if (!shown) return;
    if (this.#shown !== shown.key) {
      this.#shown = shown.key;
      this.#picture.classList.remove("empty");
      this.#picture.replaceChildren(shown.element(), make("span", shown.name, { className: "chip" }));
    }
    this.#drawStrip(all);
  }

  #drawStrip(all) {
    const kept = new Map([...this.#strip.children].map((button) => [button.key, button]));
    const buttons = all.map((entry) => kept.get(entry.key) ?? this.#button(entry));
    for (const button of buttons) setAttribute(button, "aria-pressed", button.key === this.#shown);
    if (buttons.length === kept.size && buttons.every((button, place) => this.#strip.children[place] === button)) return;
    // Left out while the reader is in the strip: nothing may move below the pointer or the focus.
    if (this.#strip.matches(":hover, :focus-within") && kept.size > 0 && this.#outputs.length === 0) return;
    this.#strip.replaceChildren(...buttons);
  }

  #button(entry) {
    const button = make("button", [make("span", entry.small(), { className: "pic" }), make("span", entry.name, { className: "one" })], { type: "button", title: entry.name });
    button.key = entry.key;
    button.addEventListener("click", () => {
      this.#chosen = this.#all()[0]?.key === entry.key ? null : entry.key;
      this.#draw();
    });
    return button;
  }

  /** `isEnd` is `null` while nothing is known of the job. */
  #showEmpty(isEnd) {
    const shown = `empty ${isEnd}`;
    if (this.#shown === shown) return;
    this.#shown = shown;
    this.#picture.classList.add("empty");
    if (isEnd === null) return this.#picture.replaceChildren(pegs());
    this.#picture.replaceChildren(isEnd ? blank("no_picture_made", "no_picture_made_more") : blank("no_picture", "no_picture_more"));
  }
}
