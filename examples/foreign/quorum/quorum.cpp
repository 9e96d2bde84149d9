// Registers on a majority of replicas: the multi-writer register of Attiya, Bar-Noy and
// Dolev (1995; Lynch and Shvartsman 1997), in C++.
//
//     g++ -O2 -std=c++17 -pthread -o /tmp/quorum examples/foreign/quorum/quorum.cpp
//     splitbrain run "launch:/tmp/quorum" --nodes 3 --nemesis partition,kill --set register.cas=false
//
// Promise: every register is linearizable, and a majority of nodes is enough, whatever
// happens to the others: cut off, paused, killed, or without power. There is no cas:
// registers of this kind can't have one.
//
// How it works: a value has a stamp, a number and the name of the node that wrote it.
// Each replica keeps the value with the greatest stamp. The node that a client asks
//
//     write   asks a majority for their stamps; makes a greater one; stores that at a majority
//     read    asks a majority for their values; stores the newest at a majority; answers it
//
// A write goes to the node's own disk before it goes anywhere else. So a node that comes
// back from a kill knows all stamps that it ever made, and makes none of them twice.
//
// Bugs, each by `--bug NAME`:
//
//     no-write-back         a read answers the newest value without storing it at a majority
//     ties                  stamps are compared by their numbers alone
//     half-is-enough        a majority is taken to be half of the nodes
//     own-clock             a write's stamp counts what this node has seen, and asks nobody
//     ack-before-fsync      a replica answers before what it stored is on disk
//     late-answers-counted  an answer counts for the request under way, whatever it answers

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

using std::string;
using Clock = std::chrono::steady_clock;
using Fields = std::map<string, string>;  // a JSON object: name -> the value as it is written

const size_t LINE_MAX_BYTES = 1 << 20;
const std::chrono::milliseconds PATIENCE{1000}, RECONNECT{300};
const int CONNECT_MS = 100;

string bug;
string name;
std::map<string, string> peers;  // name -> "host:port"

// The members of a JSON object, each as the text it is written as. Empty for anything else.
Fields object(const string& text) {
  Fields out;
  size_t at = text.find_first_not_of(" \t\r");
  if (at == string::npos || text[at++] != '{') return out;
  while (true) {
    size_t opening = text.find('"', at);
    size_t closing = opening == string::npos ? opening : text.find('"', opening + 1);
    size_t colon = closing == string::npos ? closing : text.find(':', closing);
    if (colon == string::npos) return out;
    size_t begin = text.find_first_not_of(" \t", colon + 1), end = begin;
    int depth = 0;
    for (bool quoted = false; end < text.size(); end++) {
      char c = text[end];
      if (quoted) {
        if (c == '\\') end++;
        else if (c == '"') quoted = false;
      } else if (c == '"') quoted = true;
      else if (c == '{' || c == '[') depth++;
      else if ((c == '}' || c == ']') && depth-- == 0) break;
      else if (c == ',' && depth == 0) break;
    }
    if (begin == string::npos || end >= text.size()) return out;
    out[text.substr(opening + 1, closing - opening - 1)] =
        text.substr(begin, text.find_last_not_of(" \t", end - 1) + 1 - begin);
    if (text[end] == '}') return out;
    at = end + 1;
  }
}

string unquoted(const string& text) {
  return text.size() < 2 || text[0] != '"' ? string() : text.substr(1, text.size() - 2);
}

string error(int code, const string& text) {
  return "\"type\":\"error\",\"code\":" + std::to_string(code) + ",\"text\":\"" + text + "\"";
}

// --- what a node stores ------------------------------------------------------------

struct Value {
  long count = 0;
  string by;             // with `count`, its stamp
  string text = "null";  // null: nobody ever wrote it

  bool newer(const Value& other) const {
    if (bug == "ties") return count > other.count;
    return std::tie(count, by) > std::tie(other.count, other.by);
  }
  string json() const {
    return "\"count\":" + std::to_string(count) + ",\"by\":\"" + by + "\",\"value\":" + text;
  }
  static Value of(Fields& body) {
    return {atol(body["count"].c_str()), unquoted(body["by"]), body["value"]};
  }
};

