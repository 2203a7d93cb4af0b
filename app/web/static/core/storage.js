/** Values that the browser keeps: the key until the tab is closed, the operator's name for longer. */

const KEY = "tidegauge.key";
const NAME = "tidegauge.name";
const FRAGMENT = "#key=";

/** Take a key from the address's fragment and remove it from there; else return the kept one, or null. */
export function takeKey() {
  if (location.hash.startsWith(FRAGMENT)) {
    const key = decodeURIComponent(location.hash.slice(FRAGMENT.length));
    history.replaceState(null, "", location.pathname + location.search);
    if (key !== "") return key;
  }
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
