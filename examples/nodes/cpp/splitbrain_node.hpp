// The wire of splitbrain (WIRE.md) for nodes in C++: copy this file beside yours.
//
//     #include "splitbrain_node.hpp"
//
//     int main() {
//       splitbrain::Node node;
//       node.on("echo", [](const splitbrain::Body& body) {
//         return splitbrain::Body{{"echo", body.get("echo")}};
//       });
//       node.run();
//     }
//
// Needs C++17, Linux, and -pthread; no library. A handler gets the body of a request and returns
// that of the answer, whose type is filled in. What it throws is the error that is answered: a
// Failure with its code; anything else is 13 (crash), which leaves open whether the operation
// happened. Handlers run side by side, on a thread for each connection: guard what they share.
//
// Fields are kept as the JSON text they came in, so whatever a client wrote is what a reader
// gets, however large its numbers are.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <future>
#include <initializer_list>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace splitbrain {

constexpr size_t kLineBytesMax = 1 << 20;
constexpr int kNestingMax = 1000;

// An answer of type error; its code says whether anything may have happened.
struct Failure : std::runtime_error {
  Failure(int code, const std::string& text) : std::runtime_error(text), code(code) {}
  int code;
};

// Reads JSON (RFC 8259) from left to right; throws std::invalid_argument if it is none.
class Scanner {
 public:
  explicit Scanner(const std::string& text) : text_(text) {}

  bool at_end() {
    blanks();
    return at_ == text_.size();
  }

  // A value's text, without blanks between its parts.
  std::string value(int depth = 0) {
    blanks();
    size_t from = at_;
    switch (peek()) {
      case '{':
      case '[':
        return nested(depth);
      case '"':
        string();
        break;
      case 't':
        word("true");
        break;
      case 'f':
        word("false");
        break;
      case 'n':
        word("null");
        break;
      default:
        number();
    }
    return text_.substr(from, at_ - from);
  }

  // The members of an object, or the elements of an array, one call of `item` for each.
  void sequence(char open, char close, const std::function<void()>& item) {
    blanks();
    exactly(open);
    blanks();
    if (skip(close)) return;
    do {
      item();
      blanks();
    } while (skip(','));
    exactly(close);
  }

  // A member's name; the scanner stands before the value then.
  std::string name() {
    blanks();
    std::string found = string();
    blanks();
    exactly(':');
    return found;
  }

  // The text of a string.
  std::string string() {
    std::string found;
    exactly('"');
    while (!skip('"')) {
      unsigned char c = peek();
      if (c < 0x20) fail();
      ++at_;
      if (c != '\\') {
        found += static_cast<char>(c);
        continue;
      }
      static const std::map<char, char> kShort = {{'"', '"'},  {'\\', '\\'}, {'/', '/'},  {'b', '\b'},
                                                  {'f', '\f'}, {'n', '\n'},  {'r', '\r'}, {'t', '\t'}};
      char escaped = peek();
      ++at_;
      if (escaped == 'u') {
        append_utf8(found, code_point());
      } else if (auto known = kShort.find(escaped); known != kShort.end()) {
        found += known->second;
      } else {
        fail();
      }
    }
    return found;
  }

 private:
  [[noreturn]] void fail() { throw std::invalid_argument("no JSON"); }

  char peek() {
    if (at_ >= text_.size()) fail();
    return text_[at_];
  }

