/** Formats for numbers and times, in the browser's locale. */

const SECOND_MS = 1_000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

const wholeNumber = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const threeDecimals = new Intl.NumberFormat(undefined, { maximumFractionDigits: 3 });
const fourDigits = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 4 });
const powerOfTen = new Intl.NumberFormat(undefined, { notation: "scientific", maximumSignificantDigits: 4 });
const dateAndTime = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
const timeOnly = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

/** Format a value with three decimals, or four digits below 1; the tooltip has all digits. */
export function formatValue(value) {
  const size = Math.abs(value);
  if (size >= 1e12 || (size > 0 && size < 1e-4)) return powerOfTen.format(value);
  return (size < 1 ? fourDigits : threeDecimals).format(value);
}

/** Format a count. */
export function formatCount(count) {
  return wholeNumber.format(count);
}

/** Format the time since `time` in one unit, rounded down; a time in the future is shown as "in …". */
export function formatAge(time, now) {
  const age = now - time;
  if (Math.abs(age) < SECOND_MS) return "now";
  const span = formatSpan(Math.abs(age));
  return age < 0 ? `in ${span}` : `${span} ago`;
}

/** Format a date and a time with its zone. */
export function formatMoment(time) {
  return dateAndTime.format(time);
}

/** Format a time of day. */
export function formatTime(time) {
  return timeOnly.format(time);
}

function formatSpan(ms) {
  if (ms < MINUTE_MS) return `${Math.floor(ms / SECOND_MS)} s`;
  if (ms < HOUR_MS) return `${Math.floor(ms / MINUTE_MS)} min`;
  if (ms < 2 * DAY_MS) return `${Math.floor(ms / HOUR_MS)} h`;
  return `${wholeNumber.format(Math.floor(ms / DAY_MS))} d`;
}
