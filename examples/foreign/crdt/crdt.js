#!/usr/bin/env node
// A set that grows and a counter that goes up and down, on all nodes at once (Shapiro,
// Preguiça, Baquero and Zawirski 2011), in JavaScript.
//
//     splitbrain run "launch:node examples/foreign/crdt/crdt.js g_set" --workload g_set --nemesis partition,kill
//     splitbrain run "launch:node examples/foreign/crdt/crdt.js pn_counter" --workload pn_counter --nemesis partition,kill
//
// Promise: what was added and acknowledged is never lost, and some seconds after the last
// fault all nodes know all of it, whatever happened to them: cut off, paused, killed, or
// all without power at once. Each node serves alone; reads may be stale. Clocks must run:
// a node whose clock stands still tells nobody anything meanwhile.
//
// How it works: a node's state is a set, and for each node what it added to the counter
// and what it took away. Only a node itself changes its own two sums, and they only grow.
// So states are merged by the union and the greatest sums, in any order, twice or not at
// all. Each node tells each other one its sums, or the elements that the other has not
// confirmed yet, several times a second. What a client added is on the node's disk before
// it is acknowledged, or told to others: a node that forgot its own sums would count on
// from less. Elements are added to a journal; sums are few, and their file is replaced.
//
// Bugs, each by `--bug NAME`:
//
//     ack-before-fsync    g_set: an addition is acknowledged before it is on disk
//     sent-once           g_set: what was sent counts as arrived, and is not sent again
//     journal-overwritten g_set: a node that is started again begins a new journal
//     sums-replaced       pn_counter: merging takes what others say, even of one's own sums
//     one-sum             pn_counter: there is one pair of sums, not one for each node
//     net-sums            pn_counter: up and down are one sum; merging takes the greater
//     own-sums-forgotten  pn_counter: a node counts on from what others tell it
//     rename-unsynced     pn_counter: the file is replaced before the new one is on disk

"use strict";

const fs = require("fs");
const net = require("net");
const path = require("path");

const NAME = process.env.SPLITBRAIN_NODE;
const LISTEN = address(process.env.SPLITBRAIN_LISTEN);
const PEERS = JSON.parse(process.env.SPLITBRAIN_PEERS); // name -> "host:port"
const DATA = process.env.SPLITBRAIN_DATA;
const [WORKLOAD, , BUG] = process.argv.slice(2); // WORKLOAD [--bug NAME]

const GOSSIP_MS = 150;
const SILENCE_MS = 1000; // a peer that confirms nothing for so long gets a new connection
const SENT_MAX = 2000; // elements in one message
const LINE_CHARS_MAX = 1 << 20;

function address(text) {
  const colon = text.lastIndexOf(":");
  return { host: text.slice(0, colon), port: Number(text.slice(colon + 1)) };
}

function error(code, text) {
  return { type: "error", code, text };
}

// --- the states ----------------------------------------------------------------------
//
// All that they do is synchronous, so nothing is seen by others before it is on disk. An
// error of the disk ends the process, as nobody knows what the file holds then.

class GrowSet {
  constructor() {
    const file = path.join(DATA, "journal.jsonl");
    this.elements = []; // in the order in which this node learned of them
    this.known = new Set();
    this.journal = fs.openSync(file, BUG === "journal-overwritten" ? "w+" : "a+");
    const bytes = fs.readFileSync(file);
    // The end in mid-write leaves a part of a line, which was never acknowledged.
    let end = 0;
    for (let next; (next = bytes.indexOf("\n", end) + 1); end = next) {
      try {
        this.hear([JSON.parse(bytes.subarray(end, next).toString())]);
      } catch {
        break;
      }
    }
    fs.ftruncateSync(this.journal, end);
    fs.fsyncSync(this.journal);
    syncFolder();
  }

  add({ element }) {
    if (element === undefined) return error(12, "there is no element in the request");
    fs.appendFileSync(this.journal, JSON.stringify(element) + "\n");
    if (BUG !== "ack-before-fsync") fs.fsyncSync(this.journal);
    this.hear([element]);
    return { type: "add_ok" };
  }

  read() {
    return this.elements;
  }

  news(start) {
    return this.elements.slice(start, start + SENT_MAX);
  }

  // Others' elements are not kept on disk: they have them there, and tell us again.
  hear(elements) {
    for (const element of elements) {
      if (this.known.has(JSON.stringify(element))) continue;
      this.known.add(JSON.stringify(element));
      this.elements.push(element);
    }
    return elements.length;
  }
}

