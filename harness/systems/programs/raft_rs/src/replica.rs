//! The library at work: one thread that ticks, steps, keeps what has to be kept, and applies.
use crate::die;
use crate::log::{Keeping, Log};
use crate::peers::Peers;
use crate::splitbrain_node::{quote, Body, Failure, Node};
use crate::store::{Command, Store};
use protobuf::Message as _;
use raft::eraftpb::{ConfChange, ConfChangeType, Entry, EntryType, Message, MessageType};
use raft::{Config, RawNode, ReadOnlyOption, ReadState, SnapshotStatus, StateRole};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const TICK: Duration = Duration::from_millis(50);
const ELECTION_TICKS: usize = 10;
const HEARTBEAT_TICKS: usize = 2;
const ASK_AGAIN: Duration = Duration::from_millis(300);
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1500);
const EVENTS_AT_ONCE: usize = 256;
const MESSAGE_BYTES_MAX: u64 = 1 << 20;

pub struct Settings {
    pub reads: Option<ReadOnlyOption>, // None: each node answers from its own state
    pub keeping: Keeping,
}

type Answer = Result<Body, Failure>;
type Reply = Sender<Answer>;

pub enum Event {
    Read(Query, Reply),
    Propose(Command, Reply),
    Members(Reply),
    Change(Change, u64, Reply),
    Message(Message),
    Unreachable(u64),
    Snapshot(u64, SnapshotStatus),
}

/// What is read, without a place in the log.
pub enum Query {
    Key(String),
    Txn(Command),
    Nothing, // but that this node can still read
}

/// What an operator asks for.
#[derive(Clone, Copy, PartialEq)]
pub enum Change {
    Add,
    Remove,
    Transfer,
}

/// What a handler needs to reach the thread.
#[derive(Clone)]
pub struct Replica {
    names: Vec<String>, // of all nodes; ids are their places, from 1 on
    events: Sender<Event>,
    status: Arc<Mutex<Body>>,
}

impl Replica {
    pub fn start(node: &Node, settings: Settings, mut log: Log) -> Replica {
        let names = node.names.clone();
        let joins = std::env::var("SPLITBRAIN_CLUSTER").is_ok_and(|told| told == "existing");
        if log.is_new() && !joins {
            log.begin((1..=names.len() as u64).collect(), Store::default().encode());
        }
        let of = |name: &str| id_of(&names, name).expect("it is the name of a node");
        let listen = std::env::var("SPLITBRAIN_LISTEN").expect("SPLITBRAIN_LISTEN is not set");
        let addresses = node.peers.iter().map(|(name, at)| (of(name), at.clone())).collect();
        let (events, taken) = channel();
        let peers = Peers::start(&listen, addresses, events.clone());
        let config = Config {
            id: of(&node.name),
            election_tick: ELECTION_TICKS,
            heartbeat_tick: HEARTBEAT_TICKS,
            max_size_per_msg: MESSAGE_BYTES_MAX,
            check_quorum: true,
            pre_vote: true,
            read_only_option: settings.reads.unwrap_or(ReadOnlyOption::Safe),
            applied: log.snapshot().get_metadata().index,
            ..Config::default()
        };
        let snapshot = log.snapshot().get_data().to_vec();
        let library = RawNode::new(&config, log, &slog::Logger::root(Stderr, slog::o!()));
        let replica = Replica { names: names.clone(), events, status: Arc::default() };
        let mut machine = Machine {
            applied: config.applied,
            library: library.unwrap_or_else(|error| die(error)),
            store: restored(&snapshot),
            peers,
            names,
            local_reads: settings.reads.is_none(),
            run: std::collections::hash_map::RandomState::new().build_hasher().finish(),
            last_id: 0,
            proposed: HashMap::new(),
            reads: HashMap::new(),
            transfer: None,
            status: replica.status.clone(),
        };
        machine.tell();
        std::thread::spawn(move || {
            // The library panics at what must never be; the node ends with it.
            let _ = catch_unwind(AssertUnwindSafe(|| machine.run(&taken)));
            die("the thread of the library has ended");
        });
        replica
    }

