// Small things that all panels are made of.

import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import type { Dated, Topic, Topics } from './model';
import { to } from './route';
import { type Part, change, store, token } from './store';

/** A time span, as short as it says enough. */
export function span(ms: number): string {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 100) return `${s} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 129600) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} d`;
}

const clocks = new Set<() => void>();
setInterval(() => {
  if (!document.hidden) for (const clock of clocks) clock();
}, 1000);

/** How old something is; it counts by itself. */
export function Age({ ms, word = 'ago' }: { ms: number | null | undefined; word?: string }) {
  const place = useRef<HTMLTimeElement>(null);
  useEffect(() => {
    const show = () => {
      const element = place.current;
      if (!element) return;
      const text = ms == null ? 'never' : ms === 0 ? 'earlier' : `${span(store.now() - ms)}${word ? ` ${word}` : ''}`;
      if (element.textContent !== text) element.textContent = text;
    };
    show();
    clocks.add(show);
    return () => void clocks.delete(show);
  }, [ms, word]);
  return (
    <time class="age" ref={place} dateTime={ms ? new Date(ms).toISOString() : undefined} title={ms == null ? 'not known' : ms === 0 ? 'before somebody began to look' : stamp(ms)} />
  );
}

/** A class for what has just changed. */
export function fresh(at: number): string {
  return store.now() - at < 3000 ? ' fresh' : '';
}

export function stamp(ms: number): string {
  return new Date(ms).toISOString().replace('T', ' ').replace(/\.\d+Z$/, ' UTC');
}

/** The command that shows the same. */
export function Command({ text }: { text: string }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without a secure origin there is no clipboard: the old way has none either where nothing is selected.
      const area = document.createElement('textarea');
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand('copy');
      area.remove();
    }
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  };
  return (
    <button type="button" class="command" title="Copy the command that shows the same" onClick={copy}>
      <code>{text}</code>
      <span class="copied" aria-live="polite">{copied ? 'copied' : 'copy'}</span>
    </button>
  );
}

