// The whole run small, with a window where the other plots look: it can be dragged, and
// so can its ends; arrow keys move it, with Shift they resize it.

const minimap = (() => {
  const canvas = document.getElementById('overview');
  const ctx = canvas.getContext('2d');
  const HEIGHT = 46, GRIP = 7;
  let left, width;
  const x = (us) => left + width * axis.place(us) / axis.length;
  const placeAt = (pixel) => (pixel - left) / width * axis.length;
  const window = () => [Math.max(left, x(view.a)), Math.min(left + width, x(view.b))];

  function paint() {
    const w = canvas.clientWidth, ratio = devicePixelRatio || 1;
    if (!w) return;
    canvas.style.height = `${HEIGHT}px`;
    if (canvas.width !== Math.round(w * ratio)) canvas.width = Math.round(w * ratio);
    canvas.height = Math.round(HEIGHT * ratio);
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    left = gutter();
    width = w - left - RIGHT;
    ctx.fillStyle = paints.inset;
    ctx.fillRect(left, 0, width, HEIGHT);
    ctx.fillStyle = paints.ok;
    ctx.globalAlpha = 0.5;
    rates.ok.forEach((rate, bin) => {
      const tall = (HEIGHT - 16) * rate / okTop, from = x(bin * rates.width);
      ctx.fillRect(from, HEIGHT - tall, x((bin + 1) * rates.width) - from + 0.5, tall);
    });
    ctx.globalAlpha = 1;
    for (const fault of data.faults) {
      ctx.fillStyle = paints[fault.class];
      ctx.fillRect(x(fault.t0), FAULT_CLASSES.indexOf(fault.class) * 2, Math.max(1.5, x(fault.t1) - x(fault.t0)), 2);
    }
    ctx.fillStyle = paints.anomaly;
    for (const anomaly of data.anomalies) for (const c of anomaly.calls) ctx.fillRect(x(calls.start[c]) - 1, 12, 2, HEIGHT - 12);
    ctx.fillStyle = paints.accent;
    for (const us of measures) ctx.fillRect(x(us), 0, 1, HEIGHT);
    ctx.fillStyle = paints.soft;
    for (const [a, b] of axis.gaps) {
      ctx.textAlign = 'center';
      ctx.font = `11px ${paints.sans}`;
      ctx.fillText('//', (x(a) + x(b)) / 2, HEIGHT / 2 + 4);
    }
    const [a, b] = window();
    ctx.fillStyle = paints.card;
    ctx.globalAlpha = 0.65;
    ctx.fillRect(left, 0, a - left, HEIGHT);
    ctx.fillRect(b, 0, left + width - b, HEIGHT);
    ctx.globalAlpha = 1;
    ctx.strokeStyle = ctx.fillStyle = paints.accent;
    ctx.lineWidth = 1.5;
    ctx.strokeRect(a + 0.75, 0.75, Math.max(2, b - a - 1.5), HEIGHT - 1.5);
    for (const end of [a, b]) ctx.fillRect(end - 2, HEIGHT / 2 - 7, 4, 14);
  }

  // What of the window is at a pixel: one of its ends, all of it, or nothing.
  function partAt(pixel) {
    const [a, b] = window(), grip = Math.min(GRIP, Math.max(2, (b - a) / 4));
    if (Math.abs(pixel - a) <= GRIP && pixel < a + grip) return 'from';
    if (Math.abs(pixel - b) <= GRIP && pixel > b - grip) return 'to';
    return pixel > a && pixel < b ? 'all' : 'none';
  }

  let held = null;
  canvas.addEventListener('pointerdown', (event) => {
    if (event.button) return;
    let part = partAt(event.offsetX);
    if (part === 'none') {
      const half = (view.to - view.from) / 2, place = placeAt(event.offsetX);
      showPlaces(place - half, place + half);
      part = 'all';
    }
    held = {part, place: placeAt(event.offsetX), from: view.from, to: view.to};
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener('pointermove', (event) => {
    if (!held) {
      canvas.style.cursor = {from: 'ew-resize', to: 'ew-resize', all: 'grab', none: 'pointer'}[partAt(event.offsetX)];
      return;
    }
    const moved = placeAt(event.offsetX) - held.place;
    if (held.part === 'all') showPlaces(held.from + moved, held.to + moved);
    else {
      const ends = held.part === 'from' ? [held.from + moved, held.to] : [held.from, held.to + moved];
      showPlaces(Math.min(...ends), Math.max(...ends));
    }
  });
  for (const type of ['pointerup', 'pointercancel']) canvas.addEventListener(type, () => { held = null; });
  canvas.addEventListener('keydown', (event) => {
    const by = {ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1}[event.key];
    if (!by || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    if (event.shiftKey) showPlaces(view.from, view.to + by * (view.to - view.from) * 0.1);
    else pan(by * 0.1);
  });
  watchers.push(() => {
    canvas.setAttribute('aria-valuemin', '0');
    canvas.setAttribute('aria-valuemax', seconds(END));
    canvas.setAttribute('aria-valuenow', seconds(Math.min(END, Math.max(0, (view.a + view.b) / 2))));
    canvas.setAttribute('aria-valuetext', `${moment(Math.max(0, view.a))} to ${moment(Math.min(END, view.b))}`);
  });
  new ResizeObserver(redraw).observe(canvas);
  plots.push({paint});
})();
