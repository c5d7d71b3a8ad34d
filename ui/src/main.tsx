// The page: a bar, a panel, and beside it the object that was chosen.

import { render } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import './app.css';
import { State, TokenForm, list } from './bits';
import { Drops } from './drops';
import { Events } from './events';
import { GroupDetail, Groups } from './groups';
import { EndpointDetail, NetworkDetail, Networks } from './networks';
import { NodeDetail, Nodes } from './nodes';
import { Overview } from './overview';
import { PathDetail, Paths } from './paths';
import { parse, to } from './route';
import { FoundDetail, ServiceDetail, Services, Zeroconf } from './services';
import { keep, reconnect, store, token } from './store';

const TABS = [
  ['', 'Overview'],
  ['nodes', 'Nodes'],
  ['networks', 'Networks'],
  ['paths', 'Ways'],
  ['groups', 'Groups'],
  ['services', 'Services'],
  ['drops', 'Drops'],
  ['events', 'Events'],
] as const;

const KEYS = [
  ['1 … 8', 'the panels'],
  ['/', 'look for something in the panel'],
  ['Tab, Enter', 'go to and open an object'],
  ['arrows', 'in the grid of ways'],
  ['Esc', 'close the object, or end the search'],
  ['?', 'this'],
];

function useStore(): void {
  const [, draw] = useState(0);
  useEffect(() => store.listen(() => draw((times) => times + 1)), []);
}

function useRoute(): string[] {
  const [words, setWords] = useState(() => parse(location.hash));
  useEffect(() => {
    const changed = () => setWords(parse(location.hash));
    addEventListener('hashchange', changed);
    return () => removeEventListener('hashchange', changed);
  }, []);
  return words;
}

function panel(tab: string, words: string[], find: string) {
  switch (tab) {
    case 'nodes':
      return <Nodes find={find} />;
    case 'networks':
      return <Networks find={find} />;
    case 'paths':
      return <Paths chosen={words.length === 3 ? `${words[1]}\n${words[2]}` : null} />;
    case 'groups':
      return <Groups find={find} />;
    case 'services':
      return <><Services find={find} /><Zeroconf find={find} /></>;
    case 'drops':
      return <Drops find={find} />;
    case 'events':
      return <Events find={find} />;
    default:
      return <Overview />;
  }
}

function detail(words: string[], back: string) {
  const [tab, one = '', two = '', three = ''] = words;
  if (tab === 'nodes' && one) return <NodeDetail name={one} back={back} />;
  if (tab === 'networks' && one && two === 'endpoints' && three) return <EndpointDetail network={one} name={three} back={back} />;
  if (tab === 'networks' && one) return <NetworkDetail name={one} back={back} />;
  if (tab === 'paths' && one && two) return <PathDetail from={one} there={two} back={back} />;
  if (tab === 'groups' && one && two) return <GroupDetail network={one} group={two} source={three || undefined} back={back} />;
  if (tab === 'services' && one && two) return <ServiceDetail network={one} name={two} back={back} />;
  if (tab === 'found' && words.length === 6) return <FoundDetail words={words.slice(1)} back={back} />;
  return null;
}

function Help({ close }: { close: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} onClose={close} aria-label="Keys">
      <h2>Keys</h2>
      <dl class="facts">{KEYS.map(([key, what]) => <div key={key}><dt><kbd>{key}</kbd></dt><dd>{what}</dd></div>)}</dl>
      <form method="dialog"><button type="submit">Close</button></form>
    </dialog>
  );
}

function Link() {
  if (store.link === 'live') return <span class="link good" role="status">live</span>;
  if (store.link === 'begins') return <span class="link dull" role="status">connecting</span>;
  return <span class="link bad" role="status" title={store.trouble}>not live</span>;
}

function App() {
  useStore();
  const words = useRoute();
  const [find, setFind] = useState('');
  const [help, setHelp] = useState(false);
  const field = useRef<HTMLInputElement>(null);
  const tab = words[0] === 'found' ? 'services' : TABS.some(([name]) => name === words[0]) ? (words[0] ?? '') : '';
  const back = tab ? to(tab) : '#/';
  const beside = detail(words, back);

  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const target = event.target as HTMLElement;
      const writes = target.matches('input, textarea, select');
      if (event.key === 'Escape') {
        if (writes) {
          setFind('');
          target.blur();
        } else if (beside) location.hash = back;
        return;
      }
      if (writes) return;
      const number = Number(event.key);
      const chosen = TABS[number - 1];
      if (chosen && number >= 1) location.hash = to(...(chosen[0] ? [chosen[0]] : []));
      else if (event.key === '/') field.current?.focus();
      else if (event.key === '?') setHelp(true);
      else return;
      event.preventDefault();
    };
    addEventListener('keydown', pressed);
    return () => removeEventListener('keydown', pressed);
  }, [back, beside !== null]);

  useEffect(() => {
    document.title = [beside ? words.slice(1).join(' ') : TABS.find(([name]) => name === tab)?.[1], 'lanmesh'].filter(Boolean).join(' · ');
  }, [words, tab]);

  const status = list('status')[0]?.v;
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); document.querySelector<HTMLElement>('main h2')?.focus(); }}>To the panel</a>
      <nav class="bar" aria-label="Panels">
        <a class="brand" href="#/">lanmesh</a>
        {status?.cluster && <span class="dull">{status.cluster.name}</span>}
        {status && <State state={status.state} />}
        <ul>
          {TABS.map(([name, title], i) => (
            <li key={name}><a href={to(...(name ? [name] : []))} aria-current={name === tab ? 'page' : undefined} title={`Key ${i + 1}`}>{title}</a></li>
          ))}
        </ul>
        <input
          ref={field}
          type="search"
          placeholder="Look for …  ( / )"
          aria-label="Look for something in the panel"
          value={find}
          onInput={(event) => setFind(event.currentTarget.value)}
        />
        <button type="button" class="keys" title="Keys" aria-label="Keys" onClick={() => setHelp(true)}>?</button>
        <Link />
      </nav>
      {store.link === 'lost' && <p class="trouble banner" role="alert">This is as it was: {store.trouble}. It is tried again.</p>}
      {store.link === 'token' && (
        <div class="banner" onSubmit={() => reconnect()}>
          <TokenForm why={store.trouble} />
        </div>
      )}
      <main id="main" class={beside ? 'two' : ''}>
        <div class="all">{panel(tab, words, find)}</div>
        {beside && <div class="beside">{beside}</div>}
      </main>
      {help && <Help close={() => setHelp(false)} />}
    </>
  );
}

token.take();
const place = document.getElementById('app');
if (place) render(<App />, place);
void keep();
