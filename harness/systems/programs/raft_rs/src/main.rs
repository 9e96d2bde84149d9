//! A node on raft-rs: registers and transactions on them, replicated by its log, behind WIRE.md.
//!
//!     raft_rs --reads=index|lease|local --store=file|file-nosync|memory
//!
//! Clients are served at SPLITBRAIN_LISTEN, and nodes send each other the library's messages at
//! the ports above. Every node serves every request: the library forwards proposals, and asks
//! for read indexes, on its own.
mod log;
mod peers;
mod replica;
mod splitbrain_node;
mod store;

use crate::log::{Keeping, Log};
use crate::replica::{Change, Replica, Settings};
use raft::ReadOnlyOption;
use splitbrain_node::Node;

fn main() {
    let mut settings = Settings { reads: Some(ReadOnlyOption::Safe), keeping: Keeping::Synced };
    for word in std::env::args().skip(1) {
        match word.as_str() {
            "--reads=index" => settings.reads = Some(ReadOnlyOption::Safe),
            "--reads=lease" => settings.reads = Some(ReadOnlyOption::LeaseBased),
            "--reads=local" => settings.reads = None,
            "--store=file" => settings.keeping = Keeping::Synced,
            "--store=file-nosync" => settings.keeping = Keeping::Unsynced,
            "--store=memory" => settings.keeping = Keeping::Memory,
            _ => die(format!("there is no option {word}")),
        }
    }
    let mut node = Node::new();
    let log = Log::open(&node.data, settings.keeping);
    let replica = Replica::start(&node, settings, log);
    for kind in ["read", "write", "cas", "txn"] {
        let replica = replica.clone();
        node.on(kind, move |_, body| replica.serve(body));
    }
    for (kind, change) in
        [("add", Change::Add), ("remove", Change::Remove), ("transfer", Change::Transfer)]
    {
        let replica = replica.clone();
        node.on(kind, move |_, body| replica.change(change, body));
    }
    let asked = replica.clone();
    node.on("members", move |_, _| asked.members());
    node.on("status", move |_, _| Ok(replica.status()));
    node.run();
}

/// Ends the node: it can't go on.
pub fn die(why: impl std::fmt::Display) -> ! {
    eprintln!("{why}");
    std::process::exit(1);
}
