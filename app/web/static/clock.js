/** The server's clock: a screen whose own clock is minutes off would show every sensor as silent. */

/** A smaller difference from the screen's own clock is ignored, because a Date header has whole seconds only. */
const TOLERANCE_MS = 2_000;
const TIMEOUT_MS = 5_000;

let skewMs = 0;

/** Return the server's time, in milliseconds since 1970. */
export function now() {
  return Date.now() + skewMs;
}

/** Measure the difference between the server's clock and the screen's; without an answer, keep the last one. */
export async function measureSkew() {
  const started = Date.now();
  try {
    const answer = await fetch("/", { method: "HEAD", cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
    const served = Date.parse(answer.headers.get("Date"));
    const skew = served + 500 - (started + Date.now()) / 2;
    if (Number.isFinite(skew)) skewMs = Math.abs(skew) > TOLERANCE_MS ? skew : 0;
  } catch {
    // The feed shows that the server does not answer, and reconnects.
  }
}
