// Latency and rates.

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
    drawEnds(ctx, plot);
    drawQuantiles(ctx, plot, yOf);
  });
}

const tickTook = (us) => us >= 1e6 ? `${us / 1e6} s` : us >= 1e3 ? `${us / 1e3} ms` : `${us} µs`;

// Each call with its own mark while they are few; else a mark for what ended in a pixel.
const MARKS_MAX = 12000;
function drawEnds(ctx, plot) {
  const {bins, from, list, rows} = byEnd;
  const first = Math.min(bins - 1, Math.max(0, Math.floor(view.a / END * bins)));
  const last = Math.min(bins - 1, Math.max(0, Math.floor(view.b / END * bins)));
  const inView = list.subarray(from[first], from[last + 1]);
  if (inView.length <= MARKS_MAX) return drawMarks(ctx, plot, inView);
  let level = 0;
  while (level + 1 < rows.length && plot.scale * END / bins * 2 ** level < 1) level++;
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
  const c = crowd.getContext('2d', {willReadFrequently: true}), image = c.createImageData(width, POINT_ROWS);
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
