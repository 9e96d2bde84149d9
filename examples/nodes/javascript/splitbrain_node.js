// The wire of splitbrain (WIRE.md) for nodes in JavaScript: copy this file beside yours.
//
//     const { Node } = require("./splitbrain_node.js");
//
//     const node = new Node();
//     node.on("echo", ({ echo }) => ({ echo }));
//     node.run();
//
// Needs Node.js 18 or later and nothing else. A handler, plain or async, gets the body of a
// request and returns that of the answer, whose type is filled in. What it throws is the error
// that is answered: a `Failure` with its code (`fields` throws 12 for a field that the request
// lacks), anything else as 13 (crash), which leaves open whether the operation happened. Plain
// handlers run one at a time, whole; others are interleaved wherever they await.

"use strict";

const fs = require("fs");
const net = require("net");
const path = require("path");

const LINE_BYTES_MAX = 1 << 20;

// An answer of type error; its code says whether anything may have happened.
class Failure extends Error {
  constructor(code, text) {
    super(text);
    this.code = code;
  }
}

// The body, once it is known to have these fields; else a Failure (12).
function fields(body, ...names) {
  for (const name of names) {
    if (body[name] === undefined) throw new Failure(12, `there is no ${name} in the request`);
  }
  return body;
}

// This node: its name, its peers, its directory, and what it answers.
class Node {
  constructor() {
    this.name = process.env.SPLITBRAIN_NODE;
    this.data = process.env.SPLITBRAIN_DATA;
    this.peers = JSON.parse(process.env.SPLITBRAIN_PEERS); // name -> "host:port"
    this.names = [this.name, ...Object.keys(this.peers)].sort();
    this.majority = Math.floor(this.names.length / 2) + 1;
    this.handlers = new Map([["clock", clock]]);
    this.links = new Map(Object.keys(this.peers).map((peer) => [peer, new Link(this, peer)]));
  }

  // Have a handler answer requests of a type, or of several.
  on(kinds, handler) {
    for (const kind of [kinds].flat()) this.handlers.set(kind, handler);
  }

  // The answer of a peer, or of this node itself. Rejects with a Failure: the peer's own
  // error; 11, and it never got the request, as there is no connection; 0, and nobody knows
  // whether it did.
  async call(peer, body, timeout_ms = 1000) {
    if (peer === this.name) return this.handle(body);
    return this.links.get(peer).call(body, timeout_ms);
  }

  // The answers of the first majority of all nodes, this one among those asked. Rejects with
  // a Failure (0) if there was no majority; the request may have reached some.
  askMajority(body, timeout_ms = 1000) {
    return new Promise((resolve, reject) => {
      const answers = [];
      let failed = 0;
      for (const name of this.names) {
        this.call(name, body, timeout_ms).then(
          (answer) => answers.push(answer) === this.majority && resolve([...answers]),
          () => ++failed > this.names.length - this.majority
            && reject(new Failure(0, "a majority did not answer")),
        );
      }
    });
  }

  // Serve clients and peers until killed.
  run() {
    const server = net.createServer({ noDelay: true }, (socket) => {
      socket.on("error", () => {}); // "close" follows.
      onLines(socket, (message) => this.answer(message, socket));
    });
    server.listen(address(process.env.SPLITBRAIN_LISTEN));
  }

  async answer(message, socket) {
    const { src, body } = message;
    if (typeof src !== "string" || !Number.isInteger(body.msg_id)) return; // Nobody to answer.
    let answer;
    try {
      answer = await this.handle(body);
    } catch (error) {
      if (!(error instanceof Failure)) console.error(error);
      const code = error instanceof Failure ? error.code : 13;
      answer = { type: "error", code, text: String(error?.message ?? error) };
    }
    write(socket, { src: this.name, dest: src, body: { ...answer, in_reply_to: body.msg_id } });
  }

  handle(body) {
    const handler = this.handlers.get(body.type);
    if (!handler) throw new Failure(10, `${body.type} is not supported`);
    const answer = handler(body);
    const finish = (given) => ({ type: `${body.type}_ok`, ...given });
    return answer instanceof Promise ? answer.then(finish) : finish(answer);
  }
}

