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
  const roles = new Map();
  for (const span of [...rolesOf.values()].flat()) roles.set(span.class, new Set([...(roles.get(span.class) ?? []), span.role]));
  for (const [name, words] of roles) legend.append(entry(`swatch role-${name}`, [...words].slice(0, 4).join(', ')));
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
  for (const name of ['key', 'process', 'time']) {
    const input = document.getElementById(`filter-${name}`);
    input.addEventListener('input', () => { filter[name] = input.value.trim(); applyFilter(); });
  }
  for (const box of document.querySelectorAll('[data-outcome]')) {
    box.addEventListener('change', () => { filter.outcomes[box.dataset.outcome] = box.checked; applyFilter(); });
  }
}

// Quiet spans: shortened, unless true scale is asked for
{
  const busy = new Busy(END);
  for (let c = 0; c < calls.size; c++) {
    busy.add(calls.start[c]);
    if (calls.took[c] >= 0) busy.add(callEnd(c));
  }
  for (const fault of data.faults) { busy.add(fault.t0); busy.add(fault.t1); }
  for (const {t} of data.notes) busy.add(t);
  for (const spans of rolesOf.values()) for (const {t} of spans) busy.add(t);
  const gaps = busy.gaps(), box = document.getElementById('true-scale');
  const set = () => {
    const {a, b} = view, all = showsAll();
    axis = new Axis(END, box.checked ? [] : gaps);
    if (all) showAll(); else show(a, b);
  };
  box.addEventListener('change', set);
  document.getElementById('true-scale-group').hidden = !gaps.length;
  axis = new Axis(END, gaps);
}

// Buttons
{
  for (const button of document.querySelectorAll('[data-do]')) button.addEventListener('click', ACTIONS[button.dataset.do]);
  for (const [what, list] of [['anomaly', data.anomalies.filter((one) => one.calls.length)], ['fault', data.faults]]) {
    for (const way of ['next', 'previous']) document.querySelector(`[data-do=${way}-${what}]`).hidden = !list.length;
  }
  for (const button of document.querySelectorAll('[data-time]')) {
    button.addEventListener('click', () => {
      showAround(button.dataset.time / 1000, button.dataset.until / 1000);
      document.getElementById('timeline').scrollIntoView({behavior: 'instant'});
    });
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

// What is wider than its place says that it scrolls, and can be scrolled by keys.
{
  const look = (part) => {
    const wide = part.scrollWidth > part.clientWidth + 2;
    if (wide === part.classList.contains('wide')) return;
    part.classList.toggle('wide', wide);
    if (wide) for (const [name, value] of [['tabindex', '0'], ['role', 'group'], ['aria-label', 'scrolls sideways']]) part.setAttribute(name, value);
    else for (const name of ['tabindex', 'role', 'aria-label']) part.removeAttribute(name);
  };
  // In a frame of its own, as the hint changes the size that was observed.
  const observer = new ResizeObserver((entries) => requestAnimationFrame(() => { for (const {target} of entries) look(target); }));
  for (const part of document.querySelectorAll('.scroll')) observer.observe(part);
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
follow();
