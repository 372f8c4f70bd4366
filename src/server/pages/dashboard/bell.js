// Notifications when jobs end, if the reader has asked for them.

import { setAttribute } from "./elements.js";
import { text } from "./texts.js";

const KEY = "notify";
let isOn = false;

function store(value) {
  try {
    if (value === undefined) return localStorage.getItem(KEY) === "1";
    localStorage.setItem(KEY, value ? "1" : "0");
  } catch {
    // Without a storage the choice holds until the page is left.
  }
  return Boolean(value);
}

/** Makes a button switch them on and off. It stays hidden where the browser has none. */
export function useBell(button) {
  if (!("Notification" in window) || !window.isSecureContext) return;
  button.hidden = false;
  const show = () => setAttribute(button, "aria-pressed", isOn);
  isOn = store() && Notification.permission === "granted";
  show();
  button.addEventListener("click", async () => {
    isOn = !isOn && (await Notification.requestPermission()) === "granted";
    store(isOn);
    show();
  });
}

/** Notifies that a job has ended, unless the reader sees the page. */
export function notifyEnd({ job_id, status, error }) {
  if (!isOn || (!document.hidden && document.hasFocus())) return;
  const options = { body: error ?? "", tag: job_id, icon: document.getElementById("icon").href };
  try {
    new Notification(text(`now_${status}`, { name: job_id }), options);
  } catch {
    // Chrome on Android has notifications for service workers alone.
  }
}
