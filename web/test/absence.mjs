// Without a GPU, and when it goes away.

import { join } from "node:path";

import { equal, holds, test } from "./harness.mjs";
import { texts } from "../page/texts.js";

export async function testAbsence(browser, address, pictures) {
  for (const language of ["en", "ko"]) {
    await test(`without WebGPU (${language})`, async () => {
      const page = await browser.open(`${address}/?lang=${language}`, { width: 800, height: 400 });
      await page.call(() => page.started);
      const found = await page.call(() => [
        document.querySelector("#alert").innerText,
        getComputedStyle(document.querySelector("#workbench")).display,
      ]);
      holds(found[0].includes(texts[language]["error.webgpu"]), `it says ${found[0]}`);
      equal(found[1], "none", "the workbench");
      equal(page.errors, [], "the console");
      await page.picture(join(pictures, `without-webgpu-${language}.png`));
      await page.close();
    });
  }
}

export async function testLoss(browser, address) {
  await test("a GPU that is lost", async () => {
    const page = await browser.open(`${address}/blank`);
    const before = `const request = GPUAdapter.prototype.requestDevice;
      GPUAdapter.prototype.requestDevice = async function (...asked) {
        return (window.device = await request.apply(this, asked));
      };`;
    await page.send("Page.addScriptToEvaluateOnNewDocument", { source: before });
    await page.go(`${address}/?lang=en`);
    const found = await page.call(async () => {
      await page.started;
      window.device.destroy();
      await window.device.lost;
      await page.redraw();
      return document.querySelector("#alert").innerText;
    });
    holds(found.includes(texts.en["error.gpu"]), `it says ${found}`);
    await page.close();
  });
}
