// The axis of time. Where nothing happens for long, it is shortened: places on the axis
// are us like moments of the run, but a gap takes only a small share of what is busy.

const GAP_SHARE = 0.2;      // of the run: what is quiet for longer is shortened
const GAP_ROOM = 0.05;      // of the busy time: what a gap is shortened to
const EVENTS_MIN = 20;      // fewer are all there is to see: nothing is shortened
const BUCKETS = 1024;

// Finds the quiet spans of a run: all that happens is added, in any order.
class Busy {
  constructor(end) {
    this.end = end;
    this.events = 0;
    this.first = new Float64Array(BUCKETS).fill(Infinity);
    this.last = new Float64Array(BUCKETS).fill(-Infinity);
  }

  add(us) {
    const bucket = Math.min(BUCKETS - 1, Math.max(0, Math.floor(us / this.end * BUCKETS)));
    if (us < this.first[bucket]) this.first[bucket] = us;
    if (us > this.last[bucket]) this.last[bucket] = us;
    this.events++;
  }

  // [from, to] of each span longer than GAP_SHARE, with some room left at its ends.
  gaps() {
    if (this.events < EVENTS_MIN) return [];
    const found = [];
    let last = 0;
    const look = (next) => {
      if (next - last > GAP_SHARE * this.end) found.push([last, next]);
    };
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      if (this.first[bucket] === Infinity) continue;
      look(this.first[bucket]);
      last = Math.max(last, this.last[bucket]);
    }
    look(this.end);
    const busy = this.end - found.reduce((sum, [a, b]) => sum + b - a, 0);
    return found.map(([a, b]) => {
      const room = Math.min((b - a) * 0.05, busy * 0.01);
      return [a + room, b - room];
    });
  }
}

// From moments to places and back. Pieces follow each other; in each, `rate` places pass
// in a us. The first also holds what is before the run, the last what is after it.
class Axis {
  constructor(end, gaps) {
    this.gaps = gaps;
    const busy = end - gaps.reduce((sum, [a, b]) => sum + b - a, 0);
    const room = Math.max(busy, end / 1000) * GAP_ROOM;
    this.pieces = [{us: 0, place: 0, rate: 1, gap: false}];
    for (const [a, b] of gaps) {
      const from = this.place(a);
      this.pieces.push({us: a, place: from, rate: Math.min(1, room / (b - a)), gap: true});
      this.pieces.push({us: b, place: this.place(b), rate: 1, gap: false});
    }
    this.length = this.place(end);
  }

  place(us) {
    const {pieces} = this;
    let i = pieces.length - 1;
    while (i > 0 && pieces[i].us > us) i--;
    return pieces[i].place + (us - pieces[i].us) * pieces[i].rate;
  }

  moment(place) {
    const {pieces} = this;
    let i = pieces.length - 1;
    while (i > 0 && pieces[i].place > place) i--;
    return pieces[i].us + (place - pieces[i].place) / pieces[i].rate;
  }

  // The pieces that overlap a span, as [from, to, whether it is a gap].
  within(a, b) {
    const found = [];
    this.pieces.forEach(({us, gap}, i) => {
      const from = i ? Math.max(a, us) : a, to = i + 1 < this.pieces.length ? Math.min(b, this.pieces[i + 1].us) : b;
      if (from < to) found.push([from, to, gap]);
    });
    return found;
  }
}

function niceStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  for (const m of [1, 2, 5, 10]) if (rough <= m * power) return m * power;
  return 10 * power;
}

// Moments to write at the axis, as {x, us, text}: about 90 px apart, and none so near to
// the one before that they would touch. `x` gives a moment's pixel; `label` is false for
// the ticks between.
function ticksOf(axis, a, b, x) {
  const found = [];
  let free = -Infinity;
  for (const [from, to, gap] of axis.within(a, b)) {
    const pixels = x(to) - x(from);
    if (gap && pixels < 240) { free = Math.max(free, x(to) + 30); continue; }
    const step = niceStep((to - from) / Math.max(1, pixels / 90));
    const digits = Math.max(0, Math.ceil(-Math.log10(step / 1e6) - 1e-9));
    for (let n = Math.ceil(from / step); n * step <= to; n++) {
      const us = n * step, at = x(us);
      const text = at >= free ? `${(us / 1e6).toFixed(digits)} s` : '';
      if (text) free = at + 8 * text.length + 12;
      found.push({x: at, us, text});
    }
  }
  return found;
}
