//! The log, votes and the last snapshot: in memory as the library wants it, and in a file.
//!
//! The file `raft.log` is a sequence of batches, one for each Ready of the library:
//!
//!     magic, length of the payload, checksum, number of the batch, how many are durable; then
//!     the payload, in parts: a kind, a length, and a message of the library
//!
//! A batch is synced before anything is sent or applied that relies on it, and an empty one
//! is written behind it, which tells that. So what is torn, and was not told to be durable, is
//! cut off: nobody relies on it. What is damaged, and a later batch tells that it was durable,
//! has to stay: the node must not go on, as it may have promised what it no longer knows.
//!
//! When the log has grown, and whenever a node starts, a new file is written beside it, synced,
//! and renamed.
use crate::die;
use protobuf::Message as _;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Result, Storage, StorageError};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

const MAGIC: [u8; 4] = *b"raft";
const HEADER_BYTES: usize = 28;
const APPLIED_MAX: u64 = 2000; // entries since the last snapshot
const KEPT_ENTRIES: u64 = 200; // before a snapshot, for those that are a little behind

/// Where the log is kept.
#[derive(Clone, Copy, PartialEq)]
pub enum Keeping {
    Synced,
    Unsynced,
    Memory,
}

/// The library's `Storage`.
pub struct Log {
    hard: HardState,
    snapshot: Snapshot,
    before: (u64, u64), // index and term of the entry before the first
    entries: Vec<Entry>,
    file: Option<LogFile>,
}

impl Log {
    /// Reads what is in the folder; what is damaged ends the node.
    pub fn open(folder: &Path, keeping: Keeping) -> Log {
        let mut log = Log {
            hard: HardState::default(),
            snapshot: Snapshot::default(),
            before: (0, 0),
            entries: Vec::new(),
            file: None,
        };
        if keeping != Keeping::Memory {
            let path = folder.join("raft.log");
            let (file, batches) = LogFile::open(path, keeping == Keeping::Synced);
            for payload in batches {
                log.replay(&payload).unwrap_or_else(|| die("raft.log: a batch makes no sense"));
            }
            log.file = Some(file);
        }
        log
    }

    /// Whether nothing was ever written.
    pub fn is_new(&self) -> bool {
        self.hard == HardState::default() && self.last() == 0
    }

    /// Begin a cluster of these members. The log of all of them begins behind a snapshot, so
    /// that whoever joins later gets one, with the members in it.
    pub fn begin(&mut self, voters: Vec<u64>, state: String) {
        self.hard.term = 1;
        self.hard.commit = 1;
        self.before = (1, 1);
        self.snapshot = snapshot_of((1, 1), ConfState::from((voters, vec![])), state);
        self.rewrite();
    }

    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// What a Ready wants to be kept.
    pub fn write(&mut self, snapshot: &Snapshot, entries: &[Entry], hard: Option<&HardState>) {
        let mut payload = Vec::new();
        if !snapshot.is_empty() {
            let meta = snapshot.get_metadata();
            let before = (meta.index, meta.term);
            put_snapshot(&mut payload, before, snapshot);
            self.restore(before, snapshot.clone());
        }
        for entry in entries {
            put(&mut payload, b'e', &bytes(entry));
            self.append(entry.clone());
        }
        if let Some(hard) = hard {
            self.hard = hard.clone();
        }
        // A snapshot may be ahead of the commit index that is in the hard state.
        self.hard.commit = self.hard.commit.max(self.snapshot.get_metadata().index);
        put(&mut payload, b'h', &bytes(&self.hard));
        if let Some(file) = &mut self.file {
            file.add(&payload);
        }
    }

    /// Makes what was written durable.
    pub fn sync(&mut self) {
        if let Some(file) = &mut self.file {
            file.sync();
        }
    }

    pub fn set_commit(&mut self, commit: u64) {
        self.hard.commit = commit;
    }

    /// Whether it is time for `compact`.
    pub fn has_grown(&self, applied: u64) -> bool {
        applied >= self.snapshot.get_metadata().index + APPLIED_MAX
    }

    /// Take a snapshot in place of the entries up to `applied`.
    pub fn compact(&mut self, applied: u64, members: ConfState, state: String) {
        let term = self.term(applied).expect("what was applied is in the log");
        self.snapshot = snapshot_of((applied, term), members, state);
        self.hard.commit = self.hard.commit.max(applied);
        let first = applied.saturating_sub(KEPT_ENTRIES);
        if first > self.before.0 {
            let cut = (first - self.before.0) as usize;
            self.before = (first, self.entries[cut - 1].term);
            self.entries.drain(..cut);
        }
        self.rewrite();
    }

