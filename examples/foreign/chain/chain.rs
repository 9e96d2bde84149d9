//! Registers on a chain of replicas (van Renesse and Schneider 2004), in Rust.
//!
//!     rustc -O --edition 2021 -o /tmp/chain examples/foreign/chain/chain.rs
//!     splitbrain run "launch:/tmp/chain" --nodes 3 --nemesis partition,kill
//!
//! Promise: registers with cas are linearizable, whatever happens to nodes: cut off,
//! paused, killed, or all without power at once. Nobody takes a node out of the chain, so
//! changes wait while one is away; reads need the last node only.
//!
//! How it works: the nodes stand in the order of their names. The first one, the head, puts
//! all changes in order: its log. Each node ships what it has on disk to its successor, and
//! answers its predecessor once the last node, the tail, has it too. What the tail has is
//! safe: it is carried out, and the head answers the client. The tail answers all reads. A
//! node passes requests on to head or tail.
//!
//! Bugs, each by `--bug NAME`:
//!
//!     reads-anywhere         a node answers reads from what it knows to be safe
//!     reads-from-the-log     a node answers reads from all that it has
//!     ack-at-head            the head answers once it has a change on its own disk
//!     ack-before-fsync       no node waits for its disk
//!     appended-twice         a shipment that comes again is appended again
//!     cas-by-what-is-safe    the head decides a cas at once, by what is safe, not in order
//!     late-answers-believed  a connection on which an answer is due serves other requests

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use std::{env, thread};

const PATIENCE: Duration = Duration::from_millis(800);
const ANSWER_WITHIN: Duration = Duration::from_millis(1000);
const SHIP_WITHIN: Duration = Duration::from_millis(400);
const CONNECT_WITHIN: Duration = Duration::from_millis(200);
const SHIPMENT_MAX: usize = 200;
const LINE_BYTES_MAX: u64 = 1 << 20;

type Fields = HashMap<String, String>; // a JSON object: name -> the value as it is written

/// The members of a JSON object, each as the text it is written as; None for anything else.
fn object(text: &str) -> Option<Fields> {
    let mut out = Fields::new();
    let mut rest = text.trim().strip_prefix('{')?.trim_start();
    while !rest.starts_with('}') {
        let (name, after) = rest.strip_prefix('"')?.split_once('"')?;
        rest = after.trim_start().strip_prefix(':')?.trim_start();
        let (mut depth, mut quoted, mut escaped, mut end) = (0, false, false, rest.len());
        for (at, c) in rest.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => quoted = !quoted,
                _ if quoted => {}
                ',' | '}' | ']' if depth == 0 => {
                    end = at;
                    break;
                }
                '{' | '[' => depth += 1,
                '}' | ']' => depth -= 1,
                _ => {}
            }
        }
        out.insert(name.to_string(), rest[..end].trim().to_string());
        rest = rest[end..].trim_start_matches(',').trim_start();
    }
    Some(out)
}

/// The elements of a JSON list of texts without escapes, which is what entries are sent as.
fn unquoted(text: &str) -> String {
    text.trim_matches('"').to_string()
}

