// The page: controls to the library's view, and what that says back to the page.

import init, { Tensor, View } from "./seghead_web.js";
import { describe, paletteOf, pictureOf, readFiles, readSample, shapeOf } from "./data.js";
import { inspect } from "./inspector.js";
import { Problem, say, speak } from "./texts.js";

const $ = (selector) => document.querySelector(selector);
const NAMES = ["logits", "sigmoid", "softmax", "height", "width", "single"];

const page = {
  view: undefined,
  adapter: "",
  data: undefined,
  findings: [],
  names: [],
  colours: [],
  /// The pixel that is inspected.
  at: undefined,
  times: {},
  losses: undefined,
};

const settings = () => ({
  activation: Number($("input[name=activation]:checked").value),
  class: Number($("#class").value),
  threshold: Number($("#threshold").value),
  alpha: Number($("#alpha").value),
  resize: Number($("#resize").value),
  temperature: 10 ** Number($("#temperature").value),
});

// Drawing: one at a time, and the newest state of the controls next.

let drawing;
let wanted = false;

function redraw() {
  wanted = true;
  drawing ??= drawAll().finally(() => (drawing = undefined));
  return drawing;
}

async function drawAll() {
  while (wanted) {
    wanted = false;
    try {
      await draw();
    } catch (error) {
      complain(error, "error.gpu");
    }
  }
}

async function draw() {
  const { activation, class: class_, threshold, alpha, resize, temperature } = settings();
  const start = performance.now();
  page.view.set(activation, class_, threshold, alpha, resize, temperature);
  await page.view.draw();
  page.times.kernel = performance.now() - start;
  showTimes();
  showPixel();
  const lossesOf = `${resize} ${temperature}`;
  if (page.data.labels && page.lossesOf !== lossesOf && !wanted) {
    page.losses = await page.view.losses();
    page.lossesOf = lossesOf;
    showLosses();
  }
}

// Data.

async function show(data) {
  await drawing;
  // The picture comes first, with what is conspicuous in the logits a moment later.
  const { classes, height, width } = shapeOf(data);
  const tensor = new Tensor(data.logits.bytes, data.logits.halves, classes, height, width, data.classesLast);
  const picture = pictureOf(data);
  const palette = paletteOf(data);
  const start = performance.now();
  await page.view.show(tensor, data.photo?.pixels, data.labels?.labels, picture.height, picture.width, palette);
  page.times = { upload: performance.now() - start };
  const described = page.view.classes();
  Object.assign(page, { data, findings: undefined, at: undefined, losses: undefined, lossesOf: undefined });
  page.names = described.map(({ name }, i) => name || String(i));
  page.colours = described.map(({ colour }) => colour);
  $("#alert").replaceChildren();
  for (const box of document.querySelectorAll(".picture")) box.style.setProperty("--aspect", picture.width / picture.height);
  // Without a photo there is nothing to mix colours with.
  $("#alpha").disabled = !data.photo;
  fillClasses();
  showAll();
  await redraw();
  page.shown = performance.now();
  page.view.prepare();
  page.findings = await page.view.inspect(tensor);
  tensor.free();
  showFindings();
  if (classes <= 256) {
    const before = performance.now();
    await page.view.labels();
    page.times.readback = performance.now() - before;
    showTimes();
  }
  if (!page.at) pointAt(data.start?.x ?? picture.width >> 1, data.start?.y ?? picture.height >> 1);
}

/// One thing after another.
function load(read) {
  return (page.loading = Promise.resolve(page.loading).then(() => tryToLoad(read)));
}

async function tryToLoad(read) {
  try {
    await show(await read());
  } catch (error) {
    complain(error, "error.gpu");
  }
}

// What the page shows.

function showAll() {
  showControls();
  showFindings();
  showPixel();
  showLosses();
  showTimes();
  $("#loaded").textContent = page.data ? describe(page.data) : "";
}

function fillClasses() {
  const before = Number($("#class").value);
  const hasMore = page.names.length > 1;
  const chosen = before > 0 && before < page.names.length ? before : Number(hasMore);
  const option = (name, i) => new Option(name === String(i) ? name : `${i} ${name}`, i, false, i === chosen);
  $("#class").replaceChildren(...page.names.map(option));
  const entry = (name, i) => {
    const item = document.createElement("li");
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = page.colours[i];
    item.append(swatch, name);
    return item;
  };
  $("#legend").replaceChildren(...page.names.slice(0, 40).map(entry));
}

