// What is shown: the sample, or files of the visitor's.

import { readLogits } from "./npy.js";
import { holdsLabels, readLabels, readPhoto } from "./pictures.js";
import { Problem, say } from "./texts.js";

/// Palettes of data sets by their number of classes.
const PALETTES = { 11: "camvid", 19: "cityscapes", 21: "voc", 32: "camvid32", 150: "ade20k" };

export async function readSample() {
  const blob = async (name) => {
    const response = await fetch(`sample/${name}`);
    if (!response.ok) throw new Error(`sample/${name}: ${response.status}`);
    return response.blob();
  };
  const [logits, photo, labels, palette] = await Promise.all([
    blob("logits_f16.npy").then((file) => file.arrayBuffer()).then(readLogits),
    blob("photo.png").then(readPhoto),
    blob("labels.png").then(readLabels),
    blob("palette.txt").then((file) => file.text()),
  ]);
  // A pixel that could be the cat's ear or not: that is where the activations differ most.
  return { ...data({ name: undefined, logits, photo, labels, palette }), start: { x: 344, y: 128 } };
}

/// From an .npy file, and a photo and a label PNG if they are among the files.
export async function readFiles(files) {
  const found = {};
  for (const file of files) {
    try {
      const kind = await kindOf(file);
      if (found[kind]) throw new Problem("error.many");
      const read = { logits: async () => readLogits(await file.arrayBuffer()), photo: readPhoto, labels: readLabels }[kind];
      found[kind] = await read(file);
      if (kind === "logits") found.name = file.name;
    } catch (error) {
      error.file = file.name;
      throw error;
    }
  }
  if (!found.logits) throw new Problem("error.noLogits");
  return data(found);
}

async function kindOf(file) {
  if (/\.npy$/i.test(file.name)) return "logits";
  if (!/\.(png|jpe?g|webp)$/i.test(file.name)) throw new Problem("error.magic");
  return (await holdsLabels(file)) ? "labels" : "photo";
}

function data({ name, logits, photo, labels, palette }) {
  const size = ({ width, height }) => `${height} × ${width}`;
  if (photo && labels && size(photo) !== size(labels)) {
    throw new Problem("error.size", { photo: size(photo), labels: size(labels) });
  }
  return { name, logits, photo, labels, palette, classesLast: false };
}

/// Classes, height and width of the logits.
export function shapeOf({ logits, classesLast }) {
  const [a, b, c] = logits.dimensions;
  return classesLast ? { classes: c, height: a, width: b } : { classes: a, height: b, width: c };
}

/// The size of the picture: that of the photo or the labels, else of the logits, enlarged where they are small.
export function pictureOf(data) {
  const given = data.photo ?? data.labels;
  if (given) return { height: given.height, width: given.width };
  const { height, width } = shapeOf(data);
  const factor = Math.max(1, Math.min(4, Math.floor(640 / Math.max(height, width))));
  return { height: factor * height, width: factor * width };
}

/// The palette of the data, as the library takes it.
export function paletteOf(data) {
  const { classes } = shapeOf(data);
  return data.palette ?? PALETTES[classes] ?? colours(classes);
}

/// Colours without names, whose hues the golden angle keeps apart.
function colours(classes) {
  const channel = (class_, shift) => Math.round(128 + 110 * Math.cos(2.399963 * class_ + shift));
  const line = (_, class_) => `${channel(class_, 0)} ${channel(class_, 2.1)} ${channel(class_, 4.2)}`;
  return Array.from({ length: classes }, line).join("\n");
}

export function describe(data) {
  const { classes, height, width } = shapeOf(data);
  const shown = pictureOf(data);
  const name = data.name ?? say("sampleName");
  return say("files.loaded", { name, classes, height, width, shown: `${shown.height} × ${shown.width}` });
}
