// Roles and terms of nodes, as spans in their rows: data.roles.

const LEADS = /lead|coordinat|propos|primary|master/i, SEEKS = /candidat|look|elect|synchroni|doubt/i;
const roleClass = (role) => LEADS.test(role) ? 'leads' : SEEKS.test(role) ? 'seeks' : 'follows';
const ROLE_PAINTS = {leads: 'accent', seeks: 'info', follows: 'fail'};

// The spans of each node, in order of time.
const rolesOf = new Map(data.nodes.map((node) => [node, []]));
for (const span of data.roles ?? []) rolesOf.get(span.node)?.push({...span, to: span.to ?? END, class: roleClass(span.role)});
for (const spans of rolesOf.values()) spans.sort((a, b) => a.t - b.t);
const hasRoles = [...rolesOf.values()].some((spans) => spans.length);

const roleText = ({role, term}) => term === null || term === undefined ? role : `${role} · ${term}`;

// Spans narrower than a pixel share it; who leads shows before who seeks to.
function drawRoles(ctx, plot, node, y, h) {
  let pixel = -Infinity, rank = -1;
  const ranks = ['follows', 'seeks', 'leads'];
  ctx.textAlign = 'left';
  ctx.font = `10.5px ${paints.sans}`;
  for (const span of rolesOf.get(node)) {
    if (span.to < view.a || span.t > view.b) continue;
    const x = plot.x(span.t), right = plot.x(span.to), w = right - x;
    if (w < 1 && Math.floor(x) === pixel && ranks.indexOf(span.class) <= rank) continue;
    pixel = Math.floor(x);
    rank = ranks.indexOf(span.class);
    const colour = paints[ROLE_PAINTS[span.class]];
    ctx.fillStyle = span.class === 'seeks' && w >= 4 ? pattern(ctx, 'info') : colour;
    ctx.globalAlpha = span.class === 'follows' ? 0.16 : 1;
    ctx.fillRect(x, y, Math.max(w - (w > 3 ? 1 : 0), 1), h);
    ctx.globalAlpha = 1;
    const left = Math.max(x, plot.left) + 3, room = Math.min(right, plot.right) - left - 3;
    const whole = roleText(span), term = String(span.term ?? '');
    const text = ctx.measureText(whole).width <= room ? whole : ctx.measureText(term).width <= room ? term : '';
    if (!text) continue;
    if (span.class === 'seeks') {
      ctx.fillStyle = paints.card;
      ctx.globalAlpha = 0.8;
      ctx.fillRect(left - 1, y, ctx.measureText(text).width + 2, h);
      ctx.globalAlpha = 1;
    }
    ctx.fillStyle = span.class === 'leads' ? paints.card : paints.ink;
    ctx.fillText(text, left, y + h / 2 + 0.5);
  }
  ctx.font = `12px ${paints.sans}`;
}

function roleAt(node, us) {
  return rolesOf.get(node).findLast((span) => span.t <= us && us <= span.to);
}
