// The timeline: faults, nodes, and a lane per client; with filters, pins and anomalies.

// What the filters let through; null: everything.
let shown = null;
const filter = {outcomes: [true, true, true], f: '', key: '', process: '', node: ''};
let selected = null;     // an anomaly: its number
let pinned = null;       // a call
let lit = null;          // the key whose operations stand out; null: all alike

const marked = new Map();  // call -> numbers of the anomalies it is in
data.anomalies.forEach((anomaly, number) => {
  for (const i of anomaly.calls) marked.set(i, [...(marked.get(i) ?? []), number]);
});

// For each lane its calls that the filters let through, in order of invocation; beside
// them, how many of those before are info, fail, and of the key that stands out, so that
// it is known at once what a run of them holds. Anew on every change of a filter.
let byLane = [];
function sortByLane() {
  const sizes = new Uint32Array(data.lanes.length);
  for (let c = 0; c < calls.size; c++) if (!shown || shown[c]) sizes[calls.lane[c]]++;
  byLane = Array.from(sizes, (size) => ({
    list: new Uint32Array(size), infos: new Uint32Array(size + 1), fails: new Uint32Array(size + 1),
    lits: lit === null ? null : new Uint32Array(size + 1), size: 0,
  }));
  for (let c = 0; c < calls.size; c++) {
    if (shown && !shown[c]) continue;
    const lane = byLane[calls.lane[c]], i = lane.size++;
    lane.list[i] = c;
    lane.infos[i + 1] = lane.infos[i] + (calls.outcome[c] === 2);
    lane.fails[i + 1] = lane.fails[i] + (calls.outcome[c] === 1);
    if (lane.lits) lane.lits[i + 1] = lane.lits[i] + (calls.key[c] === lit);
  }
}

// Faults packed into as few rows as keep their titles apart in time.
const faultRows = (() => {
  const free = [];
  for (const fault of [...data.faults].sort((a, b) => a.t0 - b.t0)) {
    let row = free.findIndex((end) => end <= fault.t0);
    if (row < 0 && free.length < 5) row = free.push(0) - 1;
    if (row < 0) row = free.indexOf(Math.min(...free));
    free[row] = Math.max(fault.t1, free[row]);
    fault.row = row;
  }
  return free.length;
})();

const FAULT_ROW = 19, NODE_ROW = 20, GAP = 10, TOP = 14;
const laneHeight = () => Math.min(20, Math.max(6, Math.floor(380 / Math.max(1, data.lanes.length))));
const nodesTop = () => TOP + (faultRows ? faultRows * FAULT_ROW + GAP : 0);
const lanesTop = () => nodesTop() + (data.nodes.length ? data.nodes.length * NODE_ROW + GAP : 0);
const timelineHeight = () => Math.min(16000, lanesTop() + data.lanes.length * laneHeight() + 24);

function applyFilter() {
  const {outcomes, f, key, process, node} = filter;
  const all = outcomes.every(Boolean) && !f && !key && !process && !node;
  shown = all ? null : new Uint8Array(calls.size);
  let left = calls.size;
  if (!all) {
    left = 0;
    for (let i = 0; i < calls.size; i++) {
      if (outcomes[calls.outcome[i]] && (!f || str(calls.f[i]) === f) && (!key || str(calls.key[i]) === key)
          && (!process || String(calls.process[i]) === process) && (!node || data.nodes[calls.node[i]] === node)) {
        shown[i] = 1;
        left++;
      }
    }
  }
  const faint = lit === null ? '' : `Other keys than ${str(lit)} are faint; Escape makes all alike. `;
  document.getElementById('filter-said').textContent = faint + (all ? '' : `${count(left)} of ${count(calls.size)} operations`);
  sortByLane();
  binByEnd();
  redraw();
}

// Index in `list` (calls in order of start) of the first call that starts after `us`;
// looked for from index `low` on, first nearby.
function after(list, us, low = 0) {
  let high = list.length;
  for (let away = 1; low + away < high; away *= 2) {
    if (calls.start[list[low + away]] > us) { high = low + away; break; }
    low += away;
  }
  while (low < high) {
    const middle = (low + high) >> 1;
    if (calls.start[list[middle]] > us) high = middle; else low = middle + 1;
  }
  return low;
}

