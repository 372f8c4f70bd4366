// How fast a server was over the last 24 hours, as a small line.

import { make, setAttribute, shape } from "./elements.js";
import { text } from "./texts.js";
import * as words from "./words.js";

/** The size of the drawing, in its own units: an hour is ten wide. */
const HOUR = 10;
const HEIGHT = 36;

/** How far from the middle a factor of two is drawn at least: smaller changes are no mountains. */
const LEAST = Math.log(1.5);

/** `hours` are factors, `null` where nothing ran; 2 is twice as long as usual. The newest is the last. */
export function speedLine(hours) {
  const known = hours.filter((factor) => factor !== null);
  const most = Math.max(LEAST, ...known.map((factor) => Math.abs(Math.log(factor))));
  // Slower is lower.
  const y = (factor) => (HEIGHT / 2 + (Math.log(factor) / most) * (HEIGHT / 2 - 3)).toFixed(1);
  const x = (place) => place * HOUR + HOUR / 2;
  let path = "";
  hours.forEach((factor, place) => {
    if (factor === null) return;
    // An hour without neighbours is a dot.
    path += hours[place - 1] != null ? `L${x(place)} ${y(factor)}` : `M${x(place)} ${y(factor)}h0`;
  });
  const said = text("speed_last", { n: words.count(known.at(-1)) });
  const svg = shape("svg", { viewBox: `0 0 ${hours.length * HOUR} ${HEIGHT}`, class: "speed", role: "img" });
  setAttribute(svg, "aria-label", text("speed_of_day", { said, from: words.count(Math.min(...known)), to: words.count(Math.max(...known)) }));
  const last = hours.findLastIndex((factor) => factor !== null);
  svg.append(
    shape("path", { class: "usual", d: `M0 ${HEIGHT / 2}H${hours.length * HOUR}` }),
    shape("path", { d: path }),
    shape("circle", { cx: x(last), cy: y(hours[last]), r: 3 }),
  );
  return [svg, make("span", said, { ariaHidden: "true" })];
}
