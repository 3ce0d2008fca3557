//! A client of the monitor that knows as much of HTTP as these tests need.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Time between two looks at a condition that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// An answer, split.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// Asks for a path of this computer.
pub fn get(address: SocketAddr, path: &str) -> Answer {
    try_get(address, path).unwrap_or_else(|| panic!("{path}: the connection was closed"))
}

/// As [`get`]; `None` where the connection is closed without an answer.
pub fn try_get(address: SocketAddr, path: &str) -> Option<Answer> {
    try_request(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
}

/// Sends a request as it is, and reads the answer to its end.
pub fn request(address: SocketAddr, text: &str) -> Answer {
    let text = text.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    try_request(address, &text).expect("an answer")
}

/// As [`request`], as it is; `None` where the connection is closed without an answer.
pub fn try_request(address: SocketAddr, text: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // The server may have answered before it has read all, and closed.
    drop(stream.write_all(text.as_bytes()));
    let mut bytes = Vec::new();
    drop(stream.read_to_end(&mut bytes));
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

/// Asks again and again until the answer is as expected.
pub fn until(address: SocketAddr, path: &str, is_expected: impl Fn(&Answer) -> bool) -> Answer {
    loop {
        match try_get(address, path) {
            Some(answer) if is_expected(&answer) => return answer,
            _ => std::thread::sleep(LOOK_EVERY),
        }
    }
}

/// The value of a sample without labels, or with the labels that `name` has.
pub fn value(metrics: &str, name: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// The events of an open page.
pub struct Events {
    lines: BufReader<TcpStream>,
}

impl Events {
    /// Opens a page.
    pub fn open(address: SocketAddr) -> Events {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        Events { lines: BufReader::new(stream) }
    }

    /// The next event: its name, and its data.
    pub fn next(&mut self) -> (String, serde_json::Value) {
        let (mut name, mut line) = (String::new(), String::new());
        loop {
            line.clear();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "the stream of events has ended");
            if let Some(event) = line.strip_prefix("event: ") {
                event.trim().clone_into(&mut name);
            } else if let Some(data) = line.strip_prefix("data: ") {
                return (name, serde_json::from_str(data).unwrap());
            }
        }
    }
}
