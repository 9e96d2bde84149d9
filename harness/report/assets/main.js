// Puts it together: legends, filters, buttons, copying, and the change of scheme.

for (const part of document.querySelectorAll('.needs-script')) part.hidden = false;
readPaints();

// Legend: outcomes, then the kinds of fault that occur
{
  const legend = document.getElementById('legend');
  const entry = (css, text) => {
    const made = element('span');
    const swatch = element('span');
    swatch.className = css;
    made.append(swatch, text);
    return made;
  };
  for (const name of OUTCOMES) legend.append(entry(`outcome ${name}`, {ok: 'ok: it happened', fail: 'fail: it did not', info: 'info: nobody knows'}[name]));
  const seen = new Map();
  for (const fault of data.faults) seen.set(fault.class, new Set([...(seen.get(fault.class) ?? []), fault.kind]));
  for (const [name, kinds] of seen) legend.append(entry(`swatch fault-${name}`, [...kinds].slice(0, 4).join(', ')));
  if (data.notes.length) legend.append(element('span', '✕ node exits  ▲ node starts'));
}

// Filters
{
  const fill = (id, values, name) => {
    const select = document.getElementById(id);
    select.append(new Option('all', ''), ...values.map((value) => new Option(value, value)));
    select.addEventListener('change', () => { filter[name] = select.value; applyFilter(); });
  };
  const {compare} = new Intl.Collator('en', {numeric: true});
  const distinct = (column) => [...new Set(column)].map(str).filter(Boolean).sort(compare);
  fill('filter-f', distinct(calls.f), 'f');
  fill('filter-node', data.nodes, 'node');
  document.getElementById('keys').append(...distinct(calls.key).slice(0, 500).map((key) => new Option(key)));
  for (const name of ['key', 'process']) {
    const input = document.getElementById(`filter-${name}`);
    input.addEventListener('input', () => { filter[name] = input.value.trim(); applyFilter(); });
  }
  for (const box of document.querySelectorAll('[data-outcome]')) {
    box.addEventListener('change', () => { filter.outcomes[box.dataset.outcome] = box.checked; applyFilter(); });
  }
}

// Buttons
{
  const goto = () => document.getElementById('timeline').scrollIntoView({behavior: 'instant'});
  for (const button of document.querySelectorAll('[data-do]')) button.addEventListener('click', ACTIONS[button.dataset.do]);
  const follow = () => {
    const anomaly = /^#A(\d+)$/.exec(location.hash);
    if (anomaly) { jump(anomaly[1] - 1); goto(); }
  };
  addEventListener('hashchange', follow);
  for (const link of document.querySelectorAll('a[href^="#A"]')) link.addEventListener('click', () => { if (link.hash === location.hash) follow(); });
  queueMicrotask(follow);
  for (const button of document.querySelectorAll('[data-time]')) {
    button.addEventListener('click', () => { showAround(button.dataset.time / 1000, button.dataset.until / 1000); goto(); });
  }
  document.getElementById('jump')?.addEventListener('change', (event) => {
    if (event.target.value === '') relax(); else jump(Number(event.target.value));
  });
  for (const button of document.querySelectorAll('[data-copy]')) {
    button.addEventListener('click', async () => {
      const source = document.getElementById(button.dataset.copy);
      const before = button.textContent;
      button.textContent = await copied(source) ? 'Copied' : 'Select and copy by hand';
      setTimeout(() => { button.textContent = before; }, 1500);
    });
  }
}

async function copied(source) {
  try {
    await navigator.clipboard.writeText(source.textContent.trim());
    return true;
  } catch {
    getSelection().selectAllChildren(source);   // file:// pages may lack the clipboard
    return document.execCommand('copy');
  }
}

const repaint = () => { readPaints(); redraw(); };
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', repaint);
matchMedia('print').addEventListener('change', repaint);
applyFilter();
showAll();
