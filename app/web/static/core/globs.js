/** Globs with * and ?, as rules and silences use them. */

const SPECIAL = /[.+^${}()|[\]\\]/g;

/** Return whether a text matches a glob; null matches nothing but "*". */
export function globFits(glob, text) {
  if (glob === "*") return true;
  if (text === null || text === undefined) return false;
  const pattern = glob.replace(SPECIAL, "\\$&").replaceAll("*", ".*").replaceAll("?", ".");
  return new RegExp(`^${pattern}$`, "s").test(text);
}
