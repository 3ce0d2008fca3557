//! Who may come in: the library asks a socket within the program about every peer that connects to a bound address
//! ([ZAP](https://rfc.zeromq.org/spec/27/)), and one thread answers.

use super::curve::PublicKey;
use super::{ADMISSION_DOMAIN, Context, Frames, Kind, Monitor, Options, Socket, ZeromqError, connections};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Where the library asks.
const ADDRESS: &str = "inproc://zeromq.zap.01";

/// Longest wait for a question, after which the thread looks whether it is to end.
const PATIENCE: Duration = Duration::from_millis(50);

/// Frames of a question: version, request, domain, address, routing id, mechanism, credentials. A key is one frame of credentials.
const QUESTION_FRAMES: usize = 7;

/// Who is let in.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Most connections to each bound socket.
    pub connections_max: u32,
    /// Keys of the peers that may come in; `None` without encryption, when everybody may.
    pub permitted: Option<BTreeSet<PublicKey>>,
}

/// How many peers were turned away since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TurnedAway {
    /// Because there were as many connections as there may be.
    pub full: u64,
    /// Because their key is not permitted.
    pub key: u64,
    /// Address of the last one, its key where it has one, and why it was turned away.
    pub last: Option<String>,
}

#[derive(Default)]
struct Counts {
    full: AtomicU64,
    key: AtomicU64,
    last: Mutex<Option<String>>,
}

/// A bound socket whose connections are counted.
struct Door {
    domain: String,
    connections: Arc<AtomicI64>,
    /// Events of the connections; `None` where the owner of the socket counts them.
    monitor: Option<Monitor>,
}

/// Answers the library's questions on a thread of its own, until it is dropped. The thread belongs to the control plane: it may be slow,
/// and only peers that come in wait for it.
pub struct Admission {
    stop: Arc<AtomicBool>,
    doors: Sender<Door>,
    counts: Arc<Counts>,
    opened: u32,
    thread: Option<JoinHandle<()>>,
}

impl Admission {
    /// Starts to answer for the sockets of `context`. To be called before any of them is bound.
    ///
    /// # Errors
    /// The error of the system or of the library, as one sentence.
    pub fn start(context: &Context, rules: Rules) -> Result<Admission, ZeromqError> {
        let questions = context.socket(Kind::Rep, &Options::default())?;
        questions.bind(ADDRESS)?;
        let (doors, new_doors) = mpsc::channel();
        let (stop, counts) = (Arc::<AtomicBool>::default(), Arc::<Counts>::default());
        let desk = Desk {
            frames: Frames::new(context.library()),
            context: context.clone(),
            questions,
            rules,
            counts: counts.clone(),
            doors: BTreeMap::new(),
        };
        let stopping = stop.clone();
        let answer = move || desk.answer_until(&stopping, &new_doors);
        let thread = std::thread::Builder::new().name("zeromq-admit".to_owned()).spawn(answer);
        let failed = |error: io::Error| ZeromqError::Refused {
            what: "answer who may come in",
            found: error.to_string(),
        };
        Ok(Admission { stop, doors, counts, opened: 0, thread: Some(thread.map_err(failed)?) })
    }

    /// A name for the next socket that is bound, which the library gives when it asks.
    pub fn next_domain(&mut self) -> String {
        self.opened += 1;
        format!("{ADMISSION_DOMAIN}-{}", self.opened)
    }

    /// Counts the connections of a socket of this domain: by the events of `monitor`, or only reads the number that its owner keeps.
    pub fn watch(&self, domain: String, connections: Arc<AtomicI64>, monitor: Option<Monitor>) {
        // The thread ends with `self`.
        drop(self.doors.send(Door { domain, connections, monitor }));
    }

    /// Peers that were turned away.
    pub fn turned_away(&self) -> TurnedAway {
        let Counts { full, key, last } = &*self.counts;
        let last = last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        TurnedAway { full: full.load(Relaxed), key: key.load(Relaxed), last }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has already printed why.
            drop(thread.join());
        }
    }
}

