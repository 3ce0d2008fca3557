//! Listens to a daemon's velocity stream, and to a player's behaviour stream beside it.

use super::StreamError;
use super::inlets::{Estimates, Truth};
use crate::listen::{Silence, Tally, Until};
use ndt_protocol::clock::monotonic_ns;
use ndt_protocol::lsl::{self, Library, LslError, Query};
use ndt_protocol::{Estimate, Quality};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// How long an estimate waits for the true velocity that it is compared with, in ns.
const TRUTH_WAIT_NS: u64 = 2_000_000_000;

/// Streams to listen to.
#[derive(Debug, Clone, PartialEq)]
pub struct Sources {
    /// Velocity stream of the daemon.
    pub estimates: Query,
    /// Behaviour stream of a player, with the true velocity.
    pub truth: Option<Query>,
}

impl Sources {
    /// Derives the streams from the endpoints `lsl:...`. A bare name is the name of the daemon's output, or of the player; the
    /// names of their streams follow from it.
    pub fn new(estimates: &Query, truth: Option<&Query>) -> Sources {
        let of = |query: &Query, usual: &str, name: fn(&str) -> String| match query.only_name() {
            Some(given) => Query::of_name(name(given)),
            None if query.is_any() => Query::of_name(name(usual)),
            None => query.clone(),
        };
        Sources {
            estimates: of(estimates, lsl::NAME_DAEMON, lsl::velocity_name),
            truth: truth.map(|truth| of(truth, lsl::NAME_REPLAY, lsl::behavior_name)),
        }
    }
}

/// Listens to streams and counts into `tally`, as [`zeromq::listen`](crate::transport::zeromq::listen) does for sockets. A
/// daemon that ends and comes back is found again.
///
/// `ready` is called once, when all streams are open. `each` is called after every estimate; if it returns `false`, listening
/// ends. Setting `stop` ends it, too.
///
/// # Errors
/// [`StreamError`] if there is no such stream, if there is more than one, or if no first estimate arrives in time.
pub fn listen(
    library: &Library,
    sources: &Sources,
    tally: &mut Tally,
    until: Until,
    stop: &AtomicBool,
    ready: &mut dyn FnMut(),
    each: &mut dyn FnMut(&Tally, &Estimate) -> bool,
) -> Result<(), StreamError> {
    let begun_ns = monotonic_ns();
    let patience = until.idle.unwrap_or(until.first);
    let mut estimates = Estimates::open(library, &sources.estimates, until.first, stop)?;
    let mut truth = None;
    let mut waiting: VecDeque<(Estimate, u64)> = VecDeque::new();
    let mut last_ns = begun_ns;
    let mut received = 0;
    let mut is_ready = false;
    let is_enough = |received: u64| until.count.is_some_and(|count| received >= count);
    while !is_enough(received) && !stop.load(Relaxed) {
        if let (None, Some(query)) = (&truth, &sources.truth) {
            truth = Some(Truth::open(library, query, until.first, stop)?);
        }
        if !is_ready {
            is_ready = true;
            ready();
        }
        match estimates.next() {
            Ok(Some((estimate, received_ns))) => {
                if estimate.quality != Quality::Stale || received == 0 {
                    last_ns = received_ns;
                }
                received += 1;
                waiting.push_back((estimate, received_ns));
            }
            Ok(None) => {}
            Err(LslError::Lost) => match Estimates::open(library, &sources.estimates, patience, stop) {
                Ok(again) => estimates = again,
                // The daemon has ended. That is an error only if it has published nothing.
                Err(_) if tally.estimates() > 0 || !waiting.is_empty() => break,
                Err(error) => return Err(error),
            },
            Err(error) => return Err(error.into()),
        }
        let known_s = truth.as_mut().map_or(f64::INFINITY, |truth| truth.take(tally));
        if !count(&mut waiting, known_s, monotonic_ns(), tally, each) {
            return Ok(());
        }
        let silent = Duration::from_nanos(monotonic_ns().saturating_sub(last_ns));
        if received == 0 && silent > until.first {
            let (address, found) = (sources.estimates.predicate(), "none".to_owned());
            return Err(Silence { address, seconds: until.first.as_secs_f64(), found }.into());
        }
        if received > 0 && until.idle.is_some_and(|idle| silent > idle) {
            break;
        }
    }
    // The true velocity of the last bins is still to come.
    let end_ns = monotonic_ns() + TRUTH_WAIT_NS;
    while let Some(truth) = truth.as_mut().filter(|_| !waiting.is_empty() && monotonic_ns() < end_ns) {
        let known_s = truth.take(tally);
        if !count(&mut waiting, known_s, monotonic_ns(), tally, each) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    count(&mut waiting, f64::INFINITY, u64::MAX, tally, each);
    Ok(())
}

/// Counts the estimates that need not wait for the true velocity any longer, which is known until `known_s`. Returns `false`
/// if listening is to end.
fn count(
    waiting: &mut VecDeque<(Estimate, u64)>,
    known_s: f64,
    now_ns: u64,
    tally: &mut Tally,
    each: &mut dyn FnMut(&Tally, &Estimate) -> bool,
) -> bool {
    while let Some((estimate, received_ns)) = waiting.front() {
        let is_known = estimate.velocity_for_ns as f64 / 1e9 <= known_s;
        if !is_known && now_ns < received_ns + TRUTH_WAIT_NS {
            return true;
        }
        tally.push(estimate, *received_ns);
        let go_on = each(tally, estimate);
        waiting.pop_front();
        if !go_on {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_daemons_output_and_the_players() {
        let sources = Sources::new(&Query::of_name("arm"), Some(&Query::default()));
        assert_eq!(sources.estimates, Query::of_name("arm-velocity"));
        assert_eq!(sources.truth, Some(Query::of_name("ndt-replay-behavior")));
        let typed: Query = "type=Velocity".parse().unwrap();
        assert_eq!(Sources::new(&typed, None), Sources { estimates: typed, truth: None });
    }
}