function drawFaults(ctx, plot) {
  if (!faultRows) return;
  plot.label('faults', TOP + FAULT_ROW / 2);
  for (const fault of data.faults) {
    if (fault.t1 < view.a || fault.t0 > view.b) continue;
    const x = plot.x(fault.t0), w = Math.max(plot.x(fault.t1) - x, 3), y = TOP + fault.row * FAULT_ROW;
    band(ctx, fault.class, x, y, w, FAULT_ROW - 3);
    if (fault.effect === 'no-effect' || fault.effect === 'failed' || !fault.applied) {
      ctx.setLineDash([3, 3]);
      ctx.strokeStyle = paints.ink;
      ctx.strokeRect(x + 1.5, y + 1.5, w - 3, FAULT_ROW - 6);
      ctx.setLineDash([]);
    }
    const left = Math.max(x, plot.left), room = Math.min(x + w, plot.right) - left - 8;
    if (room < 30) continue;
    const text = fit(ctx, fault.title, room);
    ctx.textAlign = 'left';
    ctx.fillStyle = paints.card;
    ctx.globalAlpha = 0.82;
    ctx.fillRect(left + 2, y + 2, ctx.measureText(text).width + 6, FAULT_ROW - 7);
    ctx.globalAlpha = 1;
    ctx.fillStyle = paints.ink;
    ctx.fillText(text, left + 5, y + FAULT_ROW / 2 - 1);
  }
}

function band(ctx, name, x, y, w, h) {
  ctx.fillStyle = paints.card;
  ctx.fillRect(x, y, w, h);
  ctx.fillStyle = pattern(ctx, name);
  ctx.fillRect(x, y, w, h);
  ctx.strokeStyle = paints[name];
  ctx.lineWidth = 1;
  if (w > 3) ctx.strokeRect(x + 0.5, y + 0.5, w - 1, h - 1);
}

// A node's row: a line while it is up; killed and paused fill the row, network faults
// take its upper half, clock and disk faults its lower half.
const PARTS = {kill: [0, 1], pause: [0, 1], network: [0, 0.5], clock: [0.5, 0.5], disk: [0.5, 0.5], other: [0.25, 0.5]};
function drawNodes(ctx, plot) {
  const top = nodesTop(), inner = NODE_ROW - 6;
  data.nodes.forEach((node, n) => {
    const y = top + n * NODE_ROW;
    ctx.fillStyle = paints.line;
    ctx.fillRect(plot.x(0), y + NODE_ROW / 2 - 2, plot.x(END) - plot.x(0), 4);
  });
  const order = ['network', 'clock', 'disk', 'other', 'pause', 'kill'];
  for (const name of order) {
    for (const fault of data.faults) {
      if (fault.class !== name || fault.t1 < view.a || fault.t0 > view.b || !fault.applied) continue;
      const x = plot.x(fault.t0), w = Math.max(plot.x(fault.t1) - x, 2);
      const [from, share] = PARTS[name];
      data.nodes.forEach((node, n) => {
        if (fault.nodes.length && !fault.nodes.includes(node)) return;
        band(ctx, name, x, top + n * NODE_ROW + 3 + from * inner, w, share * inner);
      });
    }
  }
  ctx.textAlign = 'center';
  const drawnTo = data.nodes.map(() => -Infinity);
  for (const note of data.notes) {
    if (note.t < view.a || note.t > view.b) continue;
    const sign = /exit|crash/.test(note.kind) ? '✕' : /start|ready/.test(note.kind) ? '▲' : '◆';
    data.nodes.forEach((node, n) => {
      if (!note.nodes.includes(node) || plot.x(note.t) < drawnTo[n] + 7) return;
      drawnTo[n] = plot.x(note.t);
      ctx.font = `10px ${paints.sans}`;
      ctx.strokeStyle = paints.card;
      ctx.lineWidth = 3;
      ctx.strokeText(sign, plot.x(note.t), top + (n + 0.5) * NODE_ROW);
      ctx.fillStyle = paints.ink;
      ctx.fillText(sign, plot.x(note.t), top + (n + 0.5) * NODE_ROW);
    });
  }
  ctx.font = `12px ${paints.sans}`;
}

