// The modules of the client in a browser:
//   node tests/browser/client.mjs hook http://127.0.0.1:8328/ FIRST SECOND     under StrictMode, the id changes in the middle
//   node tests/browser/client.mjs element http://127.0.0.1:8328/ JOB [SERVER]  <progress-bar-job>, under a strict policy
//   node tests/browser/client.mjs tracker http://127.0.0.1:8328/ JOB           a subclass, in a page with #progress and #status

import { FLAGS, print, withPage } from "./chromium.mjs";
import { reactModule } from "./react.mjs";

const [scenario, address, job, other] = process.argv.slice(2);

const POLICY = "default-src 'none'; script-src 'self'; connect-src 'self' ws: http:; img-src blob:";

const HOOK = `
  import { StrictMode, createElement as make, createRoot, useState } from "react";
  import { useAnimeProgress } from "./client/react.js";

  function Job() {
    const [id, setId] = useState(${JSON.stringify(job)});
    window.follow = setId;
    const view = useAnimeProgress(id, { previews: true });
    (window.renders ??= []).push({ id, ...view });
    return make("p", { id: "job", "data-status": view.status }, id, " ", view.progress);
  }

  let root;
  window.mount = () => (root = createRoot(document.querySelector("main"))).render(make(StrictMode, null, make(Job)));
  window.unmount = () => root.unmount();
  window.mount();`;

const TRACKER = `
  import { AnimeProgressTracker } from "./client/progress.js";

  class Page extends AnimeProgressTracker {
    onComplete(path) {
      document.title = path;
    }
  }
  new Page(${JSON.stringify(job)}).connect();`;

/** Answers a page of ours at the relay's own address, with its script in a file, as its policy wants it. */
async function open(page, { body = "", script = "", element = "client/progress_bar_job.js" }) {
  const html = `<!doctype html><meta charset="utf-8"><title>test</title>${body}`;
  const serve = (path, contentType, text, headers = {}) =>
    page.route(`${address}${path}`, (route) => route.fulfill({ contentType, body: text, headers }));
  await serve("test_page", "text/html", html.replace("ELEMENT", element), { "content-security-policy": POLICY });
  await serve("test_page.js", "text/javascript", script);
  await page.goto(`${address}test_page`);
}

/** Counts the sockets that the page opens, and those of them that are open. */
function countSockets(page) {
  const counts = { opened: 0, open: 0 };
  page.on("websocket", (socket) => {
    counts.opened += 1;
    counts.open += 1;
    socket.on("close", () => (counts.open -= 1));
  });
  return counts;
}

const shown = (page) => page.evaluate(() => window.renders.at(-1));

const SCENARIOS = {
  async hook(page) {
    const sockets = countSockets(page);
    // Import maps are inline scripts, which the policy forbids: the name is resolved here.
    await page.route(`${address}client/react.js`, async (route) => {
      const response = await route.fetch();
      route.fulfill({ response, body: (await response.text()).replace('"react"', '"../test_react.js"') });
    });
    await page.route(`${address}test_react.js`, (route) =>
      route.fulfill({ contentType: "text/javascript", body: reactModule() }));
    await open(page, {
      body: '<main></main><script type="module" src="test_page.js"></script>',
      script: HOOK.replace('"react"', '"./test_react.js"'),
    });
    await page.locator("#job[data-status=processing]").waitFor();
    print("first", { view: await shown(page), sockets: { ...sockets } });
    await page.evaluate((id) => window.follow(id), other);
    print("changed", { view: await page.evaluate((id) => window.renders.find((it) => it.id === id), other) });
    await page.locator("#job[data-status=completed]").waitFor();
    const previews = await page.evaluate(() => new Set(window.renders.map((it) => it.preview)).size - 1);
    print("second", { previews, view: await shown(page), sockets: { ...sockets } });
    await page.evaluate(() => window.unmount());
    await page.evaluate(() => window.mount());
    await page.locator("#job[data-status=completed], #job[data-status=processing]").waitFor();
    await page.evaluate(() => window.unmount());
    const renders = await page.evaluate(() => window.renders.length);
    while (sockets.open) await page.waitForEvent("websocket", { timeout: 50 }).catch(() => {});
    print("unmounted", { renders: await page.evaluate(() => window.renders.length) - renders, sockets });
  },
  async element(page) {
    const server = other ? ` server="${other}"` : "";
    await open(page, {
      body: `<progress-bar-job job="${job}" previews${server}></progress-bar-job><script type="module" src="ELEMENT"></script>`,
    });
    const part = (name) => page.locator(`progress-bar-job [part=${name}]`);
    const bar = page.getByRole("progressbar", { name: `Progress of ${job}` });
    await page.locator("progress-bar-job[data-status=processing]").waitFor();
    await bar.waitFor();
    print("running", { percent: await part("percent").textContent(), message: await part("message").textContent() });
    await page.locator("progress-bar-job[data-status=completed]").waitFor();
    print("completed", {
      percent: await part("percent").textContent(),
      value: await bar.evaluate((it) => it.value),
      is_error_shown: await part("error").isVisible(),
    });
    await page.locator("progress-bar-job").evaluate((it) => it.setAttribute("job", "no such id"));
    await part("error").waitFor();
    print("refused", { error: await part("error").textContent() });
  },
  async tracker(page) {
    await open(page, {
      body: '<p id="progress"></p><p id="status"></p><script type="module" src="test_page.js"></script>',
      script: TRACKER,
    });
    const status = page.locator("#status");
    await page.waitForFunction(() => document.querySelector("#status").textContent.startsWith("processing"));
    print("running", { status: await status.textContent() });
    await page.waitForFunction(() => document.querySelector("#progress").style.width === "100%");
    print("completed", { status: await status.textContent(), title: await page.title() });
  },
};

// Chromium does not know from where a page comes that this script answers, and asks before it lets it into loopback.
await withPage(SCENARIOS[scenario], { args: [...FLAGS, "--disable-features=LocalNetworkAccessChecks"] });
