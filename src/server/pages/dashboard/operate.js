// The buttons that pause, drain and resume a server or the queue, for those whose token allows it.

import { TOKEN, request } from "./api.js";
import { lookAtServers } from "./backends.js";
import { icon, make } from "./elements.js";
import { say } from "./said.js";
import { text } from "./texts.js";
import { claims } from "./token.js";

const ICONS = { pause: "pause", drain: "stop", resume: "play" };

/** Whether the token has the scope. A relay that asks for no token allows everything. */
export const mayOperate = (() => {
  if (!TOKEN) return true;
  const { scope = [] } = claims(TOKEN);
  return (typeof scope === "string" ? scope.split(/\s+/) : scope).includes("operate");
})();

/** What can be asked of a server, by what was asked of it last. */
export function verbs({ operation }) {
  return operation ? ["resume"] : ["pause", "drain"];
}

/** A button that asks this of a server. */
export function operateButton(verb, name, className = "btn quiet") {
  return button(verb, `api/anime/backends/${encodeURIComponent(name)}/${verb}`, text(`${verb}_of`, { name }), className);
}

/** A button that lets the queue go on. */
export function resumeQueueButton() {
  return button("resume", "api/anime/queue/resume", text("resume_queue"), "btn quiet");
}

function button(verb, path, label, className) {
  const element = make("button", [icon(ICONS[verb]), make("span", text(verb))], { type: "button", className, ariaLabel: label, title: label });
  element.addEventListener("click", async () => {
    element.disabled = true;
    try {
      await request(path, { method: "POST" });
      await lookAtServers();
    } catch (error) {
      say(text("operate_failed", { reason: error.message }));
      element.title = error.message;
    }
    element.disabled = false;
  });
  return element;
}
