// Numbers as text: nowhere else on the pages does a number of seconds or a moment become words. What is to come is
// rounded, because no more is known; what is past is exact.

import { LANGUAGE, text } from "./texts.js";

const SPACE = "\u00a0";
const CLOCK = new Intl.DateTimeFormat(LANGUAGE, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const SECONDS = new Intl.DateTimeFormat(LANGUAGE, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const DAY = new Intl.DateTimeFormat(LANGUAGE, { day: "numeric", month: "short" });
const COUNT = new Intl.NumberFormat(LANGUAGE);
const DECIMAL = new Intl.NumberFormat(LANGUAGE, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const UNITS = LANGUAGE === "ja" ? { s: "秒", min: "分", h: "時間" } : { s: "s", min: "min", h: "h" };

/** The deviation in seconds from which on a moment is given with one. */
const MIN_SPREAD = 30;

/** Seconds to come as a number and a unit: whole seconds, even ones from 10 on, minutes from 60 on, half hours from 90 minutes on. */
function rounded(seconds) {
  if (seconds < 10) return [Math.max(1, Math.round(seconds)), "s"];
  if (seconds < 59) return [Math.round(seconds / 2) * 2, "s"];
  if (seconds < 5370) return [Math.max(1, Math.round(seconds / 60)), "min"];
  return [Math.round(seconds / 1800) / 2, "h"];
}

function joined([number, unit]) {
  return `${COUNT.format(number)}${SPACE}${UNITS[unit]}`;
}

/** How long something to come takes: “about 20 s”. */
export function about(seconds) {
  return text("about", { time: joined(rounded(seconds)) });
}

/** An interval of seconds to come: “about 20–26 s”. */
export function between(low, high) {
  const [from, unit] = rounded(low);
  const [to, other] = rounded(high);
  if (from === to && unit === other) return about(high);
  const time = unit === other ? `${COUNT.format(from)}–${joined([to, other])}` : `${joined([from, unit])} – ${joined([to, other])}`;
  return text("about", { time });
}

/** What a job has left; `left` is of `store.js`. */
export function timeLeft(left) {
  if (!left) return text("not_known");
  if (left.high < 1.5) return text("almost");
  return text("left", { time: between(left.low, left.high) });
}

/** A moment to come or past, to the nearest minute, in milliseconds. */
export function clock(moment) {
  return CLOCK.format(Math.round(moment / 60_000) * 60_000);
}

/** A moment that is past, to the second. */
export function exactClock(moment) {
  return SECONDS.format(moment);
}

/** A moment that is past: the time of today, or the day. */
export function day(moment) {
  return new Date(moment).toDateString() === new Date().toDateString() ? clock(moment) : DAY.format(moment);
}

/** “ (±1 min)”, empty where a minute says too much. `spread` is in seconds. */
export function plusMinus(spread) {
  const minutes = spread < MIN_SPREAD ? "" : text("plus_minus", { n: COUNT.format(Math.max(1, Math.round(spread / 60))) });
  return minutes && ` (${minutes})`;
}

/** How long something that is past took: “64 s”, “9 min 31 s”. */
export function exact(seconds) {
  if (seconds < 0.05) return `<${SPACE}${DECIMAL.format(0.1)}${SPACE}${UNITS.s}`;
  if (seconds < 9.95) return `${DECIMAL.format(seconds)}${SPACE}${UNITS.s}`;
  const whole = Math.round(seconds);
  if (whole < 90) return `${whole}${SPACE}${UNITS.s}`;
  if (whole < 3600) return `${Math.floor(whole / 60)}${SPACE}${UNITS.min} ${String(whole % 60).padStart(2, "0")}${SPACE}${UNITS.s}`;
  return `${Math.floor(whole / 3600)}${SPACE}${UNITS.h} ${String(Math.floor((whole % 3600) / 60)).padStart(2, "0")}${SPACE}${UNITS.min}`;
}

/** A predicted time that stands beside an exact one. */
export function predicted(seconds) {
  return exact(seconds);
}

/** A past interval: “17–28 s”. */
export function exactBetween(low, high) {
  const [from, to] = [Math.round(low), Math.round(high)];
  return to < 90 ? `${from}–${to}${SPACE}${UNITS.s}` : `${exact(low)} – ${exact(high)}`;
}

/** A mark on an axis of seconds: “0 s”, “2 min”, “1:30 min”. */
export function mark(seconds) {
  if (seconds < 60) return `${COUNT.format(seconds)}${SPACE}${UNITS.s}`;
  const whole = Math.round(seconds);
  const rest = whole % 60;
  return `${Math.floor(whole / 60)}${rest ? `:${String(rest).padStart(2, "0")}` : ""}${SPACE}${UNITS.min}`;
}

/** A whole number. */
export function count(number) {
  return COUNT.format(number);
}

/** Minutes that an axis shows: “30 min”, “2 h”. */
export function span(minutes) {
  return joined(minutes < 120 ? [minutes, "min"] : [minutes / 60, "h"]);
}

/** A share as “91 %”. */
export function percent(number) {
  return `${Math.floor(number)}${SPACE}%`;
}

/** A name cut in the middle, where names that are nearly equal differ least: “bg_sta…_v12”. */
export function cut(name, most) {
  if (name.length <= most) return name;
  const end = Math.floor((most - 1) / 2);
  return `${name.slice(0, most - 1 - end)}…${name.slice(name.length - end)}`;
}
