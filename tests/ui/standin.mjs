// Stands in for the agent's page with a cluster of any size: what the panels look like with 500 endpoints takes no 500 containers.
// Says what src/ui says (docs/decisions/ui.md), and what it has can be changed while somebody looks.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';

const DIST = join(import.meta.dirname, '../../ui/dist');
const MEDIA = { 'index.html': 'text/html; charset=utf-8', 'app.js': 'text/javascript', 'app.css': 'text/css' };
const CSP = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/** A cluster of so many nodes with so many endpoints in all. */
export function cluster(nodes, endpoints) {
  const now = Date.now();
  const names = Array.from({ length: nodes }, (_, i) => `n${i + 1}`);
  const services = ['web', 'api', 'distcc', 'cache', 'worker'];
  const of = {
    status: { agent: { version: '0.2.0', uptime_s: 4000, state: 'ready', cluster: { id: 'c0ffee', name: 'n1', index: 0, address: '192.0.2.1:7979', manager: true }, nodes: { alive: nodes }, networks: 2, endpoints: 10, reconcile: { passes: 90, last_ms: now - 9000, last_changes: 0, errors: [] }, paths: { tried: nodes - 1, well: nodes - 1, unknown: 0 }, problems: [], counters: {}, mdns: {} } },
    nodes: {}, networks: {}, endpoints: {}, addresses: {}, services: {}, groups: {}, paths: {}, drops: {},
  };
  names.forEach((name, i) => {
    of.nodes[name] = { name, id: `id${i}`, index: i, address: `192.0.2.${i + 1}:7979`, state: 'alive', me: i === 0, manager: i === 0, vtep: `192.0.2.${i + 1}`, underlay_mtu: 1500, networks: ['buildnet', 'secret'], labels: { os: 'Debian GNU/Linux 13', arch: 'x86_64', kernel: '6.12', ...(i % 2 ? { storage: 'ssd' } : {}) }, ...(i ? { path: 'ok' } : {}) };
    const ways = names.filter((there) => there !== name).flatMap((to) => ['buildnet', 'secret'].map((network) => ({ to, network, state: 'whole', encrypted: network === 'secret', mtu: network === 'secret' ? 1370 : 1450, since_ms: now - 3600_000, heard_ms: now - 4000, sent: 64, lost: 0 })));
    of.paths[name] = { node: name, paths: ways };
  });
  const mac = { reason: 'port_dropped_mac', hint: 'An endpoint sends from a MAC that is not its own: `attach --also-mac` lets it have it.' };
  for (const [node, more] of [
    ['n1', { reason: 'underlay_vxlan_refused', count: 0, hint: 'VXLAN came from somebody who is no node.' }],
    ['n1', { ...mac, count: 12 }],
    ['n1', { reason: 'port_dropped_mac', network: 'buildnet', endpoint: 'web-1', count: 12 }],
    ['n2', { ...mac, count: 5 }],
    ['n2', { reason: 'mdns_dropped_too_much', network: 'buildnet', count: 2, hint: 'An endpoint announces more than is kept of one.' }],
    ['n3', { untold: 'it is not alive' }],
  ])
    of.drops[[node, more.reason, more.network, more.endpoint].filter(Boolean).join('/')] = { node, ...more };
  for (const [name, encrypt, subnet, v] of [['buildnet', 'off', '10.10.0.0/20', '10.10'], ['secret', 'wireguard', '10.20.0.0/20', '10.20']]) {
    of.networks[name] = { name, id: `${name}-id`, subnets: [subnet], gateways: [`${v}.0.1`], pools: {}, reserve: [], encrypt, multicast: 'snoop', broadcast: 'flood', zeroconf: 'proxy', spoofing: 'deny', mtu: null, created_ms: now - 86400_000, conflict: false, blocks: Object.fromEntries(names.map((node, i) => [node, [`${v}.${i}.16-${v}.${i}.79`]])) };
  }
  for (let i = 0; i < endpoints; i++) {
    const [network, v] = i % 3 === 2 ? ['secret', '10.20'] : ['buildnet', '10.10'];
    const service = services[i % services.length];
    const slot = Math.floor(i / services.length) + 1;
    const node = i % nodes;
    const name = `${service}-${slot}`;
    const address = `${v}.${node}.${16 + (Math.floor(i / nodes) % 200)}/20`;
    of.endpoints[`${network}/${name}`] = { name, network, service, slot, aliases: [], addresses: [address], mac: '02:00:00:00:00:01', node: names[node], state: 'up', foretold: { addresses: [i % 17 === 3 ? `${v}.${node}.250/20` : address], by: 'block' } };
  }
  for (const name of services.slice(0, 3)) {
    const its = Object.values(of.endpoints).filter((one) => one.service === name && one.network === 'buildnet');
    of.addresses[`buildnet/${name}`] = { name, network: 'buildnet', addresses: [`10.10.15.${name.length}`], endpoints: its.map(({ name, node, addresses, state }) => ({ name, node, addresses, state })), ports: ['80:8080'], affinity: 'none', publish: name === 'web' ? ['8080:80'] : [], publish_mode: 'mesh' };
    its.slice(0, 30).forEach((one) => {
      const it = { network: 'buildnet', instance: `${one.name} at work`, type: `_${name}._tcp`, subtypes: [], host: one.name, addresses: [one.addresses[0].split('/')[0]], port: 3632, priority: 0, weight: 0, txt: ['cores=8', 'path=/'], node: one.node, endpoint: one.name, declared: false };
      of.services[[it.network, it.type, it.instance, it.node, it.endpoint].join('/')] = it;
    });
  }
  for (let i = 0; i < Math.min(endpoints, 40); i++) {
    const members = Object.values(of.endpoints).filter((one) => one.network === 'buildnet').slice(i, i + 3);
    of.groups[`buildnet/239.1.1.${i + 1}`] = { network: 'buildnet', group: `239.1.1.${i + 1}`, members: members.map(({ node, name }) => ({ node, endpoint: name, sent: { packets: 100 * i, bytes: 9000 * i } })), sent: { packets: 100 * i, bytes: 9000 * i } };
  }
  of.events = Array.from({ length: 30 }, (_, i) => ({ seq: i + 1, time_ms: now - (30 - i) * 61_000, kind: i % 7 === 3 ? 'path_changed' : 'endpoint_added', object: { node: names[i % nodes], network: 'buildnet', endpoint: `web-${i + 1}` }, message: `endpoint web-${i + 1} was attached`, told_by: names[i % nodes] }));
  return of;
}