  bool skip(char c) {
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  void exactly(char c) {
    if (!skip(c)) fail();
  }

  void blanks() {
    while (skip(' ') || skip('\t') || skip('\r') || skip('\n')) {
    }
  }

  void word(const char* expected) {
    if (text_.compare(at_, std::strlen(expected), expected) != 0) fail();
    at_ += std::strlen(expected);
  }

  void digits() {
    size_t from = at_;
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') ++at_;
    if (at_ == from) fail();
  }

  void number() {
    skip('-');
    if (!skip('0')) digits();
    if (skip('.')) digits();
    if (skip('e') || skip('E')) {
      if (!skip('+')) skip('-');
      digits();
    }
  }

  std::string nested(int depth) {
    if (depth > kNestingMax) fail();
    bool object = peek() == '{';
    char open = object ? '{' : '[', close = object ? '}' : ']';
    std::string found(1, open);
    sequence(open, close, [&] {
      if (found.size() > 1) found += ',';
      blanks();
      if (object) {
        size_t from = at_;
        string();
        found += text_.substr(from, at_ - from) + ':';
        blanks();
        exactly(':');
      }
      found += value(depth + 1);
    });
    return found + close;
  }

  unsigned hex4() {
    unsigned unit = 0;
    for (int i = 0; i < 4; ++i) {
      char c = peek();
      if (!std::isxdigit(static_cast<unsigned char>(c))) fail();
      unit = unit * 16 + static_cast<unsigned>(std::stoi(std::string(1, c), nullptr, 16));
      ++at_;
    }
    return unit;
  }

  // Half of a pair that stands alone is no character: U+FFFD takes its place.
  unsigned code_point() {
    unsigned unit = hex4();
    if (unit < 0xD800 || unit > 0xDFFF) return unit;
    if (unit > 0xDBFF || text_.compare(at_, 2, "\\u") != 0) return 0xFFFD;
    size_t before = at_;
    at_ += 2;
    unsigned low = hex4();
    if (low >= 0xDC00 && low <= 0xDFFF) return 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
    at_ = before;
    return 0xFFFD;
  }

  static void append_utf8(std::string& text, unsigned c) {
    if (c < 0x80) {
      text += static_cast<char>(c);
    } else if (c < 0x800) {
      text += {static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 0x3F))};
    } else if (c < 0x10000) {
      text += {static_cast<char>(0xE0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 0x3F)),
               static_cast<char>(0x80 | (c & 0x3F))};
    } else {
      text += {static_cast<char>(0xF0 | c >> 18), static_cast<char>(0x80 | (c >> 12 & 0x3F)),
               static_cast<char>(0x80 | (c >> 6 & 0x3F)), static_cast<char>(0x80 | (c & 0x3F))};
    }
  }

  const std::string& text_;
  size_t at_ = 0;
};

// A text as JSON.
inline std::string quote(const std::string& text) {
  std::string json = "\"";
  for (unsigned char c : text) {
    if (c == '"' || c == '\\') {
      json += {'\\', static_cast<char>(c)};
    } else if (c < 0x20) {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\u%04x", c);
      json += escaped;
    } else {
      json += static_cast<char>(c);
    }
  }
  return json + '"';
}

// The elements of a JSON array; throws std::invalid_argument if it is none.
inline std::vector<std::string> items(const std::string& json) {
  Scanner scanner(json);
  std::vector<std::string> found;
  scanner.sequence('[', ']', [&] { found.push_back(scanner.value()); });
  if (!scanner.at_end()) throw std::invalid_argument("no JSON");
  return found;
}

// A message's body: its fields, as JSON.
class Body {
 public:
  Body() = default;
  Body(std::initializer_list<std::pair<const std::string, std::string>> fields) : fields_(fields) {}

  // The fields of a JSON object; throws std::invalid_argument if it is none.
  static Body parse(const std::string& json) {
    Scanner scanner(json);
    Body body;
    scanner.sequence('{', '}', [&] {
      std::string name = scanner.name();
      body.fields_[name] = scanner.value();
    });
    if (!scanner.at_end()) throw std::invalid_argument("no JSON");
    return body;
  }

  // A field, as JSON; without it, the request is answered with a Failure (12).
  const std::string& get(const std::string& field) const {
    auto found = fields_.find(field);
    if (found == fields_.end()) throw Failure(12, "there is no " + field + " in the request");
    return found->second;
  }

  // A field that is a string; of another kind, the Failure is 12 as well.
  std::string text(const std::string& field) const {
    const std::string& json = get(field);
    if (json[0] != '"') throw Failure(12, field + " is no string");
    return Scanner(json).string();
  }

