/** Numbers and times as people read them. Digits follow the browser's locale; times of day are always HH:MM. */

const SECOND_MS = 1_000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

const wholeNumber = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const shortNumber = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });
const scientific = new Intl.NumberFormat(undefined, { notation: "scientific", maximumSignificantDigits: 10 });
const small = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 4 });
const byDecimals = Array.from({ length: 5 }, (_, decimals) =>
  new Intl.NumberFormat(undefined, {
    minimumFractionDigits: decimals,
    maximumFractionDigits: decimals,
    useGrouping: false,
  }),
);
const dateAndTime = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium", hourCycle: "h23" });
const dayAndMonth = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });

/** Return how many decimals show a value to about five significant digits, at most three. */
export function decimalsOf(value) {
  const size = Math.abs(value);
  if (size >= 1e5) return 0;
  const digits = String(Number(size.toPrecision(6))).split(".")[1]?.length ?? 0;
  return Math.min(digits, size >= 1_000 ? 2 : 3);
}

/** Write a value with this many decimals, in plain digits; below a millionth and from 1e15 on as powers of ten. */
export function formatValue(value, decimals = decimalsOf(value)) {
  const size = Math.abs(value);
  if (size >= 1e15 || (size > 0 && size < 1e-6)) return scientific.format(value);
  if (size > 0 && size < 0.0005) return small.format(value);
  return byDecimals[decimals].format(size === 0 ? 0 : value);
}

/** Write a value with its unit; a unit that is a sign stands without a space as little as any other. */
export function formatQuantity(value, unit, decimals) {
  return unit ? `${formatValue(value, decimals)}\u202f${unit}` : formatValue(value, decimals);
}

/** Write a count. */
export function formatCount(count) {
  return wholeNumber.format(count);
}

/** Write a count in few characters: from 100,000 on roughly, such as 1.2M. */
export function formatCountShort(count) {
  return count < 1e5 ? formatCount(count) : shortNumber.format(count);
}

/** Write a count with its noun. */
export function formatNumberOf(count, singular, plural = `${singular}s`) {
  return `${formatCount(count)} ${count === 1 ? singular : plural}`;
}

/** Write how long ago a time was, in one unit, rounded down. */
export function formatAge(ms) {
  return ms < SECOND_MS ? "now" : `${formatUnit(ms)} ago`;
}

/** Write a duration in up to two units. */
export function formatDuration(ms) {
  if (ms < MINUTE_MS) return `${Math.max(0, Math.floor(ms / SECOND_MS))} s`;
  if (ms < HOUR_MS) return `${Math.floor(ms / MINUTE_MS)} min`;
  if (ms < DAY_MS) return `${Math.floor(ms / HOUR_MS)} h ${pad(Math.floor((ms % HOUR_MS) / MINUTE_MS))} min`;
  return `${wholeNumber.format(Math.floor(ms / DAY_MS))} d ${Math.floor((ms % DAY_MS) / HOUR_MS)} h`;
}

/** Write a date and a time to the second. */
export function formatMoment(ms) {
  return dateAndTime.format(ms);
}

/** Write a local time of day as HH:MM. */
export function formatTime(ms) {
  const date = new Date(ms);
  return `${pad(date.getHours())}:${pad(date.getMinutes())}`;
}

/** Write a local time of day as HH:MM:SS. */
export function formatTimeWithSeconds(ms) {
  return `${formatTime(ms)}:${pad(new Date(ms).getSeconds())}`;
}

/** Write HH:MM, with the day before it where that is not today. */
export function formatDayTime(ms, now) {
  const isToday = new Date(ms).toDateString() === new Date(now).toDateString();
  return isToday ? formatTime(ms) : `${dayAndMonth.format(ms)} ${formatTime(ms)}`;
}

/** Write when something began and for how long it has lasted: HH:MM within a day, else the day. */
export function formatSince(ms, now) {
  const start = now - ms < DAY_MS ? formatTime(ms) : dayAndMonth.format(ms);
  return `${start} · ${formatDuration(now - ms)}`;
}

function formatUnit(ms) {
  if (ms < MINUTE_MS) return `${Math.floor(ms / SECOND_MS)} s`;
  if (ms < HOUR_MS) return `${Math.floor(ms / MINUTE_MS)} min`;
  if (ms < 2 * DAY_MS) return `${Math.floor(ms / HOUR_MS)} h`;
  return `${wholeNumber.format(Math.floor(ms / DAY_MS))} d`;
}

function pad(number) {
  return String(number).padStart(2, "0");
}
