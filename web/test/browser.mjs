// Chromium without a window, driven over a pipe by its DevTools protocol: nothing is installed for it.

import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

const FLAGS = [
  "--headless=new",
  "--remote-debugging-pipe",
  "--no-sandbox",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-quic",
  "--hide-scrollbars",
];

/// The most milliseconds that a command may take.
const PATIENCE = 180_000;

export class Browser {
  /// `flags` decide about WebGPU.
  static async launch(path, flags) {
    const profile = await mkdtemp(join(tmpdir(), "seghead-web-"));
    const browser = new Browser();
    browser.profile = profile;
    browser.process = spawn(path, [...FLAGS, ...flags, `--user-data-dir=${profile}`, "about:blank"], {
      stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"],
    });
    browser.sent = new Map();
    browser.listeners = [];
    browser.count = 0;
    const [, , , to, from] = browser.process.stdio;
    browser.to = to;
    let rest = "";
    from.setEncoding("utf8");
    from.on("data", (text) => {
      const messages = (rest + text).split("\0");
      rest = messages.pop();
      messages.forEach((message) => browser.hear(JSON.parse(message)));
    });
    browser.process.on("exit", (code) => {
      for (const { reject } of browser.sent.values()) reject(new Error(`Chromium has ended with ${code}`));
    });
    return browser;
  }

  send(method, parameters = {}, sessionId = undefined) {
    const id = ++this.count;
    this.to.write(JSON.stringify({ id, method, params: parameters, sessionId }) + "\0");
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${method}: no answer`)), PATIENCE);
      const settled = (settle) => (value) => (clearTimeout(timer), settle(value));
      this.sent.set(id, { resolve: settled(resolve), reject: settled(reject), method });
    });
  }

  hear({ id, result, error, method, params, sessionId }) {
    if (id === undefined) {
      this.listeners.forEach((listener) => listener(method, params, sessionId));
      return;
    }
    const { resolve, reject, method: asked } = this.sent.get(id);
    this.sent.delete(id);
    if (error) reject(new Error(`${asked}: ${error.message}`));
    else resolve(result);
  }

  /// Opens a page of this size, and waits for it to have loaded.
  async open(url, { width = 1280, height = 1000, dark = false, touch = false } = {}) {
    const { targetId } = await this.send("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await this.send("Target.attachToTarget", { targetId, flatten: true });
    const page = new Page(this, targetId, sessionId);
    await page.send("Runtime.enable");
    await page.send("Page.enable");
    await page.send("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: touch });
    const features = [{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }];
    await page.send("Emulation.setEmulatedMedia", { features });
    await page.go(url);
    return page;
  }

  async close() {
    const ended = new Promise((resolve) => this.process.on("exit", resolve));
    await this.send("Browser.close").catch(() => this.process.kill());
    await ended;
    await rm(this.profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

class Page {
  constructor(browser, targetId, sessionId) {
    Object.assign(this, { browser, targetId, sessionId, errors: [] });
    browser.listeners.push((method, parameters, id) => {
      if (id !== sessionId) return;
      if (method === "Runtime.exceptionThrown") {
        const { text, exception } = parameters.exceptionDetails;
        this.errors.push(exception?.description ?? text);
      }
      if (method === "Runtime.consoleAPICalled" && ["error", "warning"].includes(parameters.type)) {
        this.errors.push(parameters.args.map(({ value, description }) => value ?? description).join(" "));
      }
    });
  }

  send(method, parameters) {
    return this.browser.send(method, parameters, this.sessionId);
  }

  /// Goes to another address, and waits for it to have loaded.
  async go(url) {
    const loaded = new Promise((resolve) => this.browser.listeners.push((method, _, id) => {
      if (method === "Page.loadEventFired" && id === this.sessionId) resolve();
    }));
    await this.send("Page.navigate", { url });
    await loaded;
  }

  /// Calls a function of the page's world with these arguments, and returns its result.
  async call(callee, ...values) {
    const expression = `(${callee})(...${JSON.stringify(values)})`;
    const asked = { expression, awaitPromise: true, returnByValue: true, userGesture: true };
    const { result, exceptionDetails } = await this.send("Runtime.evaluate", asked);
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  async press(key, modifiers = 0) {
    const event = { key, code: key, modifiers, windowsVirtualKeyCode: { ArrowLeft: 37, ArrowUp: 38, ArrowRight: 39, ArrowDown: 40, Tab: 9, " ": 32 }[key] };
    await this.send("Input.dispatchKeyEvent", { ...event, type: "rawKeyDown" });
    await this.send("Input.dispatchKeyEvent", { ...event, type: "keyUp" });
  }

  async move(x, y) {
    await this.send("Input.dispatchMouseEvent", { type: "mouseMoved", x, y });
  }

  /// The whole page as a PNG.
  async picture(path) {
    const { cssContentSize: { width, height } } = await this.send("Page.getLayoutMetrics");
    const clip = { x: 0, y: 0, width, height, scale: 1 };
    const { data } = await this.send("Page.captureScreenshot", { clip, captureBeyondViewport: true });
    await writeFile(path, Buffer.from(data, "base64"));
  }

  async close() {
    await this.browser.send("Target.closeTarget", { targetId: this.targetId });
  }
}
