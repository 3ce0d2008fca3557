//! What the computer gives the daemon, and what the daemon tells the computer's owner.
//!
//! | module | what it does |
//! |---|---|
//! | [`realtime`] | asks the system for real-time scheduling, CPUs and locked memory, on each thread that needs them |
//! | [`machine`] | reads the facts on which latency depends: processor, kernel, clock source |
//! | [`doctor`] | judges more of these facts and says what would improve them (`ndtd doctor`) |
//! | [`readiness`] | whether `ndtd run` can start with a configuration (`ndtd check --config`) |
//! | [`service`] | runs the daemon under systemd: readiness, status, watchdog, signals, orderly end |
//! | [`reload`] | what of a configuration that is read again is applied |
//! | [`watchdog`] | judges from the threads' signs of life whether the daemon hangs |
//! | [`log`] | writes the log on a thread of its own |
//! | [`report`] | turns counters into the sentences that the log and `systemctl status` show |
//!
//! [`realtime`] alone is called on real-time threads, once, before the first bin.

pub mod doctor;
pub mod log;
pub mod machine;
pub mod readiness;
pub mod realtime;
pub mod reload;
pub mod report;
pub mod service;
pub mod watchdog;
