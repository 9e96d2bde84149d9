// The data, the span of time in view, and what every plot does alike.
//
// All plots show the same span. A plot registers its `draw`; whoever changes the span
// or the cursor calls `show` or `point`, and everything is drawn once per frame.
//
// `calls` has a typed array for each property of operations, in order of invocation:
// `calls.start[c]` and `calls.took[c]` in us (-1: never returned), `calls.outcome[c]` as
// in OUTCOMES, `lane`, `process`, `node` (position in data.nodes), and `f`, `key`, `text`
// and `error`, whose strings `str` gives. There may be a million: whatever is done for
// each of them is done once, or on a filter's change, and never in a frame. A frame's
// work is bounded by its pixels; `byLane` and `byEnd` find what is in view.

const data = JSON.parse(document.getElementById('run').textContent);
const OUTCOMES = ['ok', 'fail', 'info'];
const FAULT_CLASSES = ['network', 'kill', 'pause', 'clock', 'disk', 'other'];
const END = Math.max(data.end, 1000);

// The packed columns, as packing.py lays them out: raw DEFLATE in base64; the numbers of
// a column in planes, lowest bytes first; strings with a NUL between them.
const bulk = await (async () => {
  if (typeof DecompressionStream === 'undefined') {
    document.getElementById('timeline').append(element('p', 'The pictures need a browser of 2023 or later.'));
    throw new Error('no DecompressionStream');
  }
  const text = atob(document.getElementById('packed').textContent);
  const packed = new Uint8Array(text.length);
  for (let i = 0; i < packed.length; i++) packed[i] = text.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('deflate-raw'));
  const raw = new Uint8Array(await new Response(stream).arrayBuffer());
  const found = {};
  let at = 0;
  for (const {name, bytes, low, planes} of data.bulk) {
    found[name] = planes === undefined ? new TextDecoder().decode(raw.subarray(at, at + bytes)).split('\0')
      : unpack(raw.subarray(at, at + bytes), low, planes);
    at += bytes;
  }
  return found;
})();

function unpack(bytes, low, planes) {
  const size = bytes.length / planes, out = new Float64Array(size).fill(low);
  for (let plane = 0, unit = 1; plane < planes; plane++, unit *= 256) {
    for (let i = 0, at = plane * size; i < size; i++, at++) out[i] += bytes[at] * unit;
  }
  return out;
}

const calls = (() => {
  const sums = (steps) => {
    for (let i = 1; i < steps.length; i++) steps[i] += steps[i - 1];
    return steps;
  };
  return {
    size: bulk.start.length,
    index: sums(bulk.index),
    start: sums(bulk.start),
    took: bulk.took,          // us; -1: never returned
    outcome: Uint8Array.from(bulk.outcome),
    lane: Uint16Array.from(bulk.lane),
    process: bulk.process,
    node: Int16Array.from(bulk.node),
    f: Int32Array.from(bulk.f),
    key: Int32Array.from(bulk.key),
    text: Int32Array.from(bulk.text),
    error: Int32Array.from(bulk.error),
  };
})();
const callEnd = (i) => calls.took[i] < 0 ? END : calls.start[i] + calls.took[i];
const str = (position) => bulk.strings[position];

for (const fault of data.faults) {
  if (fault.t1 === null) fault.t1 = fault.applied ? END : fault.t0;
}

// Writing

function took(us) {
  if (us < 0) return 'never returned';
  if (us < 1e3) return `${Math.round(us)} µs`;
  if (us < 1e6) return `${(us / 1e3).toPrecision(3)} ms`;
  return `${(us / 1e6).toPrecision(3)} s`;
}
const moment = (us) => `${(us / 1e6).toFixed(3)} s`;
const count = (n) => n.toLocaleString('en');

function element(tag, text, ...children) {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

// Colours and patterns, taken from the style sheet so that they follow the scheme

let paints = {};
function readPaints() {
  const style = getComputedStyle(document.documentElement);
  paints = {};
  for (const name of ['card', 'ink', 'soft', 'line', 'inset', 'accent', 'ok', 'fail', 'info', 'anomaly', ...FAULT_CLASSES, 'n0', 'n1', 'n2', 'n3', 'n4', 'n5', 'n6', 'n7']) {
    paints[name] = style.getPropertyValue(`--${name}`).trim();
  }
  paints.sans = style.getPropertyValue('--sans');
  paints.mono = style.getPropertyValue('--mono');
}

const patterns = new Map();
function pattern(ctx, name) {
  const id = `${name} ${paints[name]} ${devicePixelRatio}`;
  if (patterns.has(id)) return patterns.get(id);
  const tile = document.createElement('canvas');
  const size = tile.width = tile.height = 8;
  const t = tile.getContext('2d');
  t.fillStyle = t.strokeStyle = paints[name];
  t.globalAlpha = name === 'kill' ? 0.85 : 0.3;
  t.fillRect(0, 0, size, size);
  t.globalAlpha = 1;
  t.lineWidth = 2;
  if (name === 'network' || name === 'info') {
    for (const shift of [-8, 0, 8]) { t.moveTo(shift, 8); t.lineTo(shift + 8, 0); }
    t.stroke();
  } else if (name === 'pause') t.fillRect(0, 0, 3, 8);
  else if (name === 'disk') t.fillRect(0, 0, 8, 3);
  else if (name === 'clock') { t.arc(4, 4, 2, 0, 7); t.fill(); }
  const made = ctx.createPattern(tile, 'repeat');
  patterns.set(id, made);
  return made;
}

// The span in view and the cursor

// `a` and `b` are moments, `from` and `to` their places on the axis.
const view = {a: 0, b: END, from: 0, to: END, cursor: null};
let axis = new Axis(END, []);
const watchers = [];   // called after each frame
const overlays = [];   // draw on each plot with an axis, above what it shows
const plots = [];
let scheduled = false;

function redraw() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    for (const plot of plots) plot.paint();
    for (const watcher of watchers) watcher();
  });
}

