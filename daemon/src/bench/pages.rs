//! Open pages of the monitor, as browsers have them, while something is measured.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;

/// Pages that are open until this is dropped. Each reads what it is sent, on a thread of its own at normal priority.
pub struct Pages {
    streams: Vec<TcpStream>,
    threads: Vec<JoinHandle<()>>,
    bytes: Arc<AtomicU64>,
}

impl Pages {
    /// Opens so many pages of the monitor at `address`.
    ///
    /// # Errors
    /// The error of the system when one cannot be opened.
    pub fn open(address: SocketAddr, pages: usize) -> io::Result<Pages> {
        let mut opened = Pages { streams: Vec::new(), threads: Vec::new(), bytes: Arc::default() };
        for _ in 0..pages {
            let mut stream = TcpStream::connect(address)?;
            stream.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
            opened.streams.push(stream.try_clone()?);
            let bytes = opened.bytes.clone();
            let read = move || {
                let mut events = vec![0; 64 * 1024];
                while let Ok(read @ 1..) = stream.read(&mut events) {
                    bytes.fetch_add(read as u64, Relaxed);
                }
            };
            opened.threads.push(std::thread::Builder::new().name("bench-page".to_owned()).spawn(read)?);
        }
        Ok(opened)
    }

    /// Bytes that all pages have read so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // One that the monitor has closed is closed already.
        self.streams.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
        // A thread that panicked has already printed why.
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}
