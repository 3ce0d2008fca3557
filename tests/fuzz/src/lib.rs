//! What several targets share: files in memory, and the frames of a message.

use std::cell::RefCell;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Returns the path of a file in memory that holds `bytes`, for parsers that read a path. The next call on this thread replaces the
/// contents.
pub fn file_of(bytes: &[u8]) -> PathBuf {
    thread_local! {
        static FILE: RefCell<File> = RefCell::new(memory());
    }
    FILE.with_borrow(|file| {
        file.set_len(0).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
    })
}

fn memory() -> File {
    // SAFETY: the name ends with a zero; the descriptor is new and nobody else's.
    unsafe {
        let descriptor = libc::memfd_create(c"input".as_ptr(), 0);
        assert!(descriptor >= 0, "expected a file in memory, found {}", std::io::Error::last_os_error());
        File::from_raw_fd(descriptor)
    }
}

/// Splits an input into the frames of a message: topic, header and payloads. Two bits of the first byte choose whether the topic is
/// `topic`, and whether the header begins as the genuine `header` does, so that the fuzzer need not guess magic and version; the
/// header then has the genuine length. The rest of the byte is the number of payload frames, whose lengths follow, in 4 bytes.
pub fn frames(input: &[u8], topic: &[u8], header: &[u8]) -> Option<Vec<Vec<u8>>> {
    const HEAD_BYTES: usize = 8;
    let mut rest = input;
    let mut take = |count: usize| {
        let (taken, left) = rest.split_at(count.min(rest.len()));
        rest = left;
        taken.to_vec()
    };
    let how = *take(1).first()?;
    let topic = if how & 1 == 0 { topic.to_vec() } else { take(4) };
    let mut frames = vec![topic];
    if how & 2 == 0 {
        let mut found = take(header.len());
        found.resize(header.len(), 0);
        found[..HEAD_BYTES].copy_from_slice(&header[..HEAD_BYTES]);
        frames.push(found);
    } else {
        let length = *take(1).first()?;
        frames.push(take(length.into()));
    }
    let payloads = usize::from(how >> 2) % 4;
    let lengths: Vec<u8> = (0..payloads).filter_map(|_| take(1).first().copied()).collect();
    frames.extend(lengths.iter().map(|length| take(4 * usize::from(*length))));
    Some(frames)
}

/// Borrows the frames, as the readers of messages take them.
pub fn borrowed(frames: &[Vec<u8>]) -> Vec<&[u8]> {
    frames.iter().map(Vec::as_slice).collect()
}