/** A word for the shell: a name is one as it is, everything else in quotes. */
export function quoted(text: string): string {
  return /^[A-Za-z0-9._:/@%+-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

export type Tone = 'good' | 'warn' | 'bad' | 'dull';

export function toneOf(state: string): Tone {
  switch (state) {
    case 'alive':
    case 'up':
    case 'ready':
    case 'ok':
    case 'whole':
      return 'good';
    case 'suspect':
    case 'draining':
    case 'degraded':
    case 'small':
    case 'starting':
    case 'displaced':
      return 'warn';
    case 'dead':
    case 'down':
    case 'silent':
    case 'unheard':
      return 'bad';
    default:
      return 'dull';
  }
}

/** A state by colour, shape and word: colour alone says nothing to some. */
export function State({ state }: { state: string }) {
  return <span class={`state ${toneOf(state)}`}>{state}</span>;
}

export function Tag({ children, title }: { children: ComponentChildren; title?: string }) {
  return <span class="tag" title={title}>{children}</span>;
}

/** A panel with its heading, how old what it shows is, and its command. */
export function Panel<T extends Topic>(props: {
  title: string;
  topic: T;
  command: string;
  children: ComponentChildren;
  aside?: ComponentChildren;
}) {
  const part = store.parts[props.topic];
  return (
    <section class="panel" aria-label={props.title}>
      <header>
        <h2 tabIndex={-1}>{props.title}</h2>
        {props.aside}
        <span class="read">read <Age ms={part.readMs} /></span>
        <Command text={props.command} />
      </header>
      {part.error && (
        <p class="trouble" role="alert">
          This is as it was {part.readMs === null ? '' : <Age ms={part.readMs} />}: {part.error}
        </p>
      )}
      {part.readMs === null && !part.error ? <p class="dull">It is being read …</p> : props.children}
    </section>
  );
}

/** Facts of one object, each a row. */
export function Facts({ rows }: { rows: [string, ComponentChildren][] }) {
  const some = rows.filter(([, value]) => value !== undefined && value !== null && value !== '' && value !== false);
  return (
    <dl class="facts">
      {some.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

/** One object: what it is, since when, and the commands that show the same. */
export function Detail(props: {
  kind: string;
  name: string;
  back: string;
  at?: number | undefined;
  commands: string[];
  children?: ComponentChildren;
}) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => heading.current?.focus({ preventScroll: false }), [props.kind, props.name]);
  return (
    <section class="panel detail" aria-label={`${props.kind} ${props.name}`}>
      <header>
        <h2 tabIndex={-1} ref={heading}>
          <small>{props.kind}</small> {props.name}
        </h2>
        {props.at !== undefined && <span class="read">changed <Age ms={props.at} /></span>}
        <a class="close" href={props.back} title="Close (Esc)" aria-label="Close">✕</a>
      </header>
      <div class="commands">{props.commands.map((command) => <Command key={command} text={command} />)}</div>
      {props.children}
    </section>
  );
}

export function Missing({ kind, name, back }: { kind: string; name: string; back: string }) {
  return (
    <Detail kind={kind} name={name} back={back} commands={[]}>
      <p class="dull">There is none of this name any more. The events tell when it went, as far as they are kept.</p>
    </Detail>
  );
}

const sorted = new WeakMap<Map<string, unknown>, unknown[]>();

/** The things of a topic by their keys. Worked out once for each change. */
export function list<T extends Topic>(topic: T): Dated<Topics[T]>[] {
  const part = store.parts[topic] as Part<Topics[T]>;
  let things = sorted.get(part.things) as Dated<Topics[T]>[] | undefined;
  if (!things) {
    const byName = new Intl.Collator('en', { numeric: true }).compare;
    things = [...part.things].sort(([a], [b]) => byName(a, b)).map(([, thing]) => thing);
    sorted.set(part.things, things);
  }
  return things;
}

export function nodes(): Dated<Topics['nodes']>[] {
  return [...list('nodes')].sort((a, b) => a.v.index - b.v.index);
}

export function NodeLink({ name }: { name: string }) {
  return <a href={to('nodes', name)}>{name}</a>;
}

export function EndpointLink({ network, name, full }: { network: string; name: string; full?: boolean }) {
  return <a href={to('networks', network, 'endpoints', name)}>{full ? `${network}/${name}` : name}</a>;
}

/** The beginning of a long list, and a button for the rest. */
export function Some<T>({ of, first, show }: { of: T[]; first: number; show: (one: T) => ComponentChildren }) {
  const [all, setAll] = useState(false);
  const some = all ? of : of.slice(0, first);
  return (
    <>
      {some.map(show)}
      {of.length > some.length && (
        <button type="button" class="more" onClick={() => setAll(true)}>{of.length - some.length} more</button>
      )}
    </>
  );
}

/** Does something that changes the cluster, after a second click, where the page may. */
export function Act(props: { label: string; sure: string; method: 'PUT' | 'DELETE'; path: string; body?: unknown }) {
  const [asked, setAsked] = useState(false);
  const [said, setSaid] = useState('');
  if (!store.mayChange) return null;
  if (!token.text) return <TokenForm why={`${props.label}: it takes the page's token`} />;
  const act = async () => {
    if (!asked) {
      setAsked(true);
      setTimeout(() => setAsked(false), 5000);
      return;
    }
    setAsked(false);
    setSaid('…');
    try {
      await change(props.method, props.path, props.body);
      setSaid('done');
    } catch (error) {
      setSaid(error instanceof Error ? error.message : String(error));
    }
    setTimeout(() => setSaid(''), 8000);
  };
  return (
    <span class="act">
      <button type="button" class={asked ? 'sure' : ''} onClick={act}>{asked ? props.sure : props.label}</button>
      <span role="status">{said}</span>
    </span>
  );
}

export function TokenForm({ why }: { why: string }) {
  const given = (event: SubmitEvent) => {
    event.preventDefault();
    token.set(String(new FormData(event.currentTarget as HTMLFormElement).get('token') ?? '').trim());
    store.changed();
  };
  return (
    <form class="token" onSubmit={given}>
      <label>
        {why} <input name="token" type="password" autocomplete="off" required />
      </label>
      <button type="submit">Use it</button>
    </form>
  );
}