function showPlaces(from, to) {
  const width = Math.min(Math.max(to - from, 50), axis.length * 1.02);
  const low = -axis.length * 0.01;
  view.from = Math.max(Math.min(Math.max(from, low), axis.length * 1.01 - width), low);
  view.to = view.from + width;
  view.a = axis.moment(view.from);
  view.b = axis.moment(view.to);
  redraw();
}
const show = (a, b) => showPlaces(axis.place(a), axis.place(b));
const showAll = () => showPlaces(-axis.length * 0.01, axis.length * 1.01);
const showsAll = () => view.to - view.from > axis.length * 1.019;
function zoom(factor, at = axis.moment((view.from + view.to) / 2)) {
  const place = axis.place(at);
  showPlaces(place - (place - view.from) * factor, place + (view.to - place) * factor);
}
const pan = (share) => showPlaces(view.from + (view.to - view.from) * share, view.to + (view.to - view.from) * share);
// The same span with a moment in it, if it isn't; in the middle, then.
function reveal(us) {
  if (us >= view.a && us <= view.b) return;
  const half = (view.to - view.from) / 2, place = axis.place(us);
  showPlaces(place - half, place + half);
}
// An anomaly or a fault, with room around it.
function showAround(a, b) {
  const room = Math.max((b - a) * 0.15, 2000);
  show(a - room, b + room);
}

function point(us) {
  if (view.cursor === us) return;
  view.cursor = us;
  redraw();
}

// A canvas with a time axis

const gutter = () => document.body.clientWidth < 720 ? 60 : 116;
const RIGHT = 10;

class Plot {
  constructor(id, height, draw, {hover = () => null, click = () => {}, axis = true} = {}) {
    this.canvas = document.getElementById(id);
    if (!this.canvas) return;
    this.height = height;
    this.draw = draw;
    this.hover = hover;
    this.click = click;
    this.axis = axis;
    this.ctx = this.canvas.getContext('2d');
    plots.push(this);
    new ResizeObserver(redraw).observe(this.canvas);
    this.listen();
  }

  x(us) { return this.left + (axis.place(us) - view.from) * this.scale; }
  at(x) { return axis.moment(view.from + (x - this.left) / this.scale); }

  paint() {
    const {canvas, ctx} = this;
    const width = canvas.clientWidth;
    if (!width) return;
    const height = typeof this.height === 'function' ? this.height() : this.height;
    const ratio = devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.style.height = `${height}px`;
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx.clearRect(0, 0, width, height);
    ctx.font = `12px ${paints.sans}`;
    ctx.textBaseline = 'middle';
    this.left = gutter();
    this.width = Math.max(width - this.left - RIGHT, 10);
    this.right = this.left + this.width;
    this.bottom = height - (this.axis ? 20 : 0);
    this.scale = this.width / (view.to - view.from);   // of the axis, so not in gaps
    if (this.axis) this.drawAxis();
    this.draw(ctx, this);
    if (!this.axis) return;
    this.drawBreaks();
    for (const overlay of overlays) overlay(ctx, this);
    if (view.cursor !== null) {
      const x = this.x(view.cursor);
      if (x >= this.left && x <= this.right) {
        ctx.fillStyle = paints.soft;
        ctx.fillRect(Math.round(x), 0, 1, this.bottom);
      }
    }
  }

  clip(body) {
    this.ctx.save();
    this.ctx.beginPath();
    this.ctx.rect(this.left, 0, this.width, this.bottom);
    this.ctx.clip();
    body();
    this.ctx.restore();
  }

  drawAxis() {
    const {ctx} = this;
    ctx.textAlign = 'center';
    for (const {x, text} of ticksOf(axis, view.a, view.b, (us) => this.x(us))) {
      ctx.fillStyle = paints.line;
      ctx.fillRect(Math.round(x), 0, 1, this.bottom);
      ctx.fillStyle = paints.soft;
      if (text && x < this.right - 14) ctx.fillText(text, Math.round(x), this.bottom + 12);
    }
  }

