// The NumPy array format, https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html

import { Problem } from "./texts.js";

const MAGIC = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59]; // \x93NUMPY
const SIZES = { "<f2": 2, "<f4": 4, "<f8": 8 };

/// The logits in a file: its bytes as halves or f32, and three dimensions.
export function readLogits(buffer) {
  const bytes = new Uint8Array(buffer);
  if (bytes.length < 12 || MAGIC.some((byte, i) => bytes[i] !== byte)) throw new Problem("error.magic");
  const view = new DataView(buffer);
  const [start, length] = bytes[6] === 1 ? [10, view.getUint16(8, true)] : [12, view.getUint32(8, true)];
  const header = new TextDecoder().decode(bytes.subarray(start, start + length));
  const field = (name, value) => header.match(new RegExp(`'${name}'\\s*:\\s*${value}`))?.[1];
  const type = field("descr", "'([^']*)'");
  const order = field("fortran_order", "(True|False)");
  const shape = field("shape", "\\(([\\d\\s,]*)\\)")?.match(/\d+/g)?.map(Number) ?? [];
  if (type === undefined || order === undefined) throw new Problem("error.header");
  if (!(type in SIZES)) throw new Problem("error.type", { found: type });
  if (order === "True" && shape.length > 1) throw new Problem("error.order");
  const dimensions = imageOf(shape);
  const expected = dimensions.reduce((a, b) => a * b) * SIZES[type];
  const elements = buffer.slice(start + length, start + length + expected);
  if (elements.byteLength < expected) throw new Problem("error.length", { expected, found: elements.byteLength });
  const values = type === "<f8" ? Float32Array.from(new Float64Array(elements)).buffer : elements;
  return { bytes: new Uint8Array(values), halves: type === "<f2", dimensions };
}

/// A batch of one is one image, and a map is an image of one class.
function imageOf(shape) {
  const found = shape.length === 4 && shape[0] === 1 ? shape.slice(1) : shape.length === 2 ? [1, ...shape] : shape;
  if (found.length !== 3 || found.some((size) => size < 1)) throw new Problem("error.shape", { found: `(${shape.join(", ")})` });
  return found;
}
