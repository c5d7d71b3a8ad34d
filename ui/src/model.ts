// What the agent's socket answers, as far as the page shows it (docs/api.md). Fields may be added, and some are absent.

export interface Status {
  version: string;
  uptime_s: number;
  state: string;
  cluster: { id: string; name: string; index: number; address: string; manager: boolean } | null;
  out?: { text: string; hint: string; at_ms: number };
  nodes: Record<string, number>;
  networks: number;
  endpoints: number;
  reconcile: { passes: number; last_ms: number | null; last_changes: number; errors: string[] };
  paths: { tried: number; well: number; unknown: number };
  problems: Problem[];
  counters: Record<string, number>;
  mdns: Record<string, Record<string, number>>;
}

export interface Problem {
  what: string;
  hint: string;
  since_ms?: number;
}

export interface Node {
  name: string;
  id: string;
  index: number;
  address: string;
  state: string;
  me: boolean;
  manager: boolean;
  vtep: string;
  underlay_mtu: number;
  networks: string[];
  labels: Record<string, string>;
  path?: string;
  reason?: string;
  mesh?: { address: string; mtu: number | null; carries: number | null };
}

export interface Network {
  name: string;
  id: string;
  subnets: string[];
  gateways: string[];
  pools: Record<string, string[]>;
  reserve: string[];
  encrypt: string;
  multicast: string;
  broadcast: string;
  zeroconf: string;
  spoofing: string;
  mtu: number | null;
  created_ms: number;
  conflict: boolean;
  lent?: { range: string; from: string; to: string }[];
  blocks: Record<string, string[]>;
}

export interface Endpoint {
  name: string;
  network: string;
  service: string | null;
  slot: number | null;
  aliases: string[];
  addresses: string[];
  mac: string;
  node: string;
  state: string;
  names_lost?: Record<string, string>;
  spoofed?: number;
  dropped?: Record<string, number>;
  queries_dropped?: number;
  publish?: string[];
  also_addresses?: string[];
  floating?: string[];
  multicast_router?: boolean;
  owner?: string;
  foretold?: { addresses: string[]; by: string };
}

export interface ServiceAddress {
  name: string;
  network: string;
  addresses: string[];
  lost?: string[];
  endpoints: { name: string; node: string; addresses: string[]; state: string }[];
  ports: string[];
  affinity: string;
  publish: string[];
  publish_mode: string;
}

export interface Found {
  network: string;
  instance: string;
  type: string;
  subtypes: string[];
  host: string;
  addresses: string[];
  port: number;
  priority: number;
  weight: number;
  txt: string[];
  node: string;
  endpoint: string;
  declared: boolean;
}

export interface Traffic {
  packets: number;
  bytes: number;
}

export interface Group {
  network: string;
  group: string;
  source?: string;
  members: { node: string; endpoint?: string; sent?: Traffic }[];
  sent?: Traffic;
  received?: Traffic;
}

export interface Way {
  to: string;
  network: string;
  state: 'untried' | 'whole' | 'small' | 'unheard' | 'silent';
  encrypted: boolean;
  mtu: number;
  carries?: number;
  since_ms: number;
  heard_ms?: number;
  sent: number;
  lost: number;
  problem?: Problem;
}

export interface NodePaths {
  node: string;
  untold?: string;
  paths: Way[];
}

/** How often a node dropped something for one reason, or that it does not say. */
export interface Drop {
  node: string;
  untold?: string;
  reason?: string;
  network?: string;
  /** Absent where it is a sum. */
  endpoint?: string;
  count?: number;
  hint?: string;
}

export interface Event {
  seq: number;
  time_ms: number;
  kind: string;
  object: { node?: string; network?: string; endpoint?: string };
  message: string;
  told_by?: string;
}

/** A thing, and when it was seen to change, in milliseconds since 1970 by the server's clock; 0: before somebody looked. */
export interface Dated<T> {
  at: number;
  v: T;
}

export interface Topics {
  status: Status;
  nodes: Node;
  networks: Network;
  endpoints: Endpoint;
  addresses: ServiceAddress;
  services: Found;
  groups: Group;
  paths: NodePaths;
  drops: Drop;
}

export type Topic = keyof Topics;
