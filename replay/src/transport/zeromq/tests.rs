//! What sender and receiver promise, tested over loopback and Unix sockets.

use super::*;
use bytes::Bytes;
use ndt_protocol::wire::{self, BinStamp, Description};
use std::time::Duration;
use tokio::time::timeout;
use zeromq::{SocketRecv, SubSocket};

/// Timeout that a loaded machine does not reach; a test that passes does not wait for it.
const SOON: Duration = Duration::from_secs(20);

fn sender() -> (Sender, String) {
    let sender = Sender::open(&"tcp://127.0.0.1:0".parse().unwrap()).unwrap();
    let address = sender.address().to_owned();
    (sender, address)
}

fn stamp(seq: u64) -> BinStamp {
    BinStamp { seq, ..BinStamp::default() }
}

/// Receives the next bin and returns its number.
async fn next_seq(socket: &mut SubSocket) -> u64 {
    let message = timeout(SOON, socket.recv()).await.unwrap().unwrap().into_vec();
    let frames: Vec<&[u8]> = message.iter().map(|frame| &frame[..]).collect();
    wire::split_bin(&frames).unwrap().0.seq
}

#[test]
fn only_a_subscription_to_bins_ends_the_wait_and_later_subscribers_receive_bins_too() {
    let (mut sender, address) = sender();
    let client = runtime().unwrap();
    let mut first = SubSocket::new();
    client.block_on(async {
        first.connect(&address).await.unwrap();
        first.subscribe("ndt.description").await.unwrap();
    });
    let error = sender.wait_for_subscriber(Duration::from_millis(50)).unwrap_err();
    assert_eq!(error.to_string(), format!("expected a subscriber on {address} within 0.05 s, found none"));
    client.block_on(first.subscribe("ndt.bin")).unwrap();
    sender.wait_for_subscriber(SOON).unwrap();
    assert!(sender.offer(&stamp(0), &[1.0]));
    assert_eq!(client.block_on(next_seq(&mut first)), 0);

    // A second subscriber joins while bins are sent: from some bin on, it receives every bin.
    let mut second = SubSocket::new();
    client.block_on(async {
        second.subscribe("ndt.").await.unwrap();
        second.connect(&address).await.unwrap();
    });
    let heard = (1..10_000).any(|seq| {
        sender.send(&stamp(seq), &[1.0]).unwrap();
        assert_eq!(client.block_on(next_seq(&mut first)), seq);
        client.block_on(async { timeout(Duration::from_millis(1), second.recv()).await }).is_ok()
    });
    assert!(heard);
    sender.send(&stamp(10_000), &[1.0]).unwrap();
    // On a slow machine, some bins were still on their way when the loop above ended.
    let rest: Vec<u64> = client.block_on(async {
        let mut rest = vec![next_seq(&mut second).await];
        while rest.last() != Some(&10_000) {
            rest.push(next_seq(&mut second).await);
        }
        rest
    });
    assert!(rest[..rest.len() - 1].is_sorted_by(|a, b| a + 1 == *b), "{rest:?}");
}

#[test]
fn a_subscriber_that_does_not_read_blocks_only_a_sender_that_waits() {
    let (mut sender, address) = sender();
    let client = runtime().unwrap();
    let mut stuck = SubSocket::new();
    client.block_on(async {
        stuck.subscribe("ndt.").await.unwrap();
        stuck.connect(&address).await.unwrap();
    });
    sender.wait_for_subscriber(SOON).unwrap();
    // The buffers of the operating system hold a few megabytes; then the queue fills, and then bins are dropped.
    let counts = vec![1.0; 4096];
    let dropped = (0..100_000).find(|seq| !sender.offer(&stamp(*seq), &counts));
    assert!(dropped.is_some(), "100,000 bins of 16 KiB found room");
    // When the subscriber reads again, it receives every bin that was queued, in order.
    let seqs: Vec<u64> = client.block_on(async {
        let mut seqs = Vec::new();
        while seqs.len() as u64 != dropped.unwrap() {
            seqs.push(next_seq(&mut stuck).await);
        }
        seqs
    });
    assert!(seqs.into_iter().eq(0..dropped.unwrap()));
}

#[test]
fn everything_sent_arrives_although_the_sender_has_ended() {
    let (mut sender, address) = sender();
    let mut receiver = Receiver::open(&address.parse().unwrap()).unwrap();
    sender.wait_for_subscriber(SOON).unwrap();
    sender.describe(0, &Description::Bins { bin_width_us: 20_000, channel_ids: vec![1] });
    (0..500).for_each(|seq| sender.send(&stamp(seq), &[1.0; 100]).unwrap());
    sender.finish().unwrap();
    let topics: Vec<Bytes> =
        (0..501).map(|_| receiver.receive(SOON).unwrap().frames.swap_remove(0)).collect();
    assert_eq!(topics[0], wire::TOPIC_DESCRIPTION);
    assert!(topics[1..].iter().all(|topic| topic == wire::TOPIC_BIN));
}

#[test]
fn a_receiver_outlives_its_peers() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint: SocketAddress = format!("ipc://{}", folder.path().join("bins").display()).parse().unwrap();
    // The receiver is there before its peer.
    let mut receiver = Receiver::open(&endpoint).unwrap();
    for seq in 0..3 {
        let mut sender = Sender::open(&endpoint).unwrap();
        sender.wait_for_subscriber(SOON).unwrap();
        sender.send(&stamp(seq), &[1.0]).unwrap();
        let message = receiver.receive(SOON).unwrap();
        let frames: Vec<&[u8]> = message.frames.iter().map(|frame| &frame[..]).collect();
        assert_eq!(wire::split_bin(&frames).unwrap().0.seq, seq);
        sender.finish().unwrap();
    }
}

#[test]
fn a_file_at_a_sockets_path_is_never_removed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("session.nwb");
    std::fs::write(&file, "a recording").unwrap();
    let opened = Sender::open(&format!("ipc://{}", file.display()).parse().unwrap());
    assert!(opened.is_err());
    assert_eq!(std::fs::read(&file).unwrap(), b"a recording");
}

#[test]
fn an_address_that_is_taken_is_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let local = format!("ipc://{}", folder.path().join("bins").display());
    for address in ["tcp://127.0.0.1:0", &local] {
        let sender = Sender::open(&address.parse().unwrap()).unwrap();
        let address = sender.address();
        let error = Sender::open(&address.parse().unwrap()).map(drop).unwrap_err().to_string();
        assert!(error.starts_with(&format!("expected to open {address}, found ")), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}