/// What the thread works with.
struct Desk {
    context: Context,
    questions: Socket,
    frames: Frames<QUESTION_FRAMES>,
    rules: Rules,
    counts: Arc<Counts>,
    doors: BTreeMap<String, Door>,
}

/// An answer to the library: 200 lets the peer in; 300 turns it away for now, so that it tries again; 400 for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Welcome,
    Later,
    Never,
}

impl Desk {
    fn answer_until(mut self, stop: &AtomicBool, new_doors: &Receiver<Door>) {
        while !stop.load(Relaxed) {
            let sockets = self.doors.values().filter_map(|door| Some(door.monitor.as_ref()?.socket()));
            let sockets: Vec<&Socket> = std::iter::once(&self.questions).chain(sockets).collect();
            Socket::wait_for_any(&sockets, PATIENCE);
            for door in new_doors.try_iter() {
                self.doors.insert(door.domain.clone(), door);
            }
            self.count();
            if self.questions.receive(&mut self.frames, false) {
                self.answer();
            }
        }
    }

    fn count(&mut self) {
        for door in self.doors.values_mut() {
            let Some(monitor) = &mut door.monitor else { continue };
            while let Some(event) = monitor.next_event() {
                connections::count(&door.connections, event);
            }
        }
    }

    fn answer(&mut self) {
        let frames = self.frames.get();
        let [version, request, domain, address, _, mechanism, credentials] = frames;
        let key = (mechanism == b"CURVE")
            .then(|| PublicKey::of_bytes(self.context.library(), credentials))
            .flatten();
        let door = std::str::from_utf8(domain).ok().and_then(|domain| self.doors.get(domain));
        let connections = door.map_or(0, |door| door.connections.load(Relaxed));
        let answer = decide(&self.rules, connections, key.as_ref());
        let from = String::from_utf8_lossy(address).into_owned();
        let who = key.map_or_else(|| from.clone(), |key| format!("{from} with the key {key}"));
        let (count, why) = match answer {
            Answer::Welcome => (None, ""),
            Answer::Later => (Some(&self.counts.full), "more connections than connections-max in [zeromq]"),
            Answer::Never => (Some(&self.counts.key), "a key that is not in permitted-keys"),
        };
        if let Some(count) = count {
            *self.counts.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("{who}: {why}"));
            count.fetch_add(1, Relaxed);
        }
        let code: &[u8] = match answer {
            Answer::Welcome => b"200",
            Answer::Later => b"300",
            Answer::Never => b"400",
        };
        // Version, request, code, words, user, metadata.
        let reply: [&[u8]; 6] = [version, request, code, b"", b"", b""];
        for (at, frame) in reply.iter().enumerate() {
            self.questions.send(frame, at < reply.len() - 1);
        }
    }
}

/// Decides about a peer that connects to a socket with so many connections, its own among them.
fn decide(rules: &Rules, connections: i64, key: Option<&PublicKey>) -> Answer {
    let is_permitted = match (&rules.permitted, key) {
        (None, _) => true,
        (Some(permitted), Some(key)) => permitted.contains(key),
        (Some(_), None) => false,
    };
    match is_permitted {
        false => Answer::Never,
        true if connections > i64::from(rules.connections_max) => Answer::Later,
        true => Answer::Welcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_let_in_by_its_key_and_while_there_is_room() {
        let key = |first: &str| format!("{first}{}", "0".repeat(39)).parse::<PublicKey>().unwrap();
        let open = Rules { connections_max: 2, permitted: None };
        assert_eq!(decide(&open, 2, None), Answer::Welcome);
        assert_eq!(decide(&open, 3, None), Answer::Later);
        let closed = Rules { permitted: Some(BTreeSet::from([key("a")])), ..open };
        assert_eq!(decide(&closed, 1, Some(&key("a"))), Answer::Welcome);
        assert_eq!(decide(&closed, 3, Some(&key("a"))), Answer::Later);
        assert_eq!(decide(&closed, 1, Some(&key("b"))), Answer::Never);
        assert_eq!(decide(&closed, 1, None), Answer::Never);
    }
}