    fn rewrite(&mut self) {
        let mut payload = Vec::new();
        put_snapshot(&mut payload, self.before, &self.snapshot);
        for entry in &self.entries {
            put(&mut payload, b'e', &bytes(entry));
        }
        put(&mut payload, b'h', &bytes(&self.hard));
        if let Some(file) = &mut self.file {
            file.replace(&payload);
        }
    }

    fn replay(&mut self, mut payload: &[u8]) -> Option<()> {
        while let Some((&kind, rest)) = payload.split_first() {
            let (length, rest) = rest.split_first_chunk()?;
            let length = u32::from_le_bytes(*length) as usize;
            let part = rest.get(..length)?;
            payload = &rest[length..];
            match kind {
                b's' => {
                    let before = (number(part, 0)?, number(part, 8)?);
                    self.restore(before, Snapshot::parse_from_bytes(&part[16..]).ok()?);
                }
                b'e' => self.append(Entry::parse_from_bytes(part).ok()?),
                b'h' => self.hard = HardState::parse_from_bytes(part).ok()?,
                _ => return None,
            }
        }
        Some(())
    }

    fn restore(&mut self, before: (u64, u64), snapshot: Snapshot) {
        self.snapshot = snapshot;
        self.before = before;
        self.entries.clear();
    }

    fn append(&mut self, entry: Entry) {
        let at = entry.index.checked_sub(self.before.0 + 1).expect("what is compacted stays");
        assert!(at as usize <= self.entries.len(), "the log has a gap before {}", entry.index);
        self.entries.truncate(at as usize);
        self.entries.push(entry);
    }

    fn last(&self) -> u64 {
        self.before.0 + self.entries.len() as u64
    }
}

impl Storage for Log {
    fn initial_state(&self) -> Result<RaftState> {
        let members = self.snapshot.get_metadata().get_conf_state().clone();
        Ok(RaftState::new(self.hard.clone(), members))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        bytes_max: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> Result<Vec<Entry>> {
        if low <= self.before.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        let (from, to) = (low - self.before.0 - 1, high - self.before.0 - 1);
        let mut found = self.entries[from as usize..to as usize].to_vec();
        raft::util::limit_size(&mut found, bytes_max.into());
        Ok(found)
    }

    fn term(&self, index: u64) -> Result<u64> {
        match index.checked_sub(self.before.0) {
            None => Err(Error::Store(StorageError::Compacted)),
            Some(0) => Ok(self.before.1),
            Some(at) => match self.entries.get(at as usize - 1) {
                Some(entry) => Ok(entry.term),
                None => Err(Error::Store(StorageError::Unavailable)),
            },
        }
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.before.0 + 1)
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, _: u64) -> Result<Snapshot> {
        if self.snapshot.get_metadata().index < request_index {
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        Ok(self.snapshot.clone())
    }
}

fn snapshot_of((index, term): (u64, u64), members: ConfState, state: String) -> Snapshot {
    let mut snapshot = Snapshot::default();
    snapshot.mut_metadata().index = index;
    snapshot.mut_metadata().term = term;
    snapshot.mut_metadata().set_conf_state(members);
    snapshot.set_data(state.into_bytes().into());
    snapshot
}

/// The file: batches whole or not there, and each in its place.
struct LogFile {
    path: PathBuf,
    file: File,
    synced: bool,
    batches: u64,
    durable: u64, // of these batches
}

impl LogFile {
    /// The file, and the payloads of its batches.
    fn open(path: PathBuf, synced: bool) -> (LogFile, Vec<Vec<u8>>) {
        let held = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            read => or_die(&path, read),
        };
        let mut payloads: Vec<Vec<u8>> = Vec::new();
        let mut end = 0;
        while let Some((number, _, payload)) = batch_at(&held[end..]) {
            if number != payloads.len() as u64 {
                break;
            }
            end += HEADER_BYTES + payload.len();
            payloads.push(payload.to_vec());
        }
        let batches = payloads.len() as u64;
        let was_durable = |(_, durable, _): (u64, u64, &[u8])| durable > batches;
        if (end + 1..held.len()).any(|at| batch_at(&held[at..]).is_some_and(was_durable)) {
            die(format!("{}: damaged at byte {end}, where it was durable", path.display()));
        }
        if end < held.len() {
            eprintln!("raft.log: cut off a write that was not finished, at byte {end}");
        }
        // Written anew, as what we are about to rely on must be durable. After a sync that
        // failed, what was read may be in memory only, and another sync would not write it.
        let file = new_file(&path);
        let mut log = LogFile { path, file, synced, batches, durable: 0 };
        log.put_in_place(&held[..end]);
        (log, payloads)
    }