  // A field that is a whole number; of another kind, the Failure is 12 as well.
  long long number(const std::string& field) const {
    const std::string& json = get(field);
    bool whole = json.find_first_not_of("-0123456789") == std::string::npos && json.size() < 19;
    if (!whole) throw Failure(12, field + " is no whole number");
    return std::stoll(json);
  }

  void set(const std::string& field, const std::string& json) { fields_[field] = json; }

  std::string json() const {
    std::string text = "{";
    for (const auto& [name, value] : fields_) {
      if (text.size() > 1) text += ',';
      text += quote(name) + ':' + value;
    }
    return text + '}';
  }

  const std::map<std::string, std::string>& fields() const { return fields_; }

 private:
  std::map<std::string, std::string> fields_;
};

inline std::string frame(const std::string& src, const std::string& dest_json, const Body& body) {
  return "{\"src\":" + quote(src) + ",\"dest\":" + dest_json + ",\"body\":" + body.json() + "}\n";
}

// Whether a text is UTF-8; what a lead byte announces has to follow.
inline bool is_utf8(const std::string& text) {
  int expected = 0;
  for (unsigned char c : text) {
    bool continues = (c & 0xC0) == 0x80;
    if (continues != (expected > 0)) return false;
    if (continues) {
      --expected;
    } else if (c >= 0xC2 && c <= 0xF4) {
      expected = c < 0xE0 ? 1 : c < 0xF0 ? 2 : 3;
    } else if (c >= 0x80) {
      return false;
    }
  }
  return expected == 0;
}

// A connected socket that reads and writes lines; closed with its owner.
class Stream {
 public:
  explicit Stream(int fd) : fd_(fd) {
    int yes = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  }
  Stream(const Stream&) = delete;
  ~Stream() { close(fd_); }

  // False once the peer has closed it, so that nothing is sent into the void.
  bool is_open() const {
    char byte;
    return recv(fd_, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
  }

  void limit_waiting(int timeout_ms) {
    timeval limit{timeout_ms / 1000, timeout_ms % 1000 * 1000};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  }

  bool write(const std::string& text) {
    for (size_t sent = 0; sent < text.size();) {
      ssize_t n = send(fd_, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) return false;
      sent += static_cast<size_t>(n);
    }
    return true;
  }

  // The next line, without its end; nothing at the end, in time, or if it is too long.
  std::optional<std::string> line() {
    for (size_t searched = 0;;) {
      size_t end = unread_.find('\n', searched);
      if (end != std::string::npos) {
        std::string found = unread_.substr(0, end);
        unread_.erase(0, end + 1);
        return found;
      }
      searched = unread_.size();
      if (searched > kLineBytesMax) return std::nullopt;
      char piece[65536];
      ssize_t n = recv(fd_, piece, sizeof piece, 0);
      if (n <= 0) return std::nullopt;
      unread_.append(piece, static_cast<size_t>(n));
    }
  }

 private:
  int fd_;
  std::string unread_;
};

// A socket connected or listening at "host:port"; -1 if that can't be had in time.
inline int open_socket(const std::string& address, bool listening, int timeout_ms = 0) {
  size_t colon = address.rfind(':');
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  std::string host = address.substr(0, colon), port = address.substr(colon + 1);
  if (getaddrinfo(host.c_str(), port.c_str(), &hints, &found) != 0) return -1;
  std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owned(found, freeaddrinfo);
  int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listening) {
    int yes = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, found->ai_addr, found->ai_addrlen) == 0 && listen(fd, 128) == 0) return fd;
  } else {
    fcntl(fd, F_SETFL, O_NONBLOCK);
    int error = connect(fd, found->ai_addr, found->ai_addrlen) == 0 ? 0 : errno;
    if (error == EINPROGRESS) {
      pollfd waiting{fd, POLLOUT, 0};
      socklen_t size = sizeof error;
      if (poll(&waiting, 1, timeout_ms) == 1) getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    }
    fcntl(fd, F_SETFL, 0);
    if (error == 0) return fd;
  }
  close(fd);
  return -1;
}

