//! Who can reach an `ipc://` socket that the daemon binds: the mode and the group of its file.

use serde::Deserialize;
use std::ffi::CString;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// `[ipc]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct IpcSettings {
    /// Permissions of the file of a socket, in octal digits. Whoever may write to the file may connect.
    pub mode: String,
    /// Group of the file: a name or a number. Default: that of the process.
    pub group: Option<String>,
}

impl Default for IpcSettings {
    fn default() -> IpcSettings {
        IpcSettings { mode: "660".to_owned(), group: None }
    }
}

impl IpcSettings {
    /// Returns one sentence for each setting that cannot be used.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.bits().is_none() {
            problems.push(format!("expected mode in [ipc] from \"000\" to \"777\", found \"{}\"", self.mode));
        }
        if let Some(group) = self.group.as_deref().filter(|group| group_id(group).is_none()) {
            problems.push(format!("expected a group of this computer in [ipc], found \"{group}\""));
        }
        problems
    }

    /// Gives the file of a socket its group and its mode.
    ///
    /// # Errors
    /// The system's, for instance where this process is not a member of the group.
    pub fn apply(&self, file: &Path) -> io::Result<()> {
        // The group comes first, so that the mode never allows it to another one.
        if let Some(group) = &self.group {
            let unknown = || io::Error::other(format!("no group \"{group}\""));
            std::os::unix::fs::chown(file, None, Some(group_id(group).ok_or_else(unknown)?))?;
        }
        let bits = self.bits().ok_or_else(|| io::Error::other(format!("no mode \"{}\"", self.mode)))?;
        std::fs::set_permissions(file, PermissionsExt::from_mode(bits))
    }

    /// The mode as a number.
    fn bits(&self) -> Option<u32> {
        let is_octal = !self.mode.is_empty() && self.mode.bytes().all(|digit| digit.is_ascii_digit());
        u32::from_str_radix(&self.mode, 8).ok().filter(|bits| is_octal && *bits <= 0o777)
    }
}

/// Number of a group that is given by its name or its number.
pub fn group_id(group: &str) -> Option<u32> {
    if let Ok(number) = group.parse() {
        return Some(number);
    }
    let name = CString::new(group).ok()?;
    // Room for a group of some thousand members.
    let mut text = vec![0 as libc::c_char; 1 << 17];
    // SAFETY: zeroes are a valid `group`, to which the call only writes; the text is as long as is said, and the name ends in a
    // zero. `found` is null, or points to the entry, whose number outlives the text.
    unsafe {
        let mut entry: libc::group = std::mem::zeroed();
        let mut found = std::ptr::null_mut();
        let failed = libc::getgrnam_r(name.as_ptr(), &mut entry, text.as_mut_ptr(), text.len(), &mut found);
        (failed == 0 && !found.is_null()).then_some(entry.gr_gid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_octal_and_a_group_is_one_of_this_computer() {
        let problems = |mode: &str, group: Option<&str>| {
            IpcSettings { mode: mode.to_owned(), group: group.map(str::to_owned) }.problems().join("; ")
        };
        for (mode, group) in [("660", None), ("0666", Some("0")), ("600", Some("root"))] {
            assert_eq!(problems(mode, group), "");
        }
        for mode in ["", "668", "1777", "rw-rw----", "+660", "-1"] {
            let expected = format!("expected mode in [ipc] from \"000\" to \"777\", found \"{mode}\"");
            assert_eq!(problems(mode, None), expected);
        }
        let found = problems("9", Some("no such group"));
        assert!(found.contains("mode in [ipc]") && found.ends_with("found \"no such group\""), "{found}");
    }
}
