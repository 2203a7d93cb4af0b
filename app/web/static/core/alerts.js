/** When an alert is over. */

/** Return when an alert ended, in milliseconds since 1970: by its readings, or when somebody closed it; null while it is open. */
export function endOf({ resolved_at: resolved, closed_at: closed, state }) {
  const end = resolved ?? (state === "resolved" ? closed : null);
  return end ? Date.parse(end) : null;
}
