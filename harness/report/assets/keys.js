// What keys do, and the page of help that says so.

const outside = (act) => () => { act(); document.getElementById('timeline').scrollIntoView({behavior: 'instant', block: 'nearest'}); };
// Keys, what they do, the deed; `everywhere`: not only while a plot has the focus.
const SHORTCUTS = [
  {keys: ['j', 'k'], what: 'next, previous anomaly', acts: [() => nextAnomaly(1), () => nextAnomaly(-1)], also: {a: 0}, everywhere: true},
  {keys: ['n', 'p'], what: 'next, previous fault', acts: [() => nextFault(1), () => nextFault(-1)], everywhere: true},
  {keys: ['/'], what: 'search', acts: [() => document.getElementById('search').focus()], everywhere: true},
  {keys: ['?'], what: 'this help', acts: [() => openHelp()], everywhere: true},
  {keys: ['Escape'], what: 'unpin, forget anomaly and cursors', acts: [() => { pin(null); setMeasures([]); relax(); }], everywhere: true},
  {keys: ['+', '-'], what: 'zoom in, out', acts: [() => zoom(0.6), () => zoom(1 / 0.6)], also: {'=': 0}},
  {keys: ['ArrowLeft', 'ArrowRight'], what: 'earlier, later', acts: [() => pan(-0.25), () => pan(0.25)]},
  {keys: ['0'], what: 'whole run', acts: [showAll]},
  {keys: ['Enter'], what: 'pin the operation at the cursor', acts: [() => pinNear()]},
  {keys: ['[', ']'], what: 'previous, next operation of the pinned one’s client', acts: [() => step(-1), () => step(1)]},
  {keys: ['ArrowUp', 'ArrowDown'], what: 'the operation of the client above, below', acts: [() => stepLane(-1), () => stepLane(1)]},
  {keys: [',', '.'], what: 'move the cursor', acts: [() => moveCursor(-0.01), () => moveCursor(0.01)]},
  {keys: ['m'], what: 'set a cursor that measures; twice for a span', acts: [() => measure(view.cursor ?? (pinned === null ? (view.a + view.b) / 2 : calls.start[pinned]))]},
];
const KEY_NAMES = {ArrowLeft: '←', ArrowRight: '→', ArrowUp: '↑', ArrowDown: '↓', Escape: 'Esc'};

const ofPlots = new Map(), ofPage = new Map();
for (const {keys, acts, also = {}, everywhere} of SHORTCUTS) {
  const put = (key, act) => (everywhere ? ofPage.set(key, outside(act)) : ofPlots.set(key, act));
  keys.forEach((key, i) => put(key, acts[i]));
  for (const [key, i] of Object.entries(also)) put(key, acts[i]);
}

// Keys while a plot has the focus.
function pressed(event) {
  const act = ofPlots.get(event.key);
  if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  act();
}

// Keys anywhere, unless somebody writes or a page of help is open.
addEventListener('keydown', (event) => {
  const act = ofPage.get(event.key);
  if (!act || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest?.('input, select, textarea, dialog, [contenteditable]')) return;
  event.preventDefault();
  act();
});

function openHelp() {
  const dialog = document.getElementById('help');
  if (!dialog.open) dialog.showModal();
}

{
  const rows = SHORTCUTS.map(({keys, what}) => {
    const cell = element('td');
    keys.forEach((key, i) => cell.append(i ? ' ' : '', element('kbd', KEY_NAMES[key] ?? key)));
    return element('tr', '', cell, element('td', what));
  });
  document.getElementById('help-keys').append(...rows);
  document.getElementById('help-open').addEventListener('click', openHelp);
  document.getElementById('help-close').addEventListener('click', () => document.getElementById('help').close());
}
const ACTIONS = {
  in: () => zoom(0.6), out: () => zoom(1 / 0.6), left: () => pan(-0.25), right: () => pan(0.25), all: showAll,
  'next-anomaly': () => nextAnomaly(1), 'previous-anomaly': () => nextAnomaly(-1),
  'next-fault': () => nextFault(1), 'previous-fault': () => nextFault(-1),
};
