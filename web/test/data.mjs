// The visitor's own data, sound and broken.

import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

import { drop, npy } from "./files.mjs";
import { close, equal, holds, test } from "./harness.mjs";
import { softmax } from "./oracle.mjs";
import { texts } from "../page/texts.js";

const sample = (name) => readFile(fileURLToPath(new URL(`../../assets/sample/${name}`, import.meta.url)));

/// Logits that rise smoothly over the picture, differently in every class.
export function smooth(classes, height, width) {
  const values = [];
  for (let c = 0; c < classes; c++) {
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) values.push(5 * Math.sin(1.7 * c + x / 9) + 4 * Math.cos(2.3 * c + y / 7));
    }
  }
  return values;
}

/// The softmax over the classes of planes one after another.
function probabilities(values, classes) {
  const pixels = values.length / classes;
  const found = new Array(values.length);
  for (let i = 0; i < pixels; i++) {
    const p = softmax(Array.from({ length: classes }, (_, c) => values[c * pixels + i]));
    p.forEach((p, c) => (found[c * pixels + i] = p));
  }
  return found;
}

/// The same with the classes of a pixel next to one another.
export function classesLast(values, classes) {
  const pixels = values.length / classes;
  return Array.from(values, (_, i) => values[(i % classes) * pixels + Math.floor(i / classes)]);
}

const state = (page) => page.call(async () => {
  await page.drawing();
  return {
    alert: document.querySelector("#alert").innerText,
    findings: [...document.querySelectorAll("#findings li")].map((line) => line.innerText),
    loaded: document.querySelector("#loaded").textContent,
    losses: document.querySelector("#losses").innerText,
    canvas: [document.querySelector("#map").height, document.querySelector("#map").width],
    classes: document.querySelector("#class").options.length,
  };
});

