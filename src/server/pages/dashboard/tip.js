// One tip for whatever has `block` or `tip`, for the pointer and for the focus.

import { make } from "./elements.js";
import { text } from "./texts.js";

const MARGIN = 8;
const tip = document.getElementById("tip");
let link = null;

function show(element) {
  link = element;
  const { name, more, rows } = element.block.tip;
  const list = rows.flatMap(([key, value]) => [make("dt", text(key)), make("dd", value)]);
  tip.replaceChildren(make("b", name, { className: "one" }), make("span", more ?? "", { className: "muted lines" }), make("dl", list));
  const place = element.getBoundingClientRect();
  const [width, height] = [tip.offsetWidth, tip.offsetHeight];
  const below = place.bottom + MARGIN;
  tip.style.left = `${Math.max(MARGIN, Math.min(innerWidth - width - MARGIN, place.left))}px`;
  tip.style.top = `${below + height < innerHeight ? below : Math.max(MARGIN, place.top - height - MARGIN)}px`;
  tip.classList.add("on");
}

function hide() {
  link = null;
  tip.classList.remove("on");
}

/** Shows tips from now on. */
export function useTips() {
  const find = (event) => event.target.closest?.(".blk a");
  addEventListener("pointerover", (event) => {
    const found = event.pointerType === "touch" ? null : find(event);
    if (found) show(found);
    else if (link && !link.matches(":focus-visible")) hide();
  });
  addEventListener("focusin", (event) => {
    const found = find(event);
    if (found?.matches(":focus-visible")) show(found);
    else hide();
  });
  addEventListener("focusout", hide);
  addEventListener("scroll", hide, { passive: true });
}
