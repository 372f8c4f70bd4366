// Elements of a document.

const SVG = "http://www.w3.org/2000/svg";

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

/** Changes an attribute only if it has another value; `null` removes it. */
export function setAttribute(element, name, value) {
  if (value == null) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
  } else if (element.getAttribute(name) !== String(value)) {
    element.setAttribute(name, value);
  }
}

/** Changes a property of the style only if it has another value. The policy of the pages allows no `style` attributes in HTML. */
export function setStyle(element, name, value) {
  const kept = (element.styles ??= {});
  if (kept[name] === value) return;
  kept[name] = value;
  element.style.setProperty(name, value);
}

/** Creates an element of a drawing. */
export function shape(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

/** One of the icons of the page's symbols. */
export function icon(name) {
  const svg = shape("svg", { class: "ico", "aria-hidden": "true" });
  svg.append(shape("use", { href: `#i-${name}` }));
  return svg;
}

/** Shows another icon. */
export function setIcon(svg, name) {
  setAttribute(svg.firstElementChild, "href", `#i-${name}`);
}

/** Text for assistive technology alone. */
export function spoken(text) {
  return make("span", text, { className: "sr" });
}
