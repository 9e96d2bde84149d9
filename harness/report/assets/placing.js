// Places for labels in a row, so that none covers another.

// `labels` have `x`, where they begin, a `width` and a `text`. Labels that would touch the
// one before join it: the group stands where its first one would, and its text names the
// first and the last. `measure` gives a text's width.
function joined(labels, gap, measure) {
  const groups = [];
  for (const label of [...labels].sort((a, b) => a.x - b.x)) {
    const last = groups[groups.length - 1];
    if (last && label.x < last.x + last.width + gap) {
      last.members.push(label);
      const texts = last.members.map((one) => one.text);
      last.text = texts.length === 2 ? texts.join(' ') : `${texts[0]} … ${texts[texts.length - 1]}`;
      last.width = measure(last.text);
    } else groups.push({x: label.x, text: label.text, width: measure(label.text), members: [label]});
  }
  return groups;
}

// How much room each of `bands` (with `x`, `right` and `row`) has for a title before the
// next one of its row begins, from `left` to `right` of the picture.
function roomForTitles(bands, left, right) {
  const free = new Map();
  const rooms = new Array(bands.length);
  const order = bands.map((_, i) => i).sort((i, j) => bands[j].x - bands[i].x);
  for (const i of order) {
    const {x, row} = bands[i];
    const end = Math.min(bands[i].right, right, free.get(row) ?? Infinity);
    rooms[i] = Math.max(0, end - Math.max(x, left));
    free.set(row, x);
  }
  return rooms;
}

// Spans of [t0, t1] in as few of `most` rows as keep them apart; what doesn't fit goes
// where it is free the soonest. Returns the row of each.
function rowsFor(spans, most) {
  const free = [];
  const rows = new Array(spans.length);
  const order = spans.map((_, i) => i).sort((i, j) => spans[i][0] - spans[j][0]);
  for (const i of order) {
    const [from, to] = spans[i];
    let row = free.findIndex((end) => end <= from);
    if (row < 0 && free.length < most) row = free.push(0) - 1;
    if (row < 0) row = free.indexOf(Math.min(...free));
    free[row] = Math.max(to, free[row]);
    rows[i] = row;
  }
  return rows;
}
