//! Opens and closes inlets on a thread of their own: liblsl may take long over both, and versions before 1.18 may never come back.
//!
//! The thread `lsl-inlets` has the real-time settings, because the thread with which the library receives inherits them from the
//! thread that opens the inlet.

use super::search::Found;
use crate::host::realtime::{self, RealtimeSettings};
use crate::queue::{Queue, Receiver};
use crossbeam_channel::{Sender, bounded};
use ndt_protocol::lsl::Inlet;
use std::thread::JoinHandle;

/// Longest time that a stream's host may take to begin sending, s.
const OPEN_WAIT_S: f64 = 0.5;

/// Inlets that may wait to be opened or closed. There is at most one of each; a few more may lie in a library that takes long.
const WAITING: usize = 8;

/// A stream that has been opened. Nothing has been pulled from it.
pub struct Opened {
    /// The inlet.
    pub inlet: Inlet,
    /// The stream, as it was found.
    pub found: Found,
    /// Samples for which the inlet has room.
    pub room: usize,
    /// Place for one sample.
    pub sample: Vec<f32>,
}

enum Job {
    /// Open the stream, with room for so many samples.
    Open(Box<Found>, usize),
    Close(Inlet),
}

/// The source thread's handle to the thread that opens and closes.
pub struct Inlets {
    jobs: Option<Sender<Job>>,
    /// Receives each stream that was asked for; `None` for one that could not be opened. The source thread looks at every turn, so that
    /// it must not wait for this thread.
    pub opened: Receiver<Option<Box<Opened>>>,
    thread: Option<JoinHandle<()>>,
}

impl Inlets {
    /// Starts the thread `lsl-inlets`.
    ///
    /// # Errors
    /// The system's error when it gives no thread.
    pub fn start(settings: &RealtimeSettings) -> std::io::Result<Inlets> {
        let (jobs, asked) = bounded(WAITING);
        let (done, opened) = Queue::untouched();
        let settings = settings.clone();
        let work = move || {
            // The system refuses this thread what it refuses the threads of the pipeline, which report it.
            drop(realtime::enter(&settings));
            asked.iter().for_each(|job| match job {
                Job::Open(found, room) => drop(done.push(open(*found, room).map(Box::new))),
                Job::Close(inlet) => drop(inlet),
            });
        };
        let thread = std::thread::Builder::new().name("lsl-inlets".to_owned()).spawn(work)?;
        Ok(Inlets { jobs: Some(jobs), opened, thread: Some(thread) })
    }

    /// Asks for a stream to be opened, with room for `room` samples, and returns whether that will be answered. Runs on the source
    /// thread. Does not block.
    pub fn open(&self, found: Found, room: usize) -> bool {
        self.jobs.as_ref().is_some_and(|jobs| jobs.try_send(Job::Open(Box::new(found), room)).is_ok())
    }

    /// Has an inlet closed. Runs on the source thread. Does not block, unless the library has not come back from the last ones.
    pub fn close(&self, inlet: Inlet) {
        if let Some(jobs) = &self.jobs {
            // An inlet that cannot be handed over is dropped here.
            drop(jobs.try_send(Job::Close(inlet)));
        }
    }
}

impl Drop for Inlets {
    /// Waits for the thread, but not for ever.
    fn drop(&mut self) {
        self.jobs = None;
        super::wait_for(self.thread.take());
    }
}

fn open(found: Found, room: usize) -> Option<Opened> {
    let inlet = Inlet::new(&found.info, room).ok()?;
    inlet.open(OPEN_WAIT_S).ok()?;
    // Samples that came while the stream was being opened are too old to be decoded.
    inlet.flush();
    let sample = vec![0.0; found.info.channels()];
    Some(Opened { inlet, found, room, sample })
}
