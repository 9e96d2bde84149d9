// Latency, rates, clock offsets, and the overview that shows where the others look.

const rates = data.rates;
const BINS = rates.ok.length;
const binAt = (us) => Math.min(BINS - 1, Math.max(0, Math.floor(us / rates.width)));

function gridLine(ctx, plot, y, text) {
  ctx.fillStyle = paints.line;
  ctx.fillRect(plot.left, Math.round(y), plot.width, 1);
  plot.label(text, y);
}

// Latency

const logTook = new Float32Array(calls.size);
for (let c = 0; c < calls.size; c++) logTook[c] = calls.took[c] < 0 ? -1 : Math.log10(Math.max(calls.took[c], 1));
const latencyRange = (() => {
  let low = Infinity, high = -Infinity;
  for (const x of logTook) if (x >= 0) { low = Math.min(low, x); high = Math.max(high, x); }
  return low > high ? [3, 5] : [Math.floor(low), Math.max(Math.ceil(high), Math.floor(low) + 1)];
})();

const POINTS_TOP = 16, POINT_ROWS = 100, POINT = 2;   // rows of marks, in px
const yOfTook = (log) => {
  const [low, high] = latencyRange;
  return POINTS_TOP + POINT_ROWS * POINT * (1 - (log - low) / (high - low));
};

// Calls by when they ended, in bins of time: the calls of a bin lie together in `list`,
// from `from[bin]` on. `rows[0]` has a byte for each bin and row of marks, with a bit for
// each outcome that there is; `rows[1]` the same for bins twice as wide, and so on.
let byEnd;
function binByEnd() {
  const bins = 2 ** Math.min(16, Math.max(8, Math.ceil(Math.log2(calls.size / 8 + 1))));
  const from = new Uint32Array(bins + 1), list = new Uint32Array(calls.size);
  const binOf = (c) => Math.min(bins - 1, Math.max(0, Math.floor((calls.start[c] + calls.took[c]) / END * bins)));
  const counts = (c) => logTook[c] >= 0 && (!shown || shown[c]);
  for (let c = 0; c < calls.size; c++) if (counts(c)) from[binOf(c) + 1]++;
  for (let bin = 0; bin < bins; bin++) from[bin + 1] += from[bin];
  const next = from.slice();
  let finest = new Uint8Array(bins * POINT_ROWS);
  for (let c = 0; c < calls.size; c++) {
    if (!counts(c)) continue;
    const bin = binOf(c), row = Math.min(POINT_ROWS - 1, Math.floor((yOfTook(logTook[c]) - POINTS_TOP) / POINT));
    list[next[bin]++] = c;
    finest[bin * POINT_ROWS + row] |= 1 << calls.outcome[c];
  }
  const rows = [finest];
  for (let wider = bins / 2; wider >= 256; wider /= 2) {
    const fine = rows[rows.length - 1], coarse = new Uint8Array(wider * POINT_ROWS);
    for (let bin = 0; bin < wider; bin++) {
      for (let row = 0, at = 2 * bin * POINT_ROWS; row < POINT_ROWS; row++, at++) {
        coarse[bin * POINT_ROWS + row] = fine[at] | fine[at + POINT_ROWS];
      }
    }
    rows.push(coarse);
  }
  byEnd = {bins, from, list, rows};
}

function drawLatencies(ctx, plot) {
  const [low, high] = latencyRange, yOf = yOfTook;
  for (let power = low; power <= high; power++) gridLine(ctx, plot, yOf(power), tickTook(10 ** power));
  plot.clip(() => {
    plot.veils();
    drawPoints(ctx, plot);
    drawQuantiles(ctx, plot, yOf);
  });
}

const tickTook = (us) => us >= 1e6 ? `${us / 1e6} s` : us >= 1e3 ? `${us / 1e3} ms` : `${us} µs`;

// Each call with its own mark while they are few; else a mark for what ended in a pixel.
const MARKS_MAX = 12000;
function drawPoints(ctx, plot) {
  const {bins, from, list, rows} = byEnd;
  const first = Math.min(bins - 1, Math.max(0, Math.floor(view.a / END * bins)));
  const last = Math.min(bins - 1, Math.max(0, Math.floor(view.b / END * bins)));
  const inView = list.subarray(from[first], from[last + 1]);
  if (inView.length <= MARKS_MAX) return drawMarks(ctx, plot, inView);
  let level = 0;
  while (level + 1 < rows.length && plot.width / ((view.b - view.a) / END * bins / 2 ** level) < 1) level++;
  drawCrowd(ctx, plot, rows[level], bins / 2 ** level);
}

