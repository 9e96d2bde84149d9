// What is sampled of nodes, as lines: clock offsets, and what they use of the machine.

// A plot in the canvas `id`. `series`: [{node, t, values}], with null for no reading;
// `text` writes a value; `least`: [low, high] that are always in the picture.
function linesPlot(id, series, text, {least, pause = 2.5e6}) {
  let [low, high] = least;
  for (const {values} of series) for (const value of values) if (value !== null) { low = Math.min(low, value); high = Math.max(high, value); }
  const room = (high - low) * 0.08;
  if (low < 0 || least[0] < 0) low -= room;
  high += room;
  const written = (value) => text(value, high - low);
  const plot = new Plot(id, 150, (ctx) => {
    const top = 14, yOf = (value) => top + (plot.bottom - top - 4) * (1 - (value - low) / (high - low));
    const step = niceStep((high - low) / 4);
    for (let value = Math.ceil(low / step) * step; value <= high; value += step) gridLine(ctx, plot, yOf(value), written(value));
    plot.clip(() => {
      plot.veils();
      for (const one of series) drawSeries(ctx, plot, one, yOf, pause);
    });
  }, {
    hover: (x) => {
      if (x < plot.left) return null;
      const us = plot.at(x);
      return [moment(us), ...series.map(({node, t, values}) => {
        let i = firstFrom(t, us + 1) - 1;
        while (i >= 0 && values[i] === null) i--;
        return i >= 0 && `${node} ${least[0] < 0 && values[i] > 0 ? '+' : ''}${written(values[i])}`;
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

// Samples in view, and those just outside; two a pixel are enough: the least and the most.
function drawSeries(ctx, plot, {node, t, values}, yOf, pause) {
  const n = nodeNumber(node);
  ctx.strokeStyle = ctx.fillStyle = paints[`n${n % 8}`];
  ctx.lineWidth = 1.6;
  ctx.beginPath();
  const first = Math.max(0, firstFrom(t, view.a) - 1), last = Math.min(t.length, firstFrom(t, view.b) + 1);
  let on = false, pixel = -Infinity, low = 0, high = 0;
  for (let i = first; i < last; i++) {
    if (values[i] === null) { on = false; continue; }
    const x = plot.x(t[i]), y = yOf(values[i]);
    const gone = i > 0 && t[i] - t[i - 1] > pause;   // no reading while it was down
    if (on && !gone && Math.floor(x) === pixel && y >= low && y <= high) continue;
    if (Math.floor(x) !== pixel) { low = high = y; pixel = Math.floor(x); }
    low = Math.min(low, y);
    high = Math.max(high, y);
    if (on && !gone) ctx.lineTo(x, y); else ctx.moveTo(x, y);
    on = true;
  }
  ctx.stroke();
  let next = -Infinity;
  for (let i = first; i < last; i++) {
    const x = plot.x(t[i]);
    if (values[i] === null || x < next) continue;
    next = x + 40;
    sign(ctx, n, x, yOf(values[i]));
  }
}

function nodesLegend(id, nodes) {
  document.getElementById(id)?.append(...nodes.map((node) => element('span', '', nodeMark(node), node)));
}

// Clocks

for (const [id, field] of [['wall', 'wall'], ['mono', 'mono']]) {
  const series = Object.entries(data.clocks).map(([node, samples]) => ({node, t: samples.t, values: samples[field]}))
    .filter(({values}) => values.some((ms) => ms !== null));
  const text = (ms, range) => Math.abs(range) > 4000 ? `${+(ms / 1000).toFixed(2)} s` : `${+ms.toFixed(1)} ms`;
  if (document.getElementById(id)) linesPlot(id, series, text, {least: [-0.5, 0.5]});
}
nodesLegend('clock-legend', Object.keys(data.clocks));

// Resources: each with a picture, if any node has a reading of it

const bytes = (n) => {
  for (const [unit, size] of [['GiB', 2 ** 30], ['MiB', 2 ** 20], ['KiB', 2 ** 10]]) if (n >= size) return `${+(n / size).toPrecision(3)} ${unit}`;
  return `${Math.round(n)} B`;
};
const RESOURCES = {
  cpu: [(percent) => `${+percent.toPrecision(3)} %`, 1],
  rss: [bytes, 2 ** 20],
  fds: [(n) => count(Math.round(n)), 8],
  disk: [bytes, 2 ** 10],
};
{
  const nodes = Object.entries(data.resources ?? {});
  for (const [name, [text, high]] of Object.entries(RESOURCES)) {
    const series = nodes.map(([node, samples]) => ({node, t: samples.t, values: samples[name] ?? []}))
      .filter(({values}) => values.some((value) => value !== null));
    if (!series.length) continue;
    document.getElementById('resources').hidden = false;
    document.getElementById(`resource-${name}`).hidden = false;
    linesPlot(name, series, text, {least: [0, high], pause: Math.max(2.5e6, END / 100)});
  }
  nodesLegend('resource-legend', nodes.map(([node]) => node));
}
