// The button that cancels a job. It asks in its own place, without a dialog.

import { jobPath, request } from "./api.js";
import { icon, make, setText } from "./elements.js";
import { say } from "./said.js";
import { text } from "./texts.js";

/** For how long it asks, in milliseconds. */
const ASKS = 3_000;

/** When it can be asked again, in milliseconds, where ComfyUI does not stop. */
const AGAIN = 10_000;

/** A button for this job. */
export function cancelButton(id, className = "btn quiet danger") {
  const label = make("span", text("cancel"));
  const button = make("button", [icon("stop"), label], { type: "button", className, ariaLabel: text("cancel_of", { name: id }) });
  let asking;
  const rest = () => {
    clearTimeout(asking);
    asking = undefined;
    delete button.dataset.asks;
    setText(label, text("cancel"));
  };
  button.addEventListener("blur", rest);
  button.addEventListener("click", async (event) => {
    event.preventDefault();
    if (asking === undefined) {
      button.dataset.asks = "";
      setText(label, text("cancel_sure"));
      say(text("cancel_sure"));
      asking = setTimeout(rest, ASKS);
      return;
    }
    rest();
    button.disabled = true;
    try {
      await request(jobPath(id, "/cancel"), { method: "POST" });
      say(text("cancelling"));
      setTimeout(() => (button.disabled = label.textContent === text("cancelling")), AGAIN);
    } catch (error) {
      say(text("cancel_failed", { reason: error.message }));
      button.title = error.message;
      button.disabled = false;
    }
  });
  return button;
}

/** Shows on its button that a job was asked to stop. */
export function drawCancel(button, { cancelling }) {
  if (!cancelling) return;
  button.disabled = true;
  setText(button.lastChild, text("cancelling"));
}
