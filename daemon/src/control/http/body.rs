//! The body of an answer: all at once, or events until the page is closed.

use hyper::body::{Body, Bytes, Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc::Receiver;

/// The body of an answer.
#[derive(Debug)]
pub enum Answered {
    /// A text; empty once it was sent.
    Text(Bytes),
    /// Events, as they come.
    Events(Receiver<Bytes>),
}

impl Body for Answered {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Answered::Text(text) if text.is_empty() => Poll::Ready(None),
            Answered::Text(text) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(text))))),
            Answered::Events(events) => events.poll_recv(context).map(|event| event.map(Frame::data).map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Answered::Text(text) if text.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answered::Text(text) => SizeHint::with_exact(text.len() as u64),
            Answered::Events(_) => SizeHint::default(),
        }
    }
}
