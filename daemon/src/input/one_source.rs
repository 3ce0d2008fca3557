//! Keeps to one source where several send to the same input: a second rig, or a replay that was left running.
//!
//! The first source is kept until it is silent or its connection is lost. Bins of another one would change the run with each bin and
//! reset the model each time.

/// How long another source is remembered after its last message, ns.
const REMEMBER_NS: u64 = 1_000_000_000;

/// Which source an input takes bins from. Owned by the source thread.
#[derive(Debug, Clone)]
pub struct OneSource {
    silent_ns: u64,
    kept: Option<Kept>,
    /// When another source was refused last.
    another_ns: Option<u64>,
}

/// The source that is kept.
#[derive(Debug, Clone, Copy)]
struct Kept {
    connection: i32,
    stream: u64,
    /// Stream that the same connection carried before.
    left: Option<u64>,
    last_ns: u64,
}

impl OneSource {
    /// Without a source. One that has been silent for `silent_ns` gives way to another.
    pub fn new(silent_ns: u64) -> OneSource {
        OneSource { silent_ns, kept: None, another_ns: None }
    }

    /// Whether a bin of `stream` is taken that came by `connection` at `now_ns`. Another connection is refused while bins of the one
    /// that is kept come. On the same connection, another stream is a source that was restarted; but where a stream comes back that was
    /// left, two sources send through one proxy, and the newer one is kept.
    ///
    /// Runs on the source thread, once a bin. Must not allocate, block, lock or log; nor may any other method here.
    pub fn takes(&mut self, connection: i32, stream: u64, now_ns: u64) -> bool {
        let begun = Kept { connection, stream, left: None, last_ns: now_ns };
        let Some(kept) = self.alive(now_ns) else {
            self.kept = Some(begun);
            return true;
        };
        let is_taken = connection == kept.connection && kept.left != Some(stream);
        if is_taken {
            let left = if stream == kept.stream { kept.left } else { Some(kept.stream) };
            self.kept = Some(Kept { left, ..begun });
        } else {
            self.another_ns = Some(now_ns);
        }
        is_taken
    }

    /// Whether a description of `stream` that came by `connection` at `now_ns` is that of the source that is kept, or of one that may be.
    /// Stream 0 stands for all that comes by the connection.
    pub fn may_describe(&mut self, connection: i32, stream: u64, now_ns: u64) -> bool {
        let is_its = self
            .alive(now_ns)
            .is_none_or(|kept| kept.connection == connection && (stream == 0 || kept.left != Some(stream)));
        if !is_its {
            self.another_ns = Some(now_ns);
        }
        is_its
    }

    /// Notes that a connection is lost, and returns whether it was the one that is kept.
    pub fn lose(&mut self, connection: i32) -> bool {
        let is_its = self.connection() == Some(connection);
        if is_its {
            self.kept = None;
        }
        is_its
    }

    /// The connection that is kept.
    pub fn connection(&self) -> Option<i32> {
        self.kept.map(|kept| kept.connection)
    }

    /// Whether another source was refused in the last second.
    pub fn has_seen_another(&self, now_ns: u64) -> bool {
        self.another_ns.is_some_and(|at_ns| now_ns.saturating_sub(at_ns) < REMEMBER_NS)
    }

    fn alive(&self, now_ns: u64) -> Option<Kept> {
        self.kept.filter(|kept| now_ns.saturating_sub(kept.last_ns) < self.silent_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENT_NS: u64 = 60;

    #[test]
    fn another_connection_waits_until_the_first_is_silent_or_lost() {
        let mut source = OneSource::new(SILENT_NS);
        for now_ns in [0, 20, 40] {
            assert!(source.takes(3, 7, now_ns));
            assert!(!source.takes(4, 8, now_ns + 10), "a second rig");
            assert!(!source.takes(4, 7, now_ns + 10), "one that uses the same stream id");
            assert!(!source.may_describe(4, 0, now_ns + 10) && source.may_describe(3, 0, now_ns + 10));
        }
        assert!(source.has_seen_another(50) && !source.has_seen_another(REMEMBER_NS + 50));
        assert!(source.takes(4, 8, 40 + SILENT_NS), "the first is silent");
        assert!(!source.takes(3, 7, 40 + SILENT_NS), "and comes back as the second");
        assert!(!source.lose(3) && source.lose(4));
        assert!(source.takes(3, 7, 41 + SILENT_NS), "the other is lost");
    }

    #[test]
    fn a_restart_on_the_same_connection_is_followed_at_once_and_two_sources_behind_a_proxy_are_not_mixed() {
        let mut source = OneSource::new(SILENT_NS);
        assert!(source.takes(3, 7, 0));
        assert!(source.takes(3, 8, 20), "restarted");
        for now_ns in [30, 50, 70] {
            assert!(!source.takes(3, 7, now_ns), "the old one sends on");
            assert!(source.takes(3, 8, now_ns + 5));
            assert!(!source.may_describe(3, 7, now_ns + 5) && source.may_describe(3, 8, now_ns + 5));
        }
        assert!(source.takes(3, 7, 80 + SILENT_NS), "the new one has ended");
    }
}
