//! The state machine: a value for each key, both as JSON.
use crate::splitbrain_node::{items, quote, Body, Failure};
use std::collections::BTreeMap;

/// The state at one place in the log.
#[derive(Default)]
pub struct Store {
    values: BTreeMap<String, String>,
}

/// What a request does at its place in the log; kept there as a JSON array.
#[derive(Clone)]
pub enum Command {
    Write { key: String, value: String },
    Cas { key: String, from: String, to: String },
    Txn(Vec<MicroOp>),
}

/// An operation of a transaction: [f, key, value].
#[derive(Clone)]
pub struct MicroOp {
    f: String,
    key: String,
    value: String,
}

impl Command {
    /// The command of a request that isn't a read; a Failure (12) if it lacks something.
    pub fn of(body: &Body) -> Result<Command, Failure> {
        match body.text("type")?.as_str() {
            "write" => Ok(Command::Write { key: body.get("key")?, value: body.get("value")? }),
            "cas" => {
                let (key, from, to) = (body.get("key")?, body.get("from")?, body.get("to")?);
                Ok(Command::Cas { key, from, to })
            }
            _ => Ok(Command::Txn(micro_ops(&body.get("txn")?)?)),
        }
    }

    /// Whether it leaves the state as it is.
    pub fn only_reads(&self) -> bool {
        matches!(self, Command::Txn(ops) if ops.iter().all(|op| op.f == "\"r\""))
    }

    pub fn encode(&self) -> String {
        match self {
            Command::Write { key, value } => format!("[\"write\",{key},{value}]"),
            Command::Cas { key, from, to } => format!("[\"cas\",{key},{from},{to}]"),
            Command::Txn(ops) => {
                let told = ops.iter().map(|op| op.told(&op.value)).collect::<Vec<_>>();
                format!("[\"txn\",[{}]]", told.join(","))
            }
        }
    }

    /// The command that `encode` made this text of; None if it did not.
    pub fn decode(text: &str) -> Option<Command> {
        let mut parts = items(text)?.into_iter();
        let kind = parts.next()?;
        let mut next = || parts.next();
        match kind.as_str() {
            "\"write\"" => Some(Command::Write { key: next()?, value: next()? }),
            "\"cas\"" => Some(Command::Cas { key: next()?, from: next()?, to: next()? }),
            _ => Some(Command::Txn(micro_ops(&next()?).ok()?)),
        }
    }
}

impl MicroOp {
    fn told(&self, result: &str) -> String {
        format!("[{},{},{result}]", self.f, self.key)
    }
}

fn micro_ops(txn: &str) -> Result<Vec<MicroOp>, Failure> {
    let wrong = |what: &str| Failure::new(12, format!("{what} is no micro-operation"));
    let mut ops = Vec::new();
    for text in items(txn).ok_or_else(|| Failure::new(12, "txn is no list"))? {
        let parts = items(&text).and_then(|parts| <[String; 3]>::try_from(parts).ok());
        let [f, key, value] = parts.ok_or_else(|| wrong(&text))?;
        let known = match f.as_str() {
            "\"r\"" | "\"w\"" | "\"append\"" | "\"pop\"" => true,
            "\"add\"" => value.parse::<i64>().is_ok(),
            _ => false,
        };
        if !known {
            return Err(wrong(&text));
        }
        ops.push(MicroOp { f, key, value });
    }
    Ok(ops)
}

impl Store {
    /// The answer to a read; a Failure (20) if nobody wrote that key.
    pub fn read(&self, key: &str) -> Result<Body, Failure> {
        Ok(Body::new().with("value", self.held(key)?))
    }

    fn held(&self, key: &str) -> Result<&String, Failure> {
        let missing = || Failure::new(20, format!("there is no key {key}"));
        self.values.get(key).ok_or_else(missing)
    }

    /// Carries a command out; after a Failure, nothing has changed.
    pub fn apply(&mut self, command: Command) -> Result<Body, Failure> {
        match command {
            Command::Write { key, value } => {
                self.values.insert(key, value);
                Ok(Body::new())
            }
            Command::Cas { key, from, to } => {
                let held = self.held(&key)?;
                if *held != from {
                    return Err(Failure::new(22, format!("expected {from}, but it is {held}")));
                }
                self.values.insert(key, to);
                Ok(Body::new())
            }
            Command::Txn(ops) => self.transact(&ops),
        }
    }

    fn transact(&mut self, ops: &[MicroOp]) -> Result<Body, Failure> {
        let mut written: BTreeMap<&str, String> = BTreeMap::new();
        let mut results = Vec::new();
        for op in ops {
            let held = written.get(op.key.as_str()).or_else(|| self.values.get(&op.key));
            let held = held.map_or("null", String::as_str);
            let (after, result) = match op.f.as_str() {
                "\"r\"" => (None, held.to_string()),
                "\"w\"" => (Some(op.value.clone()), op.value.clone()),
                "\"append\"" => (Some(appended(held, &op.value)?), op.value.clone()),
                "\"add\"" => {
                    let sum = added(held, &op.value)?;
                    (Some(sum.clone()), sum)
                }
                _ => popped(held)?,
            };
            results.push(op.told(&result));
            if let Some(after) = after {
                written.insert(&op.key, after);
            }
        }
        for (key, value) in written {
            self.values.insert(key.to_string(), value);
        }
        Ok(Body::new().with("txn", format!("[{}]", results.join(","))))
    }

    /// The whole state as a JSON array: key, value, key, value, ...
    pub fn encode(&self) -> String {
        let all = self.values.iter().map(|(key, value)| format!("{key},{value}"));
        format!("[{}]", all.collect::<Vec<_>>().join(","))
    }

    /// The state that `encode` made this text of; None if it did not.
    pub fn decode(text: &str) -> Option<Store> {
        let flat = items(text)?;
        let pairs = flat.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone()));
        Some(Store { values: pairs.collect() })
    }
}

fn aborted(text: String) -> Failure {
    Failure::new(14, text)
}

fn appended(list: &str, element: &str) -> Result<String, Failure> {
    match list {
        "null" | "[]" => Ok(format!("[{element}]")),
        _ => match list.strip_suffix(']').filter(|_| list.starts_with('[')) {
            Some(open) => Ok(format!("{open},{element}]")),
            None => Err(aborted(format!("{list} is no list"))),
        },
    }
}

/// The list without its first element (None: as it was), and that element.
fn popped(list: &str) -> Result<(Option<String>, String), Failure> {
    if list == "null" {
        return Ok((None, list.to_string()));
    }
    let elements = items(list).ok_or_else(|| aborted(format!("{list} is no list")))?;
    match elements.split_first() {
        None => Ok((None, "null".to_string())),
        Some((first, rest)) => Ok((Some(format!("[{}]", rest.join(","))), first.clone())),
    }
}

fn added(number: &str, delta: &str) -> Result<String, Failure> {
    let number = if number == "null" { "0" } else { number };
    let parsed = number.parse::<i64>().ok().zip(delta.parse::<i64>().ok());
    match parsed.and_then(|(number, delta)| number.checked_add(delta)) {
        Some(sum) if sum >= 0 => Ok(sum.to_string()),
        _ => Err(aborted(format!("{delta} can't be added to {}", quote(number)))),
    }
}
