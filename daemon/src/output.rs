//! Where estimates go: a [`Publisher`] for each transport, and [`Outputs`] that gives every estimate to all of them.

use ndt_protocol::Estimate;
use std::sync::Arc;

/// Header and JSON of a description of estimates, as WIRE.md has them.
pub type DescriptionFrames = (Vec<u8>, Vec<u8>);

/// Publishes estimates over one transport. Owned by the publish thread.
pub trait Publisher: Send {
    /// Publishes one estimate. Runs on the publish thread, once a bin. Must not block, lock or log, and must not wait for a
    /// peer; may allocate only what the transport's library takes over.
    fn publish(&mut self, estimate: &Estimate);

    /// Publishes what estimates consist of, for subscribers that have just come. Runs on the publish thread, once a second. A
    /// transport that describes itself when it is found has nothing to do here.
    fn describe(&mut self) {}

    /// Takes another description, because another bundle computes the estimates. Runs on the publish thread, at an order. The one before must
    /// be owned by the control plane too, so that nothing is freed here. A transport that describes itself once keeps its description.
    fn describe_as(&mut self, description: &Arc<DescriptionFrames>);

    /// How often a subscriber fell so far behind that it lost estimates. Runs on the publish thread, once a second.
    fn behind(&self) -> u64 {
        0
    }
}

/// Publishes to a function, for tests and measurements within one process.
impl<F: FnMut(&Estimate) + Send> Publisher for F {
    fn publish(&mut self, estimate: &Estimate) {
        self(estimate);
    }

    fn describe_as(&mut self, _description: &Arc<DescriptionFrames>) {}
}

/// A publisher that is open, and its address.
pub struct Opened {
    /// Publishes to the address.
    pub publisher: Box<dyn Publisher>,
    /// Address as bound, or name of the streams.
    pub address: String,
    /// Outputs with a lower number publish an estimate first: those that wait for nobody before those that wake a thread.
    pub turn: u8,
}

/// All outputs of a daemon.
pub struct Outputs {
    publishers: Vec<Box<dyn Publisher>>,
}

impl Outputs {
    /// Collects the outputs, and returns their addresses in the order given. Each estimate is published to the outputs in
    /// ascending order of [`Opened::turn`].
    pub fn new(mut opened: Vec<Opened>) -> (Outputs, Vec<String>) {
        let addresses = opened.iter().map(|output| output.address.clone()).collect();
        opened.sort_by_key(|output| output.turn);
        (Outputs { publishers: opened.into_iter().map(|output| output.publisher).collect() }, addresses)
    }
}

impl Publisher for Outputs {
    fn publish(&mut self, estimate: &Estimate) {
        self.publishers.iter_mut().for_each(|publisher| publisher.publish(estimate));
    }

    fn describe(&mut self) {
        self.publishers.iter_mut().for_each(|publisher| publisher.describe());
    }

    fn describe_as(&mut self, description: &Arc<DescriptionFrames>) {
        self.publishers.iter_mut().for_each(|publisher| publisher.describe_as(description));
    }

    fn behind(&self) -> u64 {
        self.publishers.iter().map(|publisher| publisher.behind()).sum()
    }
}
