// Tests the page and the library in a real browser: node run.mjs CHROMIUM [PATTERN]

import { mkdir, readFile, rm } from "node:fs/promises";
import { fileURLToPath } from "node:url";

import { Browser } from "./browser.mjs";
import { failures, holds, equal, summary, test } from "./harness.mjs";
import { testAbsence, testLoss } from "./absence.mjs";
import { testData } from "./data.mjs";
import { testPage } from "./page.mjs";
import { takePictures } from "./pictures.mjs";
import { serve } from "./server.mjs";
import { texts } from "../page/texts.js";

// WebGPU on SwiftShader, also where there is another GPU: everybody tests the same, and canvases are drawn to.
const SOFTWARE_GPU = [
  "--enable-unsafe-webgpu",
  "--use-vulkan=swiftshader",
  "--use-angle=vulkan",
  "--enable-features=Vulkan",
  "--disable-vulkan-surface",
];

const chromium = process.argv[2];
const folder = (path) => fileURLToPath(new URL(path, import.meta.url));
const pictures = folder("../pictures");
await rm(pictures, { recursive: true, force: true });
await mkdir(pictures, { recursive: true });
const { server, address } = await serve(folder("../dist"));

await test("both languages say the same", () => {
  const parameters = (text) => (text.match(/\{\w+\}/g) ?? []).sort();
  equal(Object.keys(texts.ko), Object.keys(texts.en), "keys");
  for (const [key, text] of Object.entries(texts.en)) equal(parameters(texts.ko[key]), parameters(text), `parameters of ${key}`);
});

async function inBrowser(flags, tests) {
  const browser = await Browser.launch(chromium, flags);
  try {
    await tests(browser);
  } finally {
    await browser.close();
  }
}

await inBrowser(SOFTWARE_GPU, async (browser) => {
  await testPage(browser, address);
  await testData(browser, address);
  await testLoss(browser, address);
  await takePictures(browser, address, pictures);

  const page = await browser.open(`${address}/blank`);
  const names = await page.call(async () => {
    const { default: init, Checks } = await import("/checks/seghead_web_checks.js");
    await init();
    window.checks = await Checks.open();
    return Checks.names();
  });
  for (const name of names) {
    await test(`operators: ${name}`, async () => {
      const { compared, failures } = await page.call((name) => window.checks.run(name), name);
      equal(failures, [], "failures");
      holds(compared > 100, `${compared} compared`);
      return `${compared} compared`;
    });
  }
  equal(page.errors, [], "the console");
  await page.close();
});

await inBrowser(["--disable-features=WebGPU", "--disable-gpu"], (browser) => testAbsence(browser, address, pictures));

server.close();
process.exitCode = summary() ? 0 : 1;
