//! The wire of splitbrain (WIRE.md) for nodes in Rust: copy this file beside yours.
//!
//!     mod splitbrain_node;
//!     use splitbrain_node::{Body, Node};
//!
//!     fn main() {
//!         let mut node = Node::new();
//!         node.on("echo", |_, body| Ok(Body::new().with("echo", body.get("echo")?)));
//!         node.run();
//!     }
//!
//! Needs Rust 1.63 or later and no crates. A handler gets the body of a request and returns that
//! of the answer, whose type is filled in, or the `Failure` that is answered. Handlers run side by
//! side, on a thread for each connection: guard what they share.
//!
//! Fields are kept as the JSON text they came in, so whatever a client wrote is what a reader
//! gets, however large its numbers are.
#![allow(dead_code)]

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const LINE_BYTES_MAX: usize = 1 << 20;
const NESTING_MAX: usize = 1000;

/// An answer of type error; its code says whether anything may have happened.
#[derive(Debug, Clone)]
pub struct Failure {
    pub code: i64,
    pub text: String,
}

impl Failure {
    pub fn new(code: i64, text: impl Into<String>) -> Failure {
        Failure { code, text: text.into() }
    }
}

/// A message's body: its fields, as JSON.
#[derive(Debug, Clone, Default)]
pub struct Body(BTreeMap<String, String>);

impl Body {
    pub fn new() -> Body {
        Body::default()
    }

    /// This body, with one more field; its value is JSON (`quote` makes it of a text).
    pub fn with(mut self, field: &str, json: impl Into<String>) -> Body {
        self.0.insert(field.to_string(), json.into());
        self
    }

    /// A field, as JSON; without it, the Failure is 12.
    pub fn get(&self, field: &str) -> Result<String, Failure> {
        let found = self.0.get(field).cloned();
        found.ok_or_else(|| Failure::new(12, format!("there is no {field} in the request")))
    }

    /// A field that is a string; of another kind, the Failure is 12 as well.
    pub fn text(&self, field: &str) -> Result<String, Failure> {
        let wrong = || Failure::new(12, format!("{field} is no string"));
        unquote(&self.get(field)?).ok_or_else(wrong)
    }

    /// A field that is a whole number; of another kind, the Failure is 12 as well.
    pub fn int(&self, field: &str) -> Result<i64, Failure> {
        let wrong = |_| Failure::new(12, format!("{field} is no whole number"));
        self.get(field)?.parse().map_err(wrong)
    }

    fn json(&self) -> String {
        let fields = self.0.iter().map(|(name, json)| format!("{}:{json}", quote(name)));
        format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
    }
}

type Answer = Result<Body, Failure>;
type Handler = Box<dyn Fn(&Node, &Body) -> Answer + Send + Sync>;

/// This node: its name, its peers, its directory, and what it answers.
pub struct Node {
    pub name: String,
    pub data: PathBuf,
    pub peers: BTreeMap<String, String>, // name -> "host:port"
    pub names: Vec<String>,              // of all nodes, sorted
    pub majority: usize,
    handlers: HashMap<String, Handler>,
    idle: Mutex<HashMap<String, Vec<Link>>>,
}

impl Node {
    /// Reads what the environment says of this node.
    pub fn new() -> Node {
        let set = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
        let name = set("SPLITBRAIN_NODE");
        let told = object(&set("SPLITBRAIN_PEERS")).expect("SPLITBRAIN_PEERS is no JSON object");
        let peers: BTreeMap<_, _> =
            told.0.iter().map(|(k, v)| (k.clone(), unquote(v).expect("no address"))).collect();
        let mut names: Vec<String> = peers.keys().cloned().chain([name.clone()]).collect();
        names.sort();
        let mut node = Node {
            name,
            data: set("SPLITBRAIN_DATA").into(),
            peers,
            majority: names.len() / 2 + 1,
            names,
            handlers: HashMap::new(),
            idle: Mutex::default(),
        };
        let started = Instant::now();
        node.on("clock", move |_, _| {
            let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
            let mono = started.elapsed().as_nanos();
            Ok(Body::new().with("wall_ns", wall.to_string()).with("mono_ns", mono.to_string()))
        });
        node
    }

