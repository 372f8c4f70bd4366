// A row of the history: one job that has ended.

import { jobPage } from "./api.js";
import { icon, make } from "./elements.js";
import { mainPicture, showFileWhenSeen } from "./picture.js";
import { text } from "./texts.js";
import * as words from "./words.js";

/** The width of the pictures that are asked for, in pixels. */
const THUMBNAIL = 160;

export const ICONS = { completed: "check", failed: "cross", cancelled: "stop", processing: "play", queued: "dot" };

/** The row of a job. */
export function row(job) {
  const { job_id: id, status } = job;
  const ended = Date.parse(job.completed_at) || Date.parse(job.timestamp);
  const began = Date.parse(job.started_at);
  const took = job.elapsed ?? (began ? (ended - began) / 1000 : null);
  const more = job.error ?? job.workflow ?? outputNames(job);
  const line = make("li", [
    thumbnail(job),
    make("div", [make("a", id, { className: "one", href: jobPage(id), title: id }), make("p", more, { className: `one${job.error ? " err" : ""}`, title: job.error ?? "" })], { className: "t" }),
    make("span", job.backend ?? "", { className: "dim srv one" }),
    make("span", [icon(ICONS[status]), text(status)], { className: `st ${status}` }),
    make("p", [took == null ? text("never_ran") : words.exact(took), make("small", predictedText(job))], { className: "took" }),
    make("time", words.day(ended), { dateTime: new Date(ended).toISOString() }),
  ], { className: "row" });
  line.job = id;
  // Where the list goes on below it.
  if (job.created_at) line.cursor = `${Date.parse(job.created_at)}.${id}`;
  return line;
}

/** ComfyUI has deleted the file. */
function showMissing(picture) {
  picture?.classList.add("none");
  picture?.replaceChildren(icon("cross"));
}

function predictedText({ status, predicted_seconds: predicted }) {
  if (status !== "completed") return text("ended_early");
  return predicted == null ? "" : text("predicted", { time: words.predicted(predicted) });
}

function outputNames({ outputs = [] }) {
  const [first] = outputs;
  if (!first) return "";
  return outputs.length > 1 ? `${first.filename} +${outputs.length - 1}` : first.filename;
}

function thumbnail({ job_id: id, outputs = [], status }) {
  const number = mainPicture(outputs);
  if (number < 0) return make("div", icon(outputs.length ? "file" : status === "failed" ? "cross" : status === "cancelled" ? "stop" : "dot"), { className: "pic none" });
  const image = make("img", [], { alt: "", decoding: "async" });
  image.addEventListener("error", () => showMissing(image.parentElement));
  showFileWhenSeen(image, id, number, { width: THUMBNAIL });
  return make("div", image, { className: "pic" });
}
