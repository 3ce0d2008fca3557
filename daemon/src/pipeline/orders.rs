//! Orders to the running loops, and how they reach them.
//!
//! An order is plain data in a box that the control plane has allocated. A loop takes it at one definite place, before its next bin
//! or estimate, exchanges what is to be exchanged, notes from which bin on the order holds, and sends the same box back. The
//! real-time threads therefore neither allocate nor free for an order, and what an order replaces ends with the box on the control
//! plane.

use super::shadow::Shadow;
use crate::decoder::Decoder;
use crate::output::DescriptionFrames;
use crate::queue::{Queue, Receiver};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the control plane looks whether an order was carried out.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Most orders that are on their way to one loop: half of what the queue holds, so that it drops none.
const WAITING_MAX: usize = ndt_protocol::limits::QUEUE_BINS / 2;

/// An order to whoever owns a decoder, for the present model and every other one that takes in the same bins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelOrder {
    /// Forget the history, as at the start of a segment.
    Reset,
    /// Mask these channels and no others: one entry for each channel.
    Mask(Vec<bool>),
}

impl ModelOrder {
    /// Carries out the order. Must not allocate, block, lock or log.
    pub fn apply_to(&self, decoder: &mut Decoder) {
        match self {
            ModelOrder::Reset => decoder.forget_history(),
            ModelOrder::Mask(masked) => decoder.mask_channels(masked),
        }
    }
}

impl fmt::Display for ModelOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModelOrder::Reset => write!(f, "reset"),
            ModelOrder::Mask(masked) => {
                let digits = masked.iter().map(|is_masked| if *is_masked { '1' } else { '0' });
                write!(f, "{MASK}{}", digits.collect::<String>())
            }
        }
    }
}

// The texts by which the session log keeps orders. `repeat` reads them.

/// Before a digit for each channel: 1 where the channel is masked, else 0.
pub const MASK: &str = "mask ";
/// Before the id and the path of the bundle of a model beside the present one.
pub const BESIDE: &str = "beside ";
/// There is no model beside the present one any more.
pub const ALONE: &str = "alone";
/// The model beside and the present one change places.
pub const TAKE_OVER: &str = "take-over";
/// Outputs of zero from here on.
pub const PAUSE: &str = "pause";
/// What is computed from here on.
pub const RESUME: &str = "resume";

/// An order to the decode loop.
pub enum DecodeOrder {
    /// Change the models.
    Model(ModelOrder),
    /// Let this model run beside the present one, or none. The one that ran there before comes back in its place.
    Beside(Option<Box<Shadow>>),
    /// Exchange the present model and the one beside it, if that one has been replaced by the present one.
    RollBack,
}

impl fmt::Display for DecodeOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeOrder::Model(order) => order.fmt(f),
            DecodeOrder::Beside(Some(shadow)) => write!(f, "{BESIDE}{}", shadow.origin()),
            DecodeOrder::Beside(None) => write!(f, "{ALONE}"),
            // The models change places later, before a bin.
            DecodeOrder::RollBack => Ok(()),
        }
    }
}

/// An order to the publish loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishOrder {
    /// Publish outputs of zero, flagged `inhibited`.
    Pause,
    /// Publish what is computed again.
    Resume,
    /// Describe the estimates as those of another bundle.
    Describe(Arc<DescriptionFrames>),
}

impl fmt::Display for PublishOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PublishOrder::Pause => write!(f, "{PAUSE}"),
            PublishOrder::Resume => write!(f, "{RESUME}"),
            // It changes no estimate.
            PublishOrder::Describe(_) => Ok(()),
        }
    }
}

/// An order on its way to a loop and back.
pub struct Order<T> {
    /// What is to be done; afterwards, what it has replaced.
    pub what: T,
    /// Stream and number of the first bin or estimate for which the order holds. `None` before the first bin, when it holds from
    /// there.
    pub holds_from: Option<(u64, u64)>,
    /// Whether the loop could do it.
    pub is_done: bool,
    /// The order as the session log keeps it; empty where nothing of it needs to be repeated.
    pub text: String,
}

/// Why the control plane does not know that an order was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// The loop has not turned for the time that the control plane waits. The order holds as soon as it does.
    #[error(
        "expected the {0} thread to take an order, found that it does not turn; the order holds as soon as it does"
    )]
    Untaken(&'static str),
    /// The loop has not taken the order before this one.
    #[error("expected the {0} thread to take the order before this one, found it waiting")]
    Busy(&'static str),
}

/// The control plane's end: sends orders to one loop.
pub struct Orders<T> {
    thread: &'static str,
    sent: Queue<Box<Order<T>>>,
    done: Receiver<Box<Order<T>>>,
    /// Number of orders that were sent and have not come back.
    waiting: usize,
}

/// The loop's end.
pub struct Inbox<T> {
    orders: Receiver<Box<Order<T>>>,
    done: Queue<Box<Order<T>>>,
}

/// Makes both ends for the loop of a thread.
pub fn to_thread<T>(thread: &'static str) -> (Orders<T>, Inbox<T>) {
    let (sent, orders) = Queue::untouched();
    let (back, done) = Queue::untouched();
    (Orders { thread, sent, done, waiting: 0 }, Inbox { orders, done: back })
}

impl<T> Inbox<T> {
    /// Removes the next order. Neither waits, locks nor allocates.
    pub fn take(&self) -> Option<Box<Order<T>>> {
        self.orders.try_receive()
    }

    /// Sends an order back that is done, or that could not be done. Neither waits, locks nor allocates: the control plane never has as many orders
    /// on their way as the queue has places.
    pub fn give_back(&self, order: Box<Order<T>>) {
        self.done.push(order);
    }
}

impl<T: fmt::Display> Orders<T> {
    /// Sends an order and waits until the loop has carried it out, for `patience` at most. Not for real-time threads.
    ///
    /// # Errors
    /// [`OrderError`] when the loop does not turn.
    pub async fn carry_out(&mut self, what: T, patience: Duration) -> Result<Box<Order<T>>, OrderError> {
        if self.waits() > 0 {
            return Err(OrderError::Busy(self.thread));
        }
        self.post(what)?;
        let until = Instant::now() + patience;
        loop {
            if let Some(order) = self.returned() {
                return Ok(order);
            }
            if Instant::now() > until {
                return Err(OrderError::Untaken(self.thread));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Sends an order, which the loop carries out at its next bin, after those that were sent before.
    ///
    /// # Errors
    /// [`OrderError::Busy`] while too many orders are on their way.
    pub fn post(&mut self, what: T) -> Result<(), OrderError> {
        if self.waits() >= WAITING_MAX {
            return Err(OrderError::Busy(self.thread));
        }
        self.waiting += 1;
        let text = what.to_string();
        self.sent.push(Box::new(Order { what, holds_from: None, is_done: false, text }));
        Ok(())
    }

    /// Number of orders that are on their way. Of one that came back too late, nobody waits for the answer any more.
    fn waits(&mut self) -> usize {
        while self.returned().is_some() {}
        self.waiting
    }

    fn returned(&mut self) -> Option<Box<Order<T>>> {
        let order = self.done.try_receive()?;
        self.waiting -= 1;
        Some(order)
    }
}
