/** The server's clock: an operator's screen may be minutes off, and would then show wrong ages. */

/** Below this the screen's own clock is trusted: network delay and whole seconds in headers are no skew. */
const TOLERANCE_MS = 2_500;

let skewMs = 0;

/** Return the server's time, in milliseconds since 1970. */
export function now() {
  return Date.now() + skewMs;
}

/** Note the server's time, as an answer or a heartbeat just brought it. */
export function noteServerTime(ms) {
  const skew = ms - Date.now();
  if (Number.isFinite(skew)) skewMs = Math.abs(skew) > TOLERANCE_MS ? skew : 0;
}