  // Where the axis is broken: two jagged lines, and how long what is left out lasts.
  drawBreaks() {
    const {ctx} = this;
    for (const [a, b, gap] of axis.within(view.a, view.b)) {
      const from = this.x(a), to = this.x(b);
      if (!gap || to - from > 240) continue;
      ctx.fillStyle = paints.inset;
      ctx.globalAlpha = 0.85;
      ctx.fillRect(from, 0, to - from, this.bottom);
      ctx.globalAlpha = 1;
      ctx.strokeStyle = paints.soft;
      ctx.lineWidth = 1;
      ctx.beginPath();
      for (const x of [from, to]) {
        for (let y = 0; y <= this.bottom; y += 5) ctx.lineTo(x + (y / 5 % 2 ? 2 : -2), y);
        ctx.moveTo(to - 2, 0);
      }
      ctx.stroke();
      ctx.fillStyle = paints.soft;
      ctx.textAlign = 'center';
      ctx.fillText(`// ${took(b - a)}`, (from + to) / 2, this.bottom + 12);
    }
  }

  // Faint bands of all faults, behind what is plotted.
  veils(strip = true) {
    const {ctx} = this;
    for (const fault of data.faults) {
      if (fault.t1 < view.a || fault.t0 > view.b) continue;
      const x = this.x(fault.t0), w = Math.max(this.x(fault.t1) - x, 1);
      ctx.globalAlpha = 0.07;
      ctx.fillStyle = paints[fault.class];
      ctx.fillRect(x, 0, w, this.bottom);
      ctx.globalAlpha = 1;
      if (strip) ctx.fillRect(x, FAULT_CLASSES.indexOf(fault.class) * 2, w, 2);
    }
  }

  label(text, y, colour = paints.soft) {
    this.ctx.fillStyle = colour;
    this.ctx.textAlign = 'right';
    this.ctx.fillText(fit(this.ctx, text, this.left - 12), this.left - 8, y);
  }

  listen() {
    const {canvas} = this;
    let from = null;
    canvas.addEventListener('pointerdown', (event) => {
      if (event.button) return;
      from = {x: event.offsetX, from: view.from, to: view.to, moved: false, pick: event.shiftKey};
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener('pointermove', (event) => {
      if (from) {
        const moved = event.offsetX - from.x;
        if (Math.abs(moved) > 3) from.moved = true;
        if (from.moved && !from.pick) showPlaces(from.from - moved / this.scale, from.to - moved / this.scale);
      }
      point(this.at(event.offsetX));
      tip(from && from.moved ? null : this.hover(event.offsetX, event.offsetY), event);
    });
    canvas.addEventListener('pointerup', (event) => {
      if (from && from.pick && from.moved) {
        const a = this.at(from.x), b = this.at(event.offsetX);
        show(Math.min(a, b), Math.max(a, b));
      } else if (from && from.pick) measure(this.at(event.offsetX));
      else if (from && !from.moved) this.click(event.offsetX, event.offsetY);
      from = null;
    });
    canvas.addEventListener('pointercancel', () => { from = null; });
    canvas.addEventListener('pointerleave', () => { tip(null); point(null); });
    canvas.addEventListener('dblclick', (event) => zoom(0.4, this.at(event.offsetX)));
    canvas.addEventListener('wheel', (event) => {
      const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY);
      if (!sideways && !event.ctrlKey && !event.metaKey && document.activeElement !== canvas) return;
      event.preventDefault();
      if (sideways) pan(event.deltaX / this.width);
      else zoom(Math.exp(Math.max(-60, Math.min(60, event.deltaY)) * 0.004), this.at(event.offsetX));
    }, {passive: false});
    canvas.addEventListener('keydown', pressed);
  }
}

function fit(ctx, text, room) {
  if (ctx.measureText(text).width <= room) return text;
  let keep = text.length;
  while (keep > 1 && ctx.measureText(text.slice(0, keep) + '…').width > room) keep -= Math.max(1, keep >> 3);
  return keep > 1 ? text.slice(0, keep) + '…' : '';
}

// The tooltip: the first line stands out; text only, never markup

const tipBox = document.getElementById('tip');
function tip(lines, event) {
  tipBox.hidden = !lines;
  if (!lines) return;
  const [head, ...rest] = lines;
  tipBox.replaceChildren(element('b', head), ...rest.filter(Boolean).map((line) => element('span', line)));
  const box = tipBox.getBoundingClientRect();
  const x = event.clientX + 14, y = event.clientY + 16;
  tipBox.style.left = `${Math.max(4, Math.min(x, innerWidth - box.width - 8))}px`;
  tipBox.style.top = `${y + box.height > innerHeight ? event.clientY - box.height - 12 : y}px`;
}