    fn add(&mut self, payload: &[u8]) {
        let written = self.file.write_all(&batch(self.batches, self.durable, payload));
        self.check(written);
        self.batches += 1;
    }

    fn sync(&mut self) {
        if self.synced {
            let synced = self.file.sync_data();
            self.check(synced);
            self.durable = self.batches;
            self.add(&[]);
        }
    }

    /// A new file with this batch alone, in place of the old one.
    fn replace(&mut self, payload: &[u8]) {
        self.file = new_file(&self.path);
        (self.batches, self.durable) = (1, 0);
        self.put_in_place(&batch(0, 0, payload));
    }

    /// Writes to the new file, which then gets the name of the old one.
    fn put_in_place(&mut self, content: &[u8]) {
        let written = self.file.write_all(content);
        self.check(written);
        self.sync();
        or_die(&self.path, std::fs::rename(beside(&self.path), &self.path));
        self.sync_folder();
    }

    fn sync_folder(&self) {
        if self.synced {
            let folder = self.path.parent().expect("a file is in a folder");
            let synced = File::open(folder).and_then(|folder| folder.sync_all());
            self.check(synced);
        }
    }

    /// After an error of the disk nobody knows what is in the file; a restart reads it.
    fn check(&self, done: std::io::Result<()>) {
        or_die(&self.path, done);
    }
}

/// An empty file beside that one.
fn new_file(path: &Path) -> File {
    let beside = beside(path);
    or_die(&beside, File::create(&beside))
}

fn beside(path: &Path) -> PathBuf {
    path.with_extension("new")
}

fn or_die<T>(path: &Path, done: std::io::Result<T>) -> T {
    done.unwrap_or_else(|error| die(format!("{}: {error}", path.display())))
}

fn batch(number: u64, durable: u64, payload: &[u8]) -> Vec<u8> {
    let checked = [&number.to_le_bytes(), durable.to_le_bytes().as_slice(), payload].concat();
    let length = (payload.len() as u32).to_le_bytes();
    [&MAGIC, &length, &checksum(&checked).to_le_bytes(), checked.as_slice()].concat()
}

/// Number, how many are durable, and payload of a batch that begins here; None if there is no
/// whole one.
fn batch_at(held: &[u8]) -> Option<(u64, u64, &[u8])> {
    if !held.starts_with(&MAGIC) {
        return None;
    }
    let length = u32::from_le_bytes(*held.get(4..)?.first_chunk()?) as usize;
    let sum = u32::from_le_bytes(*held.get(8..)?.first_chunk()?);
    let checked = held.get(12..)?.get(..16 + length)?;
    let whole = checksum(checked) == sum;
    whole.then_some((number(checked, 0)?, number(checked, 8)?, &checked[16..]))
}

fn number(part: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*part.get(at..)?.first_chunk()?))
}

fn put(payload: &mut Vec<u8>, kind: u8, part: &[u8]) {
    payload.push(kind);
    payload.extend((part.len() as u32).to_le_bytes());
    payload.extend(part);
}

fn put_snapshot(payload: &mut Vec<u8>, before: (u64, u64), snapshot: &Snapshot) {
    let (index, term) = (before.0.to_le_bytes(), before.1.to_le_bytes());
    put(payload, b's', &[index.as_slice(), &term, &bytes(snapshot)].concat());
}

fn bytes(message: &impl protobuf::Message) -> Vec<u8> {
    message.write_to_bytes().expect("a message of the library has all that it needs")
}

/// CRC-32, as in IEEE 802.3.
fn checksum(bytes: &[u8]) -> u32 {
    let mut sum = !0u32;
    for &byte in bytes {
        sum ^= u32::from(byte);
        for _ in 0..8 {
            sum = (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg());
        }
    }
    !sum
}
