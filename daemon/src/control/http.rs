//! The server of the monitor: HTTP/1.1 on one address, for a few browsers and one Prometheus.
//!
//! | path | what it answers |
//! |---|---|
//! | `/` | the live page (`page.html`), which needs nothing from elsewhere |
//! | `/events` | what the page is sent, as `text/event-stream` |
//! | `/metrics` | the metrics, in the text format of Prometheus |
//! | `/healthz`, `/readyz` | 200, or 503 with a sentence |
//!
//! Every limit is set: of connections, of the size of a head and of the time that it takes, of the events that wait for a page.

pub mod access;
mod body;

use super::metrics::{self, Process};
use super::state::State;
use super::{health, summary};
use crate::host::watchdog;
use access::{Access, Denied};
use body::Answered;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderName};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use ndt_protocol::clock::monotonic_ns;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{self, Sender, error::TrySendError};

/// The live page.
const PAGE: &str = include_str!("http/page.html");

/// Longest time that a client may take for the head of a request, and sit idle between two.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// Longest head of a request, bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Most lines of a head.
const HEADERS_MAX: usize = 64;

/// Events that wait for a page that does not keep up: half a second. Those that find no room are lost.
const EVENTS_WAIT: usize = 16;

/// Pause after the system has refused a connection, for instance because too many files are open.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// Sent with every answer: nothing may be loaded from elsewhere, no other page may show this one, and the address, which may hold the
/// token, goes nowhere.
const HEADERS: [(HeaderName, &str); 5] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
];

/// What the server and the thread that reads the taps share. Both run on the same thread, so that nobody waits for the locks.
pub struct Shared {
    access: Access,
    state: Mutex<State>,
    viewers: Mutex<Vec<Sender<Bytes>>>,
    turned_away: AtomicU64,
    frames_lost: AtomicU64,
}

impl Shared {
    /// Answers those whom `access` lets in, from `state`.
    pub fn new(access: Access, state: State) -> Shared {
        Shared {
            access,
            state: Mutex::new(state),
            viewers: Mutex::default(),
            turned_away: AtomicU64::new(0),
            frames_lost: AtomicU64::new(0),
        }
    }

    /// What was seen so far.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of open pages.
    pub fn viewers(&self) -> usize {
        self.viewers.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Sends an event to every open page. One that does not keep up loses it.
    pub fn send(&self, event: String) {
        let event = Bytes::from(event);
        let mut viewers = self.viewers.lock().unwrap_or_else(PoisonError::into_inner);
        viewers.retain(|viewer| match viewer.try_send(event.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.frames_lost.fetch_add(1, Relaxed);
                true
            }
            Err(TrySendError::Closed(_)) => false,
        });
    }

    fn process(&self) -> Process {
        Process {
            resident_bytes: metrics::resident_bytes(),
            viewers: self.viewers(),
            turned_away: self.turned_away.load(Relaxed),
            frames_lost: self.frames_lost.load(Relaxed),
        }
    }

    fn answer<B>(&self, request: &Request<B>) -> Response<Answered> {
        let plain = |status, text: &str| whole(status, "text/plain; charset=utf-8", format!("{text}\n"));
        match self.access.check(request) {
            Ok(()) => {}
            Err(Denied::Token) => {
                let mut answer =
                    plain(StatusCode::UNAUTHORIZED, "expected the token of [monitor], found none or another");
                let scheme = header::HeaderValue::from_static("Bearer");
                answer.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
                return answer;
            }
            Err(Denied::Host) => {
                return plain(
                    StatusCode::FORBIDDEN,
                    "expected a request to this computer, found another host",
                );
            }
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "expected GET or HEAD");
        }
        let now_ns = monotonic_ns();
        let judged = |judgement: Option<String>, well: &str| match judgement {
            None => plain(StatusCode::OK, well),
            Some(sentence) => plain(StatusCode::SERVICE_UNAVAILABLE, &sentence),
        };
        let state = self.state();
        match request.uri().path() {
            "/" => whole(StatusCode::OK, "text/html; charset=utf-8", PAGE),
            "/events" if *request.method() == Method::GET => {
                let summary = summary::summary(&state, self.viewers() + 1, now_ns);
                self.events(summary)
            }
            "/metrics" => {
                let text = metrics::text(&state, self.process(), now_ns);
                whole(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
            }
            "/healthz" => {
                let health = watchdog::judge(&state.observer.heartbeats(), now_ns);
                judged(health.err().map(|unhealthy| unhealthy.to_string()), "healthy")
            }
            "/readyz" => {
                let (stats, width_ns) = (state.observer.stats(), state.facts.width_ns);
                let ready = health::ready(&state.observed, &stats, width_ns, now_ns);
                judged(ready.err().map(|not| not.to_string()), "ready")
            }
            _ => plain(StatusCode::NOT_FOUND, "expected /, /metrics, /healthz or /readyz"),
        }
    }

    /// Opens a stream of events, which begins with `first`.
    fn events(&self, first: Option<String>) -> Response<Answered> {
        let (viewer, events) = mpsc::channel(EVENTS_WAIT);
        // It is new, so that there is room.
        drop(first.map(|event| viewer.try_send(event.into())));
        self.viewers.lock().unwrap_or_else(PoisonError::into_inner).push(viewer);
        response(StatusCode::OK, "text/event-stream", Answered::Events(events))
    }
}

fn whole(status: StatusCode, kind: &'static str, text: impl Into<Bytes>) -> Response<Answered> {
    response(status, kind, Answered::Text(text.into()))
}

fn response(status: StatusCode, kind: &'static str, body: Answered) -> Response<Answered> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    for (name, value) in HEADERS {
        headers.insert(name, header::HeaderValue::from_static(value));
    }
    response
}

/// Serves on `listener`, with so many connections at once, until the runtime ends.
pub async fn serve(listener: TcpListener, shared: Arc<Shared>, connections_max: usize) {
    let places = Arc::new(Semaphore::new(connections_max));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(REFUSED_PAUSE).await;
            continue;
        };
        match places.clone().try_acquire_owned() {
            Ok(place) => {
                let shared = shared.clone();
                tokio::spawn(async move {
                    serve_one(stream, shared).await;
                    drop(place);
                });
            }
            Err(_) => {
                shared.turned_away.fetch_add(1, Relaxed);
            }
        }
    }
}

async fn serve_one(stream: TcpStream, shared: Arc<Shared>) {
    // A frame is not to wait for the next one. Where this is refused, it only waits.
    drop(stream.set_nodelay(true));
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = shared.answer(&request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    // A client that goes away, or speaks something else, is nobody's error.
    drop(connection.await);
}
