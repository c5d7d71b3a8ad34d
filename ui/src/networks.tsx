// Networks by nodes: endpoints, their names, the addresses that they have and those that the plan foretells.

import { memo } from 'preact/compat';
import { Act, Age, Detail, EndpointLink, Facts, Missing, NodeLink, Panel, Some, State, Tag, fresh, list, nodes, quoted } from './bits';
import type { Dated, Endpoint, Network } from './model';
import { byNode } from './nodes';
import { to } from './route';
import { matches } from './search';

function bare(address: string): string {
  return address.replace(/\/\d+$/, '');
}

/** What the plan foretells, and whether it came so. */
function Foretold({ of }: { of: Endpoint }) {
  const told = of.foretold?.addresses ?? [];
  if (told.length === 0) return <span class="dull">–</span>;
  const has = new Set(of.addresses.map(bare));
  const same = told.every((address) => has.has(bare(address)));
  return (
    <span class={same ? 'same' : 'other'} title={same ? `as the plan foretells (${of.foretold?.by})` : 'another one was asked for, borrowed, or the foretold one was taken'}>
      {same ? '✓ as foretold' : `≠ ${told.map(bare).join(', ')}`}
    </span>
  );
}

const Row = memo(({ it }: { it: Dated<Endpoint> }) => {
  const { name, network, service, slot, addresses, aliases, state, floating } = it.v;
  return (
    <tr class={fresh(it.at)}>
      <td><EndpointLink network={network} name={name} /></td>
      <td>{[service && `${service}${slot === null ? '' : `.${slot}`}`, ...aliases].filter(Boolean).join(', ')}</td>
      <td class="address">{addresses.map(bare).join(', ')}{floating?.map((one) => <Tag key={one} title="It moved here">{one}</Tag>)}</td>
      <td><Foretold of={it.v} /></td>
      <td><State state={state} /></td>
      <td><Age ms={it.at} /></td>
    </tr>
  );
});

function OnNode({ name, range, endpoints }: { name: string; range: string[]; endpoints: Dated<Endpoint>[] }) {
  return (
    <details open={endpoints.length <= 100} class="group">
      <summary>
        <b>{name}</b> <span class="dull">{endpoints.length} · block {range.join(', ') || 'none'}</span>
      </summary>
      {endpoints.length > 0 && (
        <div class="wide">
          <table>
            <thead><tr><th>endpoint</th><th>service, names</th><th>address</th><th>foretold</th><th>state</th><th>changed</th></tr></thead>
            <tbody><Some of={endpoints} first={50} show={(it) => <Row key={it.v.name} it={it} />} /></tbody>
          </table>
        </div>
      )}
    </details>
  );
}

function One({ it, endpoints, find }: { it: Dated<Network>; endpoints: Dated<Endpoint>[]; find: string }) {
  const network = it.v;
  const there = byNode(endpoints);
  const order = nodes().map((node) => node.v.name).filter((name) => there.has(name) || (!find && network.blocks[name]));
  for (const name of there.keys()) if (!order.includes(name)) order.push(name);
  return (
    <article class="network">
      <header>
        <h3><a href={to('networks', network.name)}>{network.name}</a></h3>
        <Tag>{network.encrypt === 'wireguard' ? '🔒 wireguard' : 'plain'}</Tag>
        {network.subnets.map((subnet) => <Tag key={subnet}>{subnet}</Tag>)}
        {network.conflict && <span class="state bad">in conflict</span>}
        <span class="dull">{endpoints.length} endpoints · changed <Age ms={it.at} /></span>
      </header>
      {order.map((name) => <OnNode key={name} name={name} range={network.blocks[name] ?? []} endpoints={there.get(name) ?? []} />)}
    </article>
  );
}

export function Networks({ find }: { find: string }) {
  const of = new Map<string, Dated<Endpoint>[]>();
  for (const endpoint of list('endpoints')) {
    const { v } = endpoint;
    if (!matches(find, v.name, v.network, v.service, v.node, v.mac, ...v.aliases, ...v.addresses)) continue;
    const there = of.get(v.network);
    if (there) there.push(endpoint);
    else of.set(v.network, [endpoint]);
  }
  const shown = list('networks').filter(({ v }) => of.has(v.name) || matches(find, v.name, ...v.subnets));
  return (
    <Panel title="Networks by node" topic="networks" command="lanmesh network ls">
      {shown.map((it) => <One key={it.v.id} it={it} endpoints={it.v.conflict ? [] : (of.get(it.v.name) ?? [])} find={find} />)}
      {shown.length === 0 && <p class="dull">There is none. <code>lanmesh network create</code> makes one.</p>}
    </Panel>
  );
}

