//! The log, votes and the last snapshot: in memory as the library wants it, and in a file.
//!
//! The file `raft.log` is a sequence of batches, one for each Ready of the library:
//!
//!     magic, length of the payload, checksum, number of the batch; then the payload, in parts:
//!     a kind, a length, and a message of the library
//!
//! A batch is synced before anything is sent or applied that relies on it. So only the last
//! one can be torn, and nobody was told of what is in it: it is cut off. A damaged batch that is
//! followed by a whole one was synced once. Then something else is wrong, and the node must not
//! go on, as it may have promised what it no longer knows.
//!
//! When the log has grown, a new file is written beside it, synced, and renamed.
use crate::die;
use protobuf::Message as _;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Result, Storage, StorageError};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const MAGIC: [u8; 4] = *b"raft";
const HEADER_BYTES: usize = 20;
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
}

impl LogFile {
    /// The file, and the payloads of its batches.
    fn open(path: PathBuf, synced: bool) -> (LogFile, Vec<Vec<u8>>) {
        let mut how = OpenOptions::new();
        how.read(true).write(true).create(true).truncate(false);
        let mut file = or_die(&path, how.open(&path));
        let mut held = Vec::new();
        or_die(&path, file.read_to_end(&mut held));
        let mut payloads: Vec<Vec<u8>> = Vec::new();
        let mut end = 0;
        while let Some((batch, payload)) = batch_at(&held[end..]) {
            if batch != payloads.len() as u64 {
                break;
            }
            end += HEADER_BYTES + payload.len();
            payloads.push(payload.to_vec());
        }
        let batches = payloads.len() as u64;
        let later = |(number, _): (u64, &[u8])| number > batches;
        if (end + 1..held.len()).any(|at| batch_at(&held[at..]).is_some_and(later)) {
            die(format!("{}: damaged at byte {end}, before what was synced later", path.display()));
        }
        let mut log = LogFile { path, file, synced, batches };
        if end < held.len() {
            eprintln!("raft.log: cut off a write that was not finished, at byte {end}");
            let cut = log.file.set_len(end as u64);
            log.check(cut);
        }
        let sought = log.file.seek(SeekFrom::Start(end as u64)).map(drop);
        log.check(sought);
        log.sync(); // What we are about to rely on must be durable,
        log.sync_folder(); // and so must its name.
        (log, payloads)
    }

    fn add(&mut self, payload: &[u8]) {
        let written = self.file.write_all(&batch(self.batches, payload));
        self.check(written);
        self.batches += 1;
    }

    fn sync(&mut self) {
        if self.synced {
            let synced = self.file.sync_data();
            self.check(synced);
        }
    }

    /// A new file with this batch alone, in place of the old one.
    fn replace(&mut self, payload: &[u8]) {
        let path = self.path.with_extension("new");
        self.file = or_die(&path, File::create(&path));
        self.batches = 0;
        self.add(payload);
        self.sync();
        or_die(&path, std::fs::rename(&path, &self.path));
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

fn or_die<T>(path: &Path, done: std::io::Result<T>) -> T {
    done.unwrap_or_else(|error| die(format!("{}: {error}", path.display())))
}

fn batch(number: u64, payload: &[u8]) -> Vec<u8> {
    let checked = [&number.to_le_bytes(), payload].concat();
    let length = (payload.len() as u32).to_le_bytes();
    [&MAGIC, &length, &checksum(&checked).to_le_bytes(), checked.as_slice()].concat()
}

/// The number and payload of a batch that begins here; None if there is no whole one.
fn batch_at(held: &[u8]) -> Option<(u64, &[u8])> {
    if !held.starts_with(&MAGIC) {
        return None;
    }
    let length = u32::from_le_bytes(*held.get(4..)?.first_chunk()?) as usize;
    let sum = u32::from_le_bytes(*held.get(8..)?.first_chunk()?);
    let checked = held.get(12..)?.get(..8 + length)?;
    (checksum(checked) == sum).then_some((number(checked, 0)?, &checked[8..]))
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
