//! A register service: the first node by name has the data, the others pass requests on.
//!
//!     rustc --edition 2021 -O examples/nodes/rust/register.rs -o /tmp/register
//!     splitbrain run launch:/tmp/register --nemesis partition,kill,pause
//!
//! It is linearizable because one process does everything, one request at a time. Nothing is
//! replicated, so nothing works while the owner is down or cut off: it is safe, but not
//! available. Replace it by a protocol of your own, and let splitbrain tell you whether it is
//! still linearizable.
mod splitbrain_node;
use splitbrain_node::{quote, Body, Failure, Journal, Node};
use std::sync::Mutex;
use std::time::Duration;

fn main() {
    let mut node = Node::new();
    let owner = node.names[0].clone();
    let leader = owner.clone();
    node.on("status", move |node, _| {
        let role = if node.name == leader { "leader" } else { "follower" };
        Ok(Body::new().with("role", quote(role)).with("term", "1").with("leader", quote(&leader)))
    });
    if node.name == owner {
        let path = node.data.join("journal.jsonl");
        let journal = Journal::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        // One at a time: that order is what makes it linearizable.
        let journal: &'static Mutex<Journal> = Box::leak(Box::new(Mutex::new(journal)));
        for kind in ["read", "write", "cas"] {
            node.on(kind, move |_, body| register(&mut journal.lock().unwrap(), body));
        }
    } else {
        for kind in ["read", "write", "cas"] {
            let owner = owner.clone();
            node.on(kind, move |node, body| node.call(&owner, body, Duration::from_secs(1)));
        }
    }
    node.run();
}

fn register(journal: &mut Journal, body: &Body) -> Result<Body, Failure> {
    let (kind, key) = (body.text("type")?, body.get("key")?);
    if kind == "write" {
        journal.put(&key, &body.get("value")?);
        return Ok(Body::new());
    }
    let (from, to) = match kind.as_str() {
        "cas" => (body.get("from")?, body.get("to")?),
        _ => Default::default(),
    };
    let missing = || Failure::new(20, format!("there is no key {key}"));
    let value = journal.values.get(&key).ok_or_else(missing)?.clone();
    if kind == "read" {
        return Ok(Body::new().with("value", value));
    }
    if from != value {
        return Err(Failure::new(22, format!("expected {from}, but it is {value}")));
    }
    journal.put(&key, &to);
    Ok(Body::new())
}