    /// Answers a client.
    pub fn serve(&self, body: &Body) -> Answer {
        let (reply, answer) = channel();
        let event = match body.text("type")?.as_str() {
            "read" => Event::Read(Query::Key(body.get("key")?), reply),
            _ => match Command::of(body)? {
                command if command.only_reads() => Event::Read(Query::Txn(command), reply),
                command => Event::Propose(command, reply),
            },
        };
        // Without an answer a read had no effect. A proposal may have one, or have it yet.
        let code = if matches!(event, Event::Read(..)) { 11 } else { 0 };
        self.ask(event, &answer, code)
    }

    /// Answers an operator.
    pub fn change(&self, change: Change, body: &Body) -> Answer {
        let name = body.text("node")?;
        let missing = || Failure::new(1, format!("there is no server {name}"));
        let (reply, answer) = channel();
        let id = id_of(&self.names, &name).ok_or_else(missing)?;
        self.ask(Event::Change(change, id, reply), &answer, 0)
    }

    pub fn members(&self) -> Answer {
        let (reply, answer) = channel();
        self.ask(Event::Members(reply), &answer, 11)
    }

    fn ask(&self, event: Event, answer: &Receiver<Answer>, late: i64) -> Answer {
        self.events.send(event).ok();
        let late = |_| Err(Failure::new(late, "no majority has answered in time"));
        answer.recv_timeout(ANSWER_TIMEOUT).unwrap_or_else(late)
    }

    pub fn status(&self) -> Body {
        self.status.lock().unwrap().clone()
    }
}

/// All that belongs to the thread.
struct Machine {
    library: RawNode<Log>,
    store: Store,
    applied: u64,
    peers: Peers,
    names: Vec<String>,
    local_reads: bool,
    status: Arc<Mutex<Body>>,
    // Ids of requests, which no other node has, nor this one after a restart.
    run: u64,
    last_id: u64,
    // Requests that wait for their place in the log, and reads.
    proposed: HashMap<Vec<u8>, (Instant, Reply)>,
    reads: HashMap<Vec<u8>, Read>,
    // Who waits for which node to lead.
    transfer: Option<(u64, Reply)>,
}

struct Read {
    query: Query,
    reply: Reply,
    begun: Instant,
    asked: Instant,
    index: Option<u64>, // what has to be applied first, once that is known
}

