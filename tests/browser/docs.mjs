// The page of the documents, on a phone and a desk, by day and by night: node tests/browser/docs.mjs http://127.0.0.1:8328/docs

import { readFileSync } from "node:fs";

import { print, withPage } from "./chromium.mjs";

const [address] = process.argv.slice(2);
const AXE = readFileSync(new URL("../../target/tools/node_modules/axe-core/axe.min.js", import.meta.url), "utf8");

await withPage(async (page) => {
  for (const width of [360, 1280]) {
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize({ width, height: 800 });
      await page.goto(address);
      const lines = page.locator("details.sheet");
      await lines.first().waitFor();
      const names = await page.locator("details.sheet > summary").allTextContents();
      const create = page.locator("details.sheet", { hasText: "/api/anime/jobs" }).filter({ hasText: "post" }).first();
      await create.locator("summary").first().click();
      await create.locator(".fields b", { hasText: "workflow" }).first().waitFor();
      const sideways = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      await page.evaluate(AXE);
      const violations = await page.evaluate(async () => (await window.axe.run()).violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 160)).join(" ")}`));
      const background = await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
      print("page", { width, colorScheme, names, sideways, violations, background });
    }
  }
  await page.fill("#find", "post retry");
  const found = await page.locator("details.sheet:visible > summary code").allTextContents();
  await page.fill("#find", "nothing at all");
  await page.locator("#nothing").waitFor();
  print("found", { found });
});