// The connection to a peer, made when it is needed, and made again when it is lost.
class Link {
  constructor(node, peer) {
    Object.assign(this, { node, peer, lastId: 0, socket: null, waiting: new Map() });
  }

  call(body, timeout_ms) {
    const socket = (this.socket ??= this.connect());
    const msg_id = ++this.lastId;
    const message = { src: this.node.name, dest: this.peer, body: { ...body, msg_id } };
    return new Promise((resolve, reject) => {
      // A connection may be dead without saying so: the next call makes a new one.
      const timer = setTimeout(() => socket.destroy(), timeout_ms);
      this.waiting.set(msg_id, { resolve, reject, timer });
      write(socket, message); // Node.js holds it back until the socket is connected.
    });
  }

  connect() {
    const socket = net.connect({ ...address(this.node.peers[this.peer]), noDelay: true });
    const waiting = (this.waiting = new Map());
    let connected = false;
    socket.on("connect", () => (connected = true));
    socket.on("error", () => {}); // "close" follows.
    socket.on("close", () => {
      if (this.socket === socket) this.socket = null;
      for (const { reject, timer } of waiting.values()) {
        clearTimeout(timer);
        // Without a connection nothing was sent, so the error can be a definite one. With
        // one, the peer may have the request, and may yet carry it out.
        reject(
          connected
            ? new Failure(0, `${this.peer} did not answer`)
            : new Failure(11, `${this.peer} can't be reached`),
        );
      }
      waiting.clear();
    });
    onLines(socket, ({ body }) => {
      const call = waiting.get(body.in_reply_to);
      if (!call) return;
      waiting.delete(body.in_reply_to);
      clearTimeout(call.timer);
      if (body.type !== "error") return call.resolve(body);
      call.reject(new Failure(body.code ?? 13, String(body.text)));
    });
    return socket;
  }
}

// Values by key, in a file that survives kills and power losses.
class Journal {
  constructor(file) {
    this.values = new Map();
    this.file = fs.openSync(file, "a+");
    const bytes = fs.readFileSync(file);
    // A kill in mid-write leaves a line without an end. Nobody was told that it happened.
    const end = bytes.lastIndexOf("\n") + 1;
    fs.ftruncateSync(this.file, end);
    fs.fsyncSync(this.file); // What we are about to serve must be durable,
    const folder = fs.openSync(path.dirname(file), "r");
    fs.fsyncSync(folder); // and so must the file's name.
    fs.closeSync(folder);
    for (const line of bytes.subarray(0, end).toString().split("\n")) {
      if (line) this.values.set(...JSON.parse(line));
    }
  }

  // Durable first, visible second: what somebody has read must survive. A disk that fails ends
  // the process, as nobody knows what is in the file then. A restart reads it.
  put(key, value) {
    try {
      fs.appendFileSync(this.file, JSON.stringify([key, value]) + "\n");
      fs.fsyncSync(this.file);
    } catch (error) {
      console.error(`can't write the journal: ${error.message}`);
      process.exit(1);
    }
    this.values.set(key, value);
  }
}

// The answer to a request that every node should know: what our clocks show.
function clock() {
  const mono_ns = Number(process.hrtime.bigint());
  return { wall_ns: Date.now() * 1e6, mono_ns };
}

function address(text) {
  const colon = text.lastIndexOf(":");
  return { host: text.slice(0, colon), port: Number(text.slice(colon + 1)) };
}

// Calls `take` with each message that arrives, and skips lines that are no message.
function onLines(socket, take) {
  let unfinished = "";
  socket.setEncoding("utf8");
  socket.on("data", (chunk) => {
    const pieces = (unfinished + chunk).split("\n");
    unfinished = pieces.pop();
    if (unfinished.length > LINE_BYTES_MAX) return socket.destroy();
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

module.exports = { Failure, Journal, Node, fields };
