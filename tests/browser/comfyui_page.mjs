// ComfyUI's own page, at the relay's address for clients of ComfyUI:
//   node tests/browser/comfyui_page.mjs run ADDRESS WORKFLOW     opens a workflow, runs it, and looks at its picture
//   node tests/browser/comfyui_page.mjs queue ADDRESS WORKFLOW   cancels a run, loads the page again while three are queued, and cancels two of them

import { print, withPage } from "./chromium.mjs";

const [scenario, address, workflow] = process.argv.slice(2);

/** How long anything may take, in milliseconds: the page has hundreds of modules. */
const PATIENCE = 60_000;

/** Before the page loads: notes which nodes are lit, in their order, and which previews they show. */
function watch() {
  window.seen = { lit: [], previews: [] };
  const note = (list, value) => list.includes(value) || list.push(value);
  const look = () => {
    for (const node of document.querySelectorAll("[data-node-id]")) {
      if (node.querySelector("[data-testid=node-state-outline-overlay]")) note(window.seen.lit, node.dataset.nodeId);
      for (const image of node.querySelectorAll("img[src^='blob:']")) note(window.seen.previews, image.src);
    }
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}

const active = (page, count) => page.getByTestId("queue-overlay-toggle").filter({ hasText: `${count} active` }).waitFor();
const row = (page, id) => page.locator(`[data-job-id="${id}"]`);

/** Loads the page with the workflow, as its menu opens it, and with all nodes in sight: it asks for no picture of another one. */
async function open(page) {
  page.setDefaultTimeout(PATIENCE);
  await page.addInitScript(watch);
  await page.goto(address);
  await active(page, 0);
  let chosen;
  page.once("filechooser", (chooser) => { chosen = chooser; });
  // The page says nowhere that it takes keys.
  while (!chosen) {
    await page.keyboard.press("Control+o");
    await page.waitForTimeout(500);
  }
  await chosen.setFiles(workflow);
  await page.locator("[data-node-id='9']").waitFor();
  await page.keyboard.press(".");
  print("open", { nodes: await page.locator("[data-node-id]").count() });
}

/** Runs the workflow once more, and returns the id of the prompt. */
async function queue(page) {
  const answered = page.waitForResponse((response) => response.url().endsWith("/prompt"));
  await page.getByTestId("queue-button").click();
  const answer = await answered;
  const { prompt_id } = await answer.json();
  print("queued", { status: answer.status(), prompt_id });
  return prompt_id;
}

/** Cancels a prompt in the panel of the queue. */
async function cancel(page, id) {
  await row(page, id).hover();
  await row(page, id).getByRole("button", { name: "Cancel" }).click();
}

/** Waits until the node that saves shows its picture, which comes from `/view`. */
async function picture(page) {
  const image = page.locator("[data-node-id='9'] img[src*='/view']");
  await image.waitFor();
  const width = await image.evaluate(async (image) => {
    await image.decode();
    return image.naturalWidth;
  });
  print("picture", { width, ...await page.evaluate(() => window.seen) });
}

const SCENARIOS = {
  async run(page) {
    await open(page);
    const id = await queue(page);
    await picture(page);
    await active(page, 0);
    await page.getByTestId("queue-overlay-toggle").click();
    await page.getByRole("button", { name: "Completed" }).click();
    await row(page, id).waitFor();
    print("history", { rows: await page.locator("[data-job-id]").count(), text: await row(page, id).textContent() });
  },
  async queue(page) {
    await open(page);
    await queue(page);
    await page.locator("[data-node-id='4'] [data-testid=node-state-outline-overlay]").waitFor();
    await page.getByRole("button", { name: "Cancel current run" }).click();
    await active(page, 0);
    const ids = [await queue(page), await queue(page), await queue(page)];
    await active(page, 3);
    await page.reload();
    await active(page, 3);
    print("reloaded");
    // The page lights no node of a prompt that it has not seen begin, but shows the previews of one.
    await page.locator("[data-node-id='3'] img[src^='blob:']").waitFor();
    print("preview");
    await page.getByTestId("queue-overlay-toggle").click();
    for (const id of ids) await row(page, id).waitFor();
    await cancel(page, ids[2]);
    await active(page, 2);
    await cancel(page, ids[0]);
    await active(page, 1);
    print("cancelled");
    await active(page, 0);
    await picture(page);
  },
};

await withPage(SCENARIOS[scenario], { viewport: { width: 1_400, height: 900 } });