// The newest value of each register, in memory and in a journal.
class Store {
 public:
  void open(const string& path) {
    journal_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND, 0644);
    string text, line;
    char chunk[65536];
    for (ssize_t n; (n = ::read(journal_, chunk, sizeof chunk)) > 0;) text.append(chunk, n);
    size_t whole = 0;
    for (size_t end; (end = text.find('\n', whole)) != string::npos; whole = end + 1) {
      Fields body = object(text.substr(whole, end - whole));
      if (body["key"].empty() || body["value"].empty()) break;
      values_[body["key"]] = Value::of(body);
    }
    // What lies behind the last whole line was never answered; a loss of power may leave
    // any part of it. It must not be glued to the next line, and what we serve from here on
    // must be durable.
    if (journal_ < 0 || ftruncate(journal_, whole) || fsync(journal_)) give_up();
    int folder = ::open(path.substr(0, path.rfind('/')).c_str(), O_RDONLY);
    if (folder < 0 || fsync(folder)) give_up();
    close(folder);
  }
  Value get(const string& key) {
    std::lock_guard<std::mutex> guard(lock_);
    return values_[key];
  }
  void put(const string& key, const Value& value) {
    std::lock_guard<std::mutex> guard(lock_);
    keep(key, value);
  }
  // Give a new text a stamp above `seen`, and keep it. One stamp is never made twice, as
  // the next one is made from what is kept here.
  Value stamp(const string& key, Value seen, const string& text) {
    std::lock_guard<std::mutex> guard(lock_);
    Value made{std::max(seen.count, values_[key].count) + 1, name, text};
    keep(key, made);
    return made;
  }

 private:
  void keep(const string& key, const Value& value) {
    if (!value.newer(values_[key])) return;
    string line = "{\"key\":" + key + "," + value.json() + "}\n";
    if (write(journal_, line.data(), line.size()) != (ssize_t)line.size()) give_up();
    if (bug != "ack-before-fsync" && fdatasync(journal_)) give_up();
    values_[key] = value;
  }
  // Nobody knows what is on the disk now. A restart reads it.
  static void give_up() {
    perror("the journal can't be written");
    _exit(1);
  }
  std::mutex lock_;
  std::map<string, Value> values_;
  int journal_ = -1;
};

Store store;

// --- talking to other nodes --------------------------------------------------------

sockaddr_in address(const string& text) {
  sockaddr_in out{};
  size_t colon = text.rfind(':');
  out.sin_family = AF_INET;
  out.sin_port = htons(atoi(text.c_str() + colon + 1));
  inet_pton(AF_INET, text.substr(0, colon).c_str(), &out.sin_addr);
  return out;
}

// Lines from a socket.
struct Lines {
  string rest;
  bool next(string& line) {
    size_t end = rest.find('\n');
    if (end == string::npos) return false;
    line = rest.substr(0, end);
    rest.erase(0, end + 1);
    return true;
  }
  bool fill(int socket) {
    char chunk[65536];
    ssize_t n = recv(socket, chunk, sizeof chunk, 0);
    if (n > 0) rest.append(chunk, n);
    return n > 0 && rest.size() <= LINE_MAX_BYTES;
  }
};

// A connection to a peer, made when it is needed.
struct Link {
  string peer;
  int socket = -1;
  Lines lines;
  Clock::time_point heard, tried;

  void close() {
    if (socket >= 0) ::close(socket);
    socket = -1;
  }
  bool open() {
    auto now = Clock::now();
    if (socket >= 0 || now - tried < RECONNECT) return socket >= 0;
    tried = heard = now;
    lines.rest.clear();
    socket = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    sockaddr_in at = address(peers[peer]);
    int one = 1, failed = 1;
    socklen_t size = sizeof failed;
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    connect(socket, (sockaddr*)&at, sizeof at);
    pollfd wait{socket, POLLOUT, 0};
    if (poll(&wait, 1, CONNECT_MS) == 1) getsockopt(socket, SOL_SOCKET, SO_ERROR, &failed, &size);
    if (failed) close();
    return socket >= 0;
  }
  // A line that doesn't go out whole, or falls on deaf ears, ends the connection: what
  // was sent may still arrive, but none of it is half a message.
  void send(const string& line) {
    if (Clock::now() - heard > PATIENCE) close();
    if (!open()) return;
    ssize_t sent = ::send(socket, line.data(), line.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent != (ssize_t)line.size()) close();
  }
};

// One client's requests: a connection of its own to each peer, one request at a time.
class Coordinator {
 public:
  Coordinator() {
    for (auto& [peer, at] : peers) links_.emplace_back(), links_.back().peer = peer;
  }
  ~Coordinator() {
    for (auto& link : links_) link.close();
  }