    /// Have a handler answer requests of a type.
    pub fn on<F>(&mut self, kind: &str, handler: F)
    where
        F: Fn(&Node, &Body) -> Answer + Send + Sync + 'static,
    {
        self.handlers.insert(kind.to_string(), Box::new(handler));
    }

    /// The answer of a peer, or of this node itself. The Failure is the peer's own; 11, and it
    /// never got the request, as there is no connection; or 0, and nobody knows whether it did.
    pub fn call(&self, peer: &str, body: &Body, timeout: Duration) -> Answer {
        if peer == self.name {
            return self.handle(body);
        }
        let kept = self.idle.lock().unwrap().get_mut(peer).and_then(Vec::pop);
        let mut link = match kept.filter(Link::is_open) {
            Some(link) => link,
            None => Link::connect(&self.peers[peer], timeout)
                .ok_or_else(|| Failure::new(11, format!("{peer} can't be reached")))?,
        };
        // From here on the peer may have the request: no answer is an indefinite error, and the
        // connection, on which the answer may still come, is not used again.
        let answer = link
            .ask(&self.name, peer, body, timeout)
            .ok_or_else(|| Failure::new(0, format!("{peer} did not answer")))?;
        self.idle.lock().unwrap().entry(peer.to_string()).or_default().push(link);
        if answer.text("type")? == "error" {
            let text = answer.text("text").unwrap_or_default();
            return Err(Failure::new(answer.int("code").unwrap_or(13), text));
        }
        Ok(answer)
    }

    /// The answers of the nodes that gave one, this one among those asked, once all have
    /// answered or failed. A Failure (0) if they are no majority; the request may have reached
    /// some.
    pub fn ask_majority(&self, body: &Body, timeout: Duration) -> Result<Vec<Body>, Failure> {
        let answers: Vec<Body> = std::thread::scope(|scope| {
            let mut asked = Vec::new();
            for name in &self.names {
                asked.push(scope.spawn(move || self.call(name, body, timeout).ok()));
            }
            asked.into_iter().filter_map(|thread| thread.join().ok().flatten()).collect()
        });
        if answers.len() < self.majority {
            return Err(Failure::new(0, "a majority did not answer"));
        }
        Ok(answers)
    }

    /// Serve clients and peers until killed.
    pub fn run(self) {
        let listen = std::env::var("SPLITBRAIN_LISTEN").expect("SPLITBRAIN_LISTEN is not set");
        let listener = TcpListener::bind(&listen).unwrap_or_else(|e| panic!("{listen}: {e}"));
        let node = Arc::new(self);
        for stream in listener.incoming().flatten() {
            let node = node.clone();
            std::thread::spawn(move || node.serve(stream));
        }
    }

    fn serve(&self, mut stream: TcpStream) {
        let Ok(reading) = stream.try_clone() else { return };
        stream.set_nodelay(true).ok();
        let mut lines = BufReader::new(reading);
        while let Some(line) = read_line(&mut lines) {
            let Some(message) = object(&line) else { continue };
            let asked = message.get("body").ok().and_then(|body| object(&body));
            let (Some(asked), Ok(client)) = (asked, message.get("src")) else { continue };
            let (Ok(_), Ok(id)) = (asked.text("type"), asked.int("msg_id")) else { continue };
            let handled =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.handle(&asked)));
            let answer = match handled {
                Ok(Ok(body)) => body,
                Ok(Err(failure)) => error_body(&failure),
                Err(_) => error_body(&Failure::new(13, "the handler panicked")),
            };
            let body = answer.with("in_reply_to", id.to_string());
            if stream.write_all(frame(&self.name, &client, &body).as_bytes()).is_err() {
                return;
            }
        }
    }

    fn handle(&self, body: &Body) -> Answer {
        let kind = body.text("type")?;
        let unknown = || Failure::new(10, format!("{kind} is not supported"));
        let answer = self.handlers.get(&kind).ok_or_else(unknown)?(self, body)?;
        Ok(answer.with("type", quote(&format!("{kind}_ok"))))
    }
}

fn error_body(failure: &Failure) -> Body {
    let code = failure.code.to_string();
    Body::new().with("type", quote("error")).with("code", code).with("text", quote(&failure.text))
}

