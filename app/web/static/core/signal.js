/** Listeners by topic. */

export class Topics {
  #listeners = new Map();

  /** Call `listener` with what is told of a topic; return a function that ends this. */
  on(topic, listener) {
    const listeners = this.#listeners.get(topic) ?? new Set();
    this.#listeners.set(topic, listeners.add(listener));
    return () => listeners.delete(listener);
  }

  /** Tell all listeners of a topic. */
  tell(topic, detail) {
    for (const listener of this.#listeners.get(topic) ?? []) listener(detail);
  }
}
