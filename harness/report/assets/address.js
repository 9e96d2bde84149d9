// The part of the address behind `#`: which moment or span is shown, the anomaly, what is
// pinned and measured, filters and search. `#t=12.5` and `#t=12.5-13.1` are in seconds;
// `#A2` is anomaly 2. Other names, as `#timeline`, are those of sections.

const seconds = (us) => String(+(Math.max(us, 0) / 1e6).toFixed(6));
const spanText = (a, b) => a === b ? seconds(a) : `${seconds(a)}-${seconds(b)}`;

// What an address asks for; null if it isn't one of ours. What is no time is in `wrong`.
function parseAddress(hash) {
  const text = hash.replace(/^#/, '');
  const short = /^A(\d+)$/.exec(text);
  if (short) return {anomaly: Number(short[1]), wrong: ''};
  if (!/^\w+=/.test(text)) return null;
  const asked = {wrong: ''};
  for (const [name, value] of new URLSearchParams(text)) {
    if (name === 't' || name === 'm') {
      asked[name] = parseSpan(value);
      if (!asked[name]) asked.wrong = `${name}=${value} in the address is no time; write ${name}=12.5 or ${name}=12.5-13.1`;
    } else if (name === 'anomaly' || name === 'op') {
      if (/^\d{1,15}$/.test(value)) asked[name] = Number(value);
      else asked.wrong = `${name}=${value} in the address is no number`;
    } else asked[name] = value;
  }
  return asked;
}

// The address of a state: the names that `parseAddress` knows; null and '' are left out.
function formatAddress(state) {
  const parts = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    if (value === null || value === undefined || value === '') continue;
    parts.set(name, Array.isArray(value) ? spanText(...value) : String(value));
  }
  const text = parts.toString();
  return text && `#${text}`;
}