fn frame(src: &str, dest_json: &str, body: &Body) -> String {
    format!("{{\"src\":{},\"dest\":{dest_json},\"body\":{}}}\n", quote(src), body.json())
}

/// A connection to a peer, for one request at a time.
struct Link {
    stream: TcpStream,
    lines: BufReader<TcpStream>,
    last_id: i64,
}

impl Link {
    fn connect(address: &str, timeout: Duration) -> Option<Link> {
        let found = address.to_socket_addrs().ok()?.next()?;
        let stream = TcpStream::connect_timeout(&found, timeout).ok()?;
        stream.set_nodelay(true).ok();
        let lines = BufReader::new(stream.try_clone().ok()?);
        Some(Link { stream, lines, last_id: 0 })
    }

    /// False once the peer has closed it, so that nothing is sent into the void.
    fn is_open(&self) -> bool {
        let mut byte = [0];
        self.stream.set_nonblocking(true).ok();
        let nothing_yet = self.stream.peek(&mut byte);
        self.stream.set_nonblocking(false).ok();
        matches!(nothing_yet, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    }

    fn ask(&mut self, src: &str, peer: &str, body: &Body, timeout: Duration) -> Option<Body> {
        self.last_id += 1;
        let sent = body.clone().with("msg_id", self.last_id.to_string());
        self.stream.set_write_timeout(Some(timeout)).ok()?;
        self.stream.set_read_timeout(Some(timeout)).ok()?;
        self.stream.write_all(frame(src, &quote(peer), &sent).as_bytes()).ok()?;
        let answer = object(&object(&read_line(&mut self.lines)?)?.get("body").ok()?)?;
        (answer.int("in_reply_to").ok()? == self.last_id).then_some(answer)
    }
}

/// Values by key, in a file that survives kills and power losses.
pub struct Journal {
    pub values: HashMap<String, String>, // JSON by the key's JSON
    file: File,
}

impl Journal {
    /// Reads a journal, or makes it.
    pub fn open(path: &Path) -> std::io::Result<Journal> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).open(path)?;
        let mut held = Vec::new();
        file.read_to_end(&mut held)?;
        // A kill in mid-write leaves a line without an end. Nobody was told that it happened.
        let end = held.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let mut values = HashMap::new();
        for line in String::from_utf8_lossy(&held[..end]).lines() {
            let entry = items(line).filter(|entry| entry.len() == 2);
            let entry = entry.unwrap_or_else(|| panic!("the journal is damaged: {line}"));
            values.insert(entry[0].clone(), entry[1].clone());
        }
        file.set_len(end as u64)?;
        file.seek(SeekFrom::Start(end as u64))?;
        file.sync_all()?; // What we are about to serve must be durable,
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?; // and so must its name.
        Ok(Journal { values, file })
    }

    /// Durable first, visible second: what somebody has read must survive. A disk that fails ends
    /// the process, as nobody knows what is in the file then. A restart reads it.
    pub fn put(&mut self, key: &str, value: &str) {
        let line = format!("[{key},{value}]\n");
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            eprintln!("can't write the journal: {error}");
            std::process::exit(1);
        }
        self.values.insert(key.to_string(), value.to_string());
    }
}

/// The next line without its end; None at the end, or at a line that is too long.
fn read_line(lines: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = Vec::new();
    lines.take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line).ok()?;
    if line.pop()? != b'\n' {
        return None;
    }
    Some(String::from_utf8(line).unwrap_or_default()) // An empty line is no message.
}

/// A text as JSON.
pub fn quote(text: &str) -> String {
    let mut json = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            c if (c as u32) < 0x20 => json.push_str(&format!("\\u{:04x}", c as u32)),
            c => json.push(c),
        }
    }
    json.push('"');
    json
}

/// The text of a JSON string; None if it is none.
pub fn unquote(json: &str) -> Option<String> {
    let mut scanner = Scanner { text: json.as_bytes(), at: 0 };
    let units = scanner.string()?;
    (scanner.at == json.len()).then(|| String::from_utf16_lossy(&units))
}

