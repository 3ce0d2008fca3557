//! Where estimates go: any number of transports, each estimate to all of them, ZeroMQ first.

use crate::config::Config;
use crate::lsl::outlets::LslPublisher;
use crate::pipeline::{PipelineError, Say};
use crate::zeromq::ZeromqPublisher;
use ndt_protocol::Bundle;
use ndt_protocol::endpoint::Output;
use ndt_protocol::lsl::Library;
use tokio::runtime::Runtime;

/// The publishers of all outputs.
pub struct Outputs {
    zeromq: Vec<ZeromqPublisher>,
    lsl: Vec<LslPublisher>,
}

impl Outputs {
    /// Opens the outputs of `config`; gives their addresses, as bound, too. `library` is there where one is a stream.
    ///
    /// # Errors
    /// [`PipelineError`] of the first that cannot be opened.
    pub fn open(
        runtime: &Runtime,
        library: Option<&Library>,
        config: &Config,
        bundle: &Bundle,
        engine: &str,
    ) -> Result<(Outputs, Vec<String>), PipelineError> {
        let mut outputs = Outputs { zeromq: Vec::new(), lsl: Vec::new() };
        let mut addresses = Vec::new();
        for endpoint in &config.outputs {
            match (endpoint, library) {
                (Output::Lsl { name }, Some(library)) => {
                    outputs.lsl.push(LslPublisher::open(library, name, bundle, engine, &config.realtime)?);
                    addresses.push(format!("lsl:{name}"));
                }
                (Output::Lsl { .. }, None) => {}
                (Output::Zeromq(socket), _) => {
                    let (publisher, address) =
                        ZeromqPublisher::open(runtime, socket, bundle, engine.to_owned())?;
                    outputs.zeromq.push(publisher);
                    addresses.push(address);
                }
            }
        }
        Ok((outputs, addresses))
    }

    /// Says it to all. Runs on the publish thread, once a bin and once a second. Allocates what ZeroMQ takes over; waits
    /// for no peer.
    pub fn say(&mut self, say: &Say<'_>) {
        match say {
            Say::Estimate(estimate) => {
                self.zeromq.iter_mut().for_each(|publisher| publisher.publish(estimate));
                self.lsl.iter_mut().for_each(|publisher| publisher.publish(estimate));
            }
            // A stream describes itself when it is found.
            Say::Description => self.zeromq.iter_mut().for_each(ZeromqPublisher::describe),
        }
    }
}
