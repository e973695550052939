/** The two things done to the document everywhere. Text is only ever set as text. */

/** The element with this id. */
export const byId = (id) => document.getElementById(id);

/** A new element with attributes and children; strings become text nodes. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Set the text of an element, and leave the document alone if it is there already. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