/// The fields of a JSON object, their values without blanks; None if it is none.
pub fn object(json: &str) -> Option<Body> {
    let mut scanner = Scanner { text: json.as_bytes(), at: 0 };
    let mut body = Body::new();
    scanner.blanks();
    scanner.sequence(b'{', b'}', |scanner| {
        let name = String::from_utf16_lossy(&scanner.string()?);
        scanner.blanks();
        scanner.exactly(b':')?;
        scanner.blanks();
        body.0.insert(name, scanner.value(0)?);
        Some(())
    })?;
    scanner.blanks();
    (scanner.at == json.len()).then_some(body)
}

/// The elements of a JSON array, without blanks; None if it is none.
pub fn items(json: &str) -> Option<Vec<String>> {
    let mut scanner = Scanner { text: json.as_bytes(), at: 0 };
    let mut found = Vec::new();
    scanner.blanks();
    scanner.sequence(b'[', b']', |scanner| Some(found.push(scanner.value(0)?)))?;
    scanner.blanks();
    (scanner.at == json.len()).then_some(found)
}

/// Reads JSON (RFC 8259) from left to right; None means that it is none.
struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn exactly(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// A value's text, without blanks.
    fn value(&mut self, depth: usize) -> Option<String> {
        let from = self.at;
        if depth > NESTING_MAX {
            return None;
        }
        let mut parts = Vec::new();
        match self.peek()? {
            b'{' => {
                self.sequence(b'{', b'}', |scanner| {
                    let name = scanner.at;
                    scanner.string()?;
                    let name = String::from_utf8_lossy(&scanner.text[name..scanner.at]).to_string();
                    scanner.blanks();
                    scanner.exactly(b':')?;
                    scanner.blanks();
                    Some(parts.push(format!("{name}:{}", scanner.value(depth + 1)?)))
                })?;
                return Some(format!("{{{}}}", parts.join(",")));
            }
            b'[' => {
                self.sequence(b'[', b']', |scanner| Some(parts.push(scanner.value(depth + 1)?)))?;
                return Some(format!("[{}]", parts.join(",")));
            }
            b'"' => drop(self.string()?),
            b't' => self.word(b"true")?,
            b'f' => self.word(b"false")?,
            b'n' => self.word(b"null")?,
            _ => self.number()?,
        }
        Some(String::from_utf8_lossy(&self.text[from..self.at]).to_string())
    }

    fn sequence(
        &mut self,
        open: u8,
        close: u8,
        mut item: impl FnMut(&mut Self) -> Option<()>,
    ) -> Option<()> {
        self.exactly(open)?;
        self.blanks();
        if self.exactly(close).is_some() {
            return Some(());
        }
        loop {
            item(self)?;
            self.blanks();
            if self.exactly(close).is_some() {
                return Some(());
            }
            self.exactly(b',')?;
            self.blanks();
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.text[self.at..].starts_with(word).then(|| self.at += word.len())
    }

    fn number(&mut self) -> Option<()> {
        let _ = self.exactly(b'-');
        if self.exactly(b'0').is_none() {
            self.digits()?;
        }
        if self.exactly(b'.').is_some() {
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let from = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > from).then_some(())
    }

    /// A string's text, in UTF-16, as JSON's escapes have it.
    fn string(&mut self) -> Option<Vec<u16>> {
        self.exactly(b'"')?;
        let mut units = Vec::new();
        loop {
            let from = self.at;
            while !matches!(self.peek()?, b'"' | b'\\' | 0..=0x1f) {
                self.at += 1;
            }
            units.extend(std::str::from_utf8(&self.text[from..self.at]).ok()?.encode_utf16());
            if self.exactly(b'"').is_some() {
                return Some(units);
            }
            self.exactly(b'\\')?;
            let escaped = self.peek()?;
            self.at += 1;
            units.push(match escaped {
                b'"' | b'\\' | b'/' => u16::from(escaped),
                b'b' => 0x08,
                b'f' => 0x0c,
                b'n' => 0x0a,
                b'r' => 0x0d,
                b't' => 0x09,
                b'u' => {
                    let digits = self.text.get(self.at..self.at + 4)?;
                    let all_hex = digits.iter().all(u8::is_ascii_hexdigit);
                    self.at += 4;
                    let digits = std::str::from_utf8(digits).ok().filter(|_| all_hex)?;
                    u16::from_str_radix(digits, 16).ok()?
                }
                _ => return None,
            });
        }
    }
}
