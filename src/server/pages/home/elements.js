// Elements of a document.

/** Creates an element. `content` is text, an element, or a list of both, in which empty entries count as none. */
export function make(name, content = [], properties = {}) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...[content].flat().filter((part) => part !== "" && part != null));
  return element;
}

/** Changes a text only if it is another one. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
