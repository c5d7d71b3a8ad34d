// Multicast groups: who is a member, where copies go, and how many.

import { Age, Detail, EndpointLink, Facts, Missing, NodeLink, Panel, Some, fresh, list, nodes, quoted } from './bits';
import type { Dated, Group, Traffic } from './model';
import { to } from './route';
import { matches } from './search';

function members(group: Group): Map<string, Group['members']> {
  const found = new Map<string, Group['members']>();
  for (const member of group.members) found.set(member.node, [...(found.get(member.node) ?? []), member]);
  return found;
}

/** To how many nodes a datagram that is sent on this one goes: one copy for each other node with a member. */
function copies(group: Group, from: string): string[] {
  return [...members(group).keys()].filter((node) => node !== from);
}

function traffic(counted: Traffic | undefined): string {
  if (!counted) return '–';
  const unit = counted.bytes < 10_000 ? `${counted.bytes} B` : counted.bytes < 10_000_000 ? `${Math.round(counted.bytes / 1000)} kB` : `${Math.round(counted.bytes / 1_000_000)} MB`;
  return `${counted.packets} packets, ${unit}`;
}

function words(group: Group): string[] {
  return group.source ? [group.network, group.group, group.source] : [group.network, group.group];
}

function One({ it, me }: { it: Dated<Group>; me: string }) {
  const group = it.v;
  const there = members(group);
  return (
    <tr class={fresh(it.at)}>
      <td><a class="address" href={to('groups', ...words(group))}>{group.group}</a>{group.source && <span class="dull"> from {group.source}</span>}</td>
      <td><a href={to('networks', group.network)}>{group.network}</a></td>
      <td>
        {[...there].map(([node, of]) => (
          <span key={node} class="joined"><NodeLink name={node} /> <span class="dull">{of.map((member) => member.endpoint).filter(Boolean).join(', ')}</span></span>
        ))}
      </td>
      <td>{copies(group, me).length}</td>
      <td class="address">{traffic(group.sent)}</td>
      <td class="address">{traffic(group.received)}</td>
      <td><Age ms={it.at} /></td>
    </tr>
  );
}

export function Groups({ find }: { find: string }) {
  const me = list('nodes').find((node) => node.v.me)?.v.name ?? '';
  const shown = list('groups').filter(({ v }) => matches(find, v.network, v.group, v.source, ...v.members.flatMap(({ node, endpoint }) => [node, endpoint])));
  return (
    <Panel title="Multicast groups" topic="groups" command="lanmesh multicast ls">
      <p class="dull">A datagram crosses the underlay once for each other node with a member. What was sent and received is counted at {me || 'this node'}.</p>
      {shown.length === 0 ? (
        <p class="dull">Nobody has joined one{find && ' that is looked for'}.</p>
      ) : (
        <div class="wide">
          <table>
            <thead><tr><th>group</th><th>network</th><th>members, by node</th><th>copies from here</th><th>sent here</th><th>received here</th><th>changed</th></tr></thead>
            <tbody><Some of={shown} first={100} show={(it) => <One key={words(it.v).join()} it={it} me={me} />} /></tbody>
          </table>
        </div>
      )}
    </Panel>
  );
}

export function GroupDetail({ network, group, source, back }: { network: string; group: string; source: string | undefined; back: string }) {
  const found = list('groups').find(({ v }) => v.network === network && v.group === group && v.source === source);
  if (!found) return <Missing kind="group" name={`${network} ${group}`} back={back} />;
  const it = found.v;
  const here = nodes().filter(({ v }) => v.networks.includes(network)).map(({ v }) => v.name);
  return (
    <Detail kind="group" name={`${group} in ${network}`} back={back} at={found.at} commands={[`lanmesh multicast ls ${quoted(network)}`]}>
      <Facts
        rows={[
          ['network', <a href={to('networks', network)}>{network}</a>],
          ['only from', it.source],
          ['members', it.members.length],
          ['sent here', traffic(it.sent)],
          ['received here', traffic(it.received)],
        ]}
      />
      <h3>Where copies go</h3>
      <div class="wide">
        <table>
          <thead><tr><th>sent on</th><th>copies</th><th>to</th></tr></thead>
          <tbody>
            {here.map((from) => {
              const there = copies(it, from);
              return <tr key={from}><td><NodeLink name={from} /></td><td>{there.length}</td><td>{there.join(', ') || 'nowhere: it stays on the node'}</td></tr>;
            })}
          </tbody>
        </table>
      </div>
      <h3>Members</h3>
      <ul class="plain">
        {it.members.map((member) => (
          <li key={`${member.node} ${member.endpoint}`}>
            <NodeLink name={member.node} /> {member.endpoint ? <EndpointLink network={network} name={member.endpoint} /> : <span class="dull">the node did not say which endpoint</span>}
            {member.sent && <span class="dull"> {traffic(member.sent)} went there from here</span>}
          </li>
        ))}
      </ul>
    </Detail>
  );
}