function drawMarks(ctx, plot, inView) {
  const total = [0, 0, 0];   // signs that are many become dots
  for (const c of inView) total[calls.outcome[c]]++;
  for (const kind of total[1] > total[0] ? [1, 0, 2] : [0, 1, 2]) {
    const few = total[kind] < 1500;
    ctx.fillStyle = ctx.strokeStyle = paints[OUTCOMES[kind]];
    ctx.globalAlpha = kind === 0 || !few ? 0.55 : 0.9;
    ctx.lineWidth = 1.4;
    ctx.beginPath();
    for (const c of inView) {
      if (calls.outcome[c] !== kind) continue;
      const x = plot.x(calls.start[c] + calls.took[c]), y = yOfTook(logTook[c]);
      if (kind === 0 || !few) ctx.rect(x - 1, y - 1, 2, 2);
      else if (kind === 1) { ctx.moveTo(x - 3, y - 3); ctx.lineTo(x + 3, y + 3); ctx.moveTo(x + 3, y - 3); ctx.lineTo(x - 3, y + 3); }
      else { ctx.moveTo(x, y - 4); ctx.lineTo(x + 3.5, y + 3); ctx.lineTo(x - 3.5, y + 3); ctx.closePath(); }
    }
    if (kind === 0 || !few) ctx.fill(); else ctx.stroke();
  }
  ctx.globalAlpha = 1;
}

// One pixel of an image for each mark; it is drawn as large as marks are.
const crowd = document.createElement('canvas');
function drawCrowd(ctx, plot, rows, bins) {
  const width = Math.ceil(plot.width / POINT);
  crowd.width = width;
  crowd.height = POINT_ROWS;
  const c = crowd.getContext('2d'), image = c.createImageData(width, POINT_ROWS);
  const pixels = new Uint32Array(image.data.buffer);
  const colours = OUTCOMES.map((name) => colourOf(c, paints[name], name === 'ok' ? 0.6 : 0.9));
  const colour = [0, 0, 1, 1, 2, 2, 2, 2].map((kind) => colours[kind]);
  const first = Math.max(0, Math.floor(view.a / END * bins)), last = Math.min(bins - 1, Math.floor(view.b / END * bins));
  for (let bin = first; bin <= last; bin++) {
    const from = Math.max(0, Math.floor((plot.x(bin / bins * END) - plot.left) / POINT));
    const to = Math.min(width - 1, Math.max(from, Math.ceil((plot.x((bin + 1) / bins * END) - plot.left) / POINT) - 1));
    for (let row = 0, at = bin * POINT_ROWS, y = 0; row < POINT_ROWS; row++, at++, y += width) {
      const kinds = rows[at];
      if (kinds) for (let x = from; x <= to; x++) pixels[y + x] = colour[kinds];
    }
  }
  c.putImageData(image, 0, 0);
  ctx.imageSmoothingEnabled = false;
  ctx.drawImage(crowd, plot.left, POINTS_TOP, width * POINT, POINT_ROWS * POINT);
}

// A colour of the style sheet as a pixel of an image.
function colourOf(ctx, colour, alpha) {
  ctx.clearRect(0, 0, 1, 1);
  ctx.fillStyle = colour;
  ctx.fillRect(0, 0, 1, 1);
  const pixel = new Uint8ClampedArray(ctx.getImageData(0, 0, 1, 1).data);
  pixel[3] = Math.round(pixel[3] * alpha);
  return new Uint32Array(pixel.buffer)[0];
}

function drawQuantiles(ctx, plot, yOf) {
  const dashes = [[], [6, 3], [2, 3]];   // median, p95, p99
  ctx.strokeStyle = ctx.fillStyle = paints.ink;
  dashes.forEach((dash, q) => {
    ctx.setLineDash(dash);
    ctx.lineWidth = q ? 1.1 : 1.8;
    ctx.globalAlpha = q ? 0.65 : 1;
    ctx.beginPath();
    let on = false;
    rates.quantiles[q].forEach((us, bin) => {
      if (us === null) { on = false; return; }
      const x = plot.x((bin + 0.5) * rates.width), y = yOf(Math.log10(Math.max(us, 1)));
      if (on) ctx.lineTo(x, y); else ctx.moveTo(x, y);
      on = true;
    });
    ctx.stroke();
  });
  ctx.setLineDash([]);
  ctx.globalAlpha = 1;
}

function hoverBin(x, plot, lines) {
  if (x < plot.left) return null;
  const us = plot.at(x), bin = binAt(us);
  const during = data.faults.filter((fault) => fault.t0 <= us && us <= fault.t1).slice(0, 5).map((fault) => fault.title);
  return us < 0 || us > END ? null : [moment(us), ...lines(bin), ...during];
}

