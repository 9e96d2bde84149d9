// A register service: the first node by name has the data, the others pass requests on.
//
//     g++ -std=c++17 -O2 -pthread examples/nodes/cpp/register.cpp -o /tmp/register
//     splitbrain run launch:/tmp/register --nemesis partition,kill,pause
//
// It is linearizable because one process does everything, one request at a time. Nothing is
// replicated, so nothing works while the owner is down or cut off: it is safe, but not
// available. Replace it by a protocol of your own, and let splitbrain tell you whether it is
// still linearizable.
#include "splitbrain_node.hpp"

using splitbrain::Body;
using splitbrain::Failure;
using splitbrain::Journal;
using splitbrain::Node;
using splitbrain::quote;

Body carry_out(Journal& journal, const Body& body) {
  const std::string kind = body.text("type"), key = body.get("key");
  if (kind == "write") {
    journal.put(key, body.get("value"));
    return {};
  }
  std::string from, to;
  if (kind == "cas") from = body.get("from"), to = body.get("to");
  auto found = journal.values.find(key);
  if (found == journal.values.end()) throw Failure(20, "there is no key " + key);
  const std::string value = found->second;
  if (kind == "read") return {{"value", value}};
  if (from != value) throw Failure(22, "expected " + from + ", but it is " + value);
  journal.put(key, to);
  return {};
}

int main() {
  Node node;
  const std::string owner = node.names.front();
  std::unique_ptr<Journal> journal;
  std::mutex one_at_a_time;  // That order is what makes it linearizable.
  if (node.name == owner) journal = std::make_unique<Journal>(node.data + "/journal.jsonl");

  node.on("status", [&](const Body&) {
    const char* role = journal ? "leader" : "follower";
    return Body{{"role", quote(role)}, {"term", "1"}, {"leader", quote(owner)}};
  });
  for (const char* kind : {"read", "write", "cas"}) {
    node.on(kind, [&](const Body& body) {
      if (!journal) return node.call(owner, body);
      std::lock_guard<std::mutex> lock(one_at_a_time);
      return carry_out(*journal, body);
    });
  }
  node.run();
}
