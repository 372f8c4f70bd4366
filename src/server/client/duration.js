import { FINAL } from "./status.js";

/** A number of seconds as text. */
export function duration(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

/**
 * The remaining time of a job as text; empty while it is unknown. `seconds` is what is left now: see
 * JobSocket.secondsLeft().
 */
export function remaining({ status, estimated_remaining }, seconds = estimated_remaining) {
  if (seconds == null || FINAL.has(status)) return "";
  return seconds < 1 ? "less than 1 s left" : `about ${duration(seconds)} left`;
}
