// Submits a named workflow: a form that is drawn from the JSON Schema of its parameters.

import { jobPage, request } from "./api.js";
import { make, setText } from "./elements.js";
import { Entry } from "./entries.js";
import { drawConnection, useFrame } from "./frame.js";
import { follow } from "./live.js";
import { onDraw } from "./store.js";
import { showTitle } from "./tab.js";
import { text } from "./texts.js";

const $ = (id) => document.getElementById(id);
/** What was typed into the entries of each workflow: it is there again when the reader comes back to it. */
const drawn = new Map();
let workflows = [];
let entries = [];

useFrame();
showTitle(text("submit_job"));
onDraw(drawConnection);
follow();
load();

async function load() {
  try {
    const answer = await request("api/anime/workflows");
    ({ workflows } = answer);
    showBroken(answer.broken);
    $("order").hidden = workflows.length === 0;
    if (workflows.length === 0) showNone(text("no_workflows"), text("no_workflows_more"));
  } catch ({ message }) {
    showNone(text("not_read"), message);
  }
  $("main").removeAttribute("aria-busy");
  if (workflows.length === 0) return;
  $("workflow").append(...workflows.map(({ name, title }) => make("option", title, { value: name })));
  const wanted = new URLSearchParams(location.search).get("workflow");
  const [{ name: first }] = workflows;
  $("workflow").value = workflows.some(({ name }) => name === wanted) ? wanted : first;
  $("workflow").addEventListener("change", () => show(true));
  $("order").addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  $("order").addEventListener("keydown", ({ key, ctrlKey, metaKey }) => {
    if (key === "Enter" && (ctrlKey || metaKey)) submit();
  });
  show(false);
}

function showNone(title, more) {
  $("none").replaceChildren(make("div", [make("b", title), make("p", more)], { className: "blank sheet" }));
}

function showBroken(broken) {
  $("broken").hidden = broken.length === 0;
  setText($("broken"), text("broken", { n: broken.length, names: broken.map(({ name }) => name).join(", ") }));
}

/** Draws the form of the workflow that is chosen. */
function show(isChosen) {
  const { name, description, schema } = workflows.find((workflow) => workflow.name === $("workflow").value);
  if (isChosen) {
    const address = new URL(location.href);
    address.searchParams.set("workflow", name);
    history.replaceState(null, "", address);
  }
  if (!drawn.has(name)) {
    const properties = Object.entries(schema.properties);
    drawn.set(name, properties.map(([key, property]) => new Entry(key, property, schema.required.includes(key))));
  }
  entries = drawn.get(name);
  setText($("about"), description);
  $("entries").replaceChildren(...entries.map(({ element }) => element));
  $("entries").hidden = entries.length === 0;
  refuse({});
  $("sent").replaceChildren();
}

async function submit() {
  if ($("go").disabled) return;
  $("go").disabled = true;
  refuse({});
  setText($("sent"), text("sending"));
  try {
    const workflow = $("workflow").value;
    const body = `{"workflow":${JSON.stringify(workflow)},"parameters":${await parameters()}}`;
    const { job_id: id } = await request("api/anime/jobs", { method: "POST", body });
    $("sent").replaceChildren(`${text("submitted")} `, make("a", id, { href: jobPage(id) }));
  } catch (error) {
    setText($("sent"), "");
    refuse({ message: error.message, problems: error.problems ?? error.details?.parameters });
  }
  $("go").disabled = false;
}

/** The parameters that are given, as JSON. Pictures are sent before, and stand for themselves by their names. */
async function parameters() {
  const given = [];
  for (const { name, value } of entries) {
    if (value === undefined) continue;
    const sent = value instanceof File ? await sendPicture(value, name) : value;
    given.push(`${JSON.stringify(name)}:${typeof sent === "bigint" ? sent : JSON.stringify(sent)}`);
  }
  return `{${given.join(",")}}`;
}

/** Shows what is wrong, each problem at its entry, and the rest below the form. */
function refuse({ message = "", problems = [] }) {
  const left = new Map(problems.map((problem) => [problem.parameter, problem.message]));
  for (const entry of entries) {
    entry.refuse(left.get(entry.name) ?? "");
    left.delete(entry.name);
  }
  const isShown = problems.length > 0 && left.size === 0;
  $("wrong").hidden = !message;
  setText($("wrong"), isShown ? text("see_entries", { n: problems.length }) : message);
  entries.find(({ name }) => problems.some(({ parameter }) => parameter === name))?.control.focus();
}

/** Sends a picture, and returns its name. What is wrong with it is wrong with its parameter. */
async function sendPicture(file, parameter) {
  try {
    return (await request("api/anime/inputs", { method: "POST", body: file })).name;
  } catch (error) {
    const { message } = error;
    throw Object.assign(error, { problems: [{ parameter, message }] });
  }
}
