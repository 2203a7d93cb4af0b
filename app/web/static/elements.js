/** Elements by id and from scratch; text only ever goes in as text. */

/** Give the element with this id; the page has all that are asked for. */
export function byId(id) {
  return document.getElementById(id);
}

/** Make an element with attributes and children; a string becomes a text node. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Set an element's text, but touch the document only when it differs. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
