//! What SIGHUP does: the configuration is read again, and of what differs, the level of the log is applied. Everything else takes a
//! restart, and the log says so.

use crate::config::Config;
use crate::host::report::Message;

/// The configuration of a running daemon, and how to read it again.
pub struct Reload {
    running: Config,
    read: Box<dyn Fn() -> Result<Config, String>>,
}

impl Reload {
    /// `running` is the configuration of this daemon; `read` reads and checks it again, with the options of the command line over it.
    pub fn new(running: Config, read: impl Fn() -> Result<Config, String> + 'static) -> Reload {
        Reload { running, read: Box::new(read) }
    }

    /// Reads the configuration again, has `set_filter` change the level of the log where it differs, and returns a sentence for
    /// each key. A configuration that is refused changes nothing.
    pub fn again(&mut self, set_filter: impl FnOnce(&str) -> Result<(), String>) -> Vec<Message> {
        let refused = |error| {
            vec![Message::Warning(format!(
                "SIGHUP: the configuration is refused, nothing is changed: {error}"
            ))]
        };
        let read = match (self.read)() {
            Ok(read) => read,
            Err(error) => return refused(error),
        };
        let mut changed = self.running.changed_keys(&read);
        if changed.is_empty() {
            return vec![Message::Info("SIGHUP: the configuration has not changed".to_owned())];
        }
        let mut messages = Vec::new();
        if let Some(at) = changed.iter().position(|key| *key == "log") {
            changed.remove(at);
            if let Err(error) = set_filter(&read.log) {
                return refused(error);
            }
            messages.push(Message::Info(format!("SIGHUP: log = \"{}\" from now on", read.log)));
            self.running.log = read.log;
        }
        let restart = |key| Message::Warning(format!("SIGHUP: {key} has changed, which takes a restart"));
        messages.extend(changed.into_iter().map(restart));
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    type Read = Result<Config, String>;

    /// A daemon with the default configuration, and what it will read next.
    fn reload() -> (Reload, Rc<RefCell<Read>>) {
        let next = Rc::new(RefCell::new(Ok(Config::default())));
        let read = next.clone();
        (Reload::new(Config::default(), move || read.borrow().clone()), next)
    }

    #[test]
    fn the_level_of_the_log_is_applied_and_other_keys_are_named_each_time() {
        let (mut reload, next) = reload();
        let mut set = Vec::new();
        let mut again = |reload: &mut Reload| {
            reload.again(|filter| {
                set.push(filter.to_owned());
                Ok(())
            })
        };
        let unchanged = [Message::Info("SIGHUP: the configuration has not changed".to_owned())];
        assert_eq!(again(&mut reload), unchanged);
        let debug = Config { log: "debug".to_owned(), keep_warm_ms: 9, ..Config::default() };
        *next.borrow_mut() = Ok(debug);
        let applied = Message::Info("SIGHUP: log = \"debug\" from now on".to_owned());
        let restart = Message::Warning("SIGHUP: keep-warm-ms has changed, which takes a restart".to_owned());
        assert_eq!(again(&mut reload), [applied, restart.clone()]);
        assert_eq!(again(&mut reload), [restart]);
        assert_eq!(set, ["debug"]);
    }

    #[test]
    fn a_configuration_that_is_refused_changes_nothing() {
        let (mut reload, next) = reload();
        *next.borrow_mut() = Err("expected a bundle, found none".to_owned());
        let text = "SIGHUP: the configuration is refused, nothing is changed: expected a bundle, found none";
        let mut never = || reload.again(|_| panic!("the filter was set"));
        assert_eq!(never(), [Message::Warning(text.to_owned())]);
        // It is compared with what the daemon runs with, not with what was refused.
        *next.borrow_mut() = Ok(Config::default());
        assert_eq!(never(), [Message::Info("SIGHUP: the configuration has not changed".to_owned())]);
    }
}
