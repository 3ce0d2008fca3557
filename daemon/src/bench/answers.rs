//! The queue of answers from the pipeline under test to the tally.

use super::tally::{Answer, Tally};
use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use std::time::{Duration, Instant};

/// Length of the queue: several seconds of any bundle's answers, although the tally takes them 20 times a second, so that
/// none is lost when the load leaves the tally's thread no time.
pub const QUEUE_ANSWERS: usize = 1 << 14;

/// Interval at which the tally takes answers from the queue. The publish thread only puts them there: waking the tally would
/// be work of the benchmark on the path that it measures.
const TAKE_EVERY: Duration = Duration::from_millis(50);

/// How long answers over a transport may take after the last bin was sent, beyond the deadline.
const PATIENCE: Duration = Duration::from_secs(2);

/// Makes the queue of answers to the tally.
pub fn queue() -> (Sender<Answer>, Receiver<Answer>) {
    bounded(QUEUE_ANSWERS)
}

/// Puts an answer into the queue. Runs on the publish thread, once an estimate, or on the rig's. Must not allocate or
/// block: an answer that finds the queue full is lost, and its bin is reported as unanswered.
pub fn put(answers: &Sender<Answer>, answer: Answer) {
    let _ = answers.try_send(answer);
}

/// Gives the tally all answers until the sending end of the queue is dropped.
pub fn take_until_closed(answers: &Receiver<Answer>, tally: &mut Tally, progress: &mut dyn FnMut(u64)) {
    while take(answers, tally, progress) {
        std::thread::sleep(TAKE_EVERY);
    }
}

/// Gives the tally the answers that come over a transport, until every bin has one or no more can come. `has_sent` says
/// whether the rig has sent its last bin.
pub fn take_until_answered(
    answers: &Receiver<Answer>,
    tally: &mut Tally,
    progress: &mut dyn FnMut(u64),
    has_sent: &dyn Fn() -> bool,
) {
    let patience = PATIENCE + Duration::from_nanos(tally.deadline_ns());
    let mut sent_at = None;
    while take(answers, tally, progress) && !tally.is_complete() {
        if has_sent() && sent_at.get_or_insert_with(Instant::now).elapsed() > patience {
            break;
        }
        std::thread::sleep(TAKE_EVERY);
    }
}

/// Gives the tally what is in the queue, and tells `progress` how far it has come (ns since the start). Returns whether more
/// may come.
fn take(answers: &Receiver<Answer>, tally: &mut Tally, progress: &mut dyn FnMut(u64)) -> bool {
    loop {
        match answers.try_recv() {
            Ok(answer) => tally.take(&answer),
            Err(TryRecvError::Empty) => break,
            Err(TryRecvError::Disconnected) => return false,
        }
    }
    progress(tally.reached_ns());
    true
}
