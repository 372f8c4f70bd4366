// The dashboard:
//   node tests/browser/dashboard.mjs home ADDRESS JOB        watches a job from its card to its row in the history
//   node tests/browser/dashboard.mjs restart ADDRESS JOB     the same, over a restart of the relay
//   node tests/browser/dashboard.mjs away ADDRESS JOB        where a proxy answers at first, and then the relay goes away
//   node tests/browser/dashboard.mjs job ADDRESS JOB COMFYUI the page of a job, where the browser cannot reach ComfyUI
//   node tests/browser/dashboard.mjs failed ADDRESS JOB      the page of a job that has failed
//   node tests/browser/dashboard.mjs sizes ADDRESS JOB       each page on phone, tablet, desktop and wall, light and dark
//   node tests/browser/dashboard.mjs keyboard ADDRESS JOB    by the keyboard alone
//   node tests/browser/dashboard.mjs token ADDRESS JOB TOKEN asks for the token, then shows the job
//   node tests/browser/dashboard.mjs languages ADDRESS JOB   the dashboard and the history in each language, and what they load
//   node tests/browser/dashboard.mjs forced ADDRESS JOB      with the colours of a high-contrast theme
//   node tests/browser/dashboard.mjs bell ADDRESS JOB        notifies of the end of the job in a tab that nobody sees
//   node tests/browser/dashboard.mjs gap ADDRESS JOB         how far the farm is from the only card on a phone
//   node tests/browser/dashboard.mjs lane ADDRESS JOB        opens a lane as a list on a phone
//   node tests/browser/dashboard.mjs cancelling ADDRESS JOB  a job that is asked to stop, on its card and on its page
//   node tests/browser/dashboard.mjs opens ADDRESS JOB       opens the page of a job from the dashboard
//   node tests/browser/dashboard.mjs texts ADDRESS JOB       copies the text that a node of a job shows
//   node tests/browser/dashboard.mjs cut ADDRESS JOB         what a card on a phone says of a long interval
//   node tests/browser/dashboard.mjs servers ADDRESS JOB     what is said of the servers
//   node tests/browser/dashboard.mjs operated ADDRESS JOB    pauses and resumes the server and the queue
//   node tests/browser/dashboard.mjs watched ADDRESS JOB     the same pages with a token that may not

import { readFileSync } from "node:fs";

import { print, withPage } from "./chromium.mjs";

const [scenario, address, job, more] = process.argv.slice(2);
const AXE = readFileSync(new URL("../../target/tools/node_modules/axe-core/axe.min.js", import.meta.url), "utf8");

/** Before a page loads: adds up how far its parts move while nobody presses anything. */
function countShifts() {
  window.shifts = [];
  const observer = new PerformanceObserver((list) => {
    for (const { value, hadRecentInput, sources } of list.getEntries()) {
      if (hadRecentInput) continue;
      window.shifts.push({ value, moved: sources.map(({ node }) => node?.id || node?.className || node?.nodeName) });
    }
  });
  observer.observe({ type: "layout-shift", buffered: true });
}

const live = (page) => page.locator("#live[data-live=on]").waitFor();
const card = (page) => page.locator(".card", { hasText: job });
const row = (page, status) => page.locator(`#rows .row`, { hasText: job }).locator(`.st.${status}`);

/** What the dashboard shows of the job at a moment. */
function look(page) {
  return page.evaluate((job) => {
    const card = [...document.querySelectorAll(".card")].find((card) => card.textContent.includes(job));
    if (!card) return null;
    return {
      percent: Number(card.querySelector(".pct span").textContent),
      bar: Number(card.querySelector("[role=progressbar]").getAttribute("aria-valuenow")),
      lane: document.querySelector(".blk.running .sr")?.textContent ?? "",
      preview: !card.querySelector("img").hidden,
      title: document.title,
    };
  }, job);
}

