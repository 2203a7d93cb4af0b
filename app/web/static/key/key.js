/** The API key, kept in this browser until it is forgotten; it goes into the first message, never into an address. */

const NAME = "tidegauge.key";

/** Give the kept key, or null. */
export function readKey() {
  try {
    return localStorage.getItem(NAME);
  } catch {
    return null; // a browser that keeps nothing asks for the key at each visit
  }
}

/** Keep a key that the server accepted. */
export function keepKey(key) {
  try {
    localStorage.setItem(NAME, key);
  } catch {
    // As above.
  }
}

/** Forget the kept key. */
export function forgetKey() {
  try {
    localStorage.removeItem(NAME);
  } catch {
    // As above.
  }
}
