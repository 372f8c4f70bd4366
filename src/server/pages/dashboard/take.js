// The addresses and commands by which a job can be followed elsewhere.

import { BASE, jobPage, jobPath } from "./api.js";
import { copyButton } from "./clipboard.js";
import { make } from "./elements.js";
import { text } from "./texts.js";

/** Shows them for a job. */
export function showTake(list, { job_id: id, prompt_id: prompt }) {
  const socket = new URL(`ws/${encodeURIComponent(id)}`, BASE).href.replace("http", "ws");
  const rows = [
    ["link", jobPage(id)],
    ["terminal", `comfy-relay watch ${id} --relay ${BASE.href}`],
    ["curl", `curl ${new URL(jobPath(id), BASE).href}`],
    ["socket", socket],
    ["prompt_id", prompt],
  ].filter(([, value]) => value);
  const key = rows.join();
  if (list.shown === key) return;
  list.shown = key;
  list.replaceChildren(...rows.map(([name, value]) => {
    const title = name === "curl" ? name : text(name);
    return make("li", [make("span", title), make("code", value, { title: value }), copyButton(() => value, { name: title })]);
  }));
}
