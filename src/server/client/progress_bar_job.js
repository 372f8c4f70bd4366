// A job's bar as an element:
//
//   <script type="module" src="client/progress_bar_job.js"></script>
//   <progress-bar-job job="shot-12"></progress-bar-job>
//
// Attributes: `job`, `server` (the relay that has served this module by default), `previews`. Property: `token`.
// Events: `progress`, with what is shown as its detail. Parts for CSS: bar, percent, message, eta, error, preview.

import { remaining } from "./duration.js";
import { EMPTY_VIEW, JobView } from "./job_view.js";
import { FINAL } from "./status.js";

const STYLE = `
  :host { display: grid; grid-template-columns: 1fr auto; gap: 0.25em 0.75em; font: inherit; }
  :host([hidden]) { display: none; }
  progress { inline-size: 100%; align-self: center; accent-color: currentColor; }
  [part=percent], [part=eta] { text-align: end; font-variant-numeric: tabular-nums; }
  [part=message] { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
  [part=error], [part=preview] { grid-column: 1 / -1; overflow-wrap: anywhere; }
  img { max-inline-size: 100%; }
  div:empty, img:not([src]) { display: none; }
`;

class ProgressBarJob extends HTMLElement {
  static observedAttributes = ["job", "server", "previews"];
  #token;
  #view = null;
  #parts;

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    const style = new CSSStyleSheet();
    style.replaceSync(STYLE);
    root.adoptedStyleSheets = [style];
    const part = (tag, name) => {
      const element = document.createElement(tag);
      element.part = name;
      return element;
    };
    this.#parts = {
      bar: part("progress", "bar"), percent: part("span", "percent"), message: part("span", "message"),
      eta: part("span", "eta"), error: part("div", "error"), preview: part("img", "preview"),
    };
    this.#parts.bar.max = 100;
    this.#parts.error.role = "alert";
    this.#parts.preview.alt = "";
    root.append(...Object.values(this.#parts));
  }

  /** A text, or a function that returns one or a promise of one. Set it before the element is in the document. */
  get token() {
    return this.#token;
  }

  set token(token) {
    this.#token = token;
    if (typeof token === "string") this.#view?.renew(token);
  }

  connectedCallback() {
    this.#follow();
  }

  disconnectedCallback() {
    this.#view?.stop();
    this.#view = null;
  }

  attributeChangedCallback(_name, before, now) {
    if (this.isConnected && before !== now) this.#follow();
  }

  /** Cancels the job. False while there is no connection. */
  cancel() {
    return this.#view?.cancel() ?? false;
  }

  #follow() {
    this.#view?.stop();
    const job = this.getAttribute("job");
    this.#parts.bar.ariaLabel = job ? `Progress of ${job}` : "Progress";
    this.#show(EMPTY_VIEW);
    if (!job) return;
    const options = {
      server: this.getAttribute("server") || undefined, token: this.#token, previews: this.hasAttribute("previews"),
    };
    this.#view = new JobView(job, options, (value) => this.#show(value));
    this.#view.start();
  }

  #show(value) {
    const { bar, percent, message, eta, error, preview } = this.#parts;
    bar.value = value.progress;
    percent.textContent = `${value.progress} %`;
    // What the relay said last is not what is now.
    const isOld = !value.isConnected && !FINAL.has(value.status);
    message.textContent = (isOld && value.connection) || value.message || value.connection;
    message.title = value.connection;
    eta.textContent = isOld ? "" : remaining({ status: value.status }, value.eta);
    if (error.textContent !== (value.error ?? "")) error.textContent = value.error ?? "";
    if (value.preview) preview.src = value.preview;
    else preview.removeAttribute("src");
    this.dataset.status = value.status;
    this.dispatchEvent(new CustomEvent("progress", { detail: value }));
  }
}

customElements.define("progress-bar-job", ProgressBarJob);