export class StandIn {
  lookers = new Set();
  acts = [];

  constructor(of, { token = null, mayChange = false } = {}) {
    Object.assign(this, { of, token, mayChange });
  }

  async listen(port = 0) {
    this.server = createServer((request, answer) => this.#answer(request, answer));
    await new Promise((resolve) => this.server.listen(port, '127.0.0.1', resolve));
    this.url = `http://127.0.0.1:${this.server.address().port}/`;
    this.beat = setInterval(() => this.say({ topic: 'beat', now_ms: Date.now(), read: Object.fromEntries(Object.keys(this.of).map((topic) => [topic, Date.now()])) }), 2000);
    return this;
  }

  #answer(request, answer) {
    answer.setHeader('content-security-policy', CSP);
    const name = request.url === '/' ? 'index.html' : request.url.slice(1);
    if (MEDIA[name]) {
      answer.setHeader('content-type', MEDIA[name]);
      answer.setHeader('content-encoding', 'gzip');
      return answer.end(readFileSync(join(DIST, `${name}.gz`)));
    }
    if (this.token && request.headers.authorization !== `Bearer ${this.token}`) {
      answer.statusCode = 401;
      return answer.end(JSON.stringify({ error: { message: "it takes the page's token" } }));
    }
    if (request.url !== '/live') {
      this.acts.push(`${request.method} ${request.url}`);
      return answer.end('{}');
    }
    answer.setHeader('content-type', 'application/x-ndjson');
    const line = (value) => answer.write(`${JSON.stringify(value)}\n`);
    line({ topic: 'hello', version: '0.2.0', now_ms: Date.now(), may_change: this.mayChange });
    const { events, ...topics } = this.of;
    const at = Date.now() - 70_000;
    for (const [topic, things] of Object.entries(topics)) line({ topic, whole: true, read_ms: Date.now(), put: Object.fromEntries(Object.entries(things).map(([key, v]) => [key, [at, v]])) });
    line({ topic: 'events', whole: true, events });
    this.lookers.add(line);
    request.on('close', () => this.lookers.delete(line));
    return undefined;
  }

  say(value) {
    for (const line of this.lookers) line(value);
  }

  /** Changes something, and tells who looks. */
  put(topic, key, v) {
    this.of[topic][key] = v;
    this.say({ topic, read_ms: Date.now(), put: { [key]: [Date.now(), v] } });
  }

  event(event) {
    this.of.events.push(event);
    this.say({ topic: 'events', events: [event] });
  }

  end() {
    clearInterval(this.beat);
    this.server.closeAllConnections();
    this.server.close();
  }
}