// One lane. Calls narrower than a pixel share it, and the gravest outcome shows; pixels
// that look the same are one bar. So what is drawn is bounded by the pixels, not by the
// operations. Calls of a lane follow each other: only the last of those that begin in a
// pixel can be wide.
function drawLane(ctx, plot, {list, infos, fails, lits}, y, h) {
  const text = h >= 12;
  const widthOf = (c) => (callEnd(c) - calls.start[c]) * plot.scale;
  const bars = new Bars(ctx, y, h);
  for (let i = Math.max(0, after(list, view.a) - 4); i < list.length;) {
    const c = list[i];
    if (calls.start[c] > view.b) break;
    const x = plot.x(calls.start[c]), w = widthOf(c);
    if (w >= 1.5) {
      i++;
      if (x + w < plot.left) continue;
      ctx.globalAlpha = lit === null || calls.key[c] === lit ? 1 : 0.25;
      drawCall(ctx, calls.outcome[c], x, y, w, h);
      if (text && w > 34) {
        ctx.fillStyle = calls.outcome[c] === 0 ? paints.card : paints.ink;
        const left = Math.max(x, plot.left);
        ctx.fillText(label(ctx, str(calls.text[c]), x + w - left - 6), left + 4, y + h / 2 + 0.5);
      }
      continue;
    }
    const pixel = Math.floor(x);
    let next = Math.max(i + 1, after(list, plot.at(pixel + 1), i));
    if (next > i + 1 && widthOf(list[next - 1]) >= 1.5) next--;
    if (pixel >= plot.left - 1) {
      const kind = infos[next] > infos[i] ? 2 : fails[next] > fails[i] ? 1 : 0;
      bars.add(kind, lits !== null && lits[next] === lits[i], pixel);
    }
    i = next;
  }
  bars.draw();
}

// What a lane's pixels look like: neighbours that look the same are one bar, and all
// bars of a look are drawn together, as changing the colour costs more than a bar.
class Bars {
  constructor(ctx, y, h) {
    Object.assign(this, {ctx, y, h, look: -1, from: 0, to: 0, ends: [0, 1, 2, 3, 4, 5].map(() => [])});
  }

  add(kind, faint, pixel) {
    const look = faint ? kind + 3 : kind;
    if (look !== this.look || pixel > this.to) {
      this.close();
      this.look = look;
      this.from = pixel;
    }
    this.to = pixel + 1;
  }

  close() {
    if (this.look >= 0) this.ends[this.look].push(this.from, this.to);
  }

  draw() {
    const {ctx, y, h} = this;
    this.close();
    this.ends.forEach((ends, look) => {
      const kind = look % 3;
      ctx.globalAlpha = look > 2 ? 0.25 : 1;
      ctx.fillStyle = paints[OUTCOMES[kind]];
      for (let i = 0; i < ends.length; i += 2) {
        if (kind === 1) ctx.fillRect(ends[i], y + h / 4, ends[i + 1] - ends[i], h / 2);
        else ctx.fillRect(ends[i], y, ends[i + 1] - ends[i], h);
      }
    });
    ctx.globalAlpha = 1;
  }
}

// "read → 7", or "r 7" where room is short.
function label(ctx, text, room) {
  return fit(ctx, ctx.measureText(text).width <= room ? text : text.replace(/^(\w)\w* (→ )?/, '$1 '), room);
}

function drawCall(ctx, kind, x, y, w, h) {
  if (kind === 0) {
    ctx.fillStyle = paints.ok;
    ctx.fillRect(x, y, w > 2 ? w - 0.5 : w, h);
  } else if (kind === 1) {
    ctx.fillStyle = ctx.strokeStyle = paints.fail;
    if (w < 3) ctx.fillRect(x, y + h / 4, w, h / 2);
    else { ctx.lineWidth = 1.5; ctx.strokeRect(x + 1, y + 1, w - 2, h - 2); }
  } else {
    ctx.fillStyle = w < 4 ? paints.info : pattern(ctx, 'info');
    ctx.fillRect(x, y, Math.max(w, 1.5), h);
    if (w >= 4) { ctx.strokeStyle = paints.info; ctx.lineWidth = 1; ctx.strokeRect(x + 0.5, y + 0.5, w - 1, h - 1); }
  }
}

const laneY = (lane) => lanesTop() + lane * laneHeight();

function drawAnomalies(ctx, plot) {
  data.anomalies.forEach((anomaly, number) => {
    if (!anomaly.calls.length) return;
    const on = number === selected;
    const x = plot.x(calls.start[anomaly.calls[anomaly.calls.length - 1]]);
    if (x >= plot.left && x <= plot.right) {
      ctx.fillStyle = paints.anomaly;
      ctx.beginPath();
      ctx.moveTo(x, 12); ctx.lineTo(x - 5, 3); ctx.lineTo(x + 5, 3);
      ctx.fill();
      ctx.textAlign = 'left';
      ctx.font = `bold 11px ${paints.sans}`;
      ctx.fillText(`A${number + 1}`, x + 7, 7);
      ctx.font = `12px ${paints.sans}`;
    }
    for (const c of anomaly.calls) outline(ctx, plot, c, paints.anomaly, on ? 2.5 : 1.5);
    if (on) for (const edge of anomaly.edges) arrow(ctx, plot, edge);
  });
  if (pinned !== null) outline(ctx, plot, pinned, paints.ink, 2);
}

