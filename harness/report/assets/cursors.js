// Two cursors that measure: Shift and a click, or `m`, sets the first, then the second.

let measures = [];
function measure(us) {
  us = Math.min(END, Math.max(0, Math.round(us)));
  measures = measures.length === 2 ? [us] : [...measures, us].sort((a, b) => a - b);
  sayMeasures();
}

function setMeasures(moments) {
  measures = moments;
  sayMeasures();
}

function sayMeasures() {
  const [a, b] = measures;
  document.getElementById('measured').hidden = a === undefined;
  let text = a === undefined ? '' : `Cursor at ${moment(a)}`;
  if (b !== undefined) {
    const within = [0, 0, 0];
    for (let c = 0; c < calls.size; c++) {
      const end = calls.took[c] < 0 ? Infinity : callEnd(c);
      if (end >= a && end <= b && (!shown || shown[c])) within[calls.outcome[c]]++;
    }
    text = `${took(b - a)} from ${moment(a)} to ${moment(b)}; ended in it: ${OUTCOMES.map((name, kind) => `${count(within[kind])} ${name}`).join(', ')}`;
  }
  document.getElementById('measured-said').textContent = text;
  redraw();
}

function drawMeasures(ctx, plot) {
  if (!measures.length) return;
  const [x, y = x] = measures.map((us) => plot.x(us));
  plot.clip(() => {
    ctx.fillStyle = paints.accent;
    ctx.globalAlpha = 0.1;
    ctx.fillRect(x, 0, y - x, plot.bottom);
    ctx.globalAlpha = 1;
    for (const at of new Set([x, y])) ctx.fillRect(Math.round(at), 0, 1.5, plot.bottom);
    if (measures.length < 2) return;
    const text = took(measures[1] - measures[0]), half = ctx.measureText(text).width / 2 + 4;
    const middle = Math.min(Math.max((Math.max(x, plot.left) + Math.min(y, plot.right)) / 2, plot.left + half), plot.right - half);
    ctx.fillRect(middle - half, plot.bottom - 17, 2 * half, 16);
    ctx.fillStyle = paints.card;
    ctx.textAlign = 'center';
    ctx.fillText(text, middle, plot.bottom - 9);
  });
}

// The cursor by keys: a hundredth of what is shown.
function moveCursor(by) {
  const from = view.cursor ?? (view.a + view.b) / 2;
  const place = Math.min(view.to, Math.max(view.from, axis.place(from) + by * (view.to - view.from)));
  point(axis.moment(place));
  say(moment(view.cursor));
}

document.getElementById('measured-zoom').addEventListener('click', () => {
  if (measures.length === 2) showAround(...measures); else reveal(measures[0]);
});
document.getElementById('measured-clear').addEventListener('click', () => setMeasures([]));
overlays.push(drawMeasures);
