// What was done today: totals that a restart does not change.

import { request } from "./api.js";
import { setText } from "./elements.js";
import * as words from "./words.js";

const INTERVAL = 10_000;
const $ = (id) => document.getElementById(id);

/** Keeps the totals up to date. */
export function watchTotals() {
  const look = async () => {
    const today = new Date();
    today.setHours(0, 0, 0, 0);
    const since = today.toISOString().replace(/\.\d+/, "");
    try {
      const { completed, failed, inside_interval: inside } = await request(`api/anime/totals?since=${since}`);
      setText($("n-completed"), words.count(completed));
      setText($("n-failed"), words.count(failed));
      setText($("n-inside"), inside == null ? "–" : words.percent(inside * 100));
    } catch {
      // The socket reports that the relay does not answer.
    }
  };
  look();
  setInterval(look, INTERVAL);
}
