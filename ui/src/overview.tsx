// How it is, at one look: what is wrong first.

import { Age, Facts, Panel, State, list, nodes, span } from './bits';
import { EventRow } from './events';
import { dropped } from './drops';
import { to } from './route';
import { store } from './store';

function Tile(props: { href: string; number: number | string; what: string; more?: string | undefined; tone?: string }) {
  return (
    <a class={`tile ${props.tone ?? ''}`} href={props.href}>
      <b>{props.number}</b> {props.what}
      {props.more && <span>{props.more}</span>}
    </a>
  );
}

export function Overview() {
  const dated = list('status')[0];
  const status = dated?.v;
  const states = new Map<string, number>();
  for (const { v } of nodes()) states.set(v.state, (states.get(v.state) ?? 0) + 1);
  const other = [...states].filter(([state]) => state !== 'alive');
  const endpoints = list('endpoints');
  const notUp = endpoints.filter(({ v }) => v.state !== 'up').length;
  const ways = list('paths').flatMap((row) => row.v.paths);
  const ill = ways.filter((way) => way.problem).length;
  const drops = dropped();
  return (
    <>
      <Panel title="How it is" topic="status" command="lanmesh status">
        {status && (
          <>
            {status.problems.length === 0 ? (
              <p class="good-news">{status.cluster ? ill + other.length > 0 ? 'Nothing is wrong on this node itself.' : 'Nothing is wrong.' : 'This node belongs to no cluster: `lanmesh init` makes one, `lanmesh join` joins one.'}</p>
            ) : (
              <ul class="problems">
                {status.problems.map((problem) => (
                  <li key={problem.what}>
                    <p>{problem.what}{problem.since_ms !== undefined && <> <span class="dull">since <Age ms={problem.since_ms} word="" /></span></>}</p>
                    <p class="advice">{problem.hint}</p>
                  </li>
                ))}
              </ul>
            )}
            {status.out && <p class="trouble">{status.out.text}: {status.out.hint}</p>}
            <div class="tiles">
              <Tile href={to('nodes')} number={states.get('alive') ?? 0} what="nodes alive" more={other.map(([state, count]) => `${count} ${state}`).join(', ') || undefined} tone={other.length > 0 ? 'bad' : 'good'} />
              <Tile href={to('networks')} number={list('networks').length} what="networks" />
              <Tile href={to('networks')} number={endpoints.length} what="endpoints" more={notUp > 0 ? `${notUp} not up` : undefined} tone={notUp > 0 ? 'warn' : ''} />
              <Tile href={to('paths')} number={ways.length - ill} what={`of ${ways.length} ways well`} more={ill > 0 ? `${ill} not` : undefined} tone={ill > 0 ? 'bad' : 'good'} />
              <Tile href={to('groups')} number={list('groups').length} what="groups joined" />
              <Tile href={to('services')} number={list('addresses').length} what="service addresses" more={`${list('services').length} found by zeroconf`} />
              <Tile href={to('drops')} number={drops} what="dropped" tone={drops > 0 ? 'warn' : ''} />
            </div>
            <Facts
              rows={[
                ['this node', status.cluster && <><a href={to('nodes', status.cluster.name)}>{status.cluster.name}</a>, index {status.cluster.index}{status.cluster.manager && ', manager'}</>],
                ['state', <State state={status.state} />],
                ['up for', span(status.uptime_s * 1000)],
                ['version', status.version],
                ['last pass', <><Age ms={status.reconcile.last_ms} />, {status.reconcile.last_changes} changes</>],
                ['cluster', status.cluster?.id],
              ]}
            />
          </>
        )}
      </Panel>
      <section class="panel" aria-label="Latest events">
        <header><h2><a href={to('events')}>Latest events</a></h2></header>
        <ol class="events">{[...store.events].reverse().slice(0, 8).map((event) => <EventRow key={`${event.told_by} ${event.seq}`} event={event} full={false} />)}</ol>
        {store.events.length === 0 && <p class="dull">Nothing happened within the last hour.</p>}
      </section>
    </>
  );
}
