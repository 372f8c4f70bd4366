// The test page, from the relay itself (own) or from a file server on another loopback port (elsewhere):
//   node tests/browser/test_client.mjs own|elsewhere http://127.0.0.1:8328 JOB_ID

import { print, serveFile, withPage } from "./chromium.mjs";

const [place, relay, job] = process.argv.slice(2);
const FILE = new URL("../../src/server/pages/websocket_test_client.html", import.meta.url);

await withPage(async (page) => {
  const own = `${relay}/websocket_test_client.html`;
  const address = place === "own" ? own : `http://localhost:${await serveFile(FILE)}/`;
  await page.goto(address);
  const server = page.locator("#server");
  await page.waitForFunction(() => document.querySelector("#server").value !== "");
  print("server", { text: await server.inputValue() });
  await server.fill(relay.replace("http", "ws"));
  await page.fill("#job-id", job);
  await page.getByRole("button", { name: "Connect to Job" }).click();
  await page.locator("#job-state[data-state=open]").waitFor();
  print("connected");
  await page.locator("#status", { hasText: "completed" }).waitFor();
  print("completed", { percent: await page.locator("#percent").textContent(), path: await page.locator("#output-path").textContent() });
  await page.getByRole("button", { name: "Connect to System Monitor" }).click();
  await page.locator("#monitor-data").waitFor();
  print("monitor", { text: await page.locator("#monitor-data").textContent() });
});
