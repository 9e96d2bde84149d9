// Messages between nodes, on request: arrows from row to row while they are few, and a
// strip that counts them always. data.messages; `d` is -1 for a message that was lost.

const ARROWS_MAX = 1500, BLOCK = 512;
const messages = (() => {
  const all = data.messages ?? {};
  const column = (name) => bulk[`message_${name}`] ?? all[name] ?? [];
  const t = column('t'), order = Uint32Array.from(t, (_, i) => i).sort((i, j) => t[i] - t[j]);
  const sorted = (name) => Float64Array.from(order, (i) => column(name)[i]);
  const texts = (name) => Int32Array.from(order, (i) => column(name)[i]);
  return {size: t.length, t: sorted('t'), d: sorted('d'), s: texts('s'), r: texts('r'), k: texts('k'), why: texts('why')};
})();
const ends = data.ends ?? data.nodes;
let showsMessages = false;

// Those of the kinds that are asked for, in order of time; beside them how many were lost
// before, and when the last of each block of them arrived.
let sent = null;
function sortMessages(kind) {
  const list = Uint32Array.from({length: messages.size}, (_, i) => i).filter((i) => !kind || str(messages.k[i]) === kind);
  const times = Float64Array.from(list, (i) => messages.t[i]), lost = new Uint32Array(list.length + 1);
  const until = new Float64Array(Math.ceil(list.length / BLOCK));
  list.forEach((i, n) => {
    lost[n + 1] = lost[n] + (messages.d[i] < 0);
    const block = Math.floor(n / BLOCK);
    until[block] = Math.max(until[block], messages.t[i] + Math.max(messages.d[i], 0));
  });
  sent = {list, times, lost, until};
}

// The middle of an end's row: a node's, or a client's lane. Null: it has none.
const laneOfProcess = new Map();
data.lanes.forEach((name, lane) => { for (const process of name.match(/\d+/g) ?? []) laneOfProcess.set(process, lane); });
function endY(end) {
  const node = data.nodes.indexOf(ends[end]);
  if (node >= 0) return nodesTop() + (node + 0.5) * nodeRow();
  const lane = laneOfProcess.get(/\d+/.exec(ends[end] ?? '')?.[0]);
  return lane === undefined ? null : laneY(lane) + laneHeight() / 2;
}

// Positions in `sent.list` of the messages in view, those on their way included; null if
// there are more than can be drawn.
function messagesInView() {
  const {list, times, until} = sent;
  const first = firstFrom(times, view.a), last = firstFrom(times, view.b + 1);
  if (last - first > ARROWS_MAX) return null;
  const found = [];
  for (let block = 0; block * BLOCK < first; block++) {
    if (until[block] < view.a) continue;
    for (let n = block * BLOCK; n < Math.min(first, (block + 1) * BLOCK); n++) {
      if (messages.t[list[n]] + messages.d[list[n]] >= view.a) found.push(list[n]);
      if (found.length > ARROWS_MAX) return null;
    }
  }
  for (let n = first; n < last; n++) found.push(list[n]);
  return found.length > ARROWS_MAX ? null : found;
}

const STRIP = 30;
const stripHeight = () => showsMessages ? STRIP + GAP : 0;
let drawn = [];   // the arrows of this frame, for what is under the pointer

function drawMessages(ctx, plot) {
  drawn = [];
  if (!showsMessages) return;
  drawStrip(ctx, plot);
  const inView = messagesInView();
  if (inView) for (const i of inView) drawMessage(ctx, plot, i);
}

