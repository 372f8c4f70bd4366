// The texts that the nodes of a job show.

import { copyButton } from "./clipboard.js";
import { make } from "./elements.js";
import { text } from "./texts.js";
import { named } from "./waterfall.js";

const $ = (id) => document.getElementById(id);

/** Shows them; `nodes` are those of the explanation, which have names. */
export function showTexts({ outputs = [] }, nodes = []) {
  const shown = outputs.filter((output) => output.text != null && output.type === "text").map(({ node: id, text: said, truncated }) => {
    const name = named(nodes.find((node) => node.id === id) ?? { id });
    return [name, truncated ? `${said}…` : said];
  });
  // The states of a job that runs have no texts: those of its first answer stay.
  if (shown.length === 0) return;
  $("shown").hidden = false;
  const key = JSON.stringify(shown);
  if ($("shown-list").shown === key) return;
  $("shown-list").shown = key;
  $("shown-list").replaceChildren(...shown.map(([name, said]) => make("article", [
    make("h3", [make("span", name, { className: "one" }), copyButton(() => said, { name })]),
    make("pre", said, { tabIndex: 0, role: "group", ariaLabel: text("shown_by", { name }) }),
  ])));
}