class Counter {
  constructor() {
    this.file = path.join(DATA, "sums.json");
    this.sums = { up: {}, down: {} }; // way -> node -> what it added in all
    if (fs.existsSync(this.file) && BUG !== "own-sums-forgotten") {
      const text = fs.readFileSync(this.file, "utf8");
      const isWhole = BUG !== "rename-unsynced" || text.endsWith("}");
      if (isWhole) this.sums = JSON.parse(text);
    }
    this.save();
  }

  add({ delta }) {
    if (!Number.isInteger(delta)) return error(12, "there is no whole delta in the request");
    const name = BUG === "one-sum" ? "all" : NAME;
    const way = delta < 0 && BUG !== "net-sums" ? "down" : "up";
    const more = BUG === "net-sums" ? delta : Math.abs(delta);
    this.sums[way][name] = (this.sums[way][name] ?? 0) + more;
    this.save();
    return { type: "add_ok" };
  }

  // A file is replaced in one step, by one that is on disk.
  save() {
    const fresh = fs.openSync(this.file + ".new", "w");
    fs.writeSync(fresh, JSON.stringify(this.sums));
    if (BUG !== "rename-unsynced") fs.fsyncSync(fresh);
    fs.closeSync(fresh);
    fs.renameSync(this.file + ".new", this.file);
    syncFolder();
  }

  read() {
    const sum = (part) => Object.values(part).reduce((a, b) => a + b, 0);
    return sum(this.sums.up) - sum(this.sums.down);
  }

  news() {
    return this.sums;
  }

  hear(theirs) {
    for (const way of ["up", "down"]) {
      for (const [name, sum] of Object.entries(theirs[way])) {
        const mine = this.sums[way][name];
        if (BUG === "sums-replaced") this.sums[way][name] = sum;
        else this.sums[way][name] = mine === undefined ? sum : Math.max(mine, sum);
      }
    }
    return 0;
  }
}

function syncFolder() {
  const folder = fs.openSync(DATA, "r");
  fs.fsyncSync(folder);
  fs.closeSync(folder);
}

// --- other nodes ---------------------------------------------------------------------

// Tells one peer what it has not confirmed, again and again.
class Gossip {
  constructor(peer) {
    this.peer = peer;
    this.confirmed = 0; // elements that the peer has for certain
    this.life = ""; // of the peer: one that was started again has to be told anew
    this.heard = performance.now();
    setInterval(() => this.tell(), GOSSIP_MS);
  }

  tell() {
    if (this.socket && performance.now() - this.heard > SILENCE_MS) this.socket.destroy();
    if (!this.socket) this.connect();
    const [start, news] = [this.confirmed, state.news(this.confirmed)];
    if (BUG === "sent-once") this.confirmed += news.length;
    write(this.socket, { src: NAME, dest: this.peer, body: { type: "gossip", start, news } });
  }

  connect() {
    this.heard = performance.now();
    const socket = net.connect({ ...address(PEERS[this.peer]), noDelay: true });
    this.socket = socket;
    socket.on("error", () => {}); // "close" follows.
    socket.on("close", () => {
      if (this.socket === socket) this.socket = null;
    });
    messages(socket, ({ body }) => {
      this.heard = performance.now();
      if (BUG === "sent-once") return;
      const isSame = body.life === this.life;
      this.confirmed = isSame ? Math.max(this.confirmed, body.has) : 0;
      this.life = body.life;
    });
  }
}

function handle(body) {
  if (body.type === "add") return state.add(body);
  if (body.type === "read") return { type: "read_ok", value: state.read() };
  if (body.type !== "gossip") return error(10, `${body.type} is not supported`);
  return { type: "gossip_ok", life, has: body.start + state.hear(body.news) };
}

// --- messages ------------------------------------------------------------------------

// Calls `take` with each message that arrives, and skips lines that are no message.
function messages(socket, take) {
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

const life = `${process.pid} ${Date.now()} ${Math.random()}`; // another one after a kill
const state = WORKLOAD === "g_set" ? new GrowSet() : new Counter();
for (const peer of Object.keys(PEERS)) new Gossip(peer);
const server = net.createServer({ noDelay: true }, (socket) => {
  socket.on("error", () => {}); // "close" follows.
  messages(socket, ({ src, body }) => {
    write(socket, { src: NAME, dest: src, body: { ...handle(body), in_reply_to: body.msg_id } });
  });
});
server.listen(LISTEN);
