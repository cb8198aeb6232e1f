// What is under the pointer: bars and numbers.

import { say } from "./texts.js";

/// Classes that are listed, the most likely first.
const LISTED = 10;

const SUMS = ["sigmoid", "softmax", "height", "width", "single"];

/// Fills the table with what the library says of a pixel.
export function inspect(section, { x, y, pixel, names, chosen }) {
  const all = { ...pixel, single: pixel.logits.map(() => 1) };
  const order = [...all.logits.keys()].sort((a, b) => all.logits[b] - all.logits[a]);
  // Few classes stay where they are.
  const listed = order.length <= LISTED ? [...all.logits.keys()] : order.slice(0, LISTED);
  const spread = Math.max(...all.logits.map(Math.abs), 1e-9);
  const rows = listed.map((class_) => {
    const row = document.createElement("tr");
    row.classList.toggle("chosen", class_ === chosen);
    const head = cell("th", names[class_]);
    head.scope = "row";
    const logit = bar(all.logits[class_].toFixed(3), Math.abs(all.logits[class_]) / spread);
    logit.classList.toggle("negative", all.logits[class_] < 0);
    row.append(head, logit);
    for (const column of SUMS) row.append(bar(probability(all[column][class_]), all[column][class_]));
    return row;
  });
  if (listed.length < order.length) {
    const row = document.createElement("tr");
    const rest = cell("th", say("more", { count: order.length - listed.length }));
    rest.colSpan = 7;
    row.append(rest);
    rows.push(row);
  }
  section.querySelector("tbody").replaceChildren(...rows);
  const sums = section.querySelectorAll("tfoot td");
  SUMS.forEach((column, i) => {
    const sum = all[column].reduce((a, b) => a + b, 0);
    const cell = sums[i + 1];
    cell.textContent = sum.toFixed(4);
    cell.className = Math.abs(sum - 1) < 5e-5 ? "one" : "other";
  });

  const best = names[pixel.best];
  const number = (value) => value.toFixed(3);
  const parts = { margin: number(pixel.margin), confidence: number(pixel.confidence), entropy: number(pixel.entropy) };
  const where = { y, x, best, ...parts, most: number(Math.log(all.logits.length)) };
  const sentences = [say("where", where)];
  if (pixel.margin < 0.2) sentences.push(say("ambiguous"));
  if (pixel.label === undefined) sentences.push(say("truth.void"));
  else sentences.push(say("truth", { label: names[pixel.label], loss: pixel.loss.toFixed(4) }));
  section.querySelector("#where").textContent = sentences.join(" ");
  return say("spoken", where);
}

function probability(p) {
  return p !== 0 && p < 0.0005 ? p.toExponential(1) : p.toFixed(4);
}

function bar(text, part) {
  const found = cell("td", text);
  found.style.setProperty("--part", Math.max(0, Math.min(1, part)));
  return found;
}

function cell(kind, text) {
  const found = document.createElement(kind);
  found.textContent = text;
  return found;
}
