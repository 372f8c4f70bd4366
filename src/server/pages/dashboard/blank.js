// What stands where there is nothing yet: a blank sheet with pegs.

import { make } from "./elements.js";
import { text } from "./texts.js";

const SHEET = `<svg xmlns="http://www.w3.org/2000/svg" class="pegs" viewBox="0 0 168 104" fill="none" aria-hidden="true">
<rect class="page" x="1" y="1" width="166" height="102" rx="8"/><rect class="hole" x="40" y="10" width="22" height="8" rx="4"/>
<circle class="peg" cx="84" cy="14" r="5"/><rect class="hole" x="106" y="10" width="22" height="8" rx="4"/>
<rect class="frame" x="26" y="30" width="116" height="62" rx="3" stroke-dasharray="3 4"/></svg>`;

/** The blank sheet alone. */
export function pegs() {
  const holder = make("div");
  holder.innerHTML = SHEET;
  return holder.firstElementChild;
}

/** A blank sheet with a title, a sentence, and perhaps one command to copy. */
export function blank(title, more, command) {
  const sheet = make("div", [pegs(), make("b", text(title)), make("p", text(more))], { className: "blank sheet" });
  if (command) sheet.append(make("pre", command, { tabIndex: 0 }));
  return sheet;
}
