// Linearization points: when operations may have taken effect, as dots on their bars; and
// the orders of a broken key, to be stepped through.

const points = {call: bulk.pointCall, time: bulk.pointTime, state: bulk.pointState, on: false};
const pointOf = new Map();  // call -> its place in points
for (let i = 0, us = 0; i < points.call.length; i++) {
  points.time[i] = us += points.time[i];
  pointOf.set(points.call[i], i);
}
const POINTS_MAX = 40_000;  // in view; the dots of more would cover each other
let stepped = null;         // the order that is stepped through: {placed, now, stuck}, calls

const pointsBox = document.getElementById('points');
pointsBox?.addEventListener('change', () => { points.on = pointsBox.checked; redraw(); });

// What a point says of a call, for the box under the pointer.
function describePoint(c) {
  const i = points.on ? pointOf.get(c) : undefined;
  return i === undefined ? '' : `may have taken effect at ${moment(points.time[i])}; then ${str(points.state[i])}`;
}

function drawPoints(ctx, plot) {
  if (points.on) drawDots(ctx, plot);
  if (!stepped) return;
  const {placed, now, stuck} = stepped;
  ctx.textAlign = 'center';
  ctx.font = `bold 10px ${paints.sans}`;
  placed.forEach((c, n) => {
    if (calls.start[c] > view.b || callEnd(c) < view.a) return;
    const x = plot.x(Math.min(calls.start[c] + calls.took[c] / 2, END)), y = laneY(calls.lane[c]) + laneHeight() / 2;
    ctx.fillStyle = paints.accent;
    ctx.beginPath();
    ctx.arc(x, y, 7, 0, 7);
    ctx.fill();
    ctx.fillStyle = paints.card;
    ctx.fillText(n + 1, x, y + 0.5);
  });
  if (now !== null) outline(ctx, plot, now, now === stuck ? paints.anomaly : paints.accent, 3);
  ctx.textAlign = 'left';
  ctx.font = `12px ${paints.sans}`;
}

// One dot for each lane and pixel at most.
function drawDots(ctx, plot) {
  const {time, call} = points;
  const from = firstPoint(view.a), to = firstPoint(view.b);
  if (to - from > POINTS_MAX) return;
  const last = new Float64Array(data.lanes.length).fill(-Infinity);
  const h = laneHeight(), radius = Math.min(3.5, h / 3);
  ctx.fillStyle = paints.card;
  ctx.strokeStyle = paints.ink;
  ctx.lineWidth = 1.2;
  for (let i = from; i < to; i++) {
    const c = call[i], x = plot.x(time[i]), lane = calls.lane[c];
    if ((shown && !shown[c]) || x - last[lane] < 1) continue;
    last[lane] = x;
    ctx.beginPath();
    ctx.arc(x, laneY(lane) + h / 2, radius, 0, 7);
    ctx.fill();
    ctx.stroke();
  }
}

function firstPoint(us) {
  let low = 0, high = points.time.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points.time[middle] < us) low = middle + 1; else high = middle;
  }
  return low;
}

for (const way of document.querySelectorAll('.way')) {
  const rows = [...way.querySelectorAll('tr[data-op]')], said = way.querySelector('[role="status"]');
  const picture = way.closest('.anomaly').querySelector('.spacetime');
  const ops = rows.map((row) => row.dataset.op);
  let at = -1;
  const to = (next) => {
    at = Math.max(-1, Math.min(rows.length - 1, next));
    rows.forEach((row, n) => { row.classList.toggle('now', n === at); row.classList.toggle('placed', n < at); });
    for (const bar of picture?.querySelectorAll('[data-op]') ?? []) {
      const n = ops.indexOf(bar.dataset.op);
      bar.classList.toggle('now', n >= 0 && n === at);
      bar.classList.toggle('placed', n >= 0 && n < at);
    }
    const [step, op, , what, after] = at < 0 ? [] : [...rows[at].cells].map((cell) => cell.textContent);
    said.textContent = at < 0 ? 'Before the first of these steps.' : `${step === '✕' ? 'Stuck' : `Step ${step}`}: op ${op}, ${what}: ${after}`;
    const found = ops.map((each) => callOfIndex(Number(each)));
    const last = found.length - 1, now = at < 0 ? null : found[at];
    stepped = at < 0 ? null : {placed: found.slice(0, Math.min(at + 1, last)).filter((c) => c !== null), now, stuck: found[last]};
    redraw();
  };
  for (const button of way.querySelectorAll('[data-step]')) {
    button.addEventListener('click', () => to(at + Number(button.dataset.step)));
  }
}
