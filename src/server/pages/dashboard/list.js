// The history: an endless list from the database, with what is searched for in the address of the page.

import { request } from "./api.js";
import { blank } from "./blank.js";
import { make, setAttribute, setText } from "./elements.js";
import { row } from "./row.js";
import { text } from "./texts.js";
import * as words from "./words.js";

/** How many rows new ones may push down. */
const MAX_ROWS = 300;

const ENDED = "completed,failed,cancelled";
const $ = (id) => document.getElementById(id);

/** Whether a search is for a label: `episode=3`. */
function isLabel(query) {
  return /^[^=\s]+=/.test(query);
}

export class HistoryList {
  #filter = { status: "", backend: "", day: "", q: "" };
  #page;
  #cursor = null;
  #generation = 0;
  #isLoading = false;
  #hasFailed = false;
  /** Jobs that ended while the reader points at the list: rows must not move below the pointer. */
  #held = [];
  #isPointedAt = false;
  #shown = new Set();

  constructor({ page, isEndless = false }) {
    this.#page = page;
    const parameters = new URLSearchParams(location.search);
    for (const key of Object.keys(this.#filter)) this.#filter[key] = parameters.get(key) ?? "";
    $("q").value = this.#filter.q;
    $("day").value = this.#filter.day;
    this.#showStatus();
    $("status").addEventListener("click", ({ target }) => {
      const button = target.closest("button");
      if (button) this.#change({ status: button.dataset.status });
    });
    $("server").addEventListener("change", ({ target }) => this.#change({ backend: target.value }));
    $("day").addEventListener("change", ({ target }) => this.#change({ day: target.value }));
    $("more").addEventListener("click", () => this.#loadMore());
    const rows = $("rows");
    rows.addEventListener("pointerenter", () => (this.#isPointedAt = true));
    rows.addEventListener("pointerleave", () => {
      this.#isPointedAt = false;
      this.#release();
    });
    rows.addEventListener("focusout", ({ relatedTarget }) => {
      if (!this.#isPointedAt && !rows.contains(relatedTarget)) this.#release();
    });
    if (isEndless) new IntersectionObserver(([entry]) => entry.isIntersecting && this.#loadMore(), { rootMargin: "600px" }).observe($("more"));
    this.#loadServers();
  }

  /** Shows jobs whose id has this in it, or which have this label. */
  search(q) {
    this.#change({ q });
  }

  /** Reads the first page. */
  async load() {
    this.#generation += 1;
    this.#cursor = null;
    this.#held = [];
    await this.#read(true);
  }

  /** Adds a job that has just ended. */
  add(job) {
    if (!this.#matches(job) || this.#shown.has(job.job_id)) return;
    if (this.#isPointedAt || $("rows").contains(document.activeElement)) this.#held.push(job);
    else this.#prepend(job);
  }

  #prepend(job) {
    $("rows").querySelector(".blank")?.parentElement.remove();
    this.#shown.add(job.job_id);
    $("rows").prepend(row(job));
    this.#trim();
    this.#showCount();
  }

  /** A page that stays open for days keeps no rows that were pushed out below: they can be read again. */
  #trim() {
    const rows = $("rows");
    while (rows.childElementCount > MAX_ROWS && rows.children[MAX_ROWS - 1].cursor) {
      this.#shown.delete(rows.lastElementChild.job);
      rows.lastElementChild.remove();
      this.#cursor = rows.lastElementChild.cursor;
    }
  }

  #release() {
    for (const job of this.#held.splice(0)) if (!this.#shown.has(job.job_id)) this.#prepend(job);
  }

  #matches({ job_id, status, backend, created_at: created, endedAt, labels = {} }) {
    const { q, day } = this.#filter;
    return (!this.#filter.status || this.#filter.status === status) && (!this.#filter.backend || this.#filter.backend === backend)
      && (!q || (isLabel(q) ? Object.entries(labels).some((label) => label.join("=") === q) : job_id.toLowerCase().includes(q.toLowerCase()))) && (!day || new Date(day + "T00:00").toDateString() === new Date(Date.parse(created) || endedAt).toDateString());
  }

  #change(changes) {
    Object.assign(this.#filter, changes);
    this.#showStatus();
    const address = new URL(location.href);
    for (const [key, value] of Object.entries(this.#filter)) {
      if (value) address.searchParams.set(key, value);
      else address.searchParams.delete(key);
    }
    history.replaceState(null, "", address);
    this.load();
  }

  #showStatus() {
    for (const button of $("status").children) setAttribute(button, "aria-pressed", button.dataset.status === this.#filter.status);
  }

  #path() {
    const { status, backend, day, q } = this.#filter;
    const query = new URLSearchParams({ status: status || ENDED, limit: this.#page });
    if (backend) query.set("backend", backend);
    if (q) query.set(isLabel(q) ? "label" : "q", q);
    if (day) {
      const from = new Date(`${day}T00:00`);
      const to = new Date(from);
      to.setDate(to.getDate() + 1);
      const moment = (date) => date.toISOString().replace(/\.\d+/, "");
      query.set("since", moment(from));
      query.set("until", moment(to));
    }
    if (this.#cursor) query.set("cursor", this.#cursor);
    return `api/anime/jobs?${query}`;
  }

  async #loadMore() {
    if (this.#isLoading) return;
    // A first page that could not be read is read again.
    if (this.#cursor || this.#hasFailed) await this.#read(!this.#cursor);
  }

  async #read(isFirst) {
    const generation = this.#generation;
    this.#isLoading = true;
    this.#hasFailed = false;
    try {
      // A page of a search covers a part of the jobs, and can be empty before the end.
      for (let isEmpty = true; isEmpty; ) {
        const { jobs, next_cursor } = await request(this.#path());
        if (generation !== this.#generation) return;
        if (isFirst) {
          this.#shown.clear();
          $("rows").replaceChildren();
          isFirst = false;
        }
        this.#cursor = next_cursor;
        const fresh = jobs.filter(({ job_id }) => !this.#shown.has(job_id));
        for (const { job_id } of fresh) this.#shown.add(job_id);
        $("rows").append(...fresh.map(row));
        isEmpty = next_cursor && fresh.length === 0;
      }
      if (this.#shown.size === 0) this.#showEmpty();
      this.#showCount();
    } catch (error) {
      if (generation !== this.#generation) return;
      this.#hasFailed = true;
      $("foot").hidden = $("more").hidden = false;
      setText($("n-rows"), text("list_failed", { reason: error.message }));
    } finally {
      if (generation === this.#generation) this.#isLoading = false;
    }
  }

  #showEmpty() {
    const isFiltered = Object.values(this.#filter).some(Boolean);
    $("rows").replaceChildren(make("li", isFiltered ? blank("none_found", "none_found_more") : blank("none_ended", "none_ended_more")));
  }

  #showCount() {
    const n = words.count(this.#shown.size);
    setText($("n-rows"), this.#shown.size === 0 ? "" : text(this.#cursor ? "n_shown" : "n_all", { n }));
    $("more").hidden = !this.#cursor;
    $("foot").hidden = this.#shown.size === 0;
  }

  async #loadServers() {
    try {
      const { components } = await request("api/anime/health");
      const names = components.comfyui.filter((server) => server.queue_running != null).map(({ name }) => name);
      $("server").append(...names.map((name) => make("option", name, { value: name })));
      $("server").value = this.#filter.backend;
    } catch {
      // The list says it.
    }
  }
}