/** What the only lane says of its server, and of the jobs that wait without a time. */
async function laneOf(page) {
  return page.evaluate(() => {
    const lane = document.querySelector(".lane");
    const [more] = lane.getElementsByClassName("more");
    const buttons = [...lane.querySelectorAll(".operate button")].map((button) => button.ariaLabel);
    return { state: lane.dataset.state, said: lane.querySelector(".until").textContent, more: more.textContent, why: more.title, buttons };
  });
}

const SCENARIOS = {
  async operated(page) {
    await page.goto(address);
    await live(page);
    await page.waitForFunction(() => document.querySelectorAll(".blk.waiting").length >= 3);
    print("planned", await laneOf(page));
    await page.locator(".lane").hover();
    await page.locator(".operate button").click();
    await page.locator(".lane[data-state=held] .more[title^=Waiting]").waitFor();
    print("stopped", await laneOf(page));
    await page.goto(`${address}servers`);
    const buttons = page.locator(".server .verbs button");
    await page.locator(".server[data-state=held]").waitFor();
    print("server", { said: await page.locator(".server h2 .st").textContent(), buttons: await buttons.allTextContents() });
    await buttons.click();
    await page.locator(".server[data-state=ok]").waitFor();
    print("resumed", { buttons: await buttons.allTextContents() });
    await page.evaluate((address) => fetch(`${address}api/anime/queue/pause`, { method: "POST" }), address);
    await page.goto(address);
    await page.locator("#summary button").waitFor();
    print("queue", { summary: await page.locator("#summary").textContent() });
    await page.locator("#summary button").click();
    await page.locator("#summary button").waitFor({ state: "detached" });
    print("running", { summary: await page.locator("#summary").textContent() });
  },
  async watched(page) {
    await page.goto(`${address}#token=${more}`);
    await live(page);
    await page.locator(".lane[data-state=held]").waitFor();
    print("lane", await laneOf(page));
    await page.goto(`${address}servers`);
    await page.locator(".server[data-state=held]").waitFor();
    print("server", { buttons: await page.locator(".server button").count() });
  },
  async home(page) {
    await page.addInitScript(countShifts);
    await page.goto(address);
    await live(page);
    // The servers are known, too.
    await page.locator("main:not([aria-busy])").waitFor();
    print("open", { headline: await page.locator("#headline").textContent() });
    await card(page).waitFor();
    let before = "";
    while (!(await row(page, "completed").count())) {
      const shown = await look(page);
      if (shown && JSON.stringify(shown) !== before) print("look", shown);
      before = JSON.stringify(shown);
      await page.evaluate(() => new Promise(requestAnimationFrame));
    }
    const image = page.locator("#rows .row img").first();
    await image.scrollIntoViewIfNeeded();
    await page.waitForFunction(() => document.querySelector("#rows .row img").naturalWidth > 0);
    print("ended", { shifts: await page.evaluate(() => window.shifts) });
  },
  async restart(page) {
    await page.goto(address);
    await live(page);
    await card(page).waitFor();
    print("running");
    await page.locator("#live[data-live=off]").waitFor();
    print("lost", { headline: await page.locator("#headline").textContent(), left: await card(page).locator(".eta b").textContent() });
    await live(page);
    print("back");
    await row(page, "completed").waitFor();
  },
  async away(page) {
    let refused = 0;
    await page.route("**/api/anime/jobs?status=queued,processing&limit=500", (route) => {
      refused += 1;
      return refused > 2 ? route.continue() : route.fulfill({ status: 200, contentType: "text/html", body: "<title>Starting</title>" });
    });
    await page.goto(address);
    await card(page).waitFor();
    print("card", { refused });
    await page.goto(`${address}jobs/${job}`);
    await live(page);
    const left = page.locator("#state .left");
    await page.waitForFunction(() => /left$/.test(document.querySelector("#state .left").textContent));
    print("live", { left: await left.textContent() });
    await page.locator("main[data-stale]").waitFor();
    print("stale", { left: await left.textContent(), sub: await page.locator("#state .sub").textContent() });
  },
  async job(page) {
    await page.addInitScript(countShifts);
    const asked = [];
    await page.route(`${more}/**`, (route) => {
      asked.push(route.request().url());
      route.abort();
    });
    await page.goto(`${address}jobs/${job}`);
    await page.locator(".st.completed").waitFor();
    await page.waitForFunction(() => document.querySelector("#picture img")?.naturalWidth > 0 && document.querySelectorAll(".nd").length > 0);
    await page.locator("#makes").waitFor();
    print("shown", {
      image: await page.locator("#picture img").getAttribute("src"),
      nodes: await page.locator(".nd").count(),
      makes: await page.locator("#makes").textContent(),
      title: await page.title(),
      asked,
      shifts: await page.evaluate(() => window.shifts),
    });
    await page.getByRole("button", { name: "Run again" }).click();
    await page.waitForURL((url) => !url.pathname.endsWith(`/${job}`));
    await page.locator(".st.completed, .st.processing, .st.queued").waitFor();
    print("again", { url: page.url() });
  },
  async failed(page) {
    await page.goto(`${address}jobs/${job}`);
    await page.locator("#fault").waitFor();
    await page.locator(".nd").first().waitFor();
    print("shown", { error: await page.locator("#fault h2").textContent(), states: await page.locator(".nd").evaluateAll((rows) => rows.map((row) => row.dataset.s)) });
  },
  async sizes(page) {
    for (const colorScheme of ["light", "dark"]) {
      for (const width of [320, 390, 820, 1280, 1920]) {
        await page.emulateMedia({ colorScheme });
        await page.setViewportSize({ width, height: 900 });
        for (const path of ["", `jobs/${job}`, "history", "servers", "connections", "?kiosk"]) {
          await page.goto(address + path);
          await page.locator("main:not([aria-busy])").waitFor();
          const sideways = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
          const isChecked = width === 390 || width === 1280;
          if (isChecked) await page.evaluate(AXE);
          const violations = isChecked ? await page.evaluate(async () => (await window.axe.run()).violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 160)).join(" ")}`)) : [];
          const background = await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
          print("page", { path, width, colorScheme, sideways, violations, background });
        }
      }
    }
  },
  async keyboard(page) {
    await page.goto(address);
    await live(page);
    await page.locator(".blk a").first().waitFor();
    const press = (key) => page.keyboard.press(key);
    const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.className);
    await press("Tab");
    const first = await focused();
    await press("Enter");
    const skipped = await focused();
    await press("/");
    const search = await focused();
    await press("Escape");
    await press("?");
    const hasKeys = await page.locator("#keys[open]").count();
    await press("Escape");
    await press("w");
    const isWall = await page.locator("html.wall").count();
    await press("Escape");
    while (!(await page.evaluate(() => document.activeElement.closest(".blk")))) await press("Tab");
    const block = await page.evaluate(() => document.activeElement.querySelector(".sr").textContent);
    await press("Enter");
    await page.waitForURL(/\/jobs\//);
    await page.locator("#state .st").waitFor();
    print("used", { first, skipped, search, hasKeys, isWall, block, url: page.url() });
  },
  async token(page) {
    await page.goto(address);
    await page.locator("#token-form").waitFor();
    await page.fill("#token", more);
    await page.keyboard.press("Enter");
    await live(page);
    await page.goto(`${address}jobs/${job}`);
    await page.locator(".st.completed").waitFor();
    print("shown", { owner: await page.locator("#token-owner").textContent(), url: page.url() });
  },
  async languages(page, browser) {
    // What the cache has counts as well.
    const session = await browser.newCDPSession(page);
    await session.send("Network.enable");
    await session.send("Network.setCacheDisabled", { cacheDisabled: true });
    for (const language of ["en", "de", "ja"]) {
      await page.goto(`${address}?lang=${language}`);
      await live(page);
      await card(page).waitFor();
      await page.locator("#rows .row").first().waitFor();
      const loaded = await page.evaluate(() => performance.getEntriesByType("resource").filter(({ name }) => /\/(web|client)\//.test(name)).map(({ name, decodedBodySize }) => [name.split("/").at(-1), decodedBodySize]));
      print("home", {
        language,
        lang: await page.locator("html").getAttribute("lang"),
        headline: await page.locator("#headline").textContent(),
        status: await page.locator("#rows .row .st").first().textContent(),
        tables: loaded.map(([name]) => name).filter((name) => ["english.js", "german.js", "japanese.js"].includes(name)),
        bytes: loaded.reduce((sum, [, size]) => sum + size, 0),
        sideways: await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth),
      });
      await page.goto(`${address}history?lang=${language}`);
      const image = page.locator("#rows .row img").first();
      await image.scrollIntoViewIfNeeded();
      await page.waitForFunction(() => document.querySelector("#rows .row img").naturalWidth > 0);
      print("history", { language, image: await image.getAttribute("src"), width: await image.evaluate(({ naturalWidth }) => naturalWidth) });
    }
  },
  async forced(page) {
    await page.emulateMedia({ forcedColors: "active" });
    await page.goto(address);
    await card(page).waitFor();
    await page.locator(".blk.running").first().waitFor();
    const look = (selector, pseudo) => page.evaluate(([selector, pseudo]) => {
      const { backgroundColor, backgroundImage, borderTopStyle, color } = getComputedStyle(document.querySelector(selector), pseudo);
      return { backgroundColor, backgroundImage, borderTopStyle, color };
    }, [selector, pseudo]);
    const system = await page.evaluate(() => {
      const probe = document.body.appendChild(document.createElement("i"));
      const colour = (name) => {
        probe.style.setProperty("forced-color-adjust", "none");
        probe.style.setProperty("color", name);
        return getComputedStyle(probe).color;
      };
      return { text: colour("CanvasText"), highlight: colour("Highlight") };
    });
    print("forced", { system, block: await look(".blk.running > a", "::before"), now: await look(".now", "::before"), rail: await look(".rail > i"), track: await look(".rail", "::before") });
  },
  async bell(page, browser) {
    await browser.grantPermissions(["notifications"]);
    // Records what the browser is asked to show, and has it shown.
    await page.addInitScript(() => {
      window.shown = [];
      window.Notification = class extends Notification {
        constructor(title, options) {
          super(title, options);
          window.shown.push({ title, tag: this.tag });
        }
      };
    });
    await page.goto(address);
    await live(page);
    await card(page).waitFor();
    await page.locator("#bell").click();
    await page.locator("#bell[aria-pressed=true]").waitFor();
    // The browser of the tests gives each page the focus unless it is told not to.
    const session = await browser.newCDPSession(page);
    await session.send("Emulation.setFocusEmulationEnabled", { enabled: false });
    const other = await browser.newPage();
    await other.bringToFront();
    await page.waitForFunction(() => document.hidden || !document.hasFocus(), undefined, { polling: 100 });
    print("away");
    await page.waitForFunction(() => window.shown.length > 0, undefined, { polling: 100 });
    print("notified", { shown: await page.evaluate(() => window.shown) });
  },
  async gap(page) {
    await page.setViewportSize({ width: 390, height: 844 });
    await page.goto(address);
    await card(page).waitFor();
    await page.locator("main:not([aria-busy])").waitFor();
    print("gap", { pixels: await page.evaluate(() => document.getElementById("farm").getBoundingClientRect().top - document.querySelector(".card").getBoundingClientRect().bottom) });
  },
  async lane(page) {
    await page.setViewportSize({ width: 390, height: 844 });
    await page.goto(address);
    await card(page).waitFor();
    const lane = page.locator(".lane:not(.skeleton)").first();
    const button = lane.locator(".opens");
    const before = await button.getAttribute("aria-expanded");
    await button.focus();
    await page.keyboard.press("Enter");
    const link = lane.locator(".lane-jobs a", { hasText: "waits-2" });
    await link.waitFor();
    print("opened", { before, after: await button.getAttribute("aria-expanded"), label: await button.getAttribute("aria-label"), jobs: await lane.locator(".lane-jobs a b").allTextContents(), said: await link.locator("span").textContent() });
    await link.click();
    await page.waitForURL(/\/jobs\/waits-2$/);
  },
  async cancelling(page) {
    await page.goto(address);
    await live(page);
    await card(page).locator(".foot", { hasText: "Refine" }).waitFor();
    print("open");
    await card(page).locator("button.danger:disabled").waitFor();
    const onCard = await card(page).locator("button.danger").textContent();
    await page.goto(`${address}jobs/${job}`);
    await page.locator("#acts .danger:disabled").waitFor();
    await page.locator(".nd").nth(4).waitFor();
    print("shown", { onCard, onPage: await page.locator("#acts .danger").textContent(), nodes: await page.locator(".nd").evaluateAll((rows) => rows.map((row) => row.querySelector("[title]").title)) });
  },
  async texts(page, browser) {
    await browser.grantPermissions(["clipboard-read", "clipboard-write"]);
    await page.goto(`${address}jobs/${job}`);
    const shown = page.locator("#shown");
    await shown.locator("pre").waitFor();
    await shown.getByRole("button").click();
    await page.waitForFunction(async () => (await navigator.clipboard.readText()) !== "");
    print("shown", {
      name: await shown.locator("h3").textContent(),
      text: await shown.locator("pre").textContent(),
      copied: await page.evaluate(() => navigator.clipboard.readText()),
      files: await page.locator("#strip button").allTextContents(),
    });
  },
  async cut(page) {
    for (const language of ["en", "de", "ja"]) {
      for (const width of [320, 390]) {
        await page.setViewportSize({ width, height: 844 });
        await page.goto(`${address}?lang=${language}`);
        await card(page).waitFor();
        // A state as it would come: of few estimates the ends are that far apart.
        await page.evaluate(async (job) => {
          const { get, put } = await import("/web/store.js");
          const [now, end] = [0, 58_000].map((later) => new Date(Date.now() + later).toISOString());
          put({ ...get(job), held: undefined, seq: 1e9, timestamp: now, estimated_remaining: 58, estimated_low: 54, estimated_high: 75, estimated_completion: end });
        }, job);
        const left = card(page).locator(".eta b");
        await page.waitForFunction(() => document.querySelector(".card .eta b").textContent.includes(" – "));
        const parts = await card(page).locator(".eta > *").evaluateAll((parts) => parts.filter((part) => part.offsetWidth > 0).map((part) => [part.textContent, part.scrollWidth - part.clientWidth]));
        print("card", { language, width, said: await left.textContent(), parts });
      }
    }
  },
  async servers(page) {
    await page.goto(address);
    const lane = page.locator(".lane:not(.skeleton)").first();
    await lane.waitFor();
    print("lane", { state: await lane.getAttribute("data-state"), said: await lane.locator(".until").textContent() });
    await page.goto(`${address}servers`);
    const server = page.locator(".server").first();
    await server.waitFor();
    const line = server.locator(".speed");
    const label = (await line.count()) ? await line.getAttribute("aria-label") : null;
    print("server", { state: await server.getAttribute("data-state"), said: await server.locator(".st").textContent(), label });
  },
  async opens(page) {
    // A link of an earlier release.
    await page.goto(`${address}#job=${job}`);
    await page.waitForURL(/\/jobs\//);
    await page.locator("#state .st").waitFor();
    const [live, blocked] = [page.locator("#live"), page.locator("#blocked")];
    await page.locator("#live:not([data-live=wait])").waitFor();
    await page.locator(".brand").click();
    await page.locator("#live:not([data-live=wait])").waitFor();
    const text = (await blocked.isVisible()) ? await blocked.textContent() : "";
    await page.locator("#history .row a", { hasText: job }).click();
    await page.locator("#state .st.completed").waitFor();
    print("opened", { url: page.url(), live: await live.getAttribute("data-live"), blocked: text });
  },
};

await withPage(SCENARIOS[scenario], { viewport: { width: 1280, height: 900 } });
