#!/usr/bin/env node
// A register service in one file: where to start with an implementation of your own.
//
//     splitbrain run "launch:node examples/node_register.js" --nemesis partition,kill
//
// Needs Node.js 18 or later and nothing else. WIRE.md describes the protocol.
//
// It is linearizable because one process does everything: the first node by name owns the
// data, and the others pass requests on to it. It does not replicate, so nothing works
// while the owner is down or cut off: it is safe, but not available. Replace `Owner` by a
// protocol of your own, and let splitbrain tell you whether it is still linearizable.

"use strict";

const fs = require("fs");
const net = require("net");
const path = require("path");

const NAME = process.env.SPLITBRAIN_NODE;
const LISTEN = address(process.env.SPLITBRAIN_LISTEN);
const PEERS = JSON.parse(process.env.SPLITBRAIN_PEERS); // name -> "host:port"
const DATA = process.env.SPLITBRAIN_DATA;

const OWNER = [NAME, ...Object.keys(PEERS)].sort()[0];
const LINE_CHARS_MAX = 1 << 20;
const OWNER_TIMEOUT_MS = 2000;

function address(text) {
  const colon = text.lastIndexOf(":");
  return { host: text.slice(0, colon), port: Number(text.slice(colon + 1)) };
}

// An answer of type `error`. The code says whether the operation may have happened.
function error(code, text) {
  return { type: "error", code, text };
}

// Holds the data, in memory and in a journal of [key, value] lines.
class Owner {
  constructor() {
    const file = path.join(DATA, "journal.jsonl");
    this.data = new Map();
    this.journal = fs.openSync(file, "a+");
    const bytes = fs.readFileSync(file);
    // A kill in mid-write leaves a line without an end. Nobody was told that it happened.
    const end = bytes.lastIndexOf("\n") + 1;
    fs.ftruncateSync(this.journal, end);
    fs.fsyncSync(this.journal); // What we are about to serve must be durable.
    for (const line of bytes.subarray(0, end).toString().split("\n")) {
      if (line) this.data.set(...JSON.parse(line));
    }
  }

  // Synchronous from start to end: requests are carried out one at a time, and that order
  // is the order that makes this linearizable.
  answer(message, send) {
    send(this.handle(message.body));
  }

  handle({ type, key, value, from, to }) {
    if (type === "status") return { type: "status_ok", role: "leader", term: 1, leader: NAME };
    if (!["read", "write", "cas"].includes(type)) return error(10, `${type} is not supported`);
    if (key === undefined) return error(12, "there is no key in the request");
    if (type === "write") {
      if (value === undefined) return error(12, "there is no value in the request");
      this.put(key, value);
      return { type: "write_ok" };
    }
    if (!this.data.has(key)) return error(20, `there is no key ${key}`);
    const current = this.data.get(key);
    if (type === "read") return { type: "read_ok", value: current };
    if (from === undefined || to === undefined) return error(12, "cas needs from and to");
    if (JSON.stringify(current) !== JSON.stringify(from)) {
      return error(22, `expected ${from}, but it is ${current}`);
    }
    this.put(key, to);
    return { type: "cas_ok" };
  }

  // Durable first, visible second: what somebody has read must survive a kill. A disk that
  // fails ends the process, as nobody knows what is in the file then. A restart reads it.
  put(key, value) {
    fs.appendFileSync(this.journal, JSON.stringify([key, value]) + "\n");
    fs.fsyncSync(this.journal);
    this.data.set(key, value);
  }

  close() {}
}

// Passes one client's requests to the owner, as they are, over a connection of their own.
class Forwarder {
  constructor() {
    this.waiting = new Map(); // msg_id -> what to do with the answer, and until when
    this.upstream = null;
  }

  answer(message, send) {
    if (message.body.type === "status") {
      return send({ type: "status_ok", role: "follower", term: 1, leader: OWNER });
    }
    const upstream = (this.upstream ??= this.connect());
    const timer = setTimeout(() => upstream.destroy(), OWNER_TIMEOUT_MS);
    this.waiting.set(message.body.msg_id, { send, timer });
    write(upstream, message); // Node.js holds it back until the socket is connected.
  }

  connect() {
    const upstream = net.connect({ ...address(PEERS[OWNER]), noDelay: true });
    let connected = false;
    upstream.on("connect", () => (connected = true));
    upstream.on("error", () => {}); // "close" follows.
    upstream.on("close", () => {
      this.upstream = null;
      // Without a connection nothing was sent, so this error can be a definite one. With
      // one, the owner may have the request, and may yet carry it out: indefinite.
      const body = connected
        ? error(0, `${OWNER} did not answer`)
        : error(11, `${OWNER} can't be reached`);
      for (const id of [...this.waiting.keys()]) this.give(id, body);
    });
    lines(upstream, (message) => this.give(message.body.in_reply_to, message.body));
    return upstream;
  }

  give(id, body) {
    const call = this.waiting.get(id);
    if (!call) return;
    this.waiting.delete(id);
    clearTimeout(call.timer);
    call.send(body);
  }

  close() {
    if (this.upstream) this.upstream.destroy();
  }
}

// Calls `take` with each message that arrives, and skips lines that are no message.
function lines(socket, take) {
  let unfinished = "";
  socket.setEncoding("utf8");
  socket.on("data", (chunk) => {
    const pieces = (unfinished + chunk).split("\n");
    unfinished = pieces.pop();
    if (unfinished.length > LINE_CHARS_MAX) return socket.destroy();
    for (const piece of pieces) {
      let message;
      try {
        message = JSON.parse(piece);
      } catch {
        continue;
      }
      if (typeof message?.body?.type === "string") take(message);
    }
  });
}

function write(socket, message) {
  if (!socket.destroyed) socket.write(JSON.stringify(message) + "\n");
}

const owner = NAME === OWNER ? new Owner() : null;

const server = net.createServer({ noDelay: true }, (socket) => {
  const service = owner ?? new Forwarder();
  socket.on("error", () => {}); // "close" follows.
  socket.on("close", () => service.close());
  lines(socket, (message) => {
    const { src, body } = message;
    const send = (answer) =>
      write(socket, { src: NAME, dest: src, body: { ...answer, in_reply_to: body.msg_id } });
    if (body.type === "clock") {
      const mono_ns = Number(process.hrtime.bigint());
      return send({ type: "clock_ok", wall_ns: Date.now() * 1e6, mono_ns });
    }
    service.answer(message, send);
  });
});
server.listen(LISTEN);