// This node: its name, its peers, its directory, and what it answers.
class Node {
 public:
  using Handler = std::function<Body(const Body&)>;

  Node() : name(env("SPLITBRAIN_NODE")), data(env("SPLITBRAIN_DATA")) {
    Body told = Body::parse(env("SPLITBRAIN_PEERS"));
    for (const auto& [peer, address] : told.fields()) peers[peer] = told.text(peer);
    for (const auto& [peer, address] : peers) names.push_back(peer);
    names.push_back(name);
    std::sort(names.begin(), names.end());
    majority = names.size() / 2 + 1;
    on("clock", [](const Body&) {
      return Body{{"wall_ns", nanoseconds(CLOCK_REALTIME)}, {"mono_ns", nanoseconds(CLOCK_MONOTONIC)}};
    });
  }

  // Have a handler answer requests of a type.
  void on(const std::string& kind, Handler handler) { handlers_[kind] = std::move(handler); }

  // The answer of a peer, or of this node itself. Throws a Failure: the peer's own; 11, and it
  // never got the request, as there is no connection; 0, and nobody knows whether it did.
  Body call(const std::string& peer, const Body& body, int timeout_ms = 1000) {
    if (peer == name) return handle(body);
    std::unique_ptr<Link> link = idle_link(peer);
    if (!link) {
      int fd = open_socket(peers.at(peer), false, timeout_ms);
      if (fd < 0) throw Failure(11, peer + " can't be reached");
      link = std::make_unique<Link>(fd);
    }
    // From here on the peer may have the request: no answer is an indefinite error, and the
    // connection, on which the answer may still come, is not used again.
    link->stream.limit_waiting(timeout_ms);
    Body sent = body, answer;
    sent.set("msg_id", std::to_string(++link->last_id));
    try {
      if (!link->stream.write(frame(name, quote(peer), sent))) throw std::invalid_argument("");
      answer = Body::parse(Body::parse(link->stream.line().value_or("")).get("body"));
      if (answer.number("in_reply_to") != link->last_id) throw std::invalid_argument("");
    } catch (const std::exception&) {
      throw Failure(0, peer + " did not answer");
    }
    {
      std::lock_guard<std::mutex> lock(mutex_);
      idle_[peer].push_back(std::move(link));
    }
    if (answer.text("type") == "error") {
      throw Failure(static_cast<int>(answer.number("code")), answer.text("text"));
    }
    return answer;
  }

  // The answers of the nodes that gave one, this one among those asked, once all have answered
  // or failed. Throws a Failure (0) if they are no majority; the request may have reached some.
  std::vector<Body> ask_majority(const Body& body, int timeout_ms = 1000) {
    std::vector<std::future<Body>> asked;
    for (const std::string& each : names) {
      asked.push_back(std::async(std::launch::async, [this, each, body, timeout_ms] {
        return call(each, body, timeout_ms);
      }));
    }
    std::vector<Body> answers;
    for (auto& answer : asked) {
      try {
        answers.push_back(answer.get());
      } catch (const Failure&) {
        continue;
      }
    }
    if (answers.size() < majority) throw Failure(0, "a majority did not answer");
    return answers;
  }

  // Serve clients and peers until killed.
  void run() {
    int listening = open_socket(env("SPLITBRAIN_LISTEN"), true);
    if (listening < 0) {
      std::cerr << "can't listen at " << env("SPLITBRAIN_LISTEN") << ": " << std::strerror(errno) << '\n';
      std::exit(1);
    }
    for (;;) {
      int fd = accept4(listening, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd >= 0) std::thread([this, fd] { serve(fd); }).detach();
    }
  }

  const std::string name, data;
  std::map<std::string, std::string> peers;  // name -> "host:port"
  std::vector<std::string> names;            // of all nodes, sorted
  size_t majority = 0;

 private:
  // A connection to a peer, for one request at a time.
  struct Link {
    explicit Link(int fd) : stream(fd) {}
    Stream stream;
    long long last_id = 0;
  };

  static std::string env(const char* name) {
    const char* value = std::getenv(name);
    if (value == nullptr) throw std::runtime_error(std::string(name) + " is not set");
    return value;
  }

