// What all nodes dropped, by reason, and what to do about it. What it means is in docs/security.md and docs/troubleshooting.md.

import { useState } from 'preact/hooks';
import { Age, EndpointLink, Panel, list } from './bits';
import type { Dated, Drop } from './model';
import { to } from './route';
import { matches } from './search';
import { store } from './store';

interface Reason {
  name: string;
  count: number;
  hint: string;
  /** Where it is counted, the most first. */
  places: { node: string; network?: string; count: number }[];
}

/** When the count of each reason was last seen to grow, since this page was opened. */
const grew = new Map<string, { count: number; ms: number | null }>();

function note(reason: Reason): number | null {
  const was = grew.get(reason.name);
  const ms = was === undefined ? null : reason.count > was.count ? store.now() : was.ms;
  grew.set(reason.name, { count: reason.count, ms });
  return ms;
}

function sums(): Reason[] {
  const found = new Map<string, Reason>();
  for (const { v } of list('drops')) {
    if (v.reason === undefined || v.endpoint !== undefined) continue;
    const reason = found.get(v.reason) ?? { name: v.reason, count: 0, hint: '', places: [] };
    const count = v.count ?? 0;
    reason.count += count;
    reason.hint ||= v.hint ?? '';
    if (count > 0) reason.places.push(v.network === undefined ? { node: v.node, count } : { node: v.node, network: v.network, count });
    found.set(v.reason, reason);
  }
  return [...found.values()];
}

/** How much all nodes dropped. */
export function dropped(): number {
  return sums().reduce((sum, reason) => sum + reason.count, 0);
}

/** What came from each endpoint. */
function endpoints(): Map<string, Dated<Drop>[]> {
  const found = new Map<string, Dated<Drop>[]>();
  for (const row of list('drops')) {
    if (row.v.endpoint === undefined) continue;
    const key = `${row.v.network ?? ''}/${row.v.endpoint}`;
    found.set(key, [...(found.get(key) ?? []), row]);
  }
  return found;
}

/** What a person reads, of a text with code in it. */
function text(words: string) {
  return words.split('`').map((part, i) => (i % 2 === 1 ? <code key={i}>{part}</code> : part));
}

const PLACES_MAX = 12;
const ENDPOINTS_MAX = 200;

function Places({ places }: { places: Reason['places'] }) {
  const sorted = [...places].sort((a, b) => b.count - a.count);
  return (
    <>
      {sorted.slice(0, PLACES_MAX).map(({ node, network, count }, i) => (
        <span key={`${node} ${network ?? ''}`}>
          {i > 0 && ', '}
          <a href={to('nodes', node)}>{node}</a>{network !== undefined && ` in ${network}`}{places.length > 1 && `: ${count}`}
        </span>
      ))}
      {sorted.length > PLACES_MAX && ` and ${sorted.length - PLACES_MAX} more`}
    </>
  );
}

export function Drops({ find }: { find: string }) {
  const [all, setAll] = useState(false);
  const shown = sums()
    .map((reason) => ({ ...reason, grewMs: note(reason) }))
    .filter((reason) => (all || reason.count > 0) && matches(find, reason.name, reason.hint, ...reason.places.map(({ node, network }) => `${node} ${network ?? ''}`)))
    .sort((a, b) => b.count - a.count);
  const untold = list('drops').filter(({ v }) => v.untold !== undefined);
  const ports = [...endpoints()].filter(([key, rows]) => matches(find, key, ...rows.map(({ v }) => `${v.reason} ${v.node}`)));
  return (
    <Panel
      title="Drops by reason"
      topic="drops"
      command="lanmesh node drops"
      aside={<label class="check"><input type="checkbox" checked={all} onChange={() => setAll(!all)} /> those that are zero too</label>}
    >
      <p class="dull">Each node counts since its agent began; “grew” is since this page was opened.</p>
      {untold.map(({ v }) => <p key={v.node} class="dull"><a href={to('nodes', v.node)}>{v.node}</a> does not say: {v.untold}</p>)}
      {shown.length === 0 ? (
        <p class="good-news">Nothing was dropped.</p>
      ) : (
        <div class="wide">
          <table class="drops">
            <thead><tr><th>reason</th><th>count</th><th>grew</th><th>where</th><th>what to do</th></tr></thead>
            <tbody>
              {shown.map((reason) => (
                <tr key={reason.name} class={reason.count > 0 ? '' : 'dull'}>
                  <td><code>{reason.name}</code></td>
                  <td class="number">{reason.count}</td>
                  <td>{reason.grewMs === null ? <span class="dull" title="not since this page was opened">–</span> : <Age ms={reason.grewMs} />}</td>
                  <td><Places places={reason.places} /></td>
                  <td class="advice">{text(reason.hint)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {ports.length > 0 && (
        <>
          <h3>From which endpoints</h3>
          <ul class="plain">
            {ports.slice(0, ENDPOINTS_MAX).map(([key, rows]) => {
              const [{ v }] = rows as [Dated<Drop>];
              return (
                <li key={key}>
                  <EndpointLink network={v.network ?? ''} name={v.endpoint ?? ''} full />{' '}
                  {rows.map(({ v }) => `${v.reason}: ${v.count}`).join(', ')} on <a href={to('nodes', v.node)}>{v.node}</a>{' '}
                  <Age ms={Math.max(...rows.map(({ at }) => at))} />
                </li>
              );
            })}
            {ports.length > ENDPOINTS_MAX && <li class="dull">and {ports.length - ENDPOINTS_MAX} more: <code>lanmesh node drops</code></li>}
          </ul>
        </>
      )}
    </Panel>
  );
}