export async function testData(browser, address) {
  const page = await browser.open(`${address}/?lang=en`);
  await page.call(() => page.started);
  const values = smooth(5, 30, 40);

  await test("a dropped file of logits", async () => {
    await drop(page, ["mine.npy", npy([5, 30, 40], values)]);
    const found = await state(page);
    equal([found.alert, found.canvas, found.classes], ["", [120, 160], 5], "what is shown");
    equal(found.findings, [texts.en["findings.none"]], "findings");
    equal(found.loaded, "mine.npy: 5 classes, 30 × 40, shown at 120 × 160.", "its description");
    equal(found.losses, texts.en["loss.none"], "losses");
    const pixel = await page.call(() => {
      const { logits, softmax } = page.view.pixel(0, 0);
      return { logits: [...logits], softmax: [...softmax] };
    });
    pixel.logits.forEach((x, c) => close(x, values[c * 1200], 1e-6, `logit ${c}`));
    softmax(pixel.logits).forEach((p, c) => close(pixel.softmax[c], p, 1e-12, `softmax ${c}`));
  });

  await test("a batch of one in float64, and a single map", async () => {
    await drop(page, ["double.npy", npy([1, 5, 30, 40], values, { type: "<f8" })]);
    equal((await state(page)).loaded, "double.npy: 5 classes, 30 × 40, shown at 120 × 160.", "the batch");
    await drop(page, ["one.npy", npy([30, 40], values.slice(0, 1200))]);
    const found = await state(page);
    equal(found.loaded, "one.npy: 1 classes, 30 × 40, shown at 120 × 160.", "the map");
    equal(found.findings, [texts.en["finding.oneClass"]], "its findings");
  });

  await test("150 classes", async () => {
    await drop(page, ["many.npy", npy([150, 20, 20], smooth(150, 20, 20))]);
    const found = await state(page);
    equal([found.alert, found.classes], ["", 150], "what is shown");
    for (const activation of [3, 5]) {
      await page.call(async (activation) => {
        document.querySelector(`[name=activation][value="${activation}"]`).click();
        await page.drawing();
      }, activation);
      equal((await state(page)).alert, "", `activation ${activation}`);
    }
    await page.call(async () => {
      document.querySelector('[name=activation][value="2"]').click();
      await page.drawing();
    });
  });

  await test("logits with a photo and labels", async () => {
    await drop(page, ["l.npy", await sample("logits_f16.npy")], ["p.png", await sample("photo.png")], ["t.png", await sample("labels.png")]);
    const found = await state(page);
    equal([found.alert, found.canvas], ["", [448, 640]], "what is shown");
    close(await page.call(() => page.losses.straight), 0.0976, 1e-4, "the loss");
  });

  await test("what is conspicuous is said", async () => {
    const findingsOf = async (...file) => {
      await drop(page, ["f.npy", npy(...file)]);
      return (await state(page)).findings.map((line) => line.split("\n")[0]);
    };
    equal(await findingsOf([5, 30, 40], probabilities(values, 5)), [texts.en["finding.probabilities"]], "probabilities");
    const outputs = values.map((x) => 1 / (1 + Math.exp(-x)));
    equal(await findingsOf([5, 30, 40], outputs), [texts.en["finding.sigmoidOutputs"]], "outputs of a sigmoid");
    equal(await findingsOf([5, 30, 40], values.map(() => 0.25)), ["Every value is 0.25."], "a constant");
    const broken = values.map((x, i) => (i === 7 ? NaN : x));
    const [line] = await findingsOf([5, 30, 40], broken);
    equal(line, "Not finite: 1 NaN, 0 +∞, 0 −∞, in class 0. Has the network diverged?", "NaN");
  });

  await test("another order of the axes is offered, and taken", async () => {
    await drop(page, ["hwc.npy", npy([30, 40, 5], classesLast(values, 5))]);
    const before = await state(page);
    holds(before.findings.some((line) => line.includes("another order, H×W×C")), String(before.findings));
    await page.call(async () => {
      document.querySelector("#findings button").click();
      await page.loading;
    });
    const after = await state(page);
    equal([after.findings, after.loaded], [[texts.en["findings.none"]], "hwc.npy: 5 classes, 30 × 40, shown at 120 × 160."], "after");
    const logits = await page.call(() => [...page.view.pixel(0, 0).logits]);
    logits.forEach((x, c) => close(x, values[c * 1200], 1e-6, `logit ${c}`));
  });

  const broken = [
    ["text.npy", Buffer.from("these are no logits, but words"), "error.magic"],
    ["photo.jpg", Buffer.from("nor is this a photo"), "error.picture"],
    ["short.npy", npy([5, 30, 40], values, { cut: 10 }), "error.length", { expected: 24000, found: 23990 }],
    ["integers.npy", npy([5, 30, 40], values, { type: "<i4" }), "error.type", { found: "<i4" }],
    ["fortran.npy", npy([5, 30, 40], values, { fortran: true }), "error.order"],
    ["batch.npy", npy([2, 5, 30, 20], values), "error.shape", { found: "(2, 5, 30, 20)" }],
    ["flat.npy", npy([6000], values), "error.shape", { found: "(6000)" }],
    ["nothing.npy", npy([5, 0, 40], []), "error.shape", { found: "(5, 0, 40)" }],
  ];
  for (const [name, bytes, key, parameters = {}] of broken) {
    await test(`a broken file: ${name}`, async () => {
      const before = await state(page);
      await drop(page, [name, bytes]);
      const found = await state(page);
      const said = texts.en[key].replace(/\{(\w+)\}/g, (_, name) => parameters[name]);
      equal(found.alert.split(/\n+/), [`${name} could not be used.`, said], "the alert");
      equal(found.loaded, before.loaded, "what was there stays");
    });
  }

  await test("files that do not go together", async () => {
    await drop(page, ["labels.png", await sample("labels.png")]);
    equal((await state(page)).alert, texts.en["error.noLogits"], "without logits");
    const logits = ["a.npy", npy([5, 30, 40], values)];
    await drop(page, logits, ["b.npy", logits[1]]);
    holds((await state(page)).alert.includes(texts.en["error.many"]), "two of logits");
    const small = await page.call(async () => {
      const canvas = new OffscreenCanvas(8, 6);
      canvas.getContext("2d").fillRect(0, 0, 8, 6);
      const buffer = await (await canvas.convertToBlob()).arrayBuffer();
      return btoa(String.fromCharCode(...new Uint8Array(buffer)));
    });
    await drop(page, logits, ["p.png", Buffer.from(small, "base64")], ["t.png", await sample("labels.png")]);
    equal((await state(page)).alert, "Picture and labels must have the same size; found 6 × 8 and 448 × 640.", "two sizes");
    // Classes that the logits have not.
    await drop(page, ["two.npy", npy([2, 30, 40], values.slice(0, 2400))], ["t.png", await sample("labels.png")]);
    holds(/pixel \d+: its label is no class in 0\.\.2/.test((await state(page)).alert), "labels of other classes");
  });

  await test("back to the sample", async () => {
    await page.call(async () => {
      document.querySelector("#sample").click();
      await page.loading;
    });
    const found = await state(page);
    equal([found.alert, found.loaded], ["", "The sample: 4 classes, 112 × 160, shown at 448 × 640."], "what is shown");
  });

  await test("the console is silent after all that", () => equal(page.errors, [], "the console"));
  await page.close();
}
