/** The API key in the browser's storage. It is sent in the first message of a connection, never in an address. */

const NAME = "tidegauge.key";

/** Return the stored key, or null. */
export function readKey() {
  try {
    return localStorage.getItem(NAME);
  } catch {
    return null; // a browser without storage has to ask for the key at each visit
  }
}

/** Store a key that the server accepted. */
export function keepKey(key) {
  try {
    localStorage.setItem(NAME, key);
  } catch {
    // As above.
  }
}

/** Delete the stored key. */
export function forgetKey() {
  try {
    localStorage.removeItem(NAME);
  } catch {
    // As above.
  }
}
