//! The file of an `ipc://` socket: the one that a program left behind when it was killed is removed before the address is bound.

use super::SocketAddress;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// What lies at the path of a socket that is to be bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occupant {
    /// A socket on which no program answers.
    DeadSocket,
    /// A socket on which a program answers, or which this program may not ask.
    LiveSocket,
    /// Anything else: a file, a folder, a link.
    Other,
}

impl Occupant {
    /// Looks at a path; `None` where nothing is. A link is not followed.
    pub fn of(path: &Path) -> Option<Occupant> {
        let found = path.symlink_metadata().ok()?;
        if !found.file_type().is_socket() {
            return Some(Occupant::Other);
        }
        // To connect to a file that is no socket is refused as well, and such a file is somebody's data.
        let is_refused =
            UnixStream::connect(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
        Some(if is_refused { Occupant::DeadSocket } else { Occupant::LiveSocket })
    }

    /// What was found, for a message.
    pub fn words(self) -> &'static str {
        match self {
            Occupant::DeadSocket => "a socket that a program left there",
            Occupant::LiveSocket => "a socket that another program uses",
            Occupant::Other => "something that is no socket, which was not touched",
        }
    }
}

/// Removes the socket that a program left behind at an `ipc://` address. libzmq would remove whatever lies there, a recording too, so that it is
/// asked only once the path is free. A socket on which a program answers stays, and so does everything that is no socket.
///
/// # Errors
/// [`Occupant::LiveSocket`] or [`Occupant::Other`] where the address cannot be bound.
pub fn make_way(address: &SocketAddress) -> Result<(), Occupant> {
    let Some(path) = address.file() else { return Ok(()) };
    match Occupant::of(path) {
        // What cannot be removed cannot be bound either, and binding says why.
        Some(Occupant::DeadSocket) => drop(std::fs::remove_file(path)),
        Some(occupant) => return Err(occupant),
        None => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn only_a_socket_on_which_nobody_answers_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let make_way = |name: &str| {
            let address: SocketAddress = format!("ipc://{}", path(name).display()).parse().unwrap();
            (make_way(&address), path(name).symlink_metadata().is_ok())
        };
        assert_eq!(make_way("nothing"), (Ok(()), false));
        let live = UnixListener::bind(path("socket")).unwrap();
        assert_eq!(make_way("socket"), (Err(Occupant::LiveSocket), true));
        drop(live);
        std::os::unix::fs::symlink(path("socket"), path("link")).unwrap();
        assert_eq!(make_way("link"), (Err(Occupant::Other), true));
        assert_eq!(make_way("socket"), (Ok(()), false));
        assert_eq!(make_way("link"), (Err(Occupant::Other), true), "a link that leads nowhere");
        std::fs::write(path("file"), "notes").unwrap();
        std::fs::create_dir(path("folder")).unwrap();
        for name in ["file", "folder"] {
            assert_eq!(make_way(name), (Err(Occupant::Other), true));
        }
        assert_eq!(std::fs::read(path("file")).unwrap(), b"notes");
        let tcp: SocketAddress = "tcp://127.0.0.1:1".parse().unwrap();
        assert_eq!(super::make_way(&tcp), Ok(()));
    }
}
