// The nodes side by side, and on each what runs there: tasks by service, as a swarm's visualizer shows them.

import { memo } from 'preact/compat';
import { Act, Age, Detail, EndpointLink, Facts, Missing, NodeLink, Panel, Some, State, Tag, fresh, list, nodes, quoted } from './bits';
import type { Dated, Endpoint, Node } from './model';
import { to } from './route';
import { matches } from './search';
import { store } from './store';

/** What it says of itself; the rest is what people say of it. */
const OWN = ['kernel', 'os', 'arch', 'version', 'protocol', 'probes'];

/** One hue for each service, the same everywhere. */
export function hue(text: string): number {
  let hash = 7;
  for (const letter of text) hash = (hash * 31 + (letter.codePointAt(0) ?? 0)) % 360;
  return Math.floor(hash / 15) * 15;
}

export function byNode(endpoints: Dated<Endpoint>[]): Map<string, Dated<Endpoint>[]> {
  const found = new Map<string, Dated<Endpoint>[]>();
  for (const endpoint of endpoints) {
    const there = found.get(endpoint.v.node);
    if (there) there.push(endpoint);
    else found.set(endpoint.v.node, [endpoint]);
  }
  return found;
}

const Task = memo(({ it }: { it: Dated<Endpoint> }) => {
  const { name, network, service, slot, addresses, state } = it.v;
  return (
    <a class={`task ${state}${fresh(it.at)}`} href={to('networks', network, 'endpoints', name)} style={{ '--hue': hue(service ?? network) }} title={`${network}/${name}, ${state}`}>
      <b>{service ? `${service}${slot === null ? '' : `.${slot}`}` : name}</b>
      {service && <i>{name}</i>}
      <span>{network}</span>
      <span class="address">{addresses[0]?.replace(/\/\d+$/, '')}</span>
      <span class="last">
        {state !== 'up' && <State state={state} />} <Age ms={it.at} word="" />
      </span>
    </a>
  );
});

function Column({ node, tasks }: { node: Dated<Node>; tasks: Dated<Endpoint>[] }) {
  const { name, state, manager, me, labels, address, index, path, reason } = node.v;
  const said = Object.entries(labels).filter(([label]) => !OWN.includes(label));
  return (
    <article class={`node ${state}`}>
      <header>
        <h3><NodeLink name={name} /></h3>
        <State state={state} />
        <Tag>{manager ? 'manager' : 'member'}</Tag>
        {me && <Tag title="It shows this page">here</Tag>}
        <p class="dull">
          {labels.os} {labels.arch} · {address.replace(/:\d+$/, '')} · {index}
        </p>
        {said.length > 0 && (
          <p class="labels">{said.map(([label, value]) => <Tag key={label}>{label}={value}</Tag>)}</p>
        )}
        {path && path !== 'ok' && <p class="trouble" title={reason}>{path}: {reason}</p>}
        <p class="dull">
          {tasks.length} {tasks.length === 1 ? 'endpoint' : 'endpoints'} · changed <Age ms={node.at} />
        </p>
      </header>
      <div class="tasks"><Some of={tasks} first={60} show={(task) => <Task key={`${task.v.network}/${task.v.name}`} it={task} />} /></div>
    </article>
  );
}

export function Nodes({ find }: { find: string }) {
  const all = byNode(list('endpoints'));
  const shown = nodes()
    .map((node) => {
      const tasks = all.get(node.v.name) ?? [];
      const itself = matches(find, node.v.name, node.v.address, ...Object.entries(node.v.labels).map(([k, v]) => `${k}=${v}`));
      return { node, itself, tasks: itself ? tasks : tasks.filter(({ v }) => matches(find, v.name, v.network, v.service, ...v.addresses)) };
    })
    .filter(({ itself, tasks }) => itself || tasks.length > 0);
  return (
    <Panel title="Nodes, and what runs on each" topic="nodes" command="lanmesh node ls">
      <div class="columns">{shown.map(({ node, tasks }) => <Column key={node.v.id} node={node} tasks={tasks} />)}</div>
      {shown.length === 0 && <p class="dull">There is none.</p>}
    </Panel>
  );
}

export function NodeDetail({ name, back }: { name: string; back: string }) {
  const found = list('nodes').find((node) => node.v.name === name);
  if (!found) return <Missing kind="node" name={name} back={back} />;
  const node = found.v;
  const endpoints = list('endpoints').filter(({ v }) => v.node === name);
  const commands = [`lanmesh node inspect ${quoted(name)}`, `lanmesh node paths ${quoted(name)}`];
  return (
    <Detail kind="node" name={name} back={back} at={found.at} commands={commands}>
      <Facts
        rows={[
          ['state', <State state={node.state} />],
          ['role', node.manager ? 'manager: lets nodes in' : 'member'],
          ['way to it', node.me ? 'this node' : (node.path ?? 'shares no network with this node')],
          ['why', node.reason],
          ['address', node.address],
          ['VTEP', node.vtep],
          ['index', node.index],
          ['underlay', `${node.underlay_mtu} bytes`],
          ['mesh', node.mesh && `${node.mesh.address}${node.mesh.carries == null ? '' : `, carries ${node.mesh.carries} bytes`}`],
          ['networks', node.networks.length > 0 && node.networks.map((network) => <a key={network} href={to('networks', network)}>{network} </a>)],
          ...Object.entries(node.labels).map(([label, value]): [string, string] => [`label ${label}`, value]),
          ['id', node.id],
        ]}
      />
      {node.state === 'dead' && !node.me && (
        <Act label="Shut it out" sure="Shut it out for good?" method="DELETE" path={`/nodes/${encodeURIComponent(name)}`} />
      )}
      <h3>{endpoints.length} endpoints</h3>
      <ul class="plain">
        <Some
          of={endpoints}
          first={100}
          show={({ v, at }) => (
            <li key={`${v.network}/${v.name}`}>
              <EndpointLink network={v.network} name={v.name} full /> {v.addresses[0]} <State state={v.state} /> <Age ms={at} />
            </li>
          )}
        />
      </ul>
      {store.parts.endpoints.error && <p class="trouble">{store.parts.endpoints.error}</p>}
    </Detail>
  );
}
