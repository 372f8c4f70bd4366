// Buttons that copy a text.

import { icon, make, setIcon } from "./elements.js";
import { say } from "./said.js";
import { text } from "./texts.js";

/** For how long a button shows that it has copied, in milliseconds. */
const SHOWN = 1_200;

async function copy(value) {
  try {
    await navigator.clipboard.writeText(value);
  } catch {
    // Pages that came without encryption have no clipboard.
    const area = make("textarea", [], { value, readOnly: true, className: "sr" });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

/** A button that copies what `value()` returns; without `label` it is an icon that is called `name`. */
export function copyButton(value, { label, name, symbol = "copy" }) {
  const mark = icon(symbol);
  const button = make("button", label ? [mark, label] : mark, { type: "button", className: label ? "btn" : "btn quiet icon" });
  if (!label) button.ariaLabel = text("copy", { what: name });
  button.addEventListener("click", async () => {
    await copy(value());
    say(text("copied"));
    setIcon(mark, "check");
    setTimeout(() => setIcon(mark, symbol), SHOWN);
  });
  return button;
}
