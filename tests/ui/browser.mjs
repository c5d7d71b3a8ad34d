// A Chromium that is told what to do by its DevTools protocol, through a pipe: no port is open, and nothing is installed but the
// browser itself.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export class Browser {
  #process;
  #dir;
  #number = 0;
  #waiting = new Map();
  #listeners = [];
  #rest = '';

  static async start(program = process.env.CHROMIUM ?? 'chromium') {
    const browser = new Browser();
    browser.#dir = mkdtempSync(join(tmpdir(), 'lanmesh-ui-'));
    const flags = [
      '--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--hide-scrollbars', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-default-apps',
      '--disable-extensions', '--remote-debugging-pipe', `--user-data-dir=${browser.#dir}`, 'about:blank',
    ];
    browser.#process = spawn(program, flags, { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] });
    browser.#process.stdio[4].on('data', (data) => browser.#hear(data.toString()));
    browser.#process.on('error', (error) => browser.#fail(error));
    browser.#process.on('exit', () => browser.#fail(new Error('the browser ended')));
    await browser.send('Browser.getVersion');
    return browser;
  }

  #hear(text) {
    const parts = (this.#rest + text).split('\0');
    this.#rest = parts.pop();
    for (const part of parts) {
      const said = JSON.parse(part);
      const waiting = this.#waiting.get(said.id);
      if (waiting) {
        this.#waiting.delete(said.id);
        if (said.error) waiting.reject(new Error(`${waiting.method}: ${said.error.message}`));
        else waiting.resolve(said.result);
      } else if (said.method) for (const listener of this.#listeners) listener(said);
    }
  }

  #fail(error) {
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }

  on(listener) {
    this.#listeners.push(listener);
  }

  send(method, params = {}, sessionId = undefined) {
    const id = ++this.#number;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${method}: no answer within 30 s`)), 30_000);
      const done = (end) => (value) => {
        clearTimeout(timer);
        end(value);
      };
      this.#waiting.set(id, { method, resolve: done(resolve), reject: done(reject) });
      this.#process.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    });
  }

  /** A page of this size, light or dark. */
  async page({ width = 1400, height = 900, dark = false } = {}) {
    const { browserContextId } = await this.send('Target.createBrowserContext');
    const { targetId } = await this.send('Target.createTarget', { url: 'about:blank', browserContextId });
    const { sessionId } = await this.send('Target.attachToTarget', { targetId, flatten: true });
    const page = new Page(this, sessionId, targetId);
    await page.send('Page.enable');
    await page.send('Runtime.enable');
    await page.send('Log.enable');
    await page.send('Network.enable');
    await page.size(width, height);
    await page.dark(dark);
    return page;
  }

  async end() {
    this.#process.removeAllListeners('exit');
    const gone = new Promise((resolve) => this.#process.once('exit', resolve));
    this.#process.kill('SIGKILL');
    await gone;
    rmSync(this.#dir, { recursive: true, force: true, maxRetries: 5 });
  }
}

class Page {
  /** What the browser complained of. */
  complaints = [];
  /** What was asked for, by address. */
  requests = [];

  constructor(browser, session, target) {
    Object.assign(this, { browser, session, target });
    browser.on(({ method, params, sessionId }) => {
      if (sessionId !== session) return;
      if (method === 'Runtime.exceptionThrown') this.complaints.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
      // That a server refuses or is gone is what some tests are about.
      if (method === 'Log.entryAdded' && params.entry.level === 'error' && params.entry.source !== 'network') this.complaints.push(params.entry.text);
      if (method === 'Runtime.consoleAPICalled' && params.type === 'error') this.complaints.push(JSON.stringify(params.args.map((arg) => arg.value)));
      if (method === 'Network.requestWillBeSent') this.requests.push(params.request.url);
    });
  }

  send(method, params) {
    return this.browser.send(method, params, this.session);
  }

  size(width, height) {
    return this.send('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 1, mobile: false });
  }

  dark(dark) {
    return this.send('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: dark ? 'dark' : 'light' }] });
  }

  open(url) {
    return this.send('Page.navigate', { url });
  }

  /** What an expression gives in the page. */
  async ask(expression) {
    const { result, exceptionDetails } = await this.send('Runtime.evaluate', { expression, returnByValue: true, awaitPromise: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  /** Waits until an expression is true in the page; how many milliseconds that took. */
  async until(what, expression, within = 10_000) {
    const begun = performance.now();
    let last;
    do {
      last = await this.ask(expression).catch((error) => error.message);
      if (last === true) return performance.now() - begun;
      await new Promise((resolve) => setTimeout(resolve, 15));
    } while (performance.now() - begun < within);
    throw new Error(`${what}: not within ${within} ms; ${JSON.stringify(last)}; the page shows ${JSON.stringify((await this.text()).slice(0, 1500))}`);
  }

  text() {
    return this.ask('document.body.innerText');
  }

  async key(key) {
    const code = key.length === 1 ? { text: key } : {};
    const number = { Enter: 13, Escape: 27, Tab: 9, ArrowLeft: 37, ArrowUp: 38, ArrowRight: 39, ArrowDown: 40 }[key];
    if (key === 'Enter') code.text = '\r';
    await this.send('Input.dispatchKeyEvent', { type: 'keyDown', key, windowsVirtualKeyCode: number ?? key.toUpperCase().charCodeAt(0), ...code });
    await this.send('Input.dispatchKeyEvent', { type: 'keyUp', key, windowsVirtualKeyCode: number ?? key.toUpperCase().charCodeAt(0) });
  }

  async shot(file, whole = false) {
    const { data } = await this.send('Page.captureScreenshot', { format: 'png', captureBeyondViewport: whole });
    writeFileSync(file, Buffer.from(data, 'base64'));
  }

  /** When the first picture was painted, in milliseconds since it was asked for. */
  painted() {
    return this.ask(`performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null`);
  }

  close() {
    return this.browser.send('Target.closeTarget', { targetId: this.target });
  }
}
