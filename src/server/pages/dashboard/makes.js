// What a job makes: the inputs that matter, read from its graph.

import { make } from "./elements.js";
import { text } from "./texts.js";
import * as words from "./words.js";

/** How much of a prompt is shown. */
const MAX_PROMPT = 600;

const MODEL_INPUTS = ["ckpt_name", "unet_name", "model_name", "gguf_name"];
const SIZE = (inputs) => Number.isFinite(inputs.width) && Number.isFinite(inputs.height);

/** Shows them; nothing where the graph has none of them. */
export function showMakes(workflow) {
  const rows = read(Object.values(workflow ?? {}), workflow ?? {}).filter(([, value]) => value);
  document.getElementById("makes").hidden = rows.length === 0;
  document.getElementById("makes-list").replaceChildren(...rows.flatMap(([key, value]) => [make("dt", text(key)), make("dd", value)]));
}

function read(nodes, graph) {
  const inputs = nodes.map((node) => node.inputs ?? {});
  const values = (names) => [...new Set(inputs.flatMap((input) => names.map((name) => input[name]).filter((value) => typeof value === "string")))];
  const short = (path) => path.split(/[\\/]/).at(-1).replace(/\.(safetensors|ckpt|gguf|pt|pth)$/, "");
  const models = values(MODEL_INPUTS).map(short);
  const loras = values(["lora_name"]).map((name) => ` + ${short(name)}`);
  const samplers = inputs.filter((input) => Number.isFinite(input.steps));
  const seeds = new Set(inputs.map((input) => input.seed ?? input.noise_seed).filter((seed) => typeof seed === "bigint" || Number.isFinite(seed)));
  return [
    ["model", models.length ? [models.join(", "), loras.length ? make("span", loras.join(""), { className: "muted" }) : ""] : ""],
    ["size", size(inputs.find(SIZE))],
    ["sampler", sampler(samplers)],
    ["seed", [...seeds].join(", ")],
    ["prompt", prompt(samplers, graph)],
  ];
}

function size(input) {
  if (!input) return "";
  const { width, height } = input;
  const shown = `${width} × ${height}`;
  const frames = input.length ?? input.num_frames;
  if (Number.isFinite(frames) && frames > 1) return text("frames", { size: shown, n: words.count(frames) });
  return text("pictures", { size: shown, n: Number.isFinite(input.batch_size) ? input.batch_size : 1 });
}

function sampler(samplers) {
  if (samplers.length === 0) return "";
  const [{ sampler_name, cfg }] = samplers;
  const steps = samplers.map((input) => input.steps).join(" + ");
  return [sampler_name, text("steps", { n: steps }), Number.isFinite(cfg) && text("cfg", { n: words.count(cfg) })].filter(Boolean).join(", ");
}

/** The text that leads to the positive input of a sampler. */
function prompt(samplers, graph) {
  const seen = new Set();
  const find = (link) => {
    if (!Array.isArray(link) || seen.has(link[0])) return "";
    seen.add(link[0]);
    const { inputs = {} } = graph[link[0]] ?? {};
    if (typeof inputs.text === "string") return inputs.text;
    return Object.values(inputs).map(find).find(Boolean) ?? "";
  };
  const found = samplers.map(({ positive }) => find(positive)).find(Boolean) ?? "";
  return found.length > MAX_PROMPT ? `${found.slice(0, MAX_PROMPT)}…` : found;
}
