// What was chosen: an operation that is pinned, an anomaly, a fault; and ways between them.

let selected = null;     // an anomaly: its number
let pinned = null;       // a call

const marked = new Map();  // call -> numbers of the anomalies it is in
data.anomalies.forEach((anomaly, number) => {
  for (const i of anomaly.calls) marked.set(i, [...(marked.get(i) ?? []), number]);
});

// For readers of the screen: what a key or a button brought about.
function say(text) {
  document.getElementById('said').textContent = text;
}

function describe(c) {
  const key = str(calls.key[c]), node = data.nodes[calls.node[c]];
  return [
    str(calls.text[c]) + (key ? `  (key ${key})` : ''),
    `op ${calls.index[c]}, process ${calls.process[c]}${node ? ` on ${node}` : ''}`,
    `${OUTCOMES[calls.outcome[c]]}${calls.took[c] < 0 ? '' : ' after'} ${took(calls.took[c])}, invoked at ${moment(calls.start[c])}`,
    describePoint(c),
    str(calls.error[c]),
    marked.has(c) && `in anomaly ${marked.get(c).map((n) => `A${n + 1} ${data.anomalies[n].name}`).join(', ')}`,
  ];
}

function pin(c) {
  pinned = c;
  const box = document.getElementById('pinned');
  box.hidden = c === null;
  redraw();
  if (c === null) return;
  say(`Pinned: ${describe(c).filter(Boolean).join('; ')}`);
  const pair = (name, text) => text ? [element('div', '', element('dt', name), element('dd', text))] : [];
  const button = (id, text, act) => {
    const made = element('button', text);
    made.type = 'button';
    made.id = id;
    made.addEventListener('click', () => {
      act();
      document.getElementById(id)?.focus({preventScroll: true});   // the box was made anew
    });
    return made;
  };
  const node = data.nodes[calls.node[c]], key = str(calls.key[c]);
  box.replaceChildren(
    element('b', str(calls.text[c])),
    element('dl', '', ...pair('op', String(calls.index[c])), ...pair('process', String(calls.process[c])), ...pair('node', node),
      ...pair('key', key), ...pair('outcome', OUTCOMES[calls.outcome[c]]), ...pair('invoked', moment(calls.start[c])),
      ...pair('returned', calls.took[c] < 0 ? 'never' : moment(callEnd(c))), ...pair('took', calls.took[c] < 0 ? '' : took(calls.took[c])),
      ...pair('error', str(calls.error[c])), ...pair('during', data.faults.filter((f) => f.t0 <= callEnd(c) && f.t1 >= calls.start[c]).map((f) => f.title).slice(0, 6).join('; '))),
    button('pin-previous', '← previous of this client', () => step(-1)), ' ', button('pin-next', 'next of this client →', () => step(1)), ' ',
    ...(key ? [button('pin-key', `only key ${key}`, () => { document.getElementById('filter-key').value = filter.key = key; applyFilter(); }), ' '] : []),
    button('unpin', 'Unpin', () => pin(null)),
  );
}

// The operation before or after the pinned one of its client; one in view if none is.
function step(by) {
  if (pinned === null) return pinNear();
  const {list} = byLane[calls.lane[pinned]];
  const at = after(list, calls.start[pinned]) - 1;
  const next = list[at] === pinned || by < 0 ? at + by + (list[at] !== pinned) : at + 1;
  if (next < 0 || next >= list.length) return say('This client has no further operation.');
  pin(list[next]);
  reveal(calls.start[list[next]]);
}

// The operation of the nearest client above or below that was under way then.
function stepLane(by) {
  if (pinned === null) return pinNear();
  for (let lane = calls.lane[pinned] + by; lane >= 0 && lane < byLane.length; lane += by) {
    const {list} = byLane[lane];
    if (!list.length) continue;
    pin(list[Math.max(0, after(list, calls.start[pinned]) - 1)]);
    return reveal(calls.start[pinned]);
  }
}

// The operation that began last before the cursor, or else the middle of the view.
function pinNear() {
  const us = view.cursor ?? axis.moment((view.from + view.to) / 2);
  let best = null;
  for (const {list} of byLane) {
    const at = after(list, us) - 1;
    if (at >= 0 && (best === null || calls.start[list[at]] > calls.start[best])) best = list[at];
  }
  if (best === null) return;
  pin(best);
  reveal(calls.start[best]);
}

// Back to no anomaly in particular.
function relax() {
  selected = lit = null;
  const choice = document.getElementById('jump');
  if (choice) choice.value = '';
  applyFilter();
}

function select(number) {
  const anomaly = data.anomalies[number];
  if (!anomaly || !anomaly.calls.length) return false;
  selected = number;
  const keys = new Set(anomaly.calls.map((c) => calls.key[c]));
  lit = keys.size === 1 && !keys.has(0) ? calls.key[anomaly.calls[0]] : null;
  applyFilter();
  const choice = document.getElementById('jump');
  if (choice) choice.value = String(number);
  return true;
}

function jump(number) {
  if (!select(number)) return;
  const {name, calls: members} = data.anomalies[number];
  let a = Infinity, b = 0;
  for (const c of members) {
    a = Math.min(a, calls.start[c]);
    b = Math.max(b, calls.took[c] < 0 ? calls.start[c] : callEnd(c));
  }
  showAround(a, b);
  say(`Anomaly A${number + 1}, ${name}: ${members.length} operations from ${moment(a)} to ${moment(b)}`);
}

function nextAnomaly(by) {
  const there = data.anomalies.map((_, number) => number).filter((number) => data.anomalies[number].calls.length);
  if (!there.length) return say('No anomaly to go to.');
  const at = there.indexOf(selected);
  jump(there[at < 0 ? (by > 0 ? 0 : there.length - 1) : (at + by + there.length) % there.length]);
}

// Faults in order of their beginnings; the one gone to last is remembered.
const faultsInOrder = [...data.faults].sort((a, b) => a.t0 - b.t0);
let faultAt = null;
function nextFault(by) {
  const size = faultsInOrder.length;
  if (!size) return say('No fault to go to.');
  if (faultAt === null) {
    const first = faultsInOrder.findIndex((fault) => fault.t0 > view.a);
    faultAt = by > 0 ? Math.max(first, 0) : (first < 0 ? size : first + size - 1) % size;
  } else faultAt = (faultAt + by + size) % size;
  const fault = faultsInOrder[faultAt];
  showAround(fault.t0, fault.t1);
  point(fault.t0);
  say(`Fault ${faultAt + 1} of ${size}: ${describeFault(fault).filter(Boolean).join('; ')}`);
}

const describeFault = (fault) => [
  fault.title, `${fault.kind} on ${fault.on}: ${fault.effect.replace('-', ' ')}`,
  `${moment(fault.t0)} to ${moment(fault.t1)} (${took(fault.t1 - fault.t0)})`, fault.proof,
];