impl Machine {
    fn run(&mut self, events: &Receiver<Event>) {
        let mut due = Instant::now() + TICK;
        loop {
            match events.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(event) => {
                    self.take(event);
                    events.try_iter().take(EVENTS_AT_ONCE).for_each(|event| self.take(event));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // One tick, however late it is: so the library's documentation has it.
            if Instant::now() >= due {
                due = Instant::now() + TICK;
                self.library.tick();
                self.look_after_requests();
            }
            while self.library.has_ready() {
                self.carry_out();
            }
            self.answer_reads();
            self.tell();
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Read(query, reply) => {
                let index = self.local_reads.then_some(0);
                self.read(query, index, reply);
            }
            Event::Propose(command, reply) => {
                let id = self.next_id();
                let data = command.encode().into_bytes();
                let proposed = self.library.propose(id.clone(), data);
                self.wait_for(id, proposed, reply);
            }
            Event::Members(reply) => drop(reply.send(self.members())),
            Event::Change(change, node, reply) => {
                if let Err(failure) = self.change(change, node, &reply) {
                    reply.send(Err(failure)).ok();
                }
            }
            Event::Message(message) => {
                if self.has_joined() || !is_vote_request(&message) {
                    if let Err(error) = self.library.step(message) {
                        eprintln!("a message was passed over: {error}");
                    }
                }
            }
            Event::Unreachable(peer) => self.library.report_unreachable(peer),
            Event::Snapshot(peer, status) => self.library.report_snapshot(peer, status),
        }
    }

    fn read(&mut self, query: Query, index: Option<u64>, reply: Reply) {
        let now = Instant::now();
        let id = self.next_id();
        if index.is_none() {
            self.library.read_index(id.clone());
        }
        self.reads.insert(id, Read { query, reply, begun: now, asked: now, index });
    }

    /// Have the reply sent when the entry of that id is applied.
    fn wait_for(&mut self, id: Vec<u8>, proposed: raft::Result<()>, reply: Reply) {
        match proposed {
            Ok(()) => drop(self.proposed.insert(id, (Instant::now(), reply))),
            // It is in no log, and was not passed on: definite.
            Err(raft::Error::ProposalDropped) => {
                reply.send(Err(Failure::new(11, "no leader takes proposals"))).ok();
            }
            Err(error) => drop(reply.send(Err(Failure::new(0, error.to_string())))),
        }
    }

    /// False for a node with an empty folder that was not added to a cluster yet. It may have
    /// promised something that it no longer knows, so it does not vote.
    fn has_joined(&self) -> bool {
        self.library.raft.raft_log.last_index() > 0
    }

    fn voters(&self) -> Vec<u64> {
        let mut voters = self.library.raft.prs().conf().to_conf_state().take_voters();
        voters.sort_unstable();
        voters
    }

    /// The ids of the members, if this node leads; else the Failure that an operator gets.
    fn led(&self) -> Result<Vec<u64>, Failure> {
        let voters = self.voters();
        if !voters.contains(&self.library.raft.id) {
            return Err(Failure::new(40, "this node is no member"));
        }
        if self.library.raft.state != StateRole::Leader {
            return Err(Failure::new(11, "this node doesn't lead"));
        }
        Ok(voters)
    }

    fn members(&self) -> Answer {
        let named = self.led()?.into_iter().map(|id| quote(&self.names[id as usize - 1]));
        let members = format!("[{}]", named.collect::<Vec<_>>().join(","));
        Ok(Body::new().with("members", members))
    }

    /// Begins a change; the reply is sent when it is made. What is so already gets a place in
    /// the log as well: only a majority can tell whether it is so still.
    fn change(&mut self, change: Change, node: u64, reply: &Reply) -> Result<(), Failure> {
        let voters = self.led()?;
        let own = self.library.raft.id;
        match change {
            Change::Transfer if !voters.contains(&node) => {
                return Err(Failure::new(22, "it is no member"));
            }
            Change::Transfer if node == own => {
                self.read(Query::Nothing, None, reply.clone());
                return Ok(());
            }
            Change::Transfer => {
                self.library.transfer_leader(node);
                self.transfer = Some((node, reply.clone()));
                return Ok(());
            }
            Change::Remove if voters == [node] => {
                return Err(Failure::new(22, "it is the only member"));
            }
            // A leader that is removed would go on leading, unless it hands that on first.
            Change::Remove if node == own => {
                let others = self.library.raft.prs().iter().filter(|(id, _)| **id != own);
                let next = others.max_by_key(|(_, progress)| progress.matched).map(|(id, _)| *id);
                self.library.transfer_leader(next.expect("there is another member"));
                return Err(Failure::new(11, "it leads, and hands that on first"));
            }
            _ if self.library.raft.has_pending_conf() => {
                return Err(Failure::new(11, "another change is under way"));
            }
            _ => {}
        }
        let mut wanted = ConfChange::default();
        wanted.node_id = node;
        wanted.set_change_type(match change {
            Change::Add => ConfChangeType::AddNode,
            _ => ConfChangeType::RemoveNode,
        });
        let id = self.next_id();
        let proposed = self.library.propose_conf_change(id.clone(), wanted);
        self.wait_for(id, proposed, reply.clone());
        Ok(())
    }

    fn next_id(&mut self) -> Vec<u8> {
        self.last_id += 1;
        [self.run.to_le_bytes(), self.last_id.to_le_bytes()].concat()
    }

    /// Forgets those whose clients have given up. A read whose index is not known for long is
    /// asked for again, under a new id: a leader that was elected just now passes over it.
    fn look_after_requests(&mut self) {
        let now = Instant::now();
        self.proposed.retain(|_, (begun, _)| now - *begun < ANSWER_TIMEOUT);
        self.reads.retain(|_, read| now - read.begun < ANSWER_TIMEOUT);
        let late = |read: &Read| read.index.is_none() && now - read.asked > ASK_AGAIN;
        let ids = self.reads.iter().filter(|(_, read)| late(read));
        for id in ids.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            let read = self.reads.remove(&id).expect("it was there just now");
            let again = self.next_id();
            self.library.read_index(again.clone());
            self.reads.insert(again, Read { asked: now, ..read });
        }
    }

