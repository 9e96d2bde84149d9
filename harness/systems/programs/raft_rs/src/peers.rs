//! Messages of the library between nodes: each a length and its bytes, on connections that
//! go one way. What can't be sent is dropped, as the protocol allows.
use crate::die;
use crate::replica::Event;
use protobuf::Message as _;
use raft::eraftpb::{Message, MessageType};
use raft::SnapshotStatus;
use std::collections::BTreeMap;
use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::sync::mpsc::{sync_channel, Receiver, Sender, SyncSender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const QUEUED_MAX: usize = 1024;
const MESSAGE_BYTES_MAX: usize = 256 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection on which nothing was sent for so long, or to a peer of which nothing was heard,
/// is made anew: after a partition, the old one may wait for long before it tries again.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// Sends to the peers, and hears them.
pub struct Peers {
    queues: BTreeMap<u64, SyncSender<Message>>,
    events: Sender<Event>,
}

type Heard = Arc<Mutex<BTreeMap<u64, Instant>>>;

impl Peers {
    /// Starts to listen, and a thread for each peer.
    ///
    /// Arguments: where this node serves clients, where the peers do, and who gets events.
    pub fn start(listen: &str, peers: BTreeMap<u64, String>, events: Sender<Event>) -> Peers {
        let address = address_of(listen);
        let listener = TcpListener::bind(&address);
        let listener = listener.unwrap_or_else(|error| die(format!("{address}: {error}")));
        let heard = Heard::default();
        let (told, told_to) = (heard.clone(), events.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (told, told_to) = (told.clone(), told_to.clone());
                std::thread::spawn(move || hear(stream, &told, &told_to));
            }
        });
        let mut queues = BTreeMap::new();
        for (peer, address) in peers {
            let (queue, queued) = sync_channel(QUEUED_MAX);
            let (heard, events) = (heard.clone(), events.clone());
            std::thread::spawn(move || tell(peer, &address_of(&address), queued, &heard, &events));
            queues.insert(peer, queue);
        }
        Peers { queues, events }
    }

    /// Sends messages, or drops them; never waits.
    pub fn send(&self, messages: Vec<Message>) {
        for message in messages {
            let to = message.to;
            let Some(queue) = self.queues.get(&to) else { continue };
            if let Err(unsent) = queue.try_send(message) {
                let (std::sync::mpsc::TrySendError::Full(message)
                | std::sync::mpsc::TrySendError::Disconnected(message)) = unsent;
                report(&self.events, &message, false);
            }
        }
    }
}

/// The address for peers of a node that serves clients at host:port.
fn address_of(listen: &str) -> String {
    let parsed = listen.rsplit_once(':').and_then(|(host, port)| {
        let port: u16 = port.parse().ok()?;
        Some(format!("{host}:{}", port.checked_add(1)?))
    });
    parsed.unwrap_or_else(|| die(format!("{listen} is no address")))
}

fn tell(peer: u64, address: &str, queued: Receiver<Message>, heard: &Heard, told: &Sender<Event>) {
    let mut link: Option<(TcpStream, Instant)> = None;
    for message in queued {
        let now = Instant::now();
        let silent_since = heard.lock().unwrap().get(&peer).copied();
        link =
            link.filter(|(_, made)| silent_since.unwrap_or(*made).max(*made) + SILENCE_MAX > now);
        let sent = link.take().or_else(|| connect(address)).and_then(|(mut stream, made)| {
            let bytes = message.write_to_bytes().ok()?;
            let length = (bytes.len() as u32).to_le_bytes();
            stream.write_all(&[&length, bytes.as_slice()].concat()).ok()?;
            Some((stream, made))
        });
        if sent.is_none() || message.get_msg_type() == MessageType::MsgSnapshot {
            report(told, &message, sent.is_some());
        }
        link = sent;
    }
}

fn connect(address: &str) -> Option<(TcpStream, Instant)> {
    let found = address.to_socket_addrs().ok()?.next()?;
    let stream = TcpStream::connect_timeout(&found, CONNECT_TIMEOUT).ok()?;
    stream.set_nodelay(true).ok()?;
    stream.set_write_timeout(Some(WRITE_TIMEOUT)).ok()?;
    Some((stream, Instant::now()))
}

/// Tells the library of a message that was not sent, or of a snapshot that was.
fn report(events: &Sender<Event>, message: &Message, sent: bool) {
    let to = message.to;
    if message.get_msg_type() == MessageType::MsgSnapshot {
        let status = if sent { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        events.send(Event::Snapshot(to, status)).ok();
    } else {
        events.send(Event::Unreachable(to)).ok();
    }
}

fn hear(stream: TcpStream, heard: &Heard, events: &Sender<Event>) {
    let mut reading = BufReader::new(stream);
    while let Some(message) = read_message(&mut reading) {
        heard.lock().unwrap().insert(message.from, Instant::now());
        if events.send(Event::Message(message)).is_err() {
            return;
        }
    }
}

fn read_message(reading: &mut impl Read) -> Option<Message> {
    let mut length = [0; 4];
    reading.read_exact(&mut length).ok()?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MESSAGE_BYTES_MAX {
        return None;
    }
    let mut bytes = vec![0; length];
    reading.read_exact(&mut bytes).ok()?;
    Message::parse_from_bytes(&bytes).ok()
}