export function NetworkDetail({ name, back }: { name: string; back: string }) {
  const found = list('networks').find((network) => network.v.name === name && !network.v.conflict);
  if (!found) return <Missing kind="network" name={name} back={back} />;
  const network = found.v;
  const commands = [`lanmesh network inspect ${quoted(name)}`, `lanmesh ipam plan ${quoted(name)}`, `lanmesh endpoint ls ${quoted(name)}`];
  return (
    <Detail kind="network" name={name} back={back} at={found.at} commands={commands}>
      <Facts
        rows={[
          ['subnets', network.subnets.join(', ')],
          ['gateways', network.gateways.join(', ')],
          ['encryption', network.encrypt],
          ['MTU', network.mtu ?? 'as the smallest underlay allows'],
          ['multicast', network.multicast],
          ['broadcast', network.broadcast],
          ['zeroconf', network.zeroconf],
          ['spoofing', network.spoofing],
          ['reserved', network.reserve.join(', ')],
          ...Object.entries(network.pools).map(([service, ranges]): [string, string] => [`pool ${service}`, ranges.join(', ')]),
          ['created', <Age ms={network.created_ms} />],
          ['id', network.id],
        ]}
      />
      <h3>Blocks of the address plan</h3>
      <div class="wide">
        <table>
          <thead><tr><th>node</th><th>addresses</th></tr></thead>
          <tbody>
            {nodes().map(({ v }) => (
              <tr key={v.name}><td><NodeLink name={v.name} /></td><td class="address">{network.blocks[v.name]?.join(', ') ?? 'none'}</td></tr>
            ))}
          </tbody>
        </table>
      </div>
      {network.lent && network.lent.length > 0 && (
        <>
          <h3>Lent</h3>
          <ul class="plain">{network.lent.map((lent) => <li key={lent.range}>{lent.range}: {lent.from} → {lent.to}</li>)}</ul>
        </>
      )}
    </Detail>
  );
}

export function EndpointDetail({ network, name, back }: { network: string; name: string; back: string }) {
  const found = list('endpoints').find(({ v }) => v.network === network && v.name === name);
  if (!found) return <Missing kind="endpoint" name={`${network}/${name}`} back={back} />;
  const it = found.v;
  const here = list('nodes').find((node) => node.v.me)?.v.name === it.node;
  const draining = it.state === 'draining';
  const groups = list('groups').filter(({ v }) => v.network === network && v.members.some((member) => member.endpoint === name));
  const told = list('services').filter(({ v }) => v.network === network && v.endpoint === name && v.node === it.node);
  return (
    <Detail kind="endpoint" name={`${network}/${name}`} back={back} at={found.at} commands={[`lanmesh endpoint inspect ${quoted(network)} ${quoted(name)}`, `lanmesh whois ${quoted(bare(it.addresses[0] ?? name))}`]}>
      <Facts
        rows={[
          ['state', <State state={it.state} />],
          ['node', <NodeLink name={it.node} />],
          ['network', <a href={to('networks', network)}>{network}</a>],
          ['service', it.service && <a href={to('services', network, it.service)}>{it.service}{it.slot === null ? '' : `, slot ${it.slot}`}</a>],
          ['addresses', it.addresses.join(', ')],
          ['foretold', <Foretold of={it} />],
          ['by which rule', it.foretold && (it.foretold.by === 'pool' ? `the service's pool` : `the node's block`)],
          ['MAC', it.mac],
          ['further names', it.aliases.join(', ')],
          ['names that are another’s', it.names_lost && Object.entries(it.names_lost).map(([lost, to]) => `${lost} (${to})`).join(', ')],
          ['moved here', it.floating?.join(', ')],
          ['may also have', it.also_addresses?.join(', ')],
          ['published', it.publish?.join(', ')],
          ['routes multicast', it.multicast_router && 'yes'],
          ['groups', groups.length > 0 && groups.map(({ v }) => <a key={v.group} href={to('groups', network, v.group)}>{v.group} </a>)],
          ['announces', told.length > 0 && told.map(({ v }) => `${v.instance} (${v.type})`).join(', ')],
          ['dropped here', it.dropped && Object.entries(it.dropped).map(([kind, count]) => `${kind}: ${count}`).join(', ')],
          ['attached by', it.owner],
        ]}
      />
      {here && it.service && (it.state === 'up' || draining) && (
        <Act
          label={draining ? 'Give it new connections again' : 'Drain it'}
          sure={draining ? 'Really?' : 'No new connections for it?'}
          method="PUT"
          path={`/networks/${encodeURIComponent(network)}/endpoints/${encodeURIComponent(name)}/drain`}
          body={{ draining: !draining }}
        />
      )}
    </Detail>
  );
}
