/** The server's clock: an operator's screen may be minutes off, and would then call every sensor silent. */

/** Below this the screen's own clock is trusted; an answer's Date header has whole seconds only. */
const TOLERANCE_MS = 2_000;
const TIMEOUT_MS = 5_000;

let skewMs = 0;

/** Give the server's time, in milliseconds since 1970. */
export function now() {
  return Date.now() + skewMs;
}

/** Measure how far the server's clock is from ours; without an answer, the last measure stands. */
export async function measureSkew() {
  const started = Date.now();
  try {
    const answer = await fetch("/", { method: "HEAD", cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
    const served = Date.parse(answer.headers.get("Date"));
    const skew = served + 500 - (started + Date.now()) / 2;
    if (Number.isFinite(skew)) skewMs = Math.abs(skew) > TOLERANCE_MS ? skew : 0;
  } catch {
    // The feed says that the server is away, and reconnects.
  }
}
