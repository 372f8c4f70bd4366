// The page that submits workflows, on a phone and a desk, by day and by night, by keyboard, and in each language:
// node tests/browser/submit.mjs http://127.0.0.1:8328/submit [FOLDER for screenshots]

import { readFileSync } from "node:fs";

import { print, withPage } from "./chromium.mjs";

const [address, pictures] = process.argv.slice(2);
const AXE = readFileSync(new URL("../../target/tools/node_modules/axe-core/axe.min.js", import.meta.url), "utf8");
const ONE_PIXEL = Buffer.from("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==", "base64");

await withPage(async (page) => {
  const open = async (query = "") => {
    await page.goto(address + query);
    await page.locator("#order:visible, #none > .blank").first().waitFor();
  };
  const look = async (name, more) => {
    const sideways = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    await page.evaluate(AXE);
    const violations = await page.evaluate(async () => (await window.axe.run()).violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 160)).join(" ")}`));
    const background = await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
    if (pictures) await page.screenshot({ path: `${pictures}/${name}.png`, fullPage: true });
    print("page", { name, sideways, violations, background, ...more });
  };
  const refused = () => page.locator(".entry .error:visible").allTextContents();

  for (const width of [360, 560, 1280]) {
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize({ width, height: 800 });
      await open("?workflow=lora-stack");
      const labels = await page.locator(".entry label").allTextContents();
      await look(`${width}-${colorScheme}`, { labels });
      await page.fill("[name=steps]", "0");
      await page.click("#go");
      await page.locator("#wrong:visible").waitFor();
      await look(`${width}-${colorScheme}-wrong`, { refused: await refused(), focused: await page.evaluate(() => document.activeElement.name) });
    }
  }

  // By keyboard alone.
  await open("?workflow=txt2img");
  await page.focus("#workflow");
  for (let pressed = 0; pressed < 40; pressed += 1) {
    const name = await page.evaluate(() => document.activeElement.name);
    if (name === "prompt") await page.keyboard.type(" and a cat");
    if (name === "steps") {
      await page.keyboard.press("Control+A");
      await page.keyboard.type("12");
    }
    if (await page.evaluate(() => document.activeElement.id === "go")) break;
    await page.keyboard.press("Tab");
  }
  await page.keyboard.press("Enter");
  await page.locator("#sent a").waitFor();
  print("sent", { job: await page.locator("#sent a").textContent(), link: await page.locator("#sent a").getAttribute("href") });

  // Another workflow, with a picture. What was typed is there again afterwards.
  await page.selectOption("#workflow", "img2img");
  const query = new URL(page.url()).search;
  await page.click("#go");
  await page.locator("#wrong:visible").waitFor();
  const missing = await refused();
  await page.setInputFiles("[name=start]", { name: "text.png", mimeType: "image/png", buffer: Buffer.from("no picture") });
  await page.click("#go");
  await page.locator(".entry .error", { hasText: "not a picture" }).waitFor();
  await page.setInputFiles("[name=start]", { name: "photo.png", mimeType: "image/png", buffer: ONE_PIXEL });
  await page.locator(".entry img:visible").waitFor();
  await page.click("#go");
  await page.locator("#sent a").waitFor();
  print("picture", { query, missing, job: await page.locator("#sent a").textContent() });
  await page.selectOption("#workflow", "txt2img");
  // A number that a program with 53 bits would round.
  await page.fill("[name=seed]", "18014398509481985");
  await page.click("#go");
  await page.locator("#wrong:visible").waitFor();
  print("exact", { refused: await refused() });
  // What was not touched is not sent.
  const body = page.waitForRequest((request) => request.method() === "POST");
  await page.fill("[name=seed]", "7");
  await page.click("#go");
  print("touched", JSON.parse((await body).postData()).parameters);
  print("kept", { steps: await page.inputValue("[name=steps]") });
  // A proxy refuses, in place of the relay.
  await page.route("**/api/anime/jobs", (route) => route.fulfill({ status: 413, contentType: "text/html", body: "<title>Too large</title>" }));
  await page.click("#go");
  await page.locator("#wrong:visible").waitFor();
  print("proxy", { wrong: await page.locator("#wrong").textContent() });
  await page.unroute("**/api/anime/jobs");

  for (const language of ["en", "de", "ja"]) {
    await open(`?lang=${language}`);
    const texts = await page.locator("h1, #go, .pick label").allTextContents();
    await look(language, { texts, title: await page.title() });
  }
});