  string answer(Fields& body, const string& type) {
    const string& key = body["key"];
    if (type == "write") {
      Value seen;
      if (bug != "own-clock" && !newest(key, seen)) return error(11, "no majority answers");
      // From here on the value is in one place at least, and may be read some day.
      Value made = store.stamp(key, seen, body["value"]);
      if (!keep(key, made)) return error(0, "no majority answers");
      return "\"type\":\"write_ok\"";
    }
    Value seen;
    if (!newest(key, seen)) return error(11, "no majority answers");
    if (bug != "no-write-back") {
      if (seen.count > 0) store.put(key, seen);
      if (seen.count > 0 && !keep(key, seen)) return error(11, "no majority answers");
    }
    if (seen.count == 0) return error(20, "nobody wrote this key");
    return "\"type\":\"read_ok\",\"value\":" + seen.text;
  }

 private:
  // The newest value that a majority knows, this node included.
  bool newest(const string& key, Value& newest) {
    newest = store.get(key);
    return majority("\"type\":\"query\",\"key\":" + key, [&](Fields& body) {
      Value value = Value::of(body);
      if (value.newer(newest)) newest = value;
    });
  }
  // Have a majority keep a value. This node has done so.
  bool keep(const string& key, const Value& value) {
    return majority("\"type\":\"store\",\"key\":" + key + "," + value.json(), [](Fields&) {});
  }
  // Ask all peers; whether so many answer in time that they are a majority with this node.
  template <typename Take>
  bool majority(const string& body, Take take) {
    size_t nodes = links_.size() + 1, answers = 1;
    size_t needed = bug == "half-is-enough" ? nodes / 2 : nodes / 2 + 1;
    string id = std::to_string(++last_id_);
    for (auto& link : links_) {
      link.send("{\"src\":\"" + name + "\",\"dest\":\"" + link.peer + "\",\"body\":{" + body +
                ",\"msg_id\":" + id + "}}\n");
    }
    auto end = Clock::now() + PATIENCE;
    while (answers < needed) {
      int left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now()).count();
      std::vector<pollfd> waiting;
      for (auto& link : links_) waiting.push_back({link.socket, POLLIN, 0});
      if (left <= 0 || poll(waiting.data(), waiting.size(), left) <= 0) return false;
      for (size_t i = 0; i < links_.size(); i++) {
        if (!waiting[i].revents) continue;
        if (!links_[i].lines.fill(links_[i].socket)) links_[i].close();
        links_[i].heard = Clock::now();
        for (string line; links_[i].lines.next(line);) {
          Fields answer = object(object(line)["body"]);
          // Any other id: an answer to an earlier request, which had its majority without it.
          if (answer["in_reply_to"] != id && bug != "late-answers-counted") continue;
          if (unquoted(answer["type"]) == "query_ok") take(answer);
          answers++;
        }
      }
    }
    return true;
  }
  std::vector<Link> links_;
  long last_id_ = 0;
};

// --- serving -----------------------------------------------------------------------

string handle(Coordinator& coordinator, Fields& body) {
  string type = unquoted(body["type"]);
  bool writes = type == "write" || type == "store";
  if (!writes && type != "read" && type != "query") return error(10, "this is not supported");
  if (body["key"].empty()) return error(12, "there is no key in the request");
  if (writes && body["value"].empty()) return error(12, "there is no value in the request");
  if (type == "query") return "\"type\":\"query_ok\"," + store.get(body["key"]).json();
  if (type == "store") {
    store.put(body["key"], Value::of(body));
    return "\"type\":\"store_ok\"";
  }
  return coordinator.answer(body, type);
}

void serve(int socket) {
  Coordinator coordinator;
  Lines lines;
  while (lines.fill(socket)) {
    for (string line; lines.next(line);) {
      Fields message = object(line), body = object(message["body"]);
      if (message["src"].empty() || body["msg_id"].empty()) continue;
      string answer = "{\"src\":\"" + name + "\",\"dest\":" + message["src"] + ",\"body\":{" +
                      handle(coordinator, body) + ",\"in_reply_to\":" + body["msg_id"] + "}}\n";
      if (send(socket, answer.data(), answer.size(), MSG_NOSIGNAL) < 0) break;
    }
  }
  close(socket);
}

int main(int argc, char** argv) {
  if (argc == 3 && string(argv[1]) == "--bug") bug = argv[2];
  name = getenv("SPLITBRAIN_NODE");
  for (auto& [peer, at] : object(getenv("SPLITBRAIN_PEERS"))) peers[peer] = unquoted(at);
  store.open(string(getenv("SPLITBRAIN_DATA")) + "/journal.jsonl");
  int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
  sockaddr_in at = address(getenv("SPLITBRAIN_LISTEN"));
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listener, (sockaddr*)&at, sizeof at) || listen(listener, 100)) {
    perror("can't listen");
    return 1;
  }
  while (true) {
    int client = accept(listener, nullptr, nullptr);
    if (client < 0) continue;
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    std::thread(serve, client).detach();
  }
}
