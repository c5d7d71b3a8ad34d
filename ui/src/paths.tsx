// The grid of node pairs: whether frames pass from each node to each other one, as each node says itself.

import { useRef } from 'preact/hooks';
import { Age, Detail, Facts, Panel, State, list, nodes, quoted } from './bits';
import type { Way } from './model';
import { to } from './route';

type Sight = 'whole' | 'small' | 'bad' | 'untried' | 'none' | 'untold';

const GLYPHS: Record<Sight, string> = { whole: '✓', small: '!', bad: '✗', untried: '…', none: '·', untold: '?' };

/** The worst of the ways in all networks. */
function sight(ways: Way[]): Sight {
  if (ways.length === 0) return 'none';
  if (ways.some(({ state }) => state === 'silent' || state === 'unheard')) return 'bad';
  if (ways.some(({ state }) => state === 'small')) return 'small';
  return ways.some(({ state }) => state === 'untried') ? 'untried' : 'whole';
}

function loss(ways: Way[]): number {
  const sent = ways.reduce((sum, way) => sum + way.sent, 0);
  const lost = ways.reduce((sum, way) => sum + way.lost, 0);
  return sent === 0 ? 0 : Math.round((100 * lost) / sent);
}

interface Cell {
  ways: Way[];
  sight: Sight;
  untold?: string;
}

function cells(): Map<string, Cell> {
  const found = new Map<string, Cell>();
  const names = nodes().map((node) => node.v.name);
  for (const from of names) {
    const row = list('paths').find((row) => row.v.node === from)?.v;
    for (const there of names) {
      const ways = row?.paths.filter((way) => way.to === there) ?? [];
      const untold = row === undefined ? 'it was not asked yet' : row.untold;
      const cell: Cell = { ways, sight: untold === undefined ? sight(ways) : 'untold' };
      if (untold !== undefined) cell.untold = untold;
      found.set(`${from}\n${there}`, cell);
    }
  }
  return found;
}

function said(from: string, there: string, cell: Cell): string {
  const head = `${from} → ${there}: `;
  if (cell.untold !== undefined) return `${head}${from} does not say (${cell.untold})`;
  if (cell.ways.length === 0) return `${head}they share no network, or ${there} does not answer`;
  const words = cell.ways.map((way) => `${way.network} ${way.encrypted ? 'encrypted' : 'plain'}, ${way.carries ?? way.mtu} bytes, ${way.problem?.what ?? way.state}`);
  return `${head}${words.join('; ')}; ${loss(cell.ways)} % lost`;
}

