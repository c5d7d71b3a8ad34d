// What was dropped, by reason, and what to do about it. What it means is in docs/security.md and docs/troubleshooting.md.

import { useState } from 'preact/hooks';
import { Age, EndpointLink, Panel, list } from './bits';
import { matches } from './search';
import { store } from './store';

const ADVICE: Record<string, string> = {
  underlay_vxlan_refused: 'VXLAN for a plain network came from somebody who is no node. `tcpdump -ni any udp port 4789` shows the address: give his device another VNI, or find out what he wants.',
  underlay_vxlan_forged: 'A program on this node sends VXLAN for a plain network past the kernel’s device. Find it, or encrypt the network.',
  underlay_mesh_refused: 'Packets for or from an address in the mesh came past the mesh. Look for a route or a host that forges them.',
  dns_limited_in_kernel: 'An endpoint asks the name server more often than dns_rate lets it while others ask too. Its own page says which; raise dns_rate if it means it.',
  port_dropped_mac: 'An endpoint sends from a MAC that is not its own: a bridge or a virtual machine in it? `attach --also-mac` lets it have it.',
  port_dropped_address: 'An endpoint sends from an address that is not its own: keepalived, a router, a second address? `attach --also-address`, or `network create --spoofing allow`.',
  port_dropped_neighbour: 'An endpoint announces an address that is not its own. Where it is to move there: `attach --also-address`; else it claims somebody else’s.',
  port_dropped_querier: 'An endpoint asks for members of groups, as a multicast router does. If it is one: `attach --multicast-router`.',
  port_dropped_router: 'An endpoint announces itself as a router. The network has none; if it routes multicast: `attach --multicast-router`.',
  port_dropped_spanning_tree: 'A bridge in an endpoint speaks spanning tree. Turn it off there: lanmesh has no loops.',
  port_dropped_lldp: 'A program in an endpoint sends LLDP. It is of no use here.',
  port_dropped_dot1x: 'A program in an endpoint sends 802.1X. It is of no use here.',
  port_dropped_link_control: 'Frames for a switch (pause, LACP, OAM). They are of no use here.',
  port_dropped_llc: 'Frames of 802.2. They are never passed on: addresses could be forged in them.',
  port_dropped_fragment: 'Neighbour discovery in fragments (RFC 6980): no honest host sends it.',
  port_dropped_hidden: 'IP of which it is not to be seen what it carries: broken, or meant to pass a filter.',
  port_dropped_tagged: 'Frames with two VLAN tags.',
  dropped_malformed: 'Datagrams at the cluster’s port that are none of ours: something scans it, or another program uses it.',
  dropped_version: 'Datagrams of a release that this one does not speak with: upgrade the older one.',
  dropped_unknown_key: 'Datagrams under a key that this node does not have: of another cluster, of a node that was shut out, or of one that was away for long.',
  dropped_tampered: 'Datagrams that were changed on their way, or are forged.',
  dropped_replayed: 'Datagrams that came twice: the underlay doubles packets, or somebody recorded them.',
  dropped_refused: 'Datagrams of nodes that were removed, or have left.',
  dropped_excess: 'More than this node takes: somebody floods the cluster’s port.',
  facts_unsound: 'A node says things that cannot be so: of another release, or hostile. The log names it.',
  syncs_failed: 'Comparisons with other nodes that broke off: a node died, or TCP at the cluster’s port is blocked.',
  streams_refused: 'Streams that were refused: of strangers, of removed nodes, or too many. The log names them.',
  joins_refused: 'Nodes that wanted in and were not let: the log and `lanmesh events` say which, and why.',
};

const DROPS = /drop|refus|forged|limited|unsound|failed|lost|excess|contested|uncarried|truncat|overload/;

interface Reason {
  name: string;
  where: string;
  count: number;
}

/** When each count was last seen to grow, since this page was opened. */
const grew = new Map<string, { count: number; ms: number | null }>();

function note(reason: Reason): number | null {
  const key = `${reason.where} ${reason.name}`;
  const was = grew.get(key);
  const ms = was === undefined ? null : reason.count > was.count ? store.now() : was.ms;
  grew.set(key, { count: reason.count, ms });
  return ms;
}

export function reasons(): Reason[] {
  const status = list('status')[0]?.v;
  if (!status) return [];
  const found: Reason[] = [];
  for (const [name, count] of Object.entries(status.counters)) if (DROPS.test(name)) found.push({ name, where: 'this node', count });
  for (const [network, counters] of Object.entries(status.mdns))
    for (const [name, count] of Object.entries(counters)) if (DROPS.test(name)) found.push({ name: `mdns ${name.replaceAll('_', ' ')}`, where: network, count });
  return found;
}

function advice(name: string): string {
  if (name.startsWith('mdns')) return 'mDNS that is too much, too large or no mDNS at all: `lanmesh status --verbose` has the counts, docs/decisions/zeroconf.md the limits.';
  if (name.startsWith('dns_')) return 'Questions that the name server did not take or could not answer: `lanmesh doctor` says whether there are resolvers, docs/metrics.md what is counted.';
  return ADVICE[name] ?? '';
}

/** What a person reads, of what `lanmesh status` calls it. */
function text(words: string) {
  return words.split('`').map((part, i) => (i % 2 === 1 ? <code key={i}>{part}</code> : part));
}

export function Drops({ find }: { find: string }) {
  const [all, setAll] = useState(false);
  const shown = reasons()
    .map((reason) => ({ ...reason, grewMs: note(reason), advice: advice(reason.name) }))
    .filter((reason) => (all || reason.count > 0) && matches(find, reason.name, reason.where, reason.advice))
    .sort((a, b) => b.count - a.count);
  const endpoints = list('endpoints').filter(({ v }) => (v.spoofed ?? 0) + (v.queries_dropped ?? 0) > 0);
  const me = list('nodes').find((node) => node.v.me)?.v.name ?? 'this node';
  return (
    <Panel
      title="Drops by reason"
      topic="status"
      command="lanmesh status --verbose"
      aside={<label class="check"><input type="checkbox" checked={all} onChange={() => setAll(!all)} /> those that are zero too</label>}
    >
      <p class="dull">Counted on {me} since its agent began; “grew” is since this page was opened.</p>
      {shown.length === 0 ? (
        <p class="good-news">Nothing was dropped.</p>
      ) : (
        <div class="wide">
          <table class="drops">
            <thead><tr><th>reason</th><th>where</th><th>count</th><th>grew</th><th>what to do</th></tr></thead>
            <tbody>
              {shown.map((reason) => (
                <tr key={`${reason.where} ${reason.name}`} class={reason.count > 0 ? '' : 'dull'}>
                  <td><code>{reason.name}</code></td>
                  <td>{reason.where}</td>
                  <td class="number">{reason.count}</td>
                  <td>{reason.grewMs === null ? <span class="dull" title="not since this page was opened">–</span> : <Age ms={reason.grewMs} />}</td>
                  <td class="advice">{text(reason.advice)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {endpoints.length > 0 && (
        <>
          <h3>At whose ports</h3>
          <ul class="plain">
            {endpoints.slice(0, 200).map(({ v, at }) => (
              <li key={`${v.network}/${v.name}`}>
                <EndpointLink network={v.network} name={v.name} full />{' '}
                {Object.entries(v.dropped ?? {}).map(([kind, count]) => `${kind}: ${count}`).join(', ')}
                {v.queries_dropped ? ` DNS queries: ${v.queries_dropped}` : ''} <Age ms={at} />
              </li>
            ))}
          </ul>
        </>
      )}
    </Panel>
  );
}
