// Log lines of all nodes around the cursor, each in its node's colour: data.logs.

const AROUND = 14;
const logLines = (() => {
  const lines = [];
  for (const [node, {t, line, level}] of Object.entries(data.logs ?? {})) {
    t.forEach((us, i) => lines.push({us, node, text: str(line[i]), level: level[i]}));
  }
  return lines.sort((a, b) => a.us - b.us);
})();
// The lines of a node, or of all ('').
const linesByNode = new Map();
function linesOf(node) {
  if (!linesByNode.has(node)) {
    const lines = logLines.filter((line) => !node || line.node === node);
    linesByNode.set(node, {lines, times: Float64Array.from(lines, (line) => line.us)});
  }
  return linesByNode.get(node);
}
const LEVELS = ['', 'warning', 'trouble'];

// A mark for each node, of a colour and a shape.
const SIGNS = ['●', '■', '▲', '◆'];
const nodeNumber = (node) => Math.max(0, data.nodes.indexOf(node));
function nodeMark(node) {
  const n = nodeNumber(node), mark = element('i', SIGNS[n % 4]);
  mark.className = 'node-mark';
  mark.style.color = `var(--n${n % 8})`;
  return mark;
}

// The panel follows the cursor; without one, what is measured or pinned, or the last.
let logMoment = null, logShown = '';
function showLogs() {
  const panel = document.getElementById('log-panel');
  if (!logLines.length || !panel.open) return;
  logMoment = view.cursor ?? measures[0] ?? (pinned === null ? null : calls.start[pinned]) ?? logMoment ?? Math.max(0, view.a);
  const {lines, times} = linesOf(filter.node), next = firstFrom(times, logMoment);
  const from = Math.max(0, Math.min(next - AROUND / 2, lines.length - AROUND));
  const id = `${from} ${next} ${filter.node}`;
  document.getElementById('log-moment').textContent = moment(logMoment);
  if (id === logShown) return;
  logShown = id;
  document.getElementById('log-lines').replaceChildren(...lines.slice(from, from + AROUND).map((line, i) => {
    const time = element('button', moment(line.us));
    time.type = 'button';
    time.className = 'link';
    time.addEventListener('click', () => { setMeasures([line.us]); reveal(line.us); });
    const row = element('li', '', time, nodeMark(line.node), element('span', line.node), element('code', line.text));
    row.className = `${LEVELS[line.level] ?? ''} ${from + i < next ? 'before' : 'behind'}${from + i === next ? ' now' : ''}`;
    return row;
  }));
}

if (logLines.length) {
  const panel = document.getElementById('log-panel');
  panel.hidden = false;
  panel.addEventListener('toggle', () => { logShown = ''; showLogs(); });
  watchers.push(showLogs);
}
