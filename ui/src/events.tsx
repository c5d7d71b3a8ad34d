// What happens on all nodes, as it does, the newest first.

import { useState } from 'preact/hooks';
import { Age, Command, EndpointLink, NodeLink, fresh, stamp } from './bits';
import type { Event } from './model';
import { to } from './route';
import { matches } from './search';
import { store } from './store';

const BAD = new Set(['alarm', 'problem', 'reconcile_failed', 'lagged']);

export function tone(event: Event): string {
  if (BAD.has(event.kind)) return 'bad';
  if (event.kind === 'path_changed') return event.message.includes('pass to node') && event.message.startsWith('network') && event.message.includes('back again') ? 'good' : 'bad';
  if (/removed|put_back|changed/.test(event.kind)) return 'warn';
  return 'calm';
}

export function EventRow({ event, full }: { event: Event; full: boolean }) {
  const { node, network, endpoint } = event.object;
  return (
    <li class={`event ${tone(event)}${fresh(event.time_ms)}`}>
      <time dateTime={new Date(event.time_ms).toISOString()} title={stamp(event.time_ms)}><Age ms={event.time_ms} /></time>
      <span class="kind">{event.kind.replaceAll('_', ' ')}</span>
      <span class="about">
        {network && endpoint ? <EndpointLink network={network} name={endpoint} full /> : network && <a href={to('networks', network)}>{network}</a>}
        {node && <> <NodeLink name={node} /></>}
      </span>
      <span class="message">{event.message}</span>
      {full && event.told_by && <span class="teller dull">told by {event.told_by}, {event.seq}</span>}
    </li>
  );
}

export function Events({ find }: { find: string }) {
  const [kind, setKind] = useState('');
  const kinds = [...new Set(store.events.map((event) => event.kind))].sort();
  const shown = store.events
    .filter((event) => (!kind || event.kind === kind) && matches(find, event.kind, event.message, event.object.node, event.object.network, event.object.endpoint, event.told_by))
    .reverse();
  return (
    <section class="panel" aria-label="Events">
      <header>
        <h2 tabIndex={-1}>Events of all nodes</h2>
        <label class="check">
          of kind{' '}
          <select value={kind} onChange={(event) => setKind(event.currentTarget.value)}>
            <option value="">any</option>
            {kinds.map((word) => <option key={word} value={word}>{word}</option>)}
          </select>
        </label>
        <span class="read">{store.link === 'live' ? 'live' : 'not live'}</span>
        <Command text="lanmesh events --follow" />
      </header>
      <ol class="events">{shown.slice(0, 200).map((event) => <EventRow key={`${event.told_by} ${event.seq}`} event={event} full />)}</ol>
      {shown.length === 0 && <p class="dull">Nothing happened within the last hour{find && ' that is looked for'}.</p>}
    </section>
  );
}
