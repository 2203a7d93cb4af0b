/** Finding and making elements; all text is inserted as text, never as markup. */

/** Return the element with this id, which must exist. */
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

/** Set an element's text; leave the document as it is when the text is the same. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
