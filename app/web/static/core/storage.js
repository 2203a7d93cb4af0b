/** Values that the browser keeps: the key until the tab is closed, the operator's name for longer. */

const KEY = "tidegauge.key";
const NAME = "tidegauge.name";
const FRAGMENT = "#key=";

/** Take a key from the address's fragment and remove it from there; return null if there is none. */
export function takeKeyFromAddress() {
  if (!location.hash.startsWith(FRAGMENT)) return null;
  const written = location.hash.slice(FRAGMENT.length);
  // In full: a path that begins with "//" would be taken for a host.
  history.replaceState(null, "", location.href.split("#")[0]);
  try {
    return decodeURIComponent(written) || null;
  } catch {
    return null;
  }
}

/** Return the key that is kept, or null. */
export function keptKey() {
  return read(() => sessionStorage, KEY);
}

/** Keep a key that the server accepted. */
export function keepKey(key) {
  write(() => sessionStorage, KEY, key);
}

/** Forget the kept key. */
export function forgetKey() {
  write(() => sessionStorage, KEY, null);
}

/** Return the name that the operator acted under last, or null. */
export function readName() {
  return read(() => localStorage, NAME);
}

/** Keep the name that the operator acts under. */
export function keepName(name) {
  write(() => localStorage, NAME, name);
}

// A browser that keeps nothing throws even at the mention of its storage; it asks anew at each visit.

function read(storage, name) {
  try {
    return storage().getItem(name);
  } catch {
    return null;
  }
}

function write(storage, name, value) {
  try {
    if (value === null) storage().removeItem(name);
    else storage().setItem(name, value);
  } catch {
    // Nothing is kept.
  }
}