function showControls() {
  const { activation, class: class_, threshold, alpha, temperature } = settings();
  const name = NAMES[activation];
  const className = page.names[class_] ?? "";
  $("output[for=threshold]").textContent = threshold.toFixed(2);
  $("output[for=alpha]").textContent = alpha.toFixed(2);
  $("output[for=temperature]").textContent = temperature.toPrecision(2);
  $("#explanation").textContent = say(`explain.${name}`);
  $("#overlay-note").textContent = say(["sigmoid", "softmax"].includes(name) ? "overlay.uncertain" : "overlay.argmax");
  $("#map-title").textContent = say(`map.${name}`, { class: className });
  $("#map-note").textContent = say("map.note");
  $("#overlay").setAttribute("aria-label", say("overlay.picture"));
  $("#map").setAttribute("aria-label", say(`map.${name}`, { class: className }));
  showScale(name, class_, threshold, temperature);
}

/// The shades of the map, as draw.wgsl has them.
function showScale(name, class_, threshold, temperature) {
  if (!page.data) return;
  const picture = pictureOf(page.data);
  const range = page.view.range(class_).map((x) => x / temperature);
  const [low, high] = { logits: range, height: [0, 4 / picture.height], width: [0, 4 / picture.width] }[name] ?? [0, 1];
  const at = name === "logits" ? Math.log(threshold / (1 - threshold)) : threshold;
  const part = `${100 * Math.max(0, Math.min(1, (at - low) / Math.max(high - low, 1e-30)))}%`;
  const tint = page.view.tint(class_);
  const [dark, bright] = [`color-mix(in srgb, ${tint} 45%, black)`, `color-mix(in srgb, ${tint} 65%, white)`];
  const grey = `linear-gradient(to right, #000, ${`#d9d9d9 ${(100 * 100) / Math.max(1, parseFloat(part))}%`})`;
  $("#bar").style.background = `${grey} left / ${part} 100% no-repeat, linear-gradient(to right, ${dark}, ${bright})`;
  const number = (x) => (Number.isInteger(x) ? String(x) : x.toPrecision(3));
  $("#low").textContent = number(low);
  $("#high").textContent = (name === "height" || name === "width" ? "≥ " : "") + number(high);
}

function showFindings() {
  const section = $("#findings");
  section.hidden = page.findings === undefined || (page.data.name === undefined && page.findings.length === 0);
  if (section.hidden) return;
  section.classList.toggle("clean", page.findings.length === 0);
  const lines = page.findings.map((finding) => {
    const line = document.createElement("li");
    const layout = finding.classesLast ? "H×W×C" : "C×H×W";
    const classes = finding.classes && say("classes", { list: finding.classes.slice(0, 8).join(", ") });
    const key = `finding.${finding.kind}${finding.axis ? `.${finding.axis}` : ""}`;
    line.append(say(key, { ...finding, layout, classes }));
    if (finding.kind === "layout") {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = say("finding.layout.use", { layout });
      button.onclick = () => load(() => ({ ...page.data, classesLast: finding.classesLast }));
      line.append(" ", button);
    }
    return line;
  });
  if (lines.length === 0) lines.push(Object.assign(document.createElement("li"), { textContent: say("findings.none") }));
  section.querySelector("ul").replaceChildren(...lines);
}

let spoken;

function showPixel() {
  const crosses = document.querySelectorAll(".cross");
  for (const cross of crosses) cross.hidden = page.at === undefined;
  if (page.at === undefined) {
    $("#where").textContent = say("inspector.none");
    return;
  }
  const { x, y } = page.at;
  const { width, height } = pictureOf(page.data);
  for (const cross of crosses) {
    cross.style.left = `${(100 * (x + 0.5)) / width}%`;
    cross.style.top = `${(100 * (y + 0.5)) / height}%`;
  }
  const { class: chosen } = settings();
  page.pixel = page.view.pixel(x, y);
  const sentence = inspect($("#inspector"), { x, y, pixel: page.pixel, names: page.names, chosen });
  // Spoken when the pointer rests.
  clearTimeout(spoken);
  spoken = setTimeout(() => ($("#spoken").textContent = sentence), 400);
}

