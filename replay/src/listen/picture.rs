//! Stub.
use crate::session::Session;
use ndt_protocol::Estimate;
/// Stub.
pub struct Picture;
impl Picture {
    /// Stub.
    pub fn new(_: &Session) -> Picture {
        Picture
    }
    /// Stub.
    pub fn push(&mut self, _: &Estimate) {}
    /// Stub.
    pub fn svg(&self) -> String {
        String::new()
    }
}
