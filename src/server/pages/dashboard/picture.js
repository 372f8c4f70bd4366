// The pictures of a job, from the relay's own address.

import { BASE, TOKEN, jobPath, request } from "./api.js";

const KINDS = { png: "image", jpg: "image", jpeg: "image", webp: "image", gif: "image", avif: "image", mp4: "video", webm: "video", mov: "video", mkv: "video", wav: "sound", mp3: "sound", flac: "sound", ogg: "sound", opus: "sound" };

/** What a file is: `image`, `video`, `sound` or `file`. */
export function kind({ filename }) {
  return KINDS[filename.split(".").at(-1).toLowerCase()] ?? "file";
}

/** Reads pictures when they are nearly seen. */
const observer = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    observer.unobserve(target);
    target.showFile();
  }
}, { rootMargin: "300px" });

/** How long a list of files is used, in milliseconds: its links end, a day later. */
const LIST_LASTS = 3_600_000;

/** The lists of files that were read, `{at, read}` by job. */
const lists = new Map();

/** A file of a job, as the list of its files has it. */
async function listed(id, number) {
  const known = lists.get(id);
  if (known && performance.now() - known.at < LIST_LASTS) {
    const { outputs } = await known.read.catch(() => ({ outputs: [] }));
    // A job makes more files while it runs.
    if (outputs[number]) return outputs[number];
  }
  // Several pictures ask at once.
  if (lists.get(id) === known) lists.set(id, { at: performance.now(), read: request(jobPath(id, "/outputs")) });
  const { outputs } = await lists.get(id).read;
  if (!outputs[number]) throw new RangeError("the job has no such file");
  return outputs[number];
}

/**
 * An address at which an element can open a file of a job. Elements send no token: a list of the files has links that are
 * signed, and where the relay signs none, the file is read first.
 */
async function openAddress(id, number, width) {
  const address = new URL(jobPath(id, `/outputs/${number}`), BASE);
  if (width) address.searchParams.set("w", width);
  if (!TOKEN) return address.href;
  const link = new URL((await listed(id, number)).url).searchParams;
  if (!link.has("sig")) {
    const answer = await fetch(address, { headers: { Authorization: `Bearer ${TOKEN}` } });
    return URL.createObjectURL(await answer.blob());
  }
  for (const [name, value] of link) address.searchParams.set(name, value);
  return address.href;
}

/** Shows the file with this number: `width` asks for a smaller picture of it, `property` is `href` for a link. */
export function showFile(element, id, number, { width, property = "src" } = {}) {
  openAddress(id, number, width).then((address) => {
    element[property] = address;
  }, () => element.dispatchEvent(new Event("error")));
  return element;
}

/** The same once the element is nearly seen. */
export function showFileWhenSeen(element, id, number, options) {
  element.showFile = () => showFile(element, id, number, options);
  observer.observe(element);
}

/** The number of the file that stands for the job: the last picture that was saved, else a video; -1 without one. */
export function mainPicture(outputs = []) {
  const saved = (wanted) => outputs.findLastIndex((output) => kind(output) === wanted && output.type === "output");
  const any = (wanted) => outputs.findLastIndex((output) => kind(output) === wanted);
  return [saved("image"), any("image")].find((number) => number >= 0) ?? -1;
}
