// The time axis of the farm: which moments are shown, and where.

/** The share of the axis that is past. */
const PAST = 0.16;

/** By the minutes shown: how far apart labels are, how far the axis moves at once, and thin rules, in minutes. */
const GRID = { 10: { label: 2, rule: 1, shift: 0.5 }, 30: { label: 5, rule: 1, shift: 1 }, 120: { label: 20, rule: 5, shift: 5 } };

const MINUTE = 60_000;

/** The axis at a moment. It stands still while the line of now moves, and moves on in whole steps. */
export function axisAt(now, minutes) {
  const { label, rule, shift } = GRID[minutes];
  const width = minutes * MINUTE;
  const step = shift * MINUTE;
  const start = Math.floor((now - PAST * width) / step) * step;
  return {
    start,
    end: start + width,
    label: label * MINUTE,
    rule: rule * MINUTE,
    /** The place of a moment in percent of the axis. */
    place: (moment) => ((moment - start) / width) * 100,
  };
}

/** The moments from the axis' start on that are whole multiples of `step`, in local time. */
export function ticks(axis, step) {
  const zone = new Date(axis.start).getTimezoneOffset() * MINUTE;
  const first = Math.ceil((axis.start - zone) / step) * step + zone;
  const found = [];
  for (let moment = first; moment < axis.end; moment += step) found.push(moment);
  return found;
}
