//! The monitor of a daemon that decodes: metrics, health, the live page, and what many browsers cost.

mod browser;
mod browsers;
mod client;
mod dashboard;
mod drift;
mod metrics;
mod rig;

use client::{Answer, get, request};
use ndt_daemon::config::Config;
use ndt_daemon::control::settings::MonitorSettings;
use rig::Daemon;

/// A token of 16 characters and more.
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn a_daemon_is_ready_once_bins_come_and_good_estimates_leave() {
    let mut daemon = Daemon::start(|_| {});
    let address = daemon.address();
    assert_eq!(get(address, "/healthz").status, 200);
    let before = get(address, "/readyz");
    assert_eq!(
        (before.status, before.body.contains("expected bins, found none since the start")),
        (503, true)
    );
    daemon.play();
    let ready = client::until(address, "/readyz", |answer| answer.status == 200);
    assert_eq!(ready.body, "ready\n");
    daemon.pause();
    let sentence = "expected bins, found a source that is silent";
    let silent = client::until(address, "/readyz", |answer| answer.body.starts_with(sentence));
    assert_eq!(silent.status, 503);
    assert_eq!(get(address, "/healthz").status, 200, "a silent rig is no fault of the daemon");
}

#[test]
fn what_is_not_asked_for_properly_is_not_answered() {
    let daemon = Daemon::start(|_| {});
    let address = daemon.address();
    assert_eq!(get(address, "/other").status, 404);
    assert_eq!(
        request(address, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").status,
        405
    );
    // A page of somebody else's whose name was made to lead to this computer.
    assert_eq!(request(address, "GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n").status, 403);
    assert_eq!(request(address, "nonsense\r\n\r\n").status, 400);
    let long = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(64 * 1024));
    let refused = client::try_request(address, &long);
    assert!(refused.is_none_or(|answer| answer.status == 431), "a head of 64 kB");
    let page = get(address, "/");
    assert!(page.status == 200 && page.head.contains("default-src 'none'"), "{}", page.head);
    let elsewhere = ["https://", "//cdn", "@import", "url("];
    assert!(!elsewhere.iter().any(|text| page.body.contains(text)), "the page loads something");
}

#[test]
fn with_a_token_nobody_comes_in_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, format!("{TOKEN}\n")).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let daemon = Daemon::start(|config: &mut Config| {
        config.monitor = MonitorSettings { token_file: Some(path), ..config.monitor.clone() };
    });
    let address = daemon.address();
    for path in ["/", "/metrics", "/events", "/healthz", "/readyz"] {
        let Answer { status, head, .. } = get(address, path);
        assert!(status == 401 && head.to_lowercase().contains("www-authenticate: bearer"), "{path}: {head}");
    }
    assert_eq!(get(address, &format!("/?token={TOKEN}")).status, 200);
    assert_eq!(get(address, &format!("/?token={}", TOKEN.replace('0', "1"))).status, 401);
    let authorized = format!("GET /metrics HTTP/1.1\r\nHost: rig\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    assert_eq!(request(address, &authorized).status, 200);
}

#[test]
fn connections_above_the_highest_number_are_closed() {
    let daemon = Daemon::start(|config| config.monitor.connections_max = 2);
    let address = daemon.address();
    // Two that say nothing, and are given up after a while.
    let idle = [(); 2].map(|()| std::net::TcpStream::connect(address).unwrap());
    assert_eq!(client::try_get(address, "/healthz").map(|answer| answer.status), None);
    drop(idle);
    let answer = client::until(address, "/metrics", |answer| answer.status == 200);
    assert!(client::value(&answer.body, "ndtd_monitor_turned_away_total").unwrap() >= 1.0);
}
