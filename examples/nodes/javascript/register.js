// A register service: the first node by name has the data, the others pass requests on.
//
//     splitbrain run "launch:node examples/nodes/javascript/register.js" \
//         --nemesis partition,kill,pause
//
// It is linearizable because one process does everything, one request at a time. Nothing is
// replicated, so nothing works while the owner is down or cut off: it is safe, but not
// available. Replace it by a protocol of your own, and let splitbrain tell you whether it is
// still linearizable.

const path = require("path");
const { Failure, Journal, Node, fields } = require("./splitbrain_node.js");

const node = new Node();
const OWNER = node.names[0];
const journal = new Journal(path.join(node.data, "journal.jsonl"));

node.on("status", () => {
  const role = node.name === OWNER ? "leader" : "follower";
  return { role, term: 1, leader: OWNER };
});

node.on(["read", "write", "cas"], (body) => {
  if (node.name !== OWNER) return node.call(OWNER, body);
  const needed = { read: [], write: ["value"], cas: ["from", "to"] }[body.type];
  const { type, key, from, to } = fields(body, "key", ...needed);
  if (type === "write") {
    journal.put(key, body.value);
    return {};
  }
  if (!journal.values.has(key)) throw new Failure(20, `there is no key ${key}`);
  const value = journal.values.get(key);
  if (type === "read") return { value };
  if (JSON.stringify(value) !== JSON.stringify(from)) {
    throw new Failure(22, `expected ${from}, but it is ${value}`);
  }
  journal.put(key, to);
  return {};
});

node.run();