function drawMessage(ctx, plot, i) {
  const y1 = endY(messages.s[i]), whole = endY(messages.r[i]);
  if (y1 === null || whole === null) return;
  const lost = messages.d[i] < 0;
  const x1 = plot.x(messages.t[i]), x2 = lost ? x1 + 7 : plot.x(messages.t[i] + messages.d[i]);
  const y2 = lost ? y1 + (whole - y1) * 0.35 : whole;
  ctx.strokeStyle = ctx.fillStyle = lost ? paints.anomaly : paints.soft;
  ctx.globalAlpha = lost ? 1 : 0.75;
  ctx.lineWidth = lost ? 1.4 : 1;
  ctx.setLineDash(lost ? [3, 2] : []);
  ctx.beginPath();
  ctx.moveTo(x1, y1);
  ctx.lineTo(x2, y2);
  ctx.stroke();
  ctx.setLineDash([]);
  ctx.beginPath();
  if (lost) {
    ctx.moveTo(x2 - 3, y2 - 3); ctx.lineTo(x2 + 3, y2 + 3); ctx.moveTo(x2 + 3, y2 - 3); ctx.lineTo(x2 - 3, y2 + 3);
    ctx.stroke();
  } else {
    const angle = Math.atan2(y2 - y1, x2 - x1);
    ctx.moveTo(x2, y2);
    ctx.lineTo(x2 - 6 * Math.cos(angle - 0.4), y2 - 6 * Math.sin(angle - 0.4));
    ctx.lineTo(x2 - 6 * Math.cos(angle + 0.4), y2 - 6 * Math.sin(angle + 0.4));
    ctx.fill();
  }
  ctx.globalAlpha = 1;
  drawn.push({i, x1, y1, x2, y2});
}

// How many were sent in every few pixels; the lost part below, in the colour of harm.
function drawStrip(ctx, plot) {
  const {times, lost} = sent, top = lanesTop() - stripHeight(), WIDE = 3;
  const bars = [];
  let most = 1, n = firstFrom(times, plot.at(plot.left));
  const first = n;
  for (let x = plot.left; x < plot.right; x += WIDE) {
    const next = firstFrom(times, plot.at(x + WIDE));
    if (next > n) bars.push([x, next - n, lost[next] - lost[n]]);
    if (axis.within(plot.at(x), plot.at(x + WIDE)).every(([, , gap]) => !gap)) most = Math.max(most, next - n);
    n = next;
  }
  for (const [x, all, gone] of bars) {
    ctx.fillStyle = paints.soft;
    ctx.globalAlpha = 0.6;
    const tall = (n) => STRIP * Math.min(1, n / most);
    ctx.fillRect(x, top + STRIP - tall(all), WIDE - 0.5, tall(all));
    ctx.globalAlpha = 1;
    ctx.fillStyle = paints.anomaly;
    if (gone) ctx.fillRect(x, top + STRIP - tall(gone), WIDE - 0.5, tall(gone));
  }
  const said = `${count(n - first)} messages in view, ${count(lost[n] - lost[first])} lost${n - first > ARROWS_MAX ? '; zoom in for arrows' : ''}`;
  const box = document.getElementById('messages-said');
  if (box.textContent !== said) box.textContent = said;
}

function messageAt(x, y) {
  let best = null, bestAway = 5;
  for (const one of drawn) {
    const {x1, y1, x2, y2} = one, long = (x2 - x1) ** 2 + (y2 - y1) ** 2;
    const part = long ? Math.min(1, Math.max(0, ((x - x1) * (x2 - x1) + (y - y1) * (y2 - y1)) / long)) : 0;
    const away = Math.hypot(x - x1 - part * (x2 - x1), y - y1 - part * (y2 - y1));
    if (away < bestAway) { best = one.i; bestAway = away; }
  }
  return best;
}

const describeMessage = (i) => [
  `${str(messages.k[i]) || 'message'}  ${ends[messages.s[i]]} → ${ends[messages.r[i]]}`,
  `sent at ${moment(messages.t[i])}`,
  messages.d[i] < 0 ? `lost${str(messages.why[i]) ? `: ${str(messages.why[i])}` : ''}` : `arrived after ${took(messages.d[i])}`,
];

if (messages.size) {
  const box = document.getElementById('messages'), kinds = document.getElementById('messages-kind');
  document.getElementById('messages-group').hidden = false;
  const names = [...new Set(messages.k)].map(str).filter(Boolean).sort();
  kinds.append(new Option('all', ''), ...names.map((name) => new Option(name, name)));
  kinds.addEventListener('change', () => { sortMessages(kinds.value); redraw(); });
  box.addEventListener('change', () => {
    showsMessages = box.checked;
    if (!sent) sortMessages('');
    for (const id of ['messages-kind', 'messages-said']) document.getElementById(id).hidden = !showsMessages;
    redraw();
  });
}
