// The buttons that pause, drain and resume, for those whose token allows it.

import { TOKEN, request } from "./api.js";
import { lookAtServers } from "./backends.js";
import { icon, make } from "./elements.js";
import { say } from "./said.js";
import { text } from "./texts.js";
import { claims } from "./token.js";

const ICONS = { pause: "pause", drain: "stop", resume: "play" };

/** Without tokens everybody may. */
export const mayOperate = !TOKEN || [claims(TOKEN).scope ?? []].flat().join(" ").split(" ").includes("operate");

/** What can be asked of a server. */
export const verbs = ({ operation }) => (operation ? ["resume"] : ["pause", "drain"]);

/** A button that asks this of a server. */
export function operateButton(verb, name, className) {
  return button(verb, `backends/${encodeURIComponent(name)}`, `${name}: ${text(verb)}`, className);
}

/** A button that lets the queue go on. */
export const resumeQueueButton = () => button("resume", "queue", `${text("queue_paused")} ${text("resume")}`, "btn quiet");

function button(verb, subject, title, className) {
  const said = className.endsWith("icon") ? "" : text(verb);
  const element = make("button", [icon(ICONS[verb]), said], { type: "button", className, ariaLabel: title, title });
  element.addEventListener("click", async () => {
    element.disabled = true;
    try {
      await request(`api/anime/${subject}/${verb}`, { method: "POST" });
      await lookAtServers();
    } catch ({ message }) {
      say(message);
      element.title = message;
    }
    element.disabled = false;
  });
  return element;
}
