// Services with addresses of their own, and what endpoints announce by zeroconf, to browse by type.

import { Age, Detail, EndpointLink, Facts, Missing, NodeLink, Panel, Some, State, Tag, list, quoted } from './bits';
import type { Dated, Found } from './model';
import { hue } from './nodes';
import { to } from './route';
import { matches } from './search';

function foundWords(it: Found): string[] {
  return [it.network, it.type, it.instance, it.node, it.endpoint];
}

export function Services({ find }: { find: string }) {
  const named = list('addresses').filter(({ v }) => matches(find, v.name, v.network, ...v.addresses, ...v.endpoints.map((one) => one.name)));
  const given = new Set(list('addresses').map(({ v }) => `${v.network}/${v.name}`));
  // A service is there too where its endpoints alone name it.
  const plain = new Map<string, { name: string; network: string; count: number; up: number }>();
  for (const { v } of list('endpoints')) {
    const key = `${v.network}/${v.service}`;
    if (v.service === null || given.has(key) || !matches(find, v.service, v.network)) continue;
    const it = plain.get(key) ?? { name: v.service, network: v.network, count: 0, up: 0 };
    it.count += 1;
    it.up += v.state === 'up' ? 1 : 0;
    plain.set(key, it);
  }
  return (
    <Panel title="Services" topic="addresses" command="lanmesh service ls">
      <div class="cards">
        <Some
          of={named}
          first={60}
          show={({ v, at }) => (
            <a key={`${v.network}/${v.name}`} class="card" href={to('services', v.network, v.name)} style={{ '--hue': hue(v.name) }}>
              <b>{v.name}</b> <span class="dull">{v.network}</span>
              <span class="address">{v.addresses.join(', ')}</span>
              <span>{v.endpoints.filter((one) => one.state === 'up').length} of {v.endpoints.length} take connections</span>
              {v.publish.length > 0 && <span>ports {v.publish.join(', ')}</span>}
              <span class="last"><Age ms={at} /></span>
            </a>
          )}
        />
        {[...plain.values()].map((it) => (
          <a key={`${it.network}/${it.name}`} class="card" href={to('services', it.network, it.name)} style={{ '--hue': hue(it.name) }}>
            <b>{it.name}</b> <span class="dull">{it.network}</span>
            <span>{it.up} of {it.count} up</span>
            <span class="dull">no address of its own</span>
          </a>
        ))}
      </div>
      {named.length + plain.size === 0 && <p class="dull">There is none.</p>}
    </Panel>
  );
}

export function Zeroconf({ find }: { find: string }) {
  const types = new Map<string, Dated<Found>[]>();
  for (const it of list('services')) {
    const { v } = it;
    if (!matches(find, v.network, v.type, v.instance, v.host, v.node, v.endpoint, ...v.addresses, ...v.txt)) continue;
    types.set(v.type, [...(types.get(v.type) ?? []), it]);
  }
  return (
    <Panel title="Found by zeroconf" topic="services" command={`lanmesh discover ${quoted(list('networks')[0]?.v.name ?? 'NETWORK')}`}>
      {[...types].sort().map(([type, found]) => (
        <details key={type} open={found.length <= 50} class="group">
          <summary><b class="address">{type}</b> <span class="dull">{found.length}</span></summary>
          <div class="wide">
            <table>
              <thead><tr><th>instance</th><th>network</th><th>where</th><th>endpoint</th><th>node</th><th>changed</th></tr></thead>
              <tbody>
                <Some
                  of={found}
                  first={50}
                  show={({ v, at }) => (
                    <tr key={foundWords(v).join()}>
                      <td><a href={to('found', ...foundWords(v))}>{v.instance}</a></td>
                      <td>{v.network}</td>
                      <td class="address">{v.addresses[0] ?? v.host}:{v.port}</td>
                      <td><EndpointLink network={v.network} name={v.endpoint} /></td>
                      <td><NodeLink name={v.node} /></td>
                      <td><Age ms={at} /></td>
                    </tr>
                  )}
                />
              </tbody>
            </table>
          </div>
        </details>
      ))}
      {types.size === 0 && <p class="dull">Nothing is announced{find && ' that is looked for'}.</p>}
    </Panel>
  );
}

export function ServiceDetail({ network, name, back }: { network: string; name: string; back: string }) {
  const found = list('addresses').find(({ v }) => v.network === network && v.name === name);
  const tasks = list('endpoints').filter(({ v }) => v.network === network && v.service === name);
  if (!found && tasks.length === 0) return <Missing kind="service" name={`${network}/${name}`} back={back} />;
  const it = found?.v;
  const states = new Map(it?.endpoints.map((one) => [one.name, one.state]));
  const commands = it ? [`lanmesh service inspect ${quoted(network)} ${quoted(name)}`] : [`lanmesh endpoint ls ${quoted(network)}`];
  return (
    <Detail kind="service" name={`${network}/${name}`} back={back} at={found?.at} commands={commands}>
      <Facts
        rows={[
          ['network', <a href={to('networks', network)}>{network}</a>],
          ['addresses', it?.addresses.join(', ') ?? 'none of its own'],
          ['addresses that are another’s', it?.lost?.join(', ')],
          ['ports', it?.ports.join(', ')],
          ['affinity', it?.affinity],
          ['published', it?.publish.join(', ')],
          ['by', it && it.publish.length > 0 && (it.publish_mode === 'mesh' ? 'every node' : 'nodes that have endpoints of it')],
        ]}
      />
      <h3>{tasks.length} endpoints</h3>
      <ul class="plain">
        <Some
          of={tasks}
          first={100}
          show={({ v, at }) => (
            <li key={`${v.name} ${v.node}`}>
              <EndpointLink network={network} name={v.name} /> {v.slot !== null && <Tag>{v.slot}</Tag>} <NodeLink name={v.node} /> <span class="address">{v.addresses[0]}</span> <State state={states.get(v.name) ?? v.state} /> <Age ms={at} />
            </li>
          )}
        />
      </ul>
    </Detail>
  );
}

export function FoundDetail({ words, back }: { words: string[]; back: string }) {
  const found = list('services').find(({ v }) => foundWords(v).join('\n') === words.join('\n'));
  if (!found) return <Missing kind="announced service" name={words[2] ?? ''} back={back} />;
  const it = found.v;
  return (
    <Detail kind="announced service" name={it.instance} back={back} at={found.at} commands={[`lanmesh discover ${quoted(it.network)} ${quoted(it.type)}`]}>
      <Facts
        rows={[
          ['type', it.type],
          ['subtypes', it.subtypes.join(', ')],
          ['host', it.host],
          ['addresses', it.addresses.join(', ')],
          ['port', it.port],
          ['priority, weight', `${it.priority}, ${it.weight}`],
          ['network', <a href={to('networks', it.network)}>{it.network}</a>],
          ['endpoint', <EndpointLink network={it.network} name={it.endpoint} />],
          ['node', <NodeLink name={it.node} />],
          ['known', it.declared ? 'declared when the endpoint was attached' : 'heard from the endpoint'],
        ]}
      />
      <h3>TXT</h3>
      {it.txt.length === 0 ? <p class="dull">none</p> : <ul class="plain txt">{it.txt.map((text, i) => <li key={i}><code>{text}</code></li>)}</ul>}
    </Detail>
  );
}
