//! What sender and receiver promise, tested over loopback and Unix sockets.

use super::*;
use ndt_protocol::wire::{self, BinStamp, Description};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

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
fn next_seq(receiver: &mut Receiver, wait: Duration) -> Option<u64> {
    let message = receiver.receive(wait)?;
    let frames: Vec<&[u8]> = message.frames.iter().map(|frame| &frame[..]).collect();
    Some(wire::split_bin(&frames).unwrap().0.seq)
}

#[test]
fn a_sender_waits_for_its_first_subscriber_and_later_ones_receive_bins_too() {
    let (mut sender, address) = sender();
    let error = sender.wait_for_subscriber(Duration::from_millis(50)).unwrap_err();
    assert_eq!(error.to_string(), format!("expected a subscriber on {address} within 0.05 s, found none"));
    let mut first = Receiver::open(&address.parse().unwrap()).unwrap();
    sender.wait_for_subscriber(SOON).unwrap();
    assert!(sender.offer(&stamp(0), &[1.0]));
    assert_eq!(next_seq(&mut first, SOON), Some(0));

    // A second subscriber joins while bins are sent: from some bin on, it receives every bin.
    let mut second = Receiver::open(&address.parse().unwrap()).unwrap();
    let heard = (1..10_000).find_map(|seq| {
        sender.send(&stamp(seq), &[1.0]).unwrap();
        assert_eq!(next_seq(&mut first, SOON), Some(seq));
        next_seq(&mut second, Duration::from_millis(1))
    });
    let heard = heard.unwrap();
    sender.send(&stamp(10_000), &[1.0]).unwrap();
    // On a slow machine, some bins were still on their way when the loop above ended.
    let mut rest = vec![heard];
    while rest.last() != Some(&10_000) {
        rest.push(next_seq(&mut second, SOON).unwrap());
    }
    assert!(rest[..rest.len() - 1].is_sorted_by(|a, b| a + 1 == *b), "{rest:?}");
}

#[test]
fn a_subscriber_that_does_not_read_blocks_only_a_sender_that_waits() {
    let (mut sender, address) = sender();
    // A program that subscribes and then stands still: greeting, READY of a SUB socket, and a subscription to `ndt.`.
    let mut greeting = [0; 64];
    greeting[..16].copy_from_slice(b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0NULL");
    let subscribed = || {
        let mut stuck = TcpStream::connect(address.strip_prefix("tcp://").unwrap()).unwrap();
        stuck.write_all(&greeting).unwrap();
        stuck.write_all(b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03SUB").unwrap();
        // A subscription that comes before the other end is ready would break the handshake.
        let mut heard = Vec::new();
        while !heard.ends_with(b"XPUB") {
            let mut byte = [0];
            stuck.read_exact(&mut byte).unwrap();
            heard.extend(byte);
        }
        stuck.write_all(b"\0\x05\x01ndt.").unwrap();
        stuck
    };
    // On a busy machine, a handshake may take longer than it may.
    let stuck = (0..20).find_map(|_| {
        let stuck = subscribed();
        sender.wait_for_subscriber(Duration::from_secs(2)).ok().map(|()| stuck)
    });
    let stuck = stuck.expect("a subscriber within 40 s");
    // The buffers of the operating system hold a few megabytes; then the queue fills, and bins are dropped.
    let counts = vec![1.0; 4096];
    let dropped = (0..100_000).find(|seq| !sender.offer(&stamp(*seq), &counts));
    let dropped = dropped.expect("100,000 bins of 16 KiB found room");
    // One that reads again gets what was queued: all bins from the first on.
    let mut received = Vec::new();
    stuck.take(1 << 20).read_to_end(&mut received).unwrap();
    let heads = received.windows(8).filter(|bytes| bytes == b"NDTW\x03\0\x01\0").count();
    assert!(heads > 0 && heads as u64 <= dropped, "{heads} of {dropped}");
}

#[test]
fn everything_sent_arrives_although_the_sender_has_ended() {
    let (mut sender, address) = sender();
    let mut receiver = Receiver::open(&address.parse().unwrap()).unwrap();
    sender.wait_for_subscriber(SOON).unwrap();
    sender.describe(0, &Description::Bins { bin_width_us: 20_000, channel_ids: vec![1] });
    (0..500).for_each(|seq| sender.send(&stamp(seq), &[1.0; 100]).unwrap());
    sender.finish().unwrap();
    let topics: Vec<Vec<u8>> =
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
        assert_eq!(next_seq(&mut receiver, SOON), Some(seq));
        sender.finish().unwrap();
    }
}

#[test]
fn a_receiver_comes_back_to_a_peer_that_broke_the_rules() {
    let (mut sender, address) = sender();
    let mut receiver = Receiver::open(&address.parse().unwrap()).unwrap();
    sender.wait_for_subscriber(SOON).unwrap();
    // The library gives a connection up for ever on which a frame is too long.
    sender.send_frames(&[wire::TOPIC_BIN, &vec![0; 8 << 20]]).unwrap();
    sender.send(&stamp(1), &[1.0]).unwrap();
    let came_back = (2..10_000).find_map(|seq| {
        sender.send(&stamp(seq), &[1.0]).unwrap();
        next_seq(&mut receiver, Duration::from_millis(10))
    });
    assert!(came_back.is_some());
}

#[test]
fn only_a_peer_with_a_permitted_key_is_let_in() {
    let library = Library::load(None).unwrap();
    if !library.has_curve() {
        println!("skipped: this libzmq has no encryption");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("permitted")).unwrap();
    for name in ["rig", "permitted/friend", "stranger"] {
        KeyPair::generate(&library).unwrap().write(&at(name)).unwrap();
    }
    let permitted = at("permitted");
    let own = Security::read(Some(&at("rig.key_secret")), None, Some(&permitted)).unwrap();
    let mut sender = Sender::open_with(&"tcp://127.0.0.1:0".parse().unwrap(), &own).unwrap();
    let address: SocketAddress = sender.address().parse().unwrap();
    let receiver = |name: &str| {
        let secret = at(&format!("{name}.key_secret"));
        let security = Security::read(Some(&secret), Some(&at("rig.key")), None).unwrap();
        Receiver::open_with(&address, &security).unwrap()
    };
    let mut strangers = [Receiver::open(&address).unwrap(), receiver("stranger")];
    sender.wait_for_subscriber(Duration::from_millis(300)).unwrap_err();
    let mut friend = receiver("permitted/friend");
    sender.wait_for_subscriber(SOON).unwrap();
    sender.send(&stamp(7), &[1.0]).unwrap();
    assert_eq!(next_seq(&mut friend, SOON), Some(7));
    for stranger in &mut strangers {
        assert_eq!(stranger.receive(Duration::from_millis(50)), None);
    }
    let without_key = Security::read(Some(&at("rig.key_secret")), None, None).unwrap();
    let error = Receiver::open_with(&address, &without_key).map(drop).unwrap_err().to_string();
    assert!(error.starts_with("expected the public key of tcp://127.0.0.1:"), "{error}");
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
        assert!(error.starts_with(&format!("expected to bind {address}, found ")), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}
