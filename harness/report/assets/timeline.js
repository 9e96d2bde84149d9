// The timeline: faults, nodes with their roles, messages, and a lane per client.

// Faults packed into as few rows as keep their titles apart in time.
const faultRow = rowsFor(data.faults.map(({t0, t1}) => [t0, t1]), 5);
data.faults.forEach((fault, i) => { fault.row = faultRow[i]; });
const faultRows = Math.max(-1, ...faultRow) + 1;

// What others draw upon nodes and lanes: functions of the context and the plot.
const layers = [];

const FAULT_ROW = 19, FAULTS_OF_NODE = 20, ROLE = 13, GAP = 10, TOP = 24;
const nodeRow = () => showsMessages ? 46 : FAULTS_OF_NODE + (hasRoles ? ROLE + 1 : 0);
const laneHeight = () => Math.min(20, Math.max(6, Math.floor(380 / Math.max(1, data.lanes.length))));
const nodesTop = () => TOP + (faultRows ? faultRows * FAULT_ROW + GAP : 0);
const lanesTop = () => nodesTop() + (data.nodes.length ? data.nodes.length * nodeRow() + GAP : 0) + stripHeight();
const timelineHeight = () => Math.min(16000, lanesTop() + data.lanes.length * laneHeight() + 24);

function drawFaults(ctx, plot) {
  if (!faultRows) return;
  const inView = data.faults.filter((fault) => fault.t1 >= view.a && fault.t0 <= view.b);
  const bands = inView.map((fault) => {
    const x = plot.x(fault.t0);
    return {x, right: x + Math.max(plot.x(fault.t1) - x, 3), row: fault.row};
  });
  const rooms = roomForTitles(bands, plot.left, plot.right);
  inView.forEach((fault, i) => {
    const {x, right} = bands[i], w = right - x, y = TOP + fault.row * FAULT_ROW;
    band(ctx, fault.class, x, y, w, FAULT_ROW - 3);
    if (fault.effect === 'no-effect' || fault.effect === 'failed' || !fault.applied) {
      ctx.setLineDash([3, 3]);
      ctx.strokeStyle = paints.ink;
      ctx.strokeRect(x + 1.5, y + 1.5, w - 3, FAULT_ROW - 6);
      ctx.setLineDash([]);
    }
    if (rooms[i] < 38) return;
    const left = Math.max(x, plot.left), text = fit(ctx, fault.title, rooms[i] - 8);
    ctx.textAlign = 'left';
    ctx.fillStyle = paints.card;
    ctx.globalAlpha = 0.82;
    ctx.fillRect(left + 2, y + 2, ctx.measureText(text).width + 6, FAULT_ROW - 7);
    ctx.globalAlpha = 1;
    ctx.fillStyle = paints.ink;
    ctx.fillText(text, left + 5, y + FAULT_ROW / 2 - 1);
  });
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
// take its upper half, clock and disk faults its lower half. Below them, its roles.
const PARTS = {kill: [0, 1], pause: [0, 1], network: [0, 0.5], clock: [0.5, 0.5], disk: [0.5, 0.5], other: [0.25, 0.5]};
function drawNodes(ctx, plot) {
  const top = nodesTop(), row = nodeRow(), inner = FAULTS_OF_NODE - 6;
  const faultsTop = (n) => top + n * row + (row - FAULTS_OF_NODE - (hasRoles ? ROLE : 0)) / 2 + 3;
  data.nodes.forEach((node, n) => {
    ctx.fillStyle = paints.line;
    ctx.fillRect(plot.x(0), faultsTop(n) + inner / 2 - 2, plot.x(END) - plot.x(0), 4);
    if (hasRoles) drawRoles(ctx, plot, node, faultsTop(n) + inner + 2, ROLE);
  });
  const order = ['network', 'clock', 'disk', 'other', 'pause', 'kill'];
  for (const name of order) {
    for (const fault of data.faults) {
      if (fault.class !== name || fault.t1 < view.a || fault.t0 > view.b || !fault.applied) continue;
      const x = plot.x(fault.t0), w = Math.max(plot.x(fault.t1) - x, 2);
      const [from, share] = PARTS[name];
      data.nodes.forEach((node, n) => {
        if (fault.nodes.length && !fault.nodes.includes(node)) return;
        band(ctx, name, x, faultsTop(n) + from * inner, w, share * inner);
      });
    }
  }
  ctx.textAlign = 'center';
  ctx.font = `10px ${paints.sans}`;
  const drawnTo = data.nodes.map(() => -Infinity);
  for (const note of data.notes) {
    if (note.t < view.a || note.t > view.b) continue;
    const sign = /exit|crash/.test(note.kind) ? '✕' : /start|ready/.test(note.kind) ? '▲' : '◆', x = plot.x(note.t);
    data.nodes.forEach((node, n) => {
      if (!note.nodes.includes(node) || x < drawnTo[n] + 7) return;
      drawnTo[n] = x;
      ctx.strokeStyle = paints.card;
      ctx.lineWidth = 3;
      ctx.strokeText(sign, x, faultsTop(n) + inner / 2);
      ctx.fillStyle = paints.ink;
      ctx.fillText(sign, x, faultsTop(n) + inner / 2);
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
  const widthOf = (c) => plot.x(callEnd(c)) - plot.x(calls.start[c]);
  const bars = new Bars(ctx, y, h);
  for (let i = Math.max(0, after(list, view.a) - 4); i < list.length;) {
    const c = list[i];
    if (calls.start[c] > view.b) break;
    const x = plot.x(calls.start[c]), w = widthOf(c);
    if (w >= 1.5) {
      i++;
      if (x + w < plot.left) continue;
      ctx.globalAlpha = isFaint(c) ? 0.25 : 1;
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
    const on = number === selected;
    for (const c of anomaly.calls) outline(ctx, plot, c, paints.anomaly, on ? 2.5 : 1.5);
    if (on) for (const edge of anomaly.edges) arrow(ctx, plot, edge);
  });
  if (pinned !== null) outline(ctx, plot, pinned, paints.ink, 2);
  drawAnomalyNames(ctx, plot);
}

// A wedge where each anomaly shows, and its name; names of neighbours are one label.
function drawAnomalyNames(ctx, plot) {
  const labels = [];
  ctx.fillStyle = paints.anomaly;
  data.anomalies.forEach((anomaly, number) => {
    if (!anomaly.calls.length) return;
    const x = plot.x(calls.start[anomaly.calls[anomaly.calls.length - 1]]);
    if (x < plot.left || x > plot.right) return;
    ctx.beginPath();
    ctx.moveTo(x, 22); ctx.lineTo(x - 4, 14); ctx.lineTo(x + 4, 14);
    ctx.fill();
    labels.push({x: x - 6, text: `A${number + 1}`});
  });
  ctx.textAlign = 'left';
  ctx.font = `bold 11px ${paints.sans}`;
  for (const {x, text} of joined(labels, 8, (words) => ctx.measureText(words).width)) {
    ctx.fillText(text, x, 7);
  }
  ctx.font = `12px ${paints.sans}`;
}

function outline(ctx, plot, c, colour, width) {
  const h = laneHeight(), y = laneY(calls.lane[c]);
  const x = plot.x(calls.start[c]), w = Math.max(plot.x(callEnd(c)) - x, 3);
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
  const row = nodeRow();
  data.nodes.forEach((node, n) => plot.label(node, nodesTop() + (n + 0.5) * row, paints.ink));
  if (showsMessages) plot.label('messages', lanesTop() - GAP - STRIP / 2);
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
    for (const layer of layers) layer(ctx, plot);
    drawMessages(ctx, plot);
    drawAnomalies(ctx, plot);
    drawHits(ctx, plot);
    drawOrders(ctx, plot);
  });
  if (faultRows) plot.label('faults', TOP + FAULT_ROW / 2);
}

// What is under the pointer

function callAt(plot, x, y) {
  const h = laneHeight(), lane = Math.floor((y - lanesTop()) / h);
  if (lane < 0 || lane >= byLane.length) return null;
  const {list} = byLane[lane];
  let best = null, bestAway = 4;
  for (let i = after(list, plot.at(x + 4)) - 1, looked = 0; i >= 0 && looked < 400; i--, looked++) {
    const c = list[i], from = plot.x(calls.start[c]), to = plot.x(callEnd(c));
    const away = x < from ? from - x : Math.max(0, x - to);
    if (away < bestAway || (away === 0 && best === null)) { best = c; bestAway = away; }
    if (away === 0 || from < x - 4 - plot.width) break;
  }
  return best;
}

function hoverTimeline(x, y) {
  const plot = timeline, us = plot.at(x);
  if (x < plot.left) return null;
  const during = data.faults.filter((fault) => fault.t0 <= plot.at(x + 3) && plot.at(x - 3) <= fault.t1);
  if (faultRows && y >= TOP && y < TOP + faultRows * FAULT_ROW) {
    const fault = during.find((one) => one.row === Math.floor((y - TOP) / FAULT_ROW));
    return fault ? describeFault(fault) : null;
  }
  const message = messageAt(x, y);
  if (message !== null) return describeMessage(message);
  const n = Math.floor((y - nodesTop()) / nodeRow());
  if (n >= 0 && n < data.nodes.length) {
    const node = data.nodes[n], role = roleAt(node, us);
    const note = data.notes.find((one) => one.nodes.includes(node) && Math.abs(plot.x(one.t) - x) < 6);
    const mine = during.filter((fault) => !fault.nodes.length || fault.nodes.includes(node));
    return [`${node} at ${moment(us)}`, role && `${roleText(role)} since ${moment(role.t)}`, note && note.title, ...mine.map((fault) => fault.title), !mine.length && !note && 'no fault'];
  }
  const c = callAt(plot, x, y);
  return c === null ? null : describe(c);
}

const timeline = new Plot('lanes', timelineHeight, drawTimeline, {
  hover: hoverTimeline,
  click: (x, y) => pin(callAt(timeline, x, y)),
});
