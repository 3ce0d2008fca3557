//! A server on loopback with the archive's API, which can fail in the ways that servers and networks fail.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

pub const DANDISET: &str = "/api/dandisets/000140/versions/0.220113.0408/assets/";

/// A file in the archive.
#[derive(Clone)]
pub struct Asset {
    pub id: String,
    pub path: String,
    pub content: Vec<u8>,
    /// Digest and length in the file's metadata.
    pub digest: serde_json::Value,
    pub said_bytes: u64,
}

impl Asset {
    pub fn new(path: &str, bytes: usize, seed: u64) -> Asset {
        let mut content = vec![0; bytes];
        ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut content);
        let sha256 = ndt_protocol::bundle::sha256(&content);
        Asset {
            id: format!("7e6ac6b2-6986-4ea2-9f26-{seed:012x}"),
            path: path.to_owned(),
            content,
            digest: serde_json::json!({ "dandi:dandi-etag": "00-1", "dandi:sha2-256": sha256 }),
            said_bytes: bytes as u64,
        }
    }

    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap()
    }
}

/// The failures that are set, and the requests that were received.
#[derive(Default)]
pub struct State {
    pub assets: Vec<Asset>,
    /// `METHOD PATH` of each request, with its range.
    pub requests: Vec<String>,
    /// Responses to the next requests, whatever they ask for.
    pub statuses: VecDeque<u16>,
    /// Numbers of bytes after which the bodies of the next files break off.
    pub cuts: VecDeque<usize>,
    /// Number of responses with a file whose headers break off.
    pub header_cuts: usize,
    /// Number of bytes after which the next body stalls until the gate is opened.
    pub stall: Option<usize>,
    pub ignores_ranges: bool,
    /// Number of bytes by which ranges start too early.
    pub early_ranges: u64,
    /// Bytes that are sent after the end of each file, announced in the headers or not.
    pub extra: usize,
    pub announces_length: bool,
    pub redirects_in_circles: bool,
    pub endless_pages: bool,
    /// Body of the listing that replaces the right one.
    pub listing: Option<Vec<u8>>,
}

pub struct Server {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    gate: Arc<(Mutex<bool>, Condvar)>,
}

impl Server {
    /// A server with the two files of the small set, shortened.
    pub fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let assets = vec![
            Asset::new("sub-Jenkins/sub-Jenkins_ses-small_desc-train_behavior+ecephys.nwb", 300_000, 1),
            Asset::new("dataset_description.json", 50, 2),
            Asset::new("sub-Jenkins/sub-Jenkins_ses-small_desc-test_ecephys.nwb", 70_001, 3),
        ];
        let state = State { assets, announces_length: true, ..State::default() };
        let server = Server {
            address: listener.local_addr().unwrap(),
            state: Arc::new(Mutex::new(state)),
            gate: Arc::default(),
        };
        let (address, state, gate) = (server.address, server.state.clone(), server.gate.clone());
        // The server lives as long as the test's process. Each connection has a thread, so that a stalled one blocks no
        // other.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let connection = Connection { address, state: state.clone(), gate: gate.clone() };
                // An error means that the client has closed the connection; the client is what is tested.
                std::thread::spawn(move || connection.answer(stream).ok());
            }
        });
        server
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Lets the stalled bodies continue.
    pub fn open_gate(&self) {
        *self.gate.0.lock().unwrap() = true;
        self.gate.1.notify_all();
    }

    /// The ranges that the store was asked for; `all` for a request without a range.
    pub fn ranges(&self) -> Vec<String> {
        let state = self.state();
        let stored = state.requests.iter().filter(|request| request.contains("/store/"));
        stored.map(|request| request.split(' ').nth(2).unwrap_or("all").to_owned()).collect()
    }
}

struct Connection {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    gate: Arc<(Mutex<bool>, Condvar)>,
}

