import type { JobView } from "./hook.js";
import type { Token } from "./relay.js";

/** `<progress-bar-job job="…" server="…" previews>`. Dispatches `progress`, whose detail is a JobView. */
export interface ProgressBarJob extends HTMLElement {
  token: Token | undefined;
  cancel(): boolean;
}

declare global {
  interface HTMLElementTagNameMap {
    "progress-bar-job": ProgressBarJob;
  }
}
