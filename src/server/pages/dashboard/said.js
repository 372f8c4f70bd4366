// What assistive technology is told, politely: ends of jobs and answers to what the reader did, never percentages.

/** Says a text. */
export function say(text) {
  document.getElementById("said").textContent = text;
}