function outline(ctx, plot, c, colour, width) {
  const h = laneHeight(), y = laneY(calls.lane[c]);
  const x = plot.x(calls.start[c]), w = Math.max((callEnd(c) - calls.start[c]) * plot.scale, 3);
  ctx.strokeStyle = colour;
  ctx.lineWidth = width;
  ctx.strokeRect(x - 1, y - 0.5, w + 2, h);
}

function arrow(ctx, plot, [from, to, kind]) {
  const ordered = /realtime|process/.test(kind);
  const middle = (c) => (calls.start[c] + callEnd(c)) / 2;
  const x1 = plot.x(ordered ? callEnd(from) : middle(from)), x2 = plot.x(ordered ? calls.start[to] : middle(to));
  const half = laneHeight() / 2, y1 = laneY(calls.lane[from]) + half, y2 = laneY(calls.lane[to]) + half;
  const lift = y1 === y2 ? 24 : 0, bend = (y2 - y1) / 2;
  ctx.strokeStyle = ctx.fillStyle = paints.anomaly;
  ctx.lineWidth = 1.6;
  ctx.setLineDash(ordered ? [5, 3] : []);
  ctx.beginPath();
  ctx.moveTo(x1, y1);
  ctx.bezierCurveTo(x1, y1 + bend - lift, x2, y2 - bend - lift, x2, y2);
  ctx.stroke();
  ctx.setLineDash([]);
  const down = y2 > y1 || lift ? 1 : -1;
  ctx.beginPath();
  ctx.moveTo(x2, y2); ctx.lineTo(x2 - 4, y2 - 8 * down); ctx.lineTo(x2 + 4, y2 - 8 * down);
  ctx.fill();
}

function drawTimeline(ctx, plot) {
  const h = laneHeight(), step = h < 12 ? Math.ceil(13 / h) : 1;
  data.nodes.forEach((node, n) => plot.label(node, nodesTop() + (n + 0.5) * NODE_ROW, paints.ink));
  data.lanes.forEach((name, lane) => {
    if (lane % step === 0) plot.label(document.body.clientWidth < 720 ? `p${name.split(/[ ,]/)[0]}` : `process ${name}`, laneY(lane) + h / 2);
  });
  plot.clip(() => {
    plot.veils(false);
    drawFaults(ctx, plot);
    drawNodes(ctx, plot);
    ctx.textAlign = 'left';
    ctx.font = `11px ${paints.mono}`;
    byLane.forEach((lane, n) => drawLane(ctx, plot, lane, laneY(n) + 1, h - (h > 8 ? 3 : 1)));
    drawAnomalies(ctx, plot);
  });
  if (faultRows) plot.label('faults', TOP + FAULT_ROW / 2);
}

// What is under the pointer

function callAt(plot, x, y) {
  const h = laneHeight(), lane = Math.floor((y - lanesTop()) / h);
  if (lane < 0 || lane >= byLane.length) return null;
  const {list} = byLane[lane], near = 4 / plot.scale, us = plot.at(x);
  let best = null, bestAway = near;
  for (let i = after(list, us + near) - 1, looked = 0; i >= 0 && looked < 400; i--, looked++) {
    const c = list[i];
    const away = us < calls.start[c] ? calls.start[c] - us : Math.max(0, us - callEnd(c));
    if (away < bestAway || (away === 0 && best === null)) { best = c; bestAway = away; }
    if (away === 0 || calls.start[c] < us - near - (view.b - view.a)) break;
  }
  return best;
}

function describe(c) {
  const key = str(calls.key[c]), node = data.nodes[calls.node[c]];
  return [
    str(calls.text[c]) + (key ? `  (key ${key})` : ''),
    `op ${calls.index[c]}, process ${calls.process[c]}${node ? ` on ${node}` : ''}`,
    `${OUTCOMES[calls.outcome[c]]}${calls.took[c] < 0 ? '' : ' after'} ${took(calls.took[c])}, invoked at ${moment(calls.start[c])}`,
    str(calls.error[c]),
    marked.has(c) && `in anomaly ${marked.get(c).map((n) => `A${n + 1} ${data.anomalies[n].name}`).join(', ')}`,
  ];
}

const describeFault = (fault) => [
  fault.title, `${fault.kind} on ${fault.on}: ${fault.effect.replace('-', ' ')}`,
  `${moment(fault.t0)} to ${moment(fault.t1)} (${took(fault.t1 - fault.t0)})`, fault.proof,
];

