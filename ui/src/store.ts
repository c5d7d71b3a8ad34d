// What is known, as the server tells it: one stream of lines, each about one topic. Whoever shows something of it is told once for
// each picture that the screen can show.

import type { Dated, Event, Topic, Topics } from './model';

export interface Part<T> {
  things: Map<string, Dated<T>>;
  readMs: number | null;
  error: string | null;
}

export type Link = 'begins' | 'live' | 'lost' | 'token';

const EVENTS_MAX = 400;
/** The server is heard of every two seconds; after this it counts as lost. */
const SILENCE_MS = 7000;

class Store {
  readonly parts: { [T in Topic]: Part<Topics[T]> };
  events: Event[] = [];
  link: Link = 'begins';
  /** Why there is no link. */
  trouble = '';
  mayChange = false;
  version = '';
  /** How far the server's clock is ahead of this one's. */
  ahead = 0;
  heardMs = 0;
  private listeners = new Set<() => void>();
  private due = false;

  constructor() {
    const part = () => ({ things: new Map(), readMs: null, error: null });
    const topics: Topic[] = ['status', 'nodes', 'networks', 'endpoints', 'addresses', 'services', 'groups', 'paths', 'drops'];
    this.parts = Object.fromEntries(topics.map((topic) => [topic, part()])) as never;
  }

  listen(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  changed(): void {
    if (this.due) return;
    this.due = true;
    const tell = () => {
      this.due = false;
      for (const listener of this.listeners) listener();
    };
    // A hidden page draws nothing, but has to be right when it is shown.
    if (document.hidden) setTimeout(tell, 200);
    else requestAnimationFrame(tell);
  }

  now(): number {
    return Date.now() + this.ahead;
  }

  take(line: unknown): void {
    if (typeof line !== 'object' || line === null) return;
    const said = line as {
      topic: string;
      now_ms?: number;
      read_ms?: number;
      read?: Record<string, number>;
      whole?: boolean;
      put?: Record<string, [number, unknown]>;
      gone?: string[];
      error?: string;
      events?: Event[];
      may_change?: boolean;
      version?: string;
    };
    this.heardMs = Date.now();
    if (said.now_ms !== undefined) {
      const ahead = said.now_ms - Date.now();
      // Small differences are the way here; following them would make ages jump.
      if (Math.abs(ahead - this.ahead) > 250) this.ahead = ahead;
    }
    if (said.topic === 'hello') {
      this.mayChange = said.may_change === true;
      this.version = said.version ?? '';
    } else if (said.topic === 'beat') {
      for (const [topic, ms] of Object.entries(said.read ?? {})) {
        const part = this.parts[topic as Topic];
        if (part) part.readMs = ms;
      }
      return;
    } else if (said.topic === 'events') {
      const before = said.whole ? [] : this.events;
      this.events = before.concat(said.events ?? []).slice(-EVENTS_MAX);
    } else {
      const part = this.parts[said.topic as Topic] as Part<unknown> | undefined;
      if (!part) return;
      // A new map for each change: what shows it sees by that whether it has to look.
      const things = new Map(said.whole ? [] : part.things);
      for (const key of said.gone ?? []) things.delete(key);
      for (const [key, [at, v]] of Object.entries(said.put ?? {})) things.set(key, { at, v });
      part.things = said.whole ? new Map([...things].sort(([a], [b]) => (a < b ? -1 : 1))) : things;
      if (said.read_ms !== undefined && said.read_ms !== null) part.readMs = said.read_ms;
      part.error = said.error ?? null;
    }
    this.changed();
  }

  say(link: Link, trouble = ''): void {
    if (this.link === link && this.trouble === trouble) return;
    this.link = link;
    this.trouble = trouble;
    this.changed();
  }
}

export const store = new Store();

const KEPT = 'lanmesh-token';

/** The token: from the address, which then forgets it, or what was given in this window before. */
export const token = {
  text: '',
  take(): void {
    const given = /^#token=([\x21-\x7e]+)$/.exec(location.hash);
    if (given?.[1]) {
      sessionStorage.setItem(KEPT, given[1]);
      history.replaceState(null, '', location.pathname + '#/');
    }
    this.text = sessionStorage.getItem(KEPT) ?? '';
  },
  set(text: string): void {
    this.text = text;
    if (text) sessionStorage.setItem(KEPT, text);
    else sessionStorage.removeItem(KEPT);
  },
  headers(): Record<string, string> {
    return this.text ? { authorization: `Bearer ${this.text}` } : {};
  },
};

async function follow(stop: AbortSignal): Promise<void> {
  const answer = await fetch('/live', { headers: token.headers(), signal: stop, cache: 'no-store' });
  if (!answer.ok || !answer.body) {
    const text = await answer.text();
    let why = `the server answers ${answer.status}`;
    try {
      why = JSON.parse(text).error.message;
    } catch {
      // It is no answer of ours: the status has to do.
    }
    if (answer.status === 401) {
      store.say('token', why);
      return;
    }
    throw new Error(why);
  }
  store.say('live');
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) if (line) store.take(JSON.parse(line));
  }
}

let again: (() => void) | null = null;

/** Tries at once, with the token that was just given. */
export function reconnect(): void {
  again?.();
}

/** Keeps the link up, for as long as the page is open. */
export async function keep(): Promise<never> {
  for (let misses = 0; ; ) {
    const stop = new AbortController();
    const begun = Date.now();
    store.heardMs = begun;
    const watch = setInterval(() => {
      if (Date.now() - store.heardMs > SILENCE_MS) stop.abort(new Error('nothing is heard'));
    }, 1000);
    let why = 'the connection ended';
    try {
      await follow(stop.signal);
    } catch (error) {
      why = error instanceof Error && error.message ? error.message : String(error);
    }
    clearInterval(watch);
    misses = Date.now() - begun > 5000 ? 0 : misses + 1;
    if (store.link !== 'token') store.say('lost', why);
    const rest = store.link === 'token' ? 3600_000 : Math.min(500 * 2 ** Math.min(misses, 4), 5000);
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, rest);
      again = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

/** Has the server change something; an error says why it was not done. */
export async function change(method: 'PUT' | 'DELETE', path: string, body?: unknown): Promise<void> {
  const headers: Record<string, string> = token.headers();
  if (body !== undefined) headers['content-type'] = 'application/json';
  const answer = await fetch(path, { method, headers, body: body === undefined ? null : JSON.stringify(body) });
  if (answer.ok) return;
  const error = await answer.json().then((said) => said.error, () => null);
  throw new Error([error?.message ?? `the server answers ${answer.status}`, error?.hint].filter(Boolean).join(': '));
}
