// Pictures of the page, to be looked at.

import { join } from "node:path";

import { classesLast, smooth } from "./data.mjs";
import { drop, npy } from "./files.mjs";
import { equal, holds, test } from "./harness.mjs";
import { move } from "./page.mjs";

/// Without a screen a browser composes no canvas of WebGPU: images of them stand in for the picture.
const freeze = (page) => page.call(async () => {
  const drawn = page.view.draw();
  const copies = [...document.querySelectorAll("canvas")].map((canvas) => [canvas, canvas.toDataURL()]);
  await drawn;
  for (const [canvas, source] of copies) {
    const image = Object.assign(new Image(), { src: source });
    image.style.cssText = "position: absolute; inset: 0; width: 100%; height: 100%";
    await image.decode();
    canvas.after(image);
  }
});

const PHONE = { width: 375, height: 800, touch: true };

export async function takePictures(browser, address, folder) {
  const shots = [
    { name: "en-light", language: "en", size: {} },
    { name: "ko-dark", language: "ko", size: { dark: true }, controls: { activation: 3, class: 2 } },
    { name: "en-phone-dark", language: "en", size: { ...PHONE, dark: true }, controls: { activation: 1 } },
    { name: "ko-phone", language: "ko", size: PHONE },
    { name: "en-single", language: "en", size: { width: 1000 }, controls: { activation: 5 } },
    { name: "en-logits", language: "en", size: { width: 1600 }, controls: { activation: 0 } },
    { name: "ko-dropped", language: "ko", size: {}, files: [["hwc.npy", npy([30, 40, 5], classesLast(smooth(5, 30, 40), 5))]] },
    { name: "en-broken", language: "en", size: { dark: true }, files: [["text.npy", Buffer.from("no logits")]] },
  ];
  for (const { name, language, size, controls = {}, files } of shots) {
    await test(`a picture: ${name}`, async () => {
      const page = await browser.open(`${address}/?lang=${language}`, size);
      await page.call(() => page.started);
      if (files) await drop(page, ...files);
      await move(page, controls);
      await freeze(page);
      await page.picture(join(folder, `${name}.png`));
      const wide = await page.call(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      equal(wide, 0, "pixels that reach beyond the window");
      const narrow = await page.call(() => Math.min(...[...document.querySelectorAll("canvas")].map((canvas) => canvas.clientWidth)));
      holds(narrow >= 60, `a canvas of ${narrow} pixels`);
      await page.close();
    });
  }
}