const latencies = new Plot('latencies', 240, drawLatencies, {
  hover: (x) => hoverBin(x, latencies, (bin) => ['median', 'p95', 'p99', 'longest'].map((name, q) => {
    const us = rates.quantiles[q][bin];
    return us !== null && `${name} ${took(us)} (ok)`;
  })),
});

// Rates

// Nodes that are down refuse thousands of operations a second; a root scale then keeps
// the rest visible.
const okTop = Math.max(1, ...rates.ok);
const rateTop = Math.max(okTop, ...rates.fail, ...rates.info);
const rootScale = rateTop > 4 * okTop;
if (rootScale) document.getElementById('rate-scale').textContent = '  (square-root scale)';
const rateShare = (rate) => rootScale ? Math.sqrt(rate / rateTop) : rate / rateTop;

function rateTicks() {
  if (!rootScale) {
    const step = niceStep(rateTop / 4);
    return Array.from({length: Math.floor(rateTop / step) + 1}, (_, i) => i * step);
  }
  const ticks = [0];
  for (let rate = rateTop; ticks.length < 5 && rate >= 1; rate /= 5) ticks.push(niceStep(rate * 0.51));
  return [...new Set(ticks)].filter((rate) => rate <= rateTop);
}

function drawRates(ctx, plot) {
  const top = 16, height = plot.bottom - top;
  const yOf = (rate) => plot.bottom - height * rateShare(rate);
  let last = Infinity;
  for (const rate of rateTicks().sort((a, b) => a - b)) {
    if (last - yOf(rate) < 13) continue;
    last = yOf(rate);
    gridLine(ctx, plot, last, count(rate));
  }
  plot.clip(() => {
    plot.veils();
    rateLine(ctx, plot, rates.ok, yOf, paints.ok, [], true);
    rateLine(ctx, plot, rates.fail, yOf, paints.fail, [5, 3], false);
    rateLine(ctx, plot, rates.info, yOf, paints.info, [2, 2], false);
  });
}

function rateLine(ctx, plot, series, yOf, colour, dash, filled) {
  ctx.beginPath();
  ctx.moveTo(plot.x(0), plot.bottom);
  series.forEach((rate, bin) => {
    ctx.lineTo(plot.x(bin * rates.width), yOf(rate));
    ctx.lineTo(plot.x((bin + 1) * rates.width), yOf(rate));
  });
  ctx.lineTo(plot.x(END), plot.bottom);
  if (filled) {
    ctx.globalAlpha = 0.18;
    ctx.fillStyle = colour;
    ctx.fill();
    ctx.globalAlpha = 1;
  }
  ctx.setLineDash(dash);
  ctx.strokeStyle = colour;
  ctx.lineWidth = filled ? 1.4 : 1.8;
  ctx.stroke();
  ctx.setLineDash([]);
}

const ratesPlot = new Plot('rates', 150, drawRates, {
  hover: (x) => hoverBin(x, ratesPlot, (bin) => OUTCOMES.map((name) => `${name} ${count(Math.round(rates[name][bin] * 10) / 10)} /s`)),
});

// Clocks

function clockPlot(id, field) {
  const nodes = Object.entries(data.clocks).filter(([, samples]) => samples[field].some((ms) => ms !== null));
  if (!document.getElementById(id)) return;
  let low = 0, high = 0;
  for (const [, samples] of nodes) for (const ms of samples[field]) if (ms !== null) { low = Math.min(low, ms); high = Math.max(high, ms); }
  const room = Math.max((high - low) * 0.08, 0.5);
  low -= room; high += room;
  const text = (ms) => Math.abs(high - low) > 4000 ? `${+(ms / 1000).toFixed(2)} s` : `${+ms.toFixed(1)} ms`;
  const plot = new Plot(id, 150, (ctx) => {
    const top = 14, yOf = (ms) => top + (plot.bottom - top - 4) * (1 - (ms - low) / (high - low));
    const step = niceStep((high - low) / 4);
    for (let ms = Math.ceil(low / step) * step; ms <= high; ms += step) gridLine(ctx, plot, yOf(ms), text(ms));
    plot.clip(() => {
      plot.veils();
      nodes.forEach(([node, samples], n) => clockLine(ctx, plot, samples, field, yOf, n));
    });
  }, {
    hover: (x) => {
      if (x < plot.left) return null;
      const us = plot.at(x);
      return [moment(us), ...nodes.map(([node, samples]) => {
        let found = null;
        for (let i = 0; i < samples.t.length && samples.t[i] <= us; i++) if (samples[field][i] !== null) found = samples[field][i];
        return found !== null && `${node} ${found > 0 ? '+' : ''}${text(found)}`;
      })];
    },
  });
}