fn number(fields: &Fields, name: &str) -> usize {
    fields.get(name).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn error(code: u32, text: &str) -> String {
    format!(r#""type":"error","code":{code},"text":"{text}""#)
}

// --- what a node has ---------------------------------------------------------------------

/// A change: the value to write, and for a cas the value that must be there.
#[derive(Clone)]
struct Entry {
    key: String,
    from: Option<String>,
    to: String,
}

impl Entry {
    fn json(&self) -> String {
        let from = self.from.as_ref().map_or(String::new(), |from| format!(r#","from":{from}"#));
        format!(r#"{{"key":{}{from},"to":{}}}"#, self.key, self.to)
    }
    fn of(text: &str) -> Option<Entry> {
        let mut fields = object(text)?;
        let (key, to) = (fields.remove("key")?, fields.remove("to")?);
        Some(Entry { key, from: fields.remove("from"), to })
    }
}

#[derive(Default)]
struct State {
    journal: Option<File>,
    log: Vec<Entry>,
    safe: usize,    // entries that the tail has, as far as this node knows
    applied: usize, // entries that were carried out
    data: HashMap<String, String>,
    answers: HashMap<usize, Option<String>>, // head: place -> the answer that a client waits for
    is_cut_off: bool,                        // the successor did not answer the last shipment
}

impl State {
    fn keep(&mut self, entries: &[Entry]) {
        let lines: String = entries.iter().map(|entry| entry.json() + "\n").collect();
        let journal = self.journal.as_mut().unwrap();
        // Nobody knows what a disk that failed holds: end, and let a restart read it.
        journal.write_all(lines.as_bytes()).unwrap_or_else(|e| fail(&e.to_string()));
        if !has_bug("ack-before-fsync") {
            journal.sync_data().unwrap_or_else(|e| fail(&e.to_string()));
        }
        self.log.extend_from_slice(entries);
    }

    fn become_safe(&mut self, safe: usize) {
        self.safe = self.safe.max(safe.min(self.log.len()));
        let end = if has_bug("reads-from-the-log") { self.log.len() } else { self.safe };
        while self.applied < end {
            let Entry { key, from, to } = self.log[self.applied].clone();
            self.applied += 1;
            let answer = match (self.data.get(&key), from) {
                (None, Some(_)) => error(20, "nobody wrote this key"),
                (Some(value), Some(from)) if *value != from => error(22, "it has another value"),
                (_, from) => {
                    self.data.insert(key, to);
                    let kind = if from.is_some() { "cas" } else { "write" };
                    format!(r#""type":"{kind}_ok""#)
                }
            };
            if let Some(place) = self.answers.get_mut(&self.applied) {
                *place = Some(answer);
            }
        }
    }

    fn read(&self, key: &str) -> String {
        match self.data.get(key) {
            None => error(20, "nobody wrote this key"),
            Some(value) => format!(r#""type":"read_ok","value":{value}"#),
        }
    }
}

fn has_bug(name: &str) -> bool {
    env::args().nth(1).as_deref() == Some("--bug") && env::args().nth(2).as_deref() == Some(name)
}

fn fail(text: &str) -> ! {
    eprintln!("{text}");
    std::process::exit(1)
}

struct Node {
    name: String,
    chain: Vec<String>,
    peers: BTreeMap<String, SocketAddr>,
    state: Mutex<State>,
    changed: Condvar,
    idle: Mutex<Vec<Link>>, // connections on which no answer is due
}

impl Node {
    fn open(name: String, peers: BTreeMap<String, SocketAddr>, folder: &str) -> std::io::Result<Node> {
        let mut chain: Vec<String> = peers.keys().cloned().chain([name.clone()]).collect();
        chain.sort();
        let path = format!("{folder}/journal.jsonl");
        let mut journal = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let mut text = Vec::new();
        journal.read_to_end(&mut text)?;
        // What lies behind the last whole line was never answered, and a loss of power may leave
        // any part of it. It must not be glued to the next line.
        let (mut whole, mut log) = (0, Vec::new());
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let entry = std::str::from_utf8(line).ok().and_then(|line| Entry::of(line));
            match entry {
                Some(entry) if line.ends_with(b"\n") => log.push(entry),
                _ => break,
            }
            whole += line.len();
        }
        // What we serve from here on must be durable.
        journal.set_len(whole as u64)?;
        journal.sync_all()?;
        File::open(folder)?.sync_all()?;
        let state = Mutex::new(State { journal: Some(journal), log, ..State::default() });
        let (changed, idle) = (Condvar::new(), Mutex::new(Vec::new()));
        Ok(Node { name, chain, peers, state, changed, idle })
    }

    fn head(&self) -> &str {
        &self.chain[0]
    }
    fn tail(&self) -> &str {
        &self.chain[self.chain.len() - 1]
    }
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Wait until `done` holds of the state; None if that takes longer than `within`.
    fn wait<T>(&self, within: Duration, mut done: impl FnMut(&mut State) -> Option<T>) -> Option<T> {
        let end = Instant::now() + within;
        let mut state = self.lock();
        loop {
            if let Some(found) = done(&mut state) {
                return Some(found);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Ship the log to the successor, for ever: what is new, and now and then nothing.
    fn ship(&self) {
        let at = self.chain.iter().position(|name| *name == self.name).unwrap();
        let mut link = Link::to(self, &self.chain[at + 1]);
        let mut next = usize::MAX; // how much the successor has, once it said so
        loop {
            let fresh = self.wait(SHIP_WITHIN / 4, |state| {
                let end = state.log.len().min(next.saturating_add(SHIPMENT_MAX));
                (end > next).then(|| state.log[next..end].to_vec())
            });
            let fresh = fresh.unwrap_or_default();
            let entries: Vec<String> = fresh.iter().map(Entry::json).collect();
            let before = if next == usize::MAX { 0 } else { next };
            let count = entries.len();
            let body = format!(
                r#""type":"ship","before":{before},"count":{count},"entries":[{}]"#,
                entries.join(",")
            );
            let answer = link.call(&body, SHIP_WITHIN);
            let mut state = self.lock();
            state.is_cut_off = answer.is_err();
            if let Ok(answer) = answer.and_then(|text| object(&text).ok_or(Lost::Sent)) {
                let doubled = has_bug("appended-twice") && next != usize::MAX;
                next = if doubled { next + count } else { number(&answer, "has") };
                if has_bug("appended-twice") { next = next.min(state.log.len()); }
                state.become_safe(number(&answer, "safe"));
            }
            self.changed.notify_all();
        }
    }

    fn on_ship(&self, body: &Fields) -> String {
        let before = number(body, "before");
        let mut entries = entries_of(body.get("entries").map_or("", String::as_str));
        let mut state = self.lock();
        if !has_bug("appended-twice") {
            // An earlier shipment may come again, after its answer was lost.
            let known = state.log.len().saturating_sub(before).min(entries.len());
            entries.drain(..known);
            if before > state.log.len() {
                entries.clear();
            }
        }
        if !entries.is_empty() {
            state.keep(&entries);
        }
        let has = state.log.len();
        if self.name == self.tail() {
            state.become_safe(has);
        } else if has_bug("reads-from-the-log") {
            state.become_safe(0);
        }
        self.changed.notify_all();
        drop(state);
        self.wait(SHIP_WITHIN / 2, |state| (state.safe >= has).then_some(()));
        format!(r#""type":"ship_ok","has":{has},"safe":{}"#, self.lock().safe)
    }

    /// Head: put a change into the log, and wait until it was carried out.
    fn change(&self, mut entry: Entry) -> String {
        let mut state = self.lock();
        if state.is_cut_off {
            return error(11, "the chain is broken");
        }
        if has_bug("cas-by-what-is-safe") && entry.from.is_some() {
            let value = state.data.get(&entry.key).cloned();
            if value != entry.from.take() {
                return error(22, "it has another value");
            }
        }
        state.keep(&[entry]);
        let place = state.log.len();
        if has_bug("ack-at-head") {
            self.changed.notify_all();
            return r#""type":"done""#.to_string();
        }
        state.answers.insert(place, None);
        drop(state);
        self.changed.notify_all();
        let answer = self.wait(PATIENCE, |state| state.answers.get_mut(&place)?.take());
        self.lock().answers.remove(&place);
        answer.unwrap_or_else(|| error(0, "the tail does not have it yet"))
    }

    fn handle(&self, body: &Fields) -> String {
        let kind = body.get("type").map_or(String::new(), |text| unquoted(text));
        if kind == "ship" {
            return self.on_ship(body);
        }
        let (passed_on, kind) = match kind.strip_prefix("pass-") {
            Some(kind) => (true, kind),
            None => (false, kind.as_str()),
        };
        let (needed, at): (&[&str], _) = match kind {
            "read" => (&["key"], self.tail()),
            "write" => (&["key", "value"], self.head()),
            "cas" => (&["key", "from", "to"], self.head()),
            _ => return error(10, "this is not supported"),
        };
        if let Some(field) = needed.iter().find(|field| !body.contains_key(**field)) {
            return error(12, &format!("there is no {field} in the request"));
        }
        let local = has_bug("reads-anywhere") || has_bug("reads-from-the-log");
        if kind == "read" && (at == self.name || local) {
            return self.lock().read(&body["key"]);
        }
        if at == self.name {
            let to = if kind == "cas" { &body["to"] } else { &body["value"] };
            let from = (kind == "cas").then(|| body["from"].clone());
            let answer = self.change(Entry { key: body["key"].clone(), from, to: to.clone() });
            let ok = format!(r#""type":"{kind}_ok""#);
            return if answer.starts_with(r#""type":"error""#) { answer } else { ok };
        }
        if passed_on {
            return error(11, "this node stands elsewhere in the chain");
        }
        let fields: Vec<String> =
            needed.iter().map(|field| format!(r#""{field}":{}"#, body[*field])).collect();
        let mut idle = self.idle.lock().unwrap();
        let place = idle.iter().position(|link| link.peer == at);
        let mut link = place.map_or_else(|| Link::to(self, at), |place| idle.remove(place));
        drop(idle);
        let body = format!(r#""type":"pass-{kind}",{}"#, fields.join(","));
        let answer = link.call(&body, ANSWER_WITHIN);
        self.idle.lock().unwrap().push(link);
        match answer {
            // The answer as it is, but for the id that it answers, which stands at its end.
            Ok(answer) => answer[1..answer.rfind(r#","in_reply_to""#).unwrap_or(1)].to_string(),
            Err(Lost::NotSent) => error(11, "head or tail can't be reached"),
            Err(Lost::Sent) => error(0, "head or tail did not answer"),
        }
    }

    fn serve(&self, socket: TcpStream) -> Option<()> {
        let mut writer = socket.try_clone().ok()?;
        let mut lines = BufReader::new(socket);
        loop {
            let mut line = Vec::new();
            lines.by_ref().take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut line).ok()?;
            if line.pop() != Some(b'\n') {
                return None; // the other side hung up, or its line is too long
            }
            let Some(message) = std::str::from_utf8(&line).ok().and_then(object) else { continue };
            let Some(mut body) = message.get("body").and_then(|body| object(body)) else { continue };
            let (Some(src), Some(id)) = (message.get("src"), body.remove("msg_id")) else { continue };
            let (answer, name) = (self.handle(&body), &self.name);
            let line = format!(
                "{{\"src\":\"{name}\",\"dest\":{src},\"body\":{{{answer},\"in_reply_to\":{id}}}}}\n"
            );
            writer.write_all(line.as_bytes()).ok()?;
        }
    }
}

/// The entries in a JSON list of objects.
fn entries_of(list: &str) -> Vec<Entry> {
    let mut out = Vec::new();
    let (mut depth, mut quoted, mut escaped, mut begin) = (0, false, false, 0);
    for (at, c) in list.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '{' => {
                if depth == 0 {
                    begin = at;
                }
                depth += 1;
            }
            '}' => {
                depth -= 1;
                if depth == 0 {
                    out.extend(Entry::of(&list[begin..=at]));
                }
            }
            _ => {}
        }
    }
    out
}

// --- talking to other nodes --------------------------------------------------------------

enum Lost {
    NotSent,
    Sent,
}

/// A connection to a peer, made when it is needed, for one request at a time.
struct Link {
    name: String,
    peer: String,
    at: SocketAddr,
    lines: Option<BufReader<TcpStream>>,
    last_id: usize,
}

impl Link {
    fn to(node: &Node, peer: &str) -> Link {
        let (name, peer, at) = (node.name.clone(), peer.to_string(), node.peers[peer]);
        Link { name, peer, at, lines: None, last_id: 0 }
    }

    /// The body that answers a request. Without one the connection is closed: the answer may
    /// still come on it, and must not be taken for the next one's.
    fn call(&mut self, body: &str, within: Duration) -> Result<String, Lost> {
        if self.lines.is_none() {
            let socket = TcpStream::connect_timeout(&self.at, CONNECT_WITHIN);
            let socket = socket.map_err(|_| Lost::NotSent)?;
            let _ = socket.set_nodelay(true);
            self.lines = Some(BufReader::new(socket));
        }
        let answer = self.exchange(body, within);
        let late = matches!(&answer, Err(kind) if *kind == ErrorKind::WouldBlock);
        if answer.is_err() && !(late && has_bug("late-answers-believed")) {
            self.lines = None;
        }
        answer.map_err(|_| Lost::Sent)
    }

    fn exchange(&mut self, body: &str, within: Duration) -> Result<String, ErrorKind> {
        self.last_id += 1;
        let (name, peer, id) = (&self.name, &self.peer, self.last_id);
        let line = format!(
            "{{\"src\":\"{name}\",\"dest\":\"{peer}\",\"body\":{{{body},\"msg_id\":{id}}}}}\n"
        );
        let lines = self.lines.as_mut().unwrap();
        let kind = |problem: std::io::Error| problem.kind();
        lines.get_ref().set_read_timeout(Some(within)).map_err(kind)?;
        lines.get_ref().set_write_timeout(Some(within)).map_err(kind)?;
        lines.get_mut().write_all(line.as_bytes()).map_err(kind)?;
        let mut answer = String::new();
        lines.read_line(&mut answer).map_err(kind)?;
        let body = object(&answer).and_then(|mut message| message.remove("body"));
        body.ok_or(ErrorKind::UnexpectedEof)
    }
}

fn main() -> std::io::Result<()> {
    let variable = |name: &str| env::var(name).unwrap_or_else(|_| fail(&format!("no {name}")));
    let peers = object(&variable("SPLITBRAIN_PEERS")).unwrap_or_default();
    let peers = peers.iter().map(|(name, at)| (name.clone(), unquoted(at).parse().unwrap()));
    let folder = variable("SPLITBRAIN_DATA");
    let node = Arc::new(Node::open(variable("SPLITBRAIN_NODE"), peers.collect(), &folder)?);
    if node.name == node.tail() {
        node.lock().become_safe(usize::MAX);
    } else {
        let shipping = node.clone();
        thread::spawn(move || shipping.ship());
    }
    for socket in TcpListener::bind(variable("SPLITBRAIN_LISTEN"))?.incoming().flatten() {
        let (node, _) = (node.clone(), socket.set_nodelay(true));
        thread::spawn(move || node.serve(socket));
    }
    Ok(())
}
