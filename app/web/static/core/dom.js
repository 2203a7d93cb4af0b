/** Elements by id and from scratch; text only ever goes in as text. */

/** Return the element with this id; the page has all that are asked for. */
export function byId(id) {
  return document.getElementById(id);
}

/** Make an element with attributes and children; a string becomes a text node, null is left out. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null));
  return element;
}

/** Make an SVG element with attributes and children. */
export function makeSvg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Set an element's text, but touch the document only when it differs. */
export function setText(element, text) {
  // A new text node each time: in a right-aligned cell a changed one would move, which counts as a layout shift.
  if (element.textContent !== text) element.textContent = text;
}

/** Set an attribute, or remove it for null, but touch the document only when it differs. */
export function setAttribute(element, name, value) {
  if (value === null) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
  } else if (element.getAttribute(name) !== value) {
    element.setAttribute(name, value);
  }
}

/** Make these the children of an element, in this order; those that are in place already are not touched. */
export function arrange(parent, children) {
  let place = parent.firstChild;
  for (const child of children) {
    if (child === place) place = place.nextSibling;
    else parent.insertBefore(child, place);
  }
  while (place !== null) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

/** Elements by key, each made once and updated in place, so that focus and selection survive an update. */
export class Keyed {
  #create;
  #parts = new Map();

  /** `create(item)` returns {element, update(item)}. */
  constructor(create) {
    this.#create = create;
  }

  /** Return the elements of these items, updated; those of other items are forgotten. */
  update(items, keyOf) {
    const kept = new Map();
    for (const item of items) {
      const key = keyOf(item);
      const part = this.#parts.get(key) ?? this.#create(item);
      part.update(item);
      kept.set(key, part);
    }
    this.#parts = kept;
    return [...kept.values()].map((part) => part.element);
  }
}
