//! What the systemd unit of ndtd grants, as its files say it. `ndtd doctor` is run by a person, whose limits are others.

use crate::host::machine::text;
use std::path::{Path, PathBuf};

/// Folders in which systemd looks for units; the first that has one overrides the others.
const FOLDERS: [&str; 5] = [
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];

/// The unit that comes with ndtd.
const SHIPPED: &str = include_str!("../../../ndtd.service");

/// Memory that a service may lock where nothing is said, KB.
const LOCKABLE_KB_DEFAULT: u64 = 8 * 1024;

/// The limits of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Path of the unit's file.
    pub path: String,
    /// Highest real-time priority; 0 for none.
    pub priority_max: u64,
    /// Memory that may be locked, KB; `None` for no limit.
    pub lockable_kb: Option<u64>,
    /// Folders that are there only while the service runs, such as `/run/ndtd`.
    pub runtime_folders: Vec<PathBuf>,
}

impl Unit {
    /// Reads the installed unit `ndtd.service` and what was added to it under `root`; `None` where none is installed.
    pub fn installed(root: &Path) -> Option<Unit> {
        let file = |folder: &&str| {
            Some((format!("{folder}/ndtd.service"), text(root, &format!("{folder}/ndtd.service"))?))
        };
        let (path, mut settings) = FOLDERS.iter().find_map(file)?;
        for folder in FOLDERS.iter().rev() {
            let entries = std::fs::read_dir(root.join(folder).join("ndtd.service.d")).into_iter().flatten();
            let mut names: Vec<String> =
                entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            names.retain(|name| name.ends_with(".conf"));
            names.sort();
            for name in names {
                settings.push('\n');
                settings.extend(text(root, &format!("{folder}/ndtd.service.d/{name}")));
            }
        }
        Some(Unit::parse(&format!("/{path}"), &settings))
    }

    /// The unit that comes with ndtd.
    pub fn shipped() -> Unit {
        Unit::parse("ndtd.service", SHIPPED)
    }

    fn parse(path: &str, text: &str) -> Unit {
        let all = |key: &str| -> Vec<&str> {
            let pairs = text.lines().filter_map(|line| line.trim().split_once('='));
            pairs.filter(|(name, _)| name.trim() == key).map(|(_, value)| value.trim()).collect()
        };
        let last = |key: &str| all(key).last().copied().filter(|value| !value.is_empty());
        let is_dynamic = last("DynamicUser").is_some_and(|value| ["yes", "true", "on", "1"].contains(&value));
        let is_root = !is_dynamic && last("User").is_none_or(|user| user == "root" || user == "0");
        // An empty line takes back those before it.
        let mut capabilities: Vec<&str> = Vec::new();
        for value in all("AmbientCapabilities") {
            if value.is_empty() {
                capabilities.clear()
            } else {
                capabilities.extend(value.split_whitespace())
            }
        }
        let has = |capability: &str| is_root || capabilities.contains(&capability);
        // A soft and a hard limit stand as `soft:hard`.
        let soft = |key: &str| last(key).map(|value| value.split(':').next().unwrap_or(value));
        let priority_max = match soft("LimitRTPRIO") {
            _ if has("CAP_SYS_NICE") => 99,
            Some("infinity") => 99,
            Some(value) => value.parse().unwrap_or(0),
            None => 0,
        };
        let lockable_kb = match soft("LimitMEMLOCK") {
            _ if has("CAP_IPC_LOCK") => None,
            Some("infinity") => None,
            Some(value) => Some(bytes(value) / 1024),
            None => Some(LOCKABLE_KB_DEFAULT),
        };
        let folders = all("RuntimeDirectory").into_iter().flat_map(str::split_whitespace);
        let runtime_folders = folders.map(|folder| Path::new("/run").join(folder)).collect();
        Unit { path: path.to_owned(), priority_max, lockable_kb, runtime_folders }
    }
}

/// Reads a size as systemd writes it, with a suffix of 1024s.
fn bytes(text: &str) -> u64 {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let power = match text[digits.len()..].chars().next() {
        Some('K') => 1,
        Some('M') => 2,
        Some('G') => 3,
        Some('T') => 4,
        _ => 0,
    };
    digits.trim().parse::<u64>().unwrap_or(0).saturating_mul(1 << (10 * power))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_grants_what_its_last_lines_say() {
        let of = |text: &str| {
            let Unit { priority_max, lockable_kb, .. } = Unit::parse("", text);
            (priority_max, lockable_kb)
        };
        assert_eq!(
            of("[Service]\nExecStart=ndtd run\n"),
            (99, None),
            "root's capabilities stand above limits"
        );
        assert_eq!(of("User=rig\n"), (0, Some(8192)));
        assert_eq!(of("DynamicUser=yes\nLimitRTPRIO=80\nLimitMEMLOCK=infinity\n"), (80, None));
        assert_eq!(of("User=rig\nLimitRTPRIO=80\nLimitRTPRIO=40:60\nLimitMEMLOCK=64M\n"), (40, Some(65_536)));
        assert_eq!(of("User=rig\nAmbientCapabilities=CAP_SYS_NICE CAP_IPC_LOCK\n"), (99, None));
        assert_eq!(of("User=rig\nAmbientCapabilities=CAP_SYS_NICE\nAmbientCapabilities=\n"), (0, Some(8192)));
        let shipped = Unit::shipped();
        assert_eq!((shipped.priority_max, shipped.runtime_folders), (99, vec!["/run/ndtd".into()]));
    }

    #[test]
    fn the_installed_unit_is_found_with_what_was_added_to_it() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Unit::installed(root.path()), None);
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("usr/lib/systemd/system/ndtd.service", "[Service]\nDynamicUser=yes\nLimitRTPRIO=80\n");
        let unit = Unit::installed(root.path()).unwrap();
        assert_eq!((unit.path.as_str(), unit.priority_max), ("/usr/lib/systemd/system/ndtd.service", 80));
        write("etc/systemd/system/ndtd.service.d/50-rig.conf", "[Service]\nLimitRTPRIO=95\n");
        write("etc/systemd/system/ndtd.service.d/60-rig.bak", "[Service]\nLimitRTPRIO=1\n");
        assert_eq!(Unit::installed(root.path()).unwrap().priority_max, 95);
    }
}