    /// What the library wants to be done, in the order in which it wants it.
    fn carry_out(&mut self) {
        let mut ready = self.library.ready();
        self.peers.send(ready.take_messages());
        if !ready.snapshot().is_empty() {
            self.store = restored(ready.snapshot().get_data());
            self.applied = ready.snapshot().get_metadata().index;
        }
        let log = self.library.mut_store();
        if !ready.snapshot().is_empty() || !ready.entries().is_empty() || ready.hs().is_some() {
            log.write(ready.snapshot(), ready.entries(), ready.hs());
        }
        if ready.must_sync() {
            log.sync();
        }
        self.peers.send(ready.take_persisted_messages());
        for ReadState { index, request_ctx } in ready.take_read_states() {
            if let Some(read) = self.reads.get_mut(&request_ctx) {
                read.index = Some(index);
            }
        }
        self.apply(ready.take_committed_entries());
        let mut light = self.library.advance(ready);
        if let Some(commit) = light.commit_index() {
            self.library.mut_store().set_commit(commit);
        }
        self.peers.send(light.take_messages());
        self.apply(light.take_committed_entries());
        self.library.advance_apply();
        if self.library.store().has_grown(self.applied) {
            let members = self.library.raft.prs().conf().to_conf_state();
            let state = self.store.encode();
            self.library.mut_store().compact(self.applied, members, state);
        }
    }

    fn apply(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            self.applied = entry.index;
            let answer = match entry.get_entry_type() {
                EntryType::EntryNormal if entry.data.is_empty() => continue, // of a new leader
                EntryType::EntryNormal => {
                    let text = String::from_utf8_lossy(&entry.data);
                    let senseless = || die(format!("entry {text} makes no sense"));
                    self.store.apply(Command::decode(&text).unwrap_or_else(senseless))
                }
                _ => {
                    let change = ConfChange::parse_from_bytes(&entry.data);
                    let change = change.unwrap_or_else(|error| die(error));
                    let changed = self.library.apply_conf_change(&change);
                    changed.unwrap_or_else(|error| die(error));
                    Ok(Body::new())
                }
            };
            if let Some((_, reply)) = self.proposed.remove(entry.context.as_ref()) {
                reply.send(answer).ok();
            }
        }
    }

    fn answer_reads(&mut self) {
        let (applied, store) = (self.applied, &mut self.store);
        self.reads.retain(|_, read| {
            if read.index.is_none_or(|index| index > applied) {
                return true;
            }
            let answer = match &read.query {
                Query::Key(key) => store.read(key),
                Query::Txn(command) => store.apply(command.clone()),
                Query::Nothing => Ok(Body::new()),
            };
            read.reply.send(answer).ok();
            false
        });
    }

    fn tell(&mut self) {
        let raft = &self.library.raft;
        let role = match raft.state {
            StateRole::Leader => "leader",
            StateRole::Follower => "follower",
            StateRole::Candidate | StateRole::PreCandidate => "candidate",
        };
        if let Some((_, reply)) = self.transfer.take_if(|(node, _)| *node == raft.leader_id) {
            reply.send(Ok(Body::new())).ok();
        }
        let known = raft.leader_id.checked_sub(1).and_then(|at| self.names.get(at as usize));
        let leader = known.map_or("null".to_string(), |name| quote(name));
        *self.status.lock().unwrap() = Body::new()
            .with("role", quote(role))
            .with("term", raft.term.to_string())
            .with("leader", leader);
    }
}

fn id_of(names: &[String], name: &str) -> Option<u64> {
    names.iter().position(|known| known == name).map(|at| at as u64 + 1)
}

fn is_vote_request(message: &Message) -> bool {
    let kind = message.get_msg_type();
    matches!(kind, MessageType::MsgRequestVote | MessageType::MsgRequestPreVote)
}

fn restored(snapshot: &[u8]) -> Store {
    if snapshot.is_empty() {
        return Store::default(); // This node has not joined yet.
    }
    let text = String::from_utf8_lossy(snapshot);
    Store::decode(&text).unwrap_or_else(|| die("a snapshot makes no sense"))
}

/// The library's messages, for the node's log.
struct Stderr;

impl slog::Drain for Stderr {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &slog::Record, _: &slog::OwnedKVList) -> Result<(), slog::Never> {
        eprintln!("{} {}", record.level().as_short_str(), record.msg());
        Ok(())
    }
}
