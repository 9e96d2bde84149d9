// The search: operations, faults, events of nodes and log lines that hold all words and
// fit all fields; how many there are, and a way from one to the next.

const hits = {text: '', query: parseQuery(''), times: new Float64Array(0), what: new Int32Array(0), others: [], at: -1};

// Everything but operations that can be found, made when first asked for.
let otherThings = null;
function things() {
  otherThings ??= [
    ...data.faults.map((fault) => ({us: fault.t0, to: fault.t1, nodes: fault.nodes, text: `${fault.title} ${fault.kind} ${fault.effect}`.toLowerCase(), said: fault.title})),
    ...data.notes.map((note) => ({us: note.t, to: note.t, nodes: note.nodes, text: `${note.title} ${note.kind}`.toLowerCase(), said: note.title})),
    ...logLines.map((line) => ({us: line.us, to: line.us, nodes: [line.node], text: line.text.toLowerCase(), said: `${line.node}: ${line.text}`})),
  ].sort((a, b) => a.us - b.us);
  return otherThings;
}

function search() {
  const {query} = hits;
  found = null;
  hits.at = -1;
  if (query.empty || query.wrong) {
    hits.times = new Float64Array(0);
    hits.what = new Int32Array(0);
    return saySearch();
  }
  const {process, node, key, f, outcome, t} = query.fields;
  const same = (column, value) => value === undefined ? null : Uint8Array.from(bulk.strings, (text) => text.toLowerCase() === value ? 1 : 0);
  const isKey = same('key', key), isF = same('f', f);
  const words = query.words.map((word) => holding(bulk.strings, word));
  found = new Uint8Array(calls.size);
  const ops = [];
  for (let c = 0; c < calls.size; c++) {
    if (shown && !shown[c]) continue;
    if (isKey && !isKey[calls.key[c]] || isF && !isF[calls.f[c]]) continue;
    if (process !== undefined && String(calls.process[c]) !== process) continue;
    if (node !== undefined && (data.nodes[calls.node[c]] ?? '').toLowerCase() !== node) continue;
    if (outcome !== undefined && OUTCOMES[calls.outcome[c]] !== outcome) continue;
    if (t && (calls.start[c] > t[1] || callEnd(c) < t[0])) continue;
    if (!words.every((has) => has[calls.text[c]] || has[calls.error[c]] || has[calls.key[c]])) continue;
    found[c] = 1;
    ops.push(c);
  }
  const ofOperations = [process, key, f, outcome].some((value) => value !== undefined);
  hits.others = ofOperations ? [] : things().filter((thing) => query.words.every((word) => thing.text.includes(word))
    && (node === undefined || thing.nodes.some((name) => name.toLowerCase() === node))
    && (!t || (thing.us <= t[1] && thing.to >= t[0])));
  merge(ops, hits.others);
  saySearch();
}

// All hits in order of time: `what` is a call, or -1 - n for other thing n.
function merge(ops, others) {
  const size = ops.length + others.length;
  hits.times = new Float64Array(size);
  hits.what = new Int32Array(size);
  for (let i = 0, o = 0, n = 0; i < size; i++) {
    const op = n === others.length || (o < ops.length && calls.start[ops[o]] <= others[n].us);
    hits.times[i] = op ? calls.start[ops[o]] : others[n].us;
    hits.what[i] = op ? ops[o++] : -1 - n++;
  }
}

function saySearch() {
  const {query, times, at} = hits;
  const place = at < 0 ? '' : `${count(at + 1)} of `;
  document.getElementById('search-said').textContent = query.wrong || (query.empty ? '' : times.length ? `${place}${count(times.length)} found` : 'nothing found');
  for (const id of ['search-previous', 'search-next']) document.getElementById(id).disabled = !times.length;
}

function lookFor(text) {
  hits.text = text;
  hits.query = parseQuery(text);
  applyFilter();
}

// The next hit, or the one before; the first is sought from the start of what is shown.
function nextHit(by) {
  const {times, what} = hits;
  if (!times.length) return;
  if (hits.at < 0) {
    const first = firstFrom(times, view.a);
    hits.at = (by > 0 ? first : first - 1 + times.length) % times.length;
  } else hits.at = (hits.at + by + times.length) % times.length;
  const us = times[hits.at];
  reveal(us);
  point(us);
  if (what[hits.at] >= 0) pin(what[hits.at]);
  else say(`${moment(us)}: ${hits.others[-1 - what[hits.at]].said}`);
  saySearch();
}

// Hits at the upper edge, one for each pixel at most; and a line where the present one is.
function drawHits(ctx, plot) {
  const {times, at} = hits;
  if (!times.length) return;
  ctx.fillStyle = paints.accent;
  for (let i = firstFrom(times, view.a); i < times.length && times[i] <= view.b;) {
    const x = plot.x(times[i]);
    ctx.fillRect(x - 0.5, 0, 1.5, 3);
    i = Math.max(i + 1, firstFrom(times, plot.at(Math.floor(x) + 1)));
  }
  if (at >= 0) ctx.fillRect(plot.x(times[at]) - 0.75, 0, 1.5, plot.bottom);
}

{
  const box = document.getElementById('search');
  let waiting = 0;
  const now = () => {
    clearTimeout(waiting);
    waiting = 0;
    if (box.value.trim() !== hits.text) lookFor(box.value.trim());
  };
  box.addEventListener('input', () => { clearTimeout(waiting); waiting = setTimeout(now, calls.size > 20_000 ? 250 : 60); });
  box.addEventListener('keydown', (event) => {
    if (event.key === 'Enter') { event.preventDefault(); now(); nextHit(event.shiftKey ? -1 : 1); }
    if (event.key === 'Escape') { event.preventDefault(); box.value = ''; now(); }
  });
  document.getElementById('search-next').addEventListener('click', () => nextHit(1));
  document.getElementById('search-previous').addEventListener('click', () => nextHit(-1));
}