  static std::string nanoseconds(clockid_t clock) {
    timespec now{};
    clock_gettime(clock, &now);
    return std::to_string(now.tv_sec * 1'000'000'000LL + now.tv_nsec);
  }

  std::unique_ptr<Link> idle_link(const std::string& peer) {
    std::lock_guard<std::mutex> lock(mutex_);
    auto& idle = idle_[peer];
    while (!idle.empty()) {
      std::unique_ptr<Link> link = std::move(idle.back());
      idle.pop_back();
      if (link->stream.is_open()) return link;
    }
    return nullptr;
  }

  void serve(int fd) {
    Stream stream(fd);
    while (std::optional<std::string> line = stream.line()) {
      std::string client, id;
      Body asked;
      try {
        if (!is_utf8(*line)) continue;
        Body message = Body::parse(*line);
        asked = Body::parse(message.get("body"));
        client = message.get("src");
        id = std::to_string(asked.number("msg_id"));
        asked.text("type");
      } catch (const std::exception&) {
        continue;  // No message, or nobody to answer.
      }
      Body answer;
      try {
        answer = handle(asked);
      } catch (const Failure& failure) {
        answer = error_body(failure.code, failure.what());
      } catch (const std::exception& error) {
        answer = error_body(13, error.what());
      }
      answer.set("in_reply_to", id);
      if (!stream.write(frame(name, client, answer))) return;
    }
  }

  static Body error_body(int code, const std::string& text) {
    return {{"type", quote("error")}, {"code", std::to_string(code)}, {"text", quote(text)}};
  }

  Body handle(const Body& body) {
    std::string kind = body.text("type");
    auto handler = handlers_.find(kind);
    if (handler == handlers_.end()) throw Failure(10, kind + " is not supported");
    Body answer = handler->second(body);
    answer.set("type", quote(kind + "_ok"));
    return answer;
  }

  std::map<std::string, Handler> handlers_;
  std::mutex mutex_;  // over idle_
  std::map<std::string, std::vector<std::unique_ptr<Link>>> idle_;
};

// Values by key, in a file that survives kills and power losses.
class Journal {
 public:
  explicit Journal(const std::string& path) : fd_(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644)) {
    if (fd_ < 0) stop("can't open the journal");
    std::string held;
    char piece[65536];
    for (ssize_t n; (n = read(fd_, piece, sizeof piece)) > 0;) held.append(piece, static_cast<size_t>(n));
    // A kill in mid-write leaves a line without an end. Nobody was told that it happened.
    size_t end = held.rfind('\n') + 1;  // npos + 1 is 0
    for (size_t from = 0; from < end;) {
      size_t to = held.find('\n', from);
      std::vector<std::string> entry = items(held.substr(from, to - from));
      values[entry.at(0)] = entry.at(1);
      from = to + 1;
    }
    int folder = open(path.substr(0, path.rfind('/') + 1).c_str(), O_RDONLY | O_CLOEXEC);
    // What we are about to serve must be durable, and so must the file's name.
    if (ftruncate(fd_, static_cast<off_t>(end)) != 0 || lseek(fd_, 0, SEEK_END) < 0 || fsync(fd_) != 0 ||
        fsync(folder) != 0) {
      stop("can't prepare the journal");
    }
    close(folder);
  }

  // Durable first, visible second: what somebody has read must survive. A disk that fails ends
  // the process, as nobody knows what is in the file then. A restart reads it.
  void put(const std::string& key, const std::string& value) {
    std::string line = '[' + key + ',' + value + "]\n";
    if (write(fd_, line.data(), line.size()) != static_cast<ssize_t>(line.size()) || fsync(fd_) != 0) {
      stop("can't write the journal");
    }
    values[key] = value;
  }

  std::map<std::string, std::string> values;  // JSON by the key's JSON

 private:
  [[noreturn]] static void stop(const char* what) {
    std::perror(what);
    std::_Exit(1);
  }

  int fd_;
};

}  // namespace splitbrain
