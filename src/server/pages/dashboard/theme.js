// The theme that the reader chose, before the first paint. A script of its own because modules run after it.

(() => {
  const parameters = new URLSearchParams(location.search);
  let kept = null;
  try {
    kept = localStorage.getItem("theme");
  } catch {
    // The browser denies its storage: the system's theme is used.
  }
  const theme = parameters.get("theme") ?? kept;
  const root = document.documentElement;
  if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  if (parameters.has("kiosk") || parameters.has("wall")) root.classList.add("wall");
})();