function showLosses() {
  const box = $("#losses");
  $("#lesson").textContent = "";
  if (!page.losses) {
    box.textContent = say(page.data?.labels ? "loss.busy" : "loss.none");
    return;
  }
  const { straight, twice, pixels } = page.losses;
  const classes = page.names.length;
  const most = Math.max(straight, twice, Math.log(classes));
  const list = document.createElement("dl");
  for (const [key, loss] of [["loss.straight", straight], ["loss.twice", twice]]) {
    const name = Object.assign(document.createElement("dt"), { textContent: say(key) });
    const value = Object.assign(document.createElement("dd"), { textContent: loss.toFixed(4), id: key.replace(".", "-") });
    const track = Object.assign(document.createElement("dd"), { className: "track", ariaHidden: "true" });
    track.append(document.createElement("span"));
    track.style.setProperty("--part", loss / most);
    list.append(name, value, track);
  }
  box.replaceChildren(list);
  // The best that a second softmax leaves: one probability is 1, the others are 0.
  const least = (Math.log(Math.E + classes - 1) - 1).toFixed(4);
  $("#lesson").textContent = say("lesson", { classes, least, pixels: pixels.toLocaleString(document.documentElement.lang) });
}

function showTimes() {
  if (!page.view) return;
  const ms = (time) => say("milliseconds", { ms: time === undefined ? "–" : time.toFixed(time < 10 ? 1 : 0) });
  const { upload, kernel, readback } = page.times;
  const key = page.view.software ? "machine.software" : "machine";
  const times = { upload: ms(upload), kernel: ms(kernel), readback: ms(readback) };
  $("#machine").textContent = say(key, { adapter: page.adapter, ...times });
}

/// Says what went wrong, in the page's words where there are some.
function complain(error, key, help) {
  const paragraph = (text) => Object.assign(document.createElement("p"), { textContent: text });
  const known = error instanceof Problem;
  const lines = [error?.file ? say("error.file", error) : known ? "" : say(key)];
  if (known) lines.push(say(error.key, error.parameters));
  else if (error !== undefined) lines.push(error.message ?? String(error));
  if (help) lines.push(say(help));
  $("#alert").replaceChildren(...lines.filter(Boolean).map(paragraph));
  page.complaint = () => complain(error, key, help);
}

// What the visitor does.

function pointAt(x, y) {
  const { width, height } = pictureOf(page.data);
  page.at = { x: Math.max(0, Math.min(width - 1, x)), y: Math.max(0, Math.min(height - 1, y)) };
  showPixel();
}

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

for (const canvas of document.querySelectorAll("canvas")) {
  const point = (event) => {
    if (!page.data) return;
    const box = canvas.getBoundingClientRect();
    const { width, height } = pictureOf(page.data);
    const at = (position, start, size, pixels) => Math.floor(((position - start) / size) * pixels);
    pointAt(at(event.clientX, box.left, box.width, width), at(event.clientY, box.top, box.height, height));
  };
  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerdown", point);
  canvas.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    if (!step || !page.at) return;
    event.preventDefault();
    const size = event.shiftKey ? 16 : 1;
    pointAt(page.at.x + size * step[0], page.at.y + size * step[1]);
  });
}

$("#controls").addEventListener("input", () => {
  showControls();
  if (page.data) redraw();
});
$("#controls").addEventListener("submit", (event) => event.preventDefault());

$("#languages").addEventListener("click", (event) => {
  const { language } = event.target.dataset;
  if (!language) return;
  speak(language);
  showAll();
  if ($("#alert").children.length > 0) page.complaint?.();
});

$("#choose").addEventListener("change", (event) => {
  const files = [...event.target.files];
  event.target.value = "";
  load(() => readFiles(files));
});
$("#sample").addEventListener("click", () => load(readSample));

document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  const files = [...event.dataTransfer.files];
  if (files.length > 0 && page.view) load(() => readFiles(files));
});

// The start.

async function start() {
  const asked = new URLSearchParams(location.search).get("lang") ?? navigator.language;
  speak(asked.slice(0, 2));
  const adapter = await navigator.gpu?.requestAdapter();
  if (!adapter) {
    document.body.classList.add("without-gpu");
    complain(undefined, "error.webgpu", "error.webgpu.help");
    return;
  }
  const { vendor, architecture, description } = adapter.info;
  page.adapter = description || [vendor, architecture].filter(Boolean).join(" ") || "?";
  try {
    const [data] = await Promise.all([readSample(), init()]);
    page.view = await View.open($("#overlay"), $("#map"));
    await load(() => data);
  } catch (error) {
    complain(error, "error.start");
  }
}

// What is told here is for the tests.
Object.assign(page, { redraw, settings, drawing: () => drawing });
page.started = start();
window.page = page;
