// The address follows what is shown, and what is shown follows the address.

let followed = false;   // nothing is written before the page has done as it was asked
const INPUTS = {key: 'filter-key', process: 'filter-process', node: 'filter-node', f: 'filter-f', time: 'filter-time'};

function stateOf() {
  const outcomes = filter.outcomes.every(Boolean) ? '' : OUTCOMES.filter((_, kind) => filter.outcomes[kind]).join(',') || 'none';
  return {
    t: showsAll() ? null : [Math.max(0, view.a), Math.min(END, view.b)],
    m: measures.length ? [measures[0], measures[measures.length - 1]] : null,
    anomaly: selected === null ? null : selected + 1,
    op: pinned === null ? null : calls.index[pinned],
    ...Object.fromEntries(Object.keys(INPUTS).map((name) => [name, filter[name]])),
    outcome: outcomes, q: hits.text,
  };
}

function takeFilters(asked) {
  for (const [name, id] of Object.entries(INPUTS)) {
    const input = document.getElementById(id);
    input.value = asked[name] ?? '';
    filter[name] = input.value;
  }
  const outcomes = asked.outcome?.split(',');
  filter.outcomes = OUTCOMES.map((name) => !outcomes || outcomes.includes(name));
  for (const box of document.querySelectorAll('[data-outcome]')) box.checked = filter.outcomes[box.dataset.outcome];
  document.getElementById('search').value = asked.q ?? '';
  lookFor(asked.q ?? '');
}

function callOfIndex(index) {
  const c = firstFrom(calls.index, index);
  return calls.index[c] === index ? c : null;
}

function follow() {
  const asked = parseAddress(location.hash);
  followed = true;
  if (!asked) return;
  if (location.hash.includes('=')) takeFilters(asked);
  if (asked.op !== undefined) pin(callOfIndex(asked.op));
  if (asked.m) setMeasures(asked.m[0] === asked.m[1] ? [asked.m[0]] : asked.m);
  if (asked.anomaly !== undefined) {
    if (asked.t) select(asked.anomaly - 1); else jump(asked.anomaly - 1);
  }
  if (asked.t) showAsked(asked.t);
  if (asked.wrong) say(asked.wrong);
  document.getElementById('link-said').textContent = asked.wrong;
  document.getElementById('timeline').scrollIntoView({behavior: 'instant'});
}

// A moment is shown with a hundredth of the run around it, and a cursor.
function showAsked([a, b]) {
  if (a !== b) return show(a, b);
  const half = Math.max(END / 100, 10_000);
  show(a - half, a + half);
  setMeasures([Math.min(a, END)]);
}

let writing = 0;
function write() {
  writing = 0;
  const address = formatAddress(stateOf());
  if (address === location.hash || (!address && !parseAddress(location.hash))) return;
  try {
    history.replaceState(null, '', address || location.pathname + location.search);
  } catch { /* a browser may refuse it for files */ }
}

watchers.push(() => {
  // Browsers allow about three changes a second.
  if (followed && !writing) writing = setTimeout(write, 400);
});
addEventListener('hashchange', follow);
for (const link of document.querySelectorAll('a[href^="#A"]')) {
  link.addEventListener('click', (event) => {
    event.preventDefault();
    location.hash = '';
    location.hash = link.hash;
  });
}
