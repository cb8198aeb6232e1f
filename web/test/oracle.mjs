// The definitions in f64, once more and apart from the library: what the page must show.

import { readFile } from "node:fs/promises";

/// An .npy file of halves as numbers, with its shape.
export async function readHalves(path) {
  const file = await readFile(path);
  const start = 10 + file.readUInt16LE(8);
  const shape = file.toString("latin1", 10, start).match(/'shape': \(([^)]*)\)/)[1].split(",").map(Number);
  const values = Array.from({ length: (file.length - start) / 2 }, (_, i) => widened(file.readUInt16LE(start + 2 * i)));
  return { shape, values };
}

function widened(half) {
  const [exponent, mantissa] = [(half >> 10) & 31, half & 1023];
  const magnitude = exponent === 0 ? mantissa * 2 ** -24 : (1024 + mantissa) * 2 ** (exponent - 25);
  return half & 0x8000 ? -magnitude : magnitude;
}

const POSITIONS = [
  (x, input, output) => ((x + 0.5) * input) / output - 0.5,
  (x, input, output) => (output > 1 ? (x * (input - 1)) / (output - 1) : 0),
  (x, input, output) => (x * input) / output,
];

/// The logits of every pixel of a picture: resized bilinearly by a convention, divided by a temperature.
export function upsample({ shape: [classes, height, width], values }, { height: rows, width: columns }, convention, temperature) {
  const tapsOf = (output, input) => Array.from({ length: output }, (_, x) => {
    const position = Math.max(0, POSITIONS[convention](x, input, output));
    const first = Math.min(Math.floor(position), input - 1);
    return [first, Math.min(first + 1, input - 1), position - Math.floor(position)];
  });
  const [down, across] = [tapsOf(rows, height), tapsOf(columns, width)];
  return Array.from({ length: classes }, (_, class_) => {
    const plane = new Float64Array(rows * columns);
    const at = (y, x) => values[(class_ * height + y) * width + x];
    down.forEach(([top, bottom, fy], y) => across.forEach(([left, right, fx], x) => {
      const row = (y) => (1 - fx) * at(y, left) + fx * at(y, right);
      plane[y * columns + x] = ((1 - fy) * row(top) + fy * row(bottom)) / temperature;
    }));
    return plane;
  });
}

export function softmax(values) {
  const most = Math.max(...values);
  const exponentials = values.map((x) => Math.exp(x - most));
  const sum = exponentials.reduce((a, b) => a + b, 0);
  return exponentials.map((e) => e / sum);
}

export const sigmoid = (x) => 1 / (1 + Math.exp(-x));

/// Everything about a pixel of upsampled logits.
export function pixelOf(planes, { height, width }, x, y) {
  const logits = planes.map((plane) => plane[y * width + x]);
  const column = (plane) => Array.from({ length: height }, (_, y) => plane[y * width + x]);
  const row = (plane) => Array.from(plane.subarray(y * width, (y + 1) * width));
  const p = softmax(logits);
  const [first, second = 0] = [...p].sort((a, b) => b - a);
  return {
    logits,
    sigmoid: logits.map(sigmoid),
    softmax: p,
    height: planes.map((plane) => softmax(column(plane))[y]),
    width: planes.map((plane) => softmax(row(plane))[x]),
    single: logits.map(() => 1),
    best: logits.indexOf(Math.max(...logits)),
    confidence: first,
    margin: first - second,
    entropy: -p.reduce((sum, p) => sum + (p > 0 ? p * Math.log(p) : 0), 0),
  };
}

/// The labels of upsampled logits, and how far the best logit is from the next.
export function labelsOf(planes) {
  const labels = new Uint8Array(planes[0].length);
  const gaps = new Float64Array(labels.length);
  for (let i = 0; i < labels.length; i++) {
    const logits = planes.map((plane) => plane[i]);
    const best = Math.max(...logits);
    labels[i] = logits.indexOf(best);
    gaps[i] = best - Math.max(...logits.filter((_, class_) => class_ !== labels[i]));
  }
  return { labels, gaps };
}

/// The mean cross-entropy of logits against labels, 255 left out; and of their softmax taken for logits.
export function lossesOf(planes, labels) {
  let [straight, twice, count] = [0, 0, 0];
  const loss = (logits, label) => {
    const most = Math.max(...logits);
    return most + Math.log(logits.reduce((sum, x) => sum + Math.exp(x - most), 0)) - logits[label];
  };
  labels.forEach((label, i) => {
    if (label === 255) return;
    const logits = planes.map((plane) => plane[i]);
    straight += loss(logits, label);
    twice += loss(softmax(logits), label);
    count++;
  });
  return { straight: straight / count, twice: twice / count, pixels: count };
}
