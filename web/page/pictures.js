// Photos and label maps, decoded by the browser without changing a value.

import { Problem } from "./texts.js";

/// The pixels of a picture, RGBA.
export async function readPhoto(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw new Problem("error.picture");
  }
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { width, height, pixels: new Uint8Array(context.getImageData(0, 0, width, height).data.buffer) };
}

/// The labels of a PNG with one channel or a palette: its numbers, not its colours.
export async function readLabels(file) {
  const png = describePng(await file.arrayBuffer());
  if (!isLabels(png)) throw new Problem("error.labels");
  const { width, height, pixels } = await readPhoto(file);
  const largest = 2 ** Math.min(png.depth, 8) - 1;
  // Of equal colours in a palette the first number is taken.
  const numbers = new Map(png.palette?.map((colour, number) => [colour, number]).reverse());
  const labels = new Uint8Array(width * height);
  for (let i = 0; i < labels.length; i++) {
    const [red, green, blue] = pixels.subarray(4 * i, 4 * i + 3);
    labels[i] = png.palette ? numbers.get((red << 16) | (green << 8) | blue) : Math.round((red / 255) * largest);
  }
  return { width, height, labels };
}

/// Whether a file is a PNG of labels and not a photo.
export async function holdsLabels(file) {
  const buffer = await file.slice(0, 33).arrayBuffer();
  return isLabels(describePng(buffer));
}

function isLabels(png) {
  return png !== undefined && (png.colourType === 0 || png.colourType === 3) && png.depth <= 8;
}

/// What the header of a PNG says, and its palette if there is one; undefined for other files.
function describePng(buffer) {
  const view = new DataView(buffer);
  if (buffer.byteLength < 33 || view.getUint32(0) !== 0x89504e47) return undefined;
  const png = { depth: view.getUint8(24), colourType: view.getUint8(25) };
  for (let at = 8; at + 12 <= buffer.byteLength; at += 12 + view.getUint32(at)) {
    if (view.getUint32(at + 4) !== 0x504c5445) continue; // PLTE
    const colour = (i) => view.getUint32(at + 7 + 3 * i) & 0xffffff;
    png.palette = Array.from({ length: view.getUint32(at) / 3 }, (_, i) => colour(i));
  }
  return png;
}
