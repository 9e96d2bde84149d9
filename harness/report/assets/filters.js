// What the filters let through, and what of it stands out.

let shown = null;        // a byte for each call that is let through; null: everything
let lit = null;          // the key whose operations stand out; null: all alike
let found = null;        // a byte for each call that the search found; null: no search
const filter = {outcomes: [true, true, true], f: '', key: '', process: '', node: '', time: ''};

const faints = () => lit !== null || found !== null;
const isFaint = (c) => found ? !found[c] : lit !== null && calls.key[c] !== lit;   // a search outdoes a key

// For each lane its calls that the filters let through, in order of invocation; beside
// them, how many of those before are info, fail, and stand out, so that it is known at
// once what a run of them holds. Anew on every change of a filter.
let byLane = [];
function sortByLane() {
  const sizes = new Uint32Array(data.lanes.length);
  for (let c = 0; c < calls.size; c++) if (!shown || shown[c]) sizes[calls.lane[c]]++;
  byLane = Array.from(sizes, (size) => ({
    list: new Uint32Array(size), infos: new Uint32Array(size + 1), fails: new Uint32Array(size + 1),
    lits: faints() ? new Uint32Array(size + 1) : null, size: 0,
  }));
  for (let c = 0; c < calls.size; c++) {
    if (shown && !shown[c]) continue;
    const lane = byLane[calls.lane[c]], i = lane.size++;
    lane.list[i] = c;
    lane.infos[i + 1] = lane.infos[i] + (calls.outcome[c] === 2);
    lane.fails[i + 1] = lane.fails[i] + (calls.outcome[c] === 1);
    if (lane.lits) lane.lits[i + 1] = lane.lits[i] + !isFaint(c);
  }
}

function applyFilter() {
  const {outcomes, f, key, process, node, time} = filter;
  const span = time ? parseSpan(time) : null;
  const all = outcomes.every(Boolean) && !f && !key && !process && !node && !span;
  shown = all ? null : new Uint8Array(calls.size);
  let left = calls.size;
  if (!all) {
    left = 0;
    for (let i = 0; i < calls.size; i++) {
      if (outcomes[calls.outcome[i]] && (!f || str(calls.f[i]) === f) && (!key || str(calls.key[i]) === key)
          && (!process || String(calls.process[i]) === process) && (!node || data.nodes[calls.node[i]] === node)
          && (!span || (calls.start[i] <= span[1] && callEnd(i) >= span[0]))) {
        shown[i] = 1;
        left++;
      }
    }
  }
  const faint = lit === null || !hits.query.empty ? '' : `Other keys than ${str(lit)} are faint; Escape makes all alike. `;
  const wrong = time && !span ? `“${time}” is no time: write 12.5 or 12.5-13.1. ` : '';
  document.getElementById('filter-said').textContent = wrong + faint + (all ? '' : `${count(left)} of ${count(calls.size)} operations`);
  search();
  sortByLane();
  binByEnd();
  redraw();
}

// Index in `list` (calls in order of start) of the first call that starts after `us`;
// looked for from index `low` on, first nearby.
function after(list, us, low = 0) {
  let high = list.length;
  for (let away = 1; low + away < high; away *= 2) {
    if (calls.start[list[low + away]] > us) { high = low + away; break; }
    low += away;
  }
  while (low < high) {
    const middle = (low + high) >> 1;
    if (calls.start[list[middle]] > us) high = middle; else low = middle + 1;
  }
  return low;
}
