// Put into each page before its own scripts: see browser.py.

(() => {
  window.breaches = [];
  window.boom = () => window.breaches.push('a script of a hostile string ran');
  document.addEventListener('securitypolicyviolation', (event) =>
    window.breaches.push(`${event.violatedDirective}: ${event.blockedURI}`));
  const drawn = new WeakMap(), clips = new WeakMap();
  const texts = (canvas) => drawn.get(canvas) ?? drawn.set(canvas, []).get(canvas);
  window.drawn = (canvas) => texts(canvas);
  const proto = CanvasRenderingContext2D.prototype;
  const around = (name, also) => {
    const real = proto[name];
    proto[name] = function (...given) { also.call(this, ...given); return real.apply(this, given); };
  };
  const state = (ctx) => clips.get(ctx) ?? clips.set(ctx, {stack: [], now: null, rect: null}).get(ctx);
  const box = (ctx, x, y, w, h) => {
    const m = ctx.getTransform(), ratio = devicePixelRatio || 1;
    return {x: (m.e + m.a * x) / ratio, y: (m.f + m.d * y) / ratio, w: w * m.a / ratio, h: h * m.d / ratio};
  };
  around('save', function () { const s = state(this); s.stack.push(s.now); });
  around('restore', function () { const s = state(this); s.now = s.stack.pop() ?? null; });
  around('rect', function (x, y, w, h) { state(this).rect = box(this, x, y, w, h); });
  around('clip', function () { const s = state(this); s.now = s.rect; });
  around('clearRect', function (x, y) { if (x === 0 && y === 0) drawn.set(this.canvas, []); });
  around('fillText', function (text, x, y) {
    if (!text || !this.canvas.id) return;
    const wide = this.measureText(text).width, tall = parseFloat(/([0-9.]+)px/.exec(this.font)[1]);
    const left = {center: x - wide / 2, right: x - wide, end: x - wide}[this.textAlign] ?? x;
    const top = {middle: y - tall / 2, top: y}[this.textBaseline] ?? y - tall;
    const at = box(this, left, top, wide, tall), clip = state(this).now;
    let {x: a, y: b, w, h} = at;
    if (clip) {
      const right = Math.min(a + w, clip.x + clip.w), bottom = Math.min(b + h, clip.y + clip.h);
      a = Math.max(a, clip.x); b = Math.max(b, clip.y); w = right - a; h = bottom - b;
    }
    if (w > 0 && h > 0) texts(this.canvas).push({text, x: a, y: b, w, h});
  });
  for (const side of ['width', 'height']) {
    const {get, set} = Object.getOwnPropertyDescriptor(HTMLCanvasElement.prototype, side);
    Object.defineProperty(HTMLCanvasElement.prototype, side, {
      get, set(size) { drawn.set(this, []); set.call(this, size); },
    });
  }

  window.twoFrames = () => new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)));

  // Scrolls until an element is in the window; says where it is then.
  window.bring = (element) => {
    const box = () => element.getBoundingClientRect();
    if (box().top < 60 || box().bottom > innerHeight) element.scrollIntoView({block: 'center'});
    return {x: box().x, y: box().y};
  };

  // Folded parts of the page whose content is not shown.
  window.closedDetails = () => [...document.querySelectorAll('main details > :not(summary)')]
    .filter((part) => !part.checkVisibility() && !part.closest('[hidden]') && !part.matches('.button, :has(> .button)')).map((part) => part.textContent.slice(0, 60));

  // Parts of tables and texts beyond the right edge, or cut there by what is around them.
  window.cutOff = () => [...document.querySelectorAll('main td, main th, main pre, main dd, main p')]
    .filter((part) => part.checkVisibility() && !part.closest('.stacked thead')
      && (part.getBoundingClientRect().right > innerWidth + 1 || part.scrollWidth > part.clientWidth + 2 && getComputedStyle(part).display !== 'inline'))
    .map((part) => `${part.tagName} ${part.textContent.trim().slice(0, 60)}`).slice(0, 20);

  // Pairs of texts that cover each other.
  window.overlaps = () => {
    const boxes = [];
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node; (node = walk.nextNode());) {
      const text = node.data.trim(), parent = node.parentElement;
      if (!text || parent.closest('script, style, title, select, datalist, .top, #tip')) continue;
      const style = getComputedStyle(parent);
      if (!parent.checkVisibility({visibilityProperty: true, opacityProperty: true})) continue;
      const range = document.createRange();
      range.selectNodeContents(node);
      // What an ancestor cuts off is not seen.
      let cut = {left: 0, right: innerWidth, top: -1e9, bottom: 1e9};
      for (let up = parent; up; up = up.parentElement) {
        const {clipPath, overflow} = getComputedStyle(up);
      if (clipPath !== 'none') cut = {left: 0, right: 0, top: 0, bottom: 0};
      if (overflow === 'visible') continue;
        const box = up.getBoundingClientRect();
        cut = {left: Math.max(cut.left, box.left), right: Math.min(cut.right, box.right),
          top: Math.max(cut.top, box.top), bottom: Math.min(cut.bottom, box.bottom)};
      }
      for (const rect of range.getClientRects()) {
        const left = Math.max(rect.left, cut.left), right = Math.min(rect.right, cut.right);
        const top = Math.max(rect.top, cut.top), bottom = Math.min(rect.bottom, cut.bottom);
        // A line's box is taller than its letters.
        const spare = (bottom - top) * 0.22;
        if (right > left && bottom > top) boxes.push({text, parent, left, right, top: top + spare, bottom: bottom - spare});
      }
    }
    boxes.sort((a, b) => a.top - b.top);
    const found = [];
    for (let i = 0; i < boxes.length && found.length < 20; i++) {
      for (let j = i + 1; j < boxes.length && boxes[j].top < boxes[i].bottom - 1; j++) {
        const a = boxes[i], b = boxes[j];
        if (a.parent === b.parent || a.parent.contains(b.parent) && a.parent.tagName === 'text') continue;
        const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        if (across > 2) found.push(`${a.text.slice(0, 60)} | ${b.text.slice(0, 60)}`);
      }
    }
    return found;
  };

  // What has the keyboard's focus, and whether one sees so.
  window.focused = () => {
    const at = document.activeElement, box = at.getBoundingClientRect(), style = getComputedStyle(at);
    const all = [...document.querySelectorAll('*')];
    const header = at.closest('.top') ? 0 : document.querySelector('.top')?.offsetHeight ?? 0;
    return {
      tag: at.tagName.toLowerCase(), order: all.indexOf(at), id: at.id,
      text: (at.getAttribute('aria-label') ?? at.textContent).trim().slice(0, 40),
      ringed: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1,
      seen: box.bottom > header && box.top < innerHeight && box.right > 0 && box.left < innerWidth,
    };
  };
})();
