// The clock of the relay: that of the reader may be set to any time.

/** The relay's clock may be slower than this one by this share: it is slewed if its wall clock was set. */
const MAX_SLEW = 0.1;

/** The relay's clock less the monotonic one of the page, in milliseconds, and when they were compared. */
let offset = null;
let comparedAt = 0;

/** Compares the clocks. Messages are late, never early: the fastest one counts. */
export function compareClocks(timestamp) {
  const now = performance.now();
  const moment = Date.parse(timestamp);
  if (!Number.isFinite(moment)) return;
  const slewed = offset === null ? -Infinity : offset - MAX_SLEW * (now - comparedAt);
  offset = Math.max(moment - now, slewed);
  comparedAt = now;
}

/** The moment at the relay, in milliseconds since 1970. */
export function relayNow() {
  return offset === null ? Date.now() : offset + performance.now();
}