function hoverTimeline(x, y) {
  const plot = timeline, us = plot.at(x), near = 3 / plot.scale;
  if (x < plot.left) return null;
  const during = data.faults.filter((fault) => fault.t0 - near <= us && us <= fault.t1 + near);
  if (faultRows && y >= TOP && y < TOP + faultRows * FAULT_ROW) {
    const fault = during.find((one) => one.row === Math.floor((y - TOP) / FAULT_ROW));
    return fault ? describeFault(fault) : null;
  }
  const n = Math.floor((y - nodesTop()) / NODE_ROW);
  if (n >= 0 && n < data.nodes.length && y < lanesTop()) {
    const node = data.nodes[n];
    const note = data.notes.find((one) => one.nodes.includes(node) && Math.abs(one.t - us) < 2 * near);
    const mine = during.filter((fault) => !fault.nodes.length || fault.nodes.includes(node));
    return [`${node} at ${moment(us)}`, note && note.title, ...mine.map((fault) => fault.title), !mine.length && !note && 'no fault'];
  }
  const c = callAt(plot, x, y);
  return c === null ? null : describe(c);
}

// Pins and jumps

function pin(c) {
  pinned = c;
  const box = document.getElementById('pinned');
  box.hidden = c === null;
  redraw();
  if (c === null) return;
  const pair = (name, text) => text ? [element('div', '', element('dt', name), element('dd', text))] : [];
  const button = (text, act) => {
    const made = element('button', text);
    made.type = 'button';
    made.addEventListener('click', act);
    return made;
  };
  const node = data.nodes[calls.node[c]];
  box.replaceChildren(
    element('b', str(calls.text[c])),
    element('dl', '', ...pair('op', String(calls.index[c])), ...pair('process', String(calls.process[c])), ...pair('node', node),
      ...pair('key', str(calls.key[c])), ...pair('outcome', OUTCOMES[calls.outcome[c]]), ...pair('invoked', moment(calls.start[c])),
      ...pair('returned', calls.took[c] < 0 ? 'never' : moment(callEnd(c))), ...pair('took', calls.took[c] < 0 ? '' : took(calls.took[c])),
      ...pair('error', str(calls.error[c])), ...pair('during', data.faults.filter((f) => f.t0 <= callEnd(c) && f.t1 >= calls.start[c]).map((f) => f.title).slice(0, 6).join('; '))),
    button('← previous of this client', () => step(-1)), ' ', button('next of this client →', () => step(1)), ' ',
    ...(str(calls.key[c]) ? [button(`only key ${str(calls.key[c])}`, () => { document.getElementById('filter-key').value = filter.key = str(calls.key[c]); applyFilter(); }), ' '] : []),
    button('Unpin', () => pin(null)),
  );
}

function step(by) {
  if (pinned === null) return;
  const {list} = byLane[calls.lane[pinned]];
  const at = list.indexOf(pinned);
  const next = at < 0 ? after(list, calls.start[pinned]) + (by < 0 ? -1 : 0) : at + by;
  if (next < 0 || next >= list.length) return;
  pin(list[next]);
  const middle = calls.start[list[next]], half = (view.b - view.a) / 2;
  if (middle < view.a || middle > view.b) show(middle - half, middle + half);
}

// Back to no anomaly in particular.
function relax() {
  selected = lit = null;
  const choice = document.getElementById('jump');
  if (choice) choice.value = '';
  applyFilter();
}

function jump(number) {
  const anomaly = data.anomalies[number];
  if (!anomaly || !anomaly.calls.length) return;
  selected = number;
  const keys = new Set(anomaly.calls.map((c) => calls.key[c]));
  lit = keys.size === 1 && !keys.has(0) ? calls.key[anomaly.calls[0]] : null;
  applyFilter();
  const choice = document.getElementById('jump');
  if (choice) choice.value = String(number);
  let a = Infinity, b = 0;
  for (const c of anomaly.calls) {
    a = Math.min(a, calls.start[c]);
    b = Math.max(b, calls.took[c] < 0 ? calls.start[c] : callEnd(c));
  }
  showAround(a, b);
}

const timeline = new Plot('lanes', timelineHeight, drawTimeline, {
  hover: hoverTimeline,
  click: (x, y) => pin(callAt(timeline, x, y)),
});
Object.assign(ACTIONS, {
  n: () => step(1), p: () => step(-1), Escape: () => { pin(null); relax(); },
  a: () => jump(((selected ?? -1) + 1) % Math.max(1, data.anomalies.length)),
});
