// The title of the tab of the browser.

/** Shows a title. */
export function showTitle(title) {
  const whole = `${title} · comfy-relay`;
  if (document.title !== whole) document.title = whole;
}
