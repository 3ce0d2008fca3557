//! What another thread of the control plane may know of a running pipeline: its counters, signs of life and peers.

use super::counters::{Counters, Stats};
use super::heartbeats::Heartbeats;
use crate::transport::peers::Peers;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Reads the shared counters of a pipeline. It never touches the real-time threads, and may outlive the pipeline.
#[derive(Clone)]
pub struct Observer {
    counters: Arc<Counters>,
    peers: Vec<Peers>,
}

impl Observer {
    pub(super) fn new(counters: Arc<Counters>, peers: Vec<Peers>) -> Observer {
        Observer { counters, peers }
    }

    /// Takes a snapshot of the counters. The number of peers that were turned away is the one that the supervisor has seen last.
    pub fn stats(&self) -> Stats {
        self.counters.stats()
    }

    /// Takes a snapshot of the threads' signs of life.
    pub fn heartbeats(&self) -> Heartbeats {
        self.counters.pulse.heartbeats()
    }

    /// Items that wait in the queue of bins and in that of estimates, as the threads that empty them saw last.
    pub fn waiting(&self) -> (u64, u64) {
        self.counters.waiting()
    }

    /// Address of each socket that the daemon has bound, with the number of connections to it.
    pub fn peers(&self) -> Vec<(String, u64)> {
        let count = |peers: &Peers| u64::try_from(peers.connections.load(Relaxed)).unwrap_or(0);
        self.peers.iter().map(|peers| (peers.address.clone(), count(peers))).collect()
    }
}