// A shape for each node, beside its colour.
function sign(ctx, n, x, y) {
  ctx.beginPath();
  if (n % 4 === 0) ctx.arc(x, y, 3.2, 0, 7);
  else if (n % 4 === 1) ctx.rect(x - 3, y - 3, 6, 6);
  else if (n % 4 === 2) { ctx.moveTo(x, y - 4); ctx.lineTo(x + 4, y + 3); ctx.lineTo(x - 4, y + 3); }
  else { ctx.moveTo(x, y - 4.5); ctx.lineTo(x + 4.5, y); ctx.lineTo(x, y + 4.5); ctx.lineTo(x - 4.5, y); }
  ctx.fill();
}

function clockLine(ctx, plot, samples, field, yOf, n) {
  ctx.strokeStyle = ctx.fillStyle = paints[`n${n % 8}`];
  ctx.lineWidth = 1.6;
  ctx.beginPath();
  let on = false;
  samples.t.forEach((us, i) => {
    const ms = samples[field][i];
    if (ms === null) { on = false; return; }
    const gone = i > 0 && us - samples.t[i - 1] > 2.5e6;   // no reading while it was down
    if (on && !gone) ctx.lineTo(plot.x(us), yOf(ms)); else ctx.moveTo(plot.x(us), yOf(ms));
    on = true;
  });
  ctx.stroke();
  let last = -Infinity;
  samples.t.forEach((us, i) => {
    const ms = samples[field][i], x = plot.x(us);
    if (ms === null || x - last < 40) return;
    last = x;
    sign(ctx, n, x, yOf(ms));
  });
}

// The legend of both clock plots.
{
  const legend = document.getElementById('clock-legend');
  if (legend) Object.keys(data.clocks).forEach((node, n) => {
    const mark = element('i', ['●', '■', '▲', '◆'][n % 4]);
    mark.className = 'node-mark';
    mark.style.color = `var(--n${n % 8})`;
    legend.append(element('span', '', mark, node));
  });
}

clockPlot('wall', 'wall');
clockPlot('mono', 'mono');

// Overview: the whole run small, with a window where the other plots look

const overview = (() => {
  const canvas = document.getElementById('overview');
  const ctx = canvas.getContext('2d');
  let left, width;
  const x = (us) => left + width * us / END;
  const plot = {
    paint() {
      const w = canvas.clientWidth, h = 46, ratio = devicePixelRatio || 1;
      if (!w) return;
      canvas.style.height = `${h}px`;
      if (canvas.width !== Math.round(w * ratio)) { canvas.width = Math.round(w * ratio); }
      canvas.height = Math.round(h * ratio);
      ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
      left = gutter();
      width = w - left - RIGHT;
      ctx.fillStyle = paints.inset;
      ctx.fillRect(left, 0, width, h);
      ctx.fillStyle = paints.ok;
      ctx.globalAlpha = 0.5;
      rates.ok.forEach((rate, bin) => {
        const tall = (h - 16) * rate / okTop;
        ctx.fillRect(x(bin * rates.width), h - tall, width / BINS + 0.5, tall);
      });
      ctx.globalAlpha = 1;
      for (const fault of data.faults) {
        ctx.fillStyle = paints[fault.class];
        ctx.fillRect(x(fault.t0), FAULT_CLASSES.indexOf(fault.class) * 2, Math.max(1.5, x(fault.t1) - x(fault.t0)), 2);
      }
      ctx.fillStyle = paints.anomaly;
      for (const anomaly of data.anomalies) for (const c of anomaly.calls) ctx.fillRect(x(calls.start[c]) - 1, 12, 2, h - 12);
      const a = Math.max(left, x(view.a)), b = Math.min(left + width, x(view.b));
      ctx.fillStyle = paints.card;
      ctx.globalAlpha = 0.65;
      ctx.fillRect(left, 0, a - left, h);
      ctx.fillRect(b, 0, left + width - b, h);
      ctx.globalAlpha = 1;
      ctx.strokeStyle = paints.accent;
      ctx.lineWidth = 1.5;
      ctx.strokeRect(a + 0.75, 0.75, Math.max(2, b - a - 1.5), h - 1.5);
    },
  };
  plots.push(plot);
  let dragging = false;
  const centre = (event) => {
    const us = (event.offsetX - left) / width * END, half = (view.b - view.a) / 2;
    show(us - half, us + half);
  };
  canvas.addEventListener('pointerdown', (event) => { dragging = true; canvas.setPointerCapture(event.pointerId); centre(event); });
  canvas.addEventListener('pointermove', (event) => { if (dragging) centre(event); });
  canvas.addEventListener('pointerup', () => { dragging = false; });
  new ResizeObserver(redraw).observe(canvas);
  return plot;
})();