impl Connection {
    /// Serves one request and closes the connection.
    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let first = lines.next().unwrap_or(Ok(String::new()))?;
        let mut request: Vec<&str> = first.split(' ').take(2).collect();
        let mut range = String::new();
        for line in lines {
            let line = line?;
            if let Some(value) = line.to_lowercase().strip_prefix("range: ") {
                range = value.to_owned();
            }
            if line.is_empty() {
                break;
            }
        }
        if !range.is_empty() {
            request.push(&range);
        }
        let mut state = self.state.lock().unwrap();
        state.requests.push(request.join(" "));
        if let Some(status) = state.statuses.pop_front() {
            return write!(
                stream,
                "HTTP/1.1 {status} No\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno"
            );
        }
        let url = request.get(1).copied().unwrap_or_default();
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let asset = |id: &str| state.assets.iter().find(|asset| asset.id == id).cloned();
        if path == DANDISET {
            let body = state.listing.clone().unwrap_or_else(|| self.page(&state, query));
            return json(&mut stream, &body);
        }
        if let Some(asset) = path.strip_prefix(DANDISET).and_then(|id| asset(id.trim_end_matches('/'))) {
            let metadata = serde_json::json!({
                "id": asset.id, "path": asset.path, "contentSize": asset.said_bytes,
                "digest": asset.digest, "contentUrl": ["https://elsewhere.invalid/"],
            });
            return json(&mut stream, metadata.to_string().as_bytes());
        }
        let id = path.strip_prefix("/api/assets/").and_then(|rest| rest.strip_suffix("/download/"));
        if let Some(id) = id.filter(|id| asset(id).is_some()) {
            let to = if state.redirects_in_circles {
                url.to_owned()
            } else {
                format!("http://{}/store/{id}?Signature=secret", self.address)
            };
            return write!(
                stream,
                "HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
        }
        if let Some(asset) = path.strip_prefix("/store/").and_then(asset) {
            return self.store(stream, state, &asset, &range);
        }
        write!(stream, "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    }

    /// One asset a page, whatever page size was asked for, because an archive may have a smaller limit.
    fn page(&self, state: &State, query: &str) -> Vec<u8> {
        let page: Option<usize> =
            query.split('&').find_map(|pair| pair.strip_prefix("page=")).and_then(|page| page.parse().ok());
        let page = page.unwrap_or(1);
        // The URL cannot be reached: a mirror may not know its own name.
        let next = format!("http://wrong.invalid{DANDISET}?page={}", page + 1);
        let asset = if state.endless_pages { &state.assets[1] } else { &state.assets[page - 1] };
        let body = serde_json::json!({
            "count": state.assets.len(),
            "next": (state.endless_pages || page < state.assets.len()).then_some(next),
            "previous": null,
            "results": [{ "asset_id": asset.id, "path": asset.path, "size": asset.said_bytes, "zarr": null }],
        });
        body.to_string().into_bytes()
    }

    fn store(
        &self,
        mut stream: TcpStream,
        mut state: MutexGuard<State>,
        asset: &Asset,
        range: &str,
    ) -> std::io::Result<()> {
        let mut content = asset.content.clone();
        content.extend(std::iter::repeat_n(7, state.extra));
        let from: Option<usize> =
            range.strip_prefix("bytes=").and_then(|range| range.strip_suffix('-')?.parse().ok());
        let total = content.len();
        let mut headers = match from.filter(|_| !state.ignores_ranges) {
            Some(from) if from >= total => {
                return write!(stream, "HTTP/1.1 416 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            }
            Some(from) => {
                let from = from.saturating_sub(state.early_ranges as usize);
                content.drain(..from);
                format!("HTTP/1.1 206 Partial\r\ncontent-range: bytes {from}-{}/{total}\r\n", total - 1)
            }
            None => "HTTP/1.1 200 OK\r\n".to_owned(),
        };
        if state.announces_length {
            headers += &format!("content-length: {}\r\n", content.len());
        }
        headers += "etag: \"00-1\"\r\nconnection: close\r\n\r\n";
        if state.header_cuts > 0 {
            state.header_cuts -= 1;
            return stream.write_all(&headers.as_bytes()[..headers.len() / 2]);
        }
        let cut = state.cuts.pop_front().unwrap_or(content.len()).min(content.len());
        let stall = state.stall.take();
        drop(state);
        stream.write_all(headers.as_bytes())?;
        if let Some(bytes) = stall {
            stream.write_all(&content[..bytes])?;
            let mut open = self.gate.0.lock().unwrap();
            while !*open {
                open = self.gate.1.wait(open).unwrap();
            }
            return stream.write_all(&content[bytes..cut]);
        }
        stream.write_all(&content[..cut])
    }
}

fn json(stream: &mut TcpStream, body: &[u8]) -> std::io::Result<()> {
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    )?;
    stream.write_all(body)
}
