// The test page that shows every message:
//   node tests/browser/test_page.mjs follow http://127.0.0.1:8328/test JOB_ID        until it has completed
//   node tests/browser/test_page.mjs unregistered http://127.0.0.1:8328/test JOB_ID  what it says of a job that nobody has registered
//   node tests/browser/test_page.mjs missing http://127.0.0.1:8328/test JOB_ID       until the relay waits for the job no longer
//   node tests/browser/test_page.mjs token http://127.0.0.1:8328/test JOB_ID TOKEN   asks for the token, then follows
//   node tests/browser/test_page.mjs denied http://127.0.0.1:8328/test JOB_ID TOKEN  the same in a browser that denies the storage
//   node tests/browser/test_page.mjs unopened http://127.0.0.1:8328/test JOB_ID      follows, though no socket is ever opened
//   node tests/browser/test_page.mjs away http://127.0.0.1:8328/test                 what it says of a ComfyUI that does not answer

import { print, withPage } from "./chromium.mjs";

const [scenario, address, job, token] = process.argv.slice(2);

async function completed(page) {
  await page.locator("#status", { hasText: "completed" }).waitFor();
  print("completed", { connection: await page.locator("#connection").textContent() });
}

const SCENARIOS = {
  async follow(page) {
    await page.goto(`${address}#job=${job}`);
    await page.locator("#connection[data-state=open]").waitFor();
    print("connected", { connection: await page.locator("#connection").textContent() });
    await completed(page);
    await page.waitForFunction(() => {
      const picture = document.querySelector("#output-list img");
      if (picture) picture.loading = "eager";
      return picture?.naturalWidth > 0;
    });
    print("outputs", { links: await page.locator("#output-list a").evaluateAll((links) => links.map((link) => link.href)) });
  },
  async unregistered(page) {
    await page.goto(`${address}#job=${job}`);
    const connection = page.locator("#connection", { hasText: "Nobody has registered" });
    await connection.waitFor();
    const first = await connection.textContent();
    await page.waitForFunction((first) => document.querySelector("#connection").textContent !== first, first);
    print("unregistered", { first, next: await page.locator("#connection").textContent() });
    await completed(page);
  },
  async missing(page) {
    await page.goto(`${address}#job=${job}`);
    const connection = page.locator("#connection", { hasText: "no such job" });
    await connection.waitFor();
    print("closed", { connection: await connection.textContent() });
  },
  async token(page) {
    await page.goto(`${address}#job=${job}`);
    await page.locator("#token-form").waitFor();
    print("asked", { why: await page.locator("#token-why").textContent() });
    // A browser throws at what cannot be a header's value.
    await page.fill("#token", "no token at all, ü");
    await page.getByRole("button", { name: "Use token" }).click();
    await page.locator("#token-why", { hasText: "malformed" }).waitFor();
    await page.fill("#token", "no.such.token");
    await page.getByRole("button", { name: "Use token" }).click();
    await page.locator("#token-why", { hasText: "malformed" }).waitFor();
    print("refused", { why: await page.locator("#token-why").textContent() });
    await page.fill("#token", token);
    await page.getByRole("button", { name: "Use token" }).click();
    await completed(page);
    print("shown", {
      owner: await page.locator("#token-owner").textContent(),
      url: page.url(),
      is_asked: await page.locator("#token-form").isVisible(),
    });
    await page.getByRole("button", { name: "Forget" }).click();
    await page.locator("#token-form").waitFor();
  },
  async denied(page) {
    await page.addInitScript(() => {
      Object.defineProperty(window, "sessionStorage", {
        get() {
          throw new DOMException("denied", "SecurityError");
        },
      });
    });
    await page.goto(`${address}#job=${job}`);
    await page.locator("#token-form").waitFor();
    await page.fill("#token", token);
    await page.getByRole("button", { name: "Use token" }).click();
    await completed(page);
    print("shown", { url: page.url() });
  },
  async unopened(page) {
    await page.addInitScript(() => {
      window.WebSocket = class extends EventTarget {
        static OPEN = 1;
        readyState = 0;
        close() {}
      };
    });
    await page.clock.install();
    await page.goto(`${address}#job=${job}`);
    const connection = page.locator("#connection", { hasText: "Server-Sent Events" });
    // Each socket is given up after a while.
    while (!(await connection.count())) await page.clock.fastForward(5_000);
    print("connected", { connection: await connection.textContent() });
    await page.locator("#status", { hasText: "completed" }).waitFor();
  },
  async away(page) {
    await page.goto(address);
    const backend = page.locator("#backends li");
    await backend.waitFor();
    print("away", { text: await backend.textContent() });
  },
};

await withPage(SCENARIOS[scenario]);
