// Linearization points: when operations may have taken effect, as dots on their bars; and
// the orders of a broken key, to be stepped through.

const points = {call: bulk.pointCall, time: bulk.pointTime, state: bulk.pointState, on: false};
const pointOf = new Map();  // call -> its place in points
for (let i = 0, us = 0; i < points.call.length; i++) {
  points.time[i] = us += points.time[i];
  pointOf.set(points.call[i], i);
}
const POINTS_MAX = 40_000;  // in view; the dots of more would cover each other
let stepped = null;         // where an order is stepped through: [call, number] of what is placed, the call now

const pointsBox = document.getElementById('points');
pointsBox?.addEventListener('change', () => { points.on = pointsBox.checked; redraw(); });

// What a point says of a call, for the box under the pointer.
function describePoint(c) {
  const i = points.on ? pointOf.get(c) : undefined;
  return i === undefined ? '' : `may have taken effect at ${moment(points.time[i])}; then ${str(points.state[i])}`;
}

function drawOrders(ctx, plot) {
  if (points.on) drawDots(ctx, plot);
  if (!stepped) return;
  const {placed, now, isStuck} = stepped;
  ctx.textAlign = 'center';
  ctx.font = `bold 10px ${paints.sans}`;
  for (const [c, number] of placed) {
    if (calls.start[c] > view.b || callEnd(c) < view.a) continue;
    const x = plot.x((calls.start[c] + callEnd(c)) / 2), y = laneY(calls.lane[c]) + laneHeight() / 2;
    ctx.fillStyle = paints.card;
    ctx.strokeStyle = paints.accent;
    ctx.lineWidth = 1.5;
    ctx.beginPath();
    ctx.arc(x, y, 8, 0, 7);
    ctx.fill();
    ctx.stroke();
    ctx.fillStyle = paints.ink;
    ctx.fillText(number, x, y + 0.5);
  }
  if (now !== null) outline(ctx, plot, now, isStuck ? paints.anomaly : paints.accent, 3);
  ctx.textAlign = 'left';
  ctx.font = `12px ${paints.sans}`;
}

// One dot for each lane and pixel at most.
function drawDots(ctx, plot) {
  const {time, call} = points;
  const from = firstPoint(view.a), to = firstPoint(view.b);
  if (to - from > POINTS_MAX) return;
  const last = new Float64Array(data.lanes.length).fill(-Infinity);
  const h = laneHeight(), radius = Math.min(3.5, h / 3);  // below what the bar says
  ctx.fillStyle = paints.card;
  ctx.strokeStyle = paints.ink;
  ctx.lineWidth = 1.2;
  for (let i = from; i < to; i++) {
    const c = call[i], x = plot.x(time[i]), lane = calls.lane[c];
    if ((shown && !shown[c]) || x - last[lane] < 1) continue;
    last[lane] = x;
    ctx.beginPath();
    ctx.arc(x, laneY(lane) + h - radius, radius, 0, 7);
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
    if (at < 0) {
      stepped = null;
      said.textContent = 'Before the first of these steps.';
    } else {
      const [step, op, , what, after] = [...rows[at].cells].map((cell) => cell.textContent);
      const isStuck = at === rows.length - 1;
      said.textContent = isStuck ? `Stuck: op ${op}, ${what}, is ${after}` : `Step ${step}: op ${op}, ${what}; then the object is ${after}`;
      const placed = rows.slice(0, isStuck ? at : at + 1).map((row, n) => [callOfIndex(Number(ops[n])), row.cells[0].textContent]);
      stepped = {placed: placed.filter(([c]) => c !== null), now: callOfIndex(Number(ops[at])), isStuck};
    }
    redraw();
  };
  for (const button of way.querySelectorAll('[data-step]')) {
    button.addEventListener('click', () => to(at + Number(button.dataset.step)));
  }
}