export function Paths({ chosen }: { chosen: string | null }) {
  const grid = useRef<HTMLTableElement>(null);
  const all = cells();
  const names = nodes().map((node) => node.v.name);
  const states = new Map(nodes().map((node) => [node.v.name, node.v.state]));
  const move = (event: KeyboardEvent) => {
    const steps: Record<string, [number, number]> = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const step = steps[event.key];
    const place = (event.target as HTMLElement).closest<HTMLElement>('[data-row]');
    if (!step || !place) return;
    event.preventDefault();
    let [row, column] = [Number(place.dataset.row), Number(place.dataset.column)];
    do {
      row += step[0];
      column += step[1];
    } while (row === column && row >= 0 && row < names.length);
    grid.current?.querySelector<HTMLElement>(`[data-row="${row}"][data-column="${column}"]`)?.focus();
  };
  return (
    <Panel title="Ways between nodes" topic="paths" command="lanmesh node paths">
      <p class="legend">
        {([['whole', 'whole packets pass both ways'], ['small', 'smaller ones only'], ['bad', 'nothing passes, or one way only'], ['untried', 'being tried'], ['none', 'no network in common'], ['untold', 'the node does not say']] as const).map(([sight, text]) => (
          <span key={sight}><i class={`cell ${sight}`}>{GLYPHS[sight]}</i> {text}</span>
        ))}
        <span><i class="cell whole encrypted">✓</i> encrypted</span>
      </p>
      <div class="wide">
        <table class="grid" ref={grid} onKeyDown={move}>
          <thead>
            <tr>
              <th scope="col">from ↓ to →</th>
              {names.map((name) => <th key={name} scope="col" class="turned"><a href={to('nodes', name)}>{name}</a></th>)}
            </tr>
          </thead>
          <tbody>
            {names.map((from, row) => (
              <tr key={from} class={states.get(from)}>
                <th scope="row"><a href={to('nodes', from)}>{from}</a></th>
                {names.map((there, column) => {
                  if (from === there) return <td key={there} class="self" />;
                  const cell = all.get(`${from}\n${there}`) ?? { ways: [], sight: 'none' };
                  const text = said(from, there, cell);
                  const encrypted = cell.ways.some((way) => way.encrypted);
                  return (
                    <td key={there}>
                      <a
                        href={to('paths', from, there)}
                        class={`cell ${cell.sight}${encrypted ? ' encrypted' : ''}${chosen === `${from}\n${there}` ? ' chosen' : ''}`}
                        data-row={row}
                        data-column={column}
                        title={text}
                        aria-label={text}
                      >
                        {GLYPHS[cell.sight]}
                      </a>
                    </td>
                  );
                })}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <Red all={all} />
    </Panel>
  );
}

/** Whatever is not well, in words. */
function Red({ all }: { all: Map<string, Cell> }) {
  const ill = [...all].flatMap(([key, cell]) => {
    const [from, there] = key.split('\n') as [string, string];
    // What is wrong in several networks for one reason is one thing.
    const first = new Map(cell.ways.filter((way) => way.problem).map((way) => [way.problem?.what, way]));
    return [...first.values()].map((way) => ({ from, there, way }));
  });
  if (ill.length === 0) return null;
  return (
    <>
      <h3>What is not well</h3>
      <ul class="problems">
        {ill.slice(0, 100).map(({ from, there, way }) => (
          <li key={`${from} ${there} ${way.network}`}>
            <a href={to('paths', from, there)}>{from} → {there}</a> <State state={way.state} /> since <Age ms={way.since_ms} word="" />
            <p>{way.problem?.what}</p>
            <p class="advice">{way.problem?.hint}</p>
          </li>
        ))}
      </ul>
      {ill.length > 100 && <p class="dull">and {ill.length - 100} more</p>}
    </>
  );
}

export function PathDetail({ from, there, back }: { from: string; there: string; back: string }) {
  const row = list('paths').find((row) => row.v.node === from);
  const cell = cells().get(`${from}\n${there}`) ?? { ways: [], sight: 'none' };
  const commands = [`lanmesh node paths ${quoted(from)}`, `lanmesh trace ${quoted(from)} ${quoted(there)}`];
  return (
    <Detail kind="way" name={`${from} → ${there}`} back={back} at={row?.at} commands={commands}>
      {cell.untold !== undefined && <p class="trouble">{from} does not say: {cell.untold}</p>}
      {cell.untold === undefined && cell.ways.length === 0 && <p class="dull">They have endpoints in no network in common, or {there} does not answer.</p>}
      {cell.ways.map((way) => (
        <div key={way.network}>
          <h3>in {way.network}</h3>
          <Facts
            rows={[
              ['frames', <State state={way.state} />],
              ['since', <Age ms={way.since_ms} />],
              ['goes', way.encrypted ? 'encrypted, by WireGuard' : 'plain, as VXLAN'],
              ['MTU', `${way.mtu} bytes`],
              ['carries', way.carries === undefined ? '' : `${way.carries} bytes`],
              ['last heard', <Age ms={way.heard_ms} />],
              ['lost', `${way.lost} of the last ${way.sent} probes`],
              ['what is wrong', way.problem?.what],
              ['what to do', way.problem && <span class="advice">{way.problem.hint}</span>],
            ]}
          />
        </div>
      ))}
      <p><a href={to('paths', there, from)}>the other direction: {there} → {from}</a></p>
    </Detail>
  );
}
