// What is asked for in the search box: words, and fields as `process:3`, `node:n2`,
// `key:x`, `f:read`, `outcome:info`, `t:12.5` or `t:12.5-13.1` (seconds).

const FIELDS = ['process', 'node', 'key', 'f', 'outcome', 't'];

// "12.5" or "12.5-13.1" in seconds as [from, to] in us; null if it is neither.
function parseSpan(text) {
  const found = /^\s*(\d+(?:\.\d*)?|\.\d+)\s*s?\s*(?:(?:-|–|to)\s*(\d+(?:\.\d*)?|\.\d+)\s*s?)?\s*$/.exec(text);
  if (!found) return null;
  const a = Number(found[1]) * 1e6, b = found[2] === undefined ? a : Number(found[2]) * 1e6;
  if (!Number.isFinite(a + b)) return null;
  return [Math.min(a, b), Math.max(a, b)];
}

// Words in small letters, and the fields that occur. Quotes keep spaces: key:"a b". A
// field with nothing behind its colon asks for nothing; an unknown one is a word.
function parseQuery(text) {
  const query = {words: [], fields: {}, wrong: ''};
  for (const [, name, quoted, plain] of text.matchAll(/(?:(\w+):)?(?:"([^"]*)"?|(\S+))/g)) {
    const value = quoted ?? plain;
    if (name === undefined || !FIELDS.includes(name)) {
      query.words.push((name === undefined ? value : `${name}:${value}`).toLowerCase());
    } else if (name === 't') {
      query.fields.t = parseSpan(value);
      if (!query.fields.t) query.wrong = `t:${value} is no time; write t:12.5 or t:12.5-13.1`;
    } else query.fields[name] = value.toLowerCase();
  }
  query.words = query.words.filter(Boolean);
  query.empty = !query.words.length && !Object.keys(query.fields).length;
  return query;
}

// For each string of a table whether it has a word in it; a column of positions in that
// table can then be searched without a look at any text.
function holding(table, word) {
  return Uint8Array.from(table, (text) => text.toLowerCase().includes(word) ? 1 : 0);
}

// Index of the first of `times`, which are in order, that is not before `us`.
function firstFrom(times, us) {
  let low = 0, high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] < us) low = middle + 1; else high = middle;
  }
  return low;
}
