//! What this process uses of memory and file descriptors, and how much of both it may use. Each look is a few system calls.

use nix::sys::resource::{Resource, getrlimit};
use std::{fs, path::Path};

/// Open file descriptors of this process.
pub fn open_files() -> u64 {
    const FOLDER: &str = "/proc/self/fd";
    // Since Linux 6.2 the folder's size is their number; before, they have to be counted.
    let size = fs::metadata(FOLDER).map(|m| m.len()).unwrap_or(0);
    if size > 0 { size } else { fs::read_dir(FOLDER).map_or(0, |entries| entries.count() as u64) }
}

/// How many this process may have open (`ulimit -n`).
pub fn open_files_max() -> Option<u64> {
    getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft)
}

/// Resident memory of this process, in bytes.
pub fn resident_bytes() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").ok().and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().and_then(|size| u64::try_from(size).ok());
    pages.unwrap_or(0) * page.unwrap_or(4096)
}

/// The memory limit of this process' control group, of version 2 or 1; `None` when it has none.
pub fn memory_max() -> Option<u64> {
    limit_in(Path::new("/sys/fs/cgroup"), &fs::read_to_string("/proc/self/cgroup").ok()?)
}

fn limit_in(root: &Path, groups: &str) -> Option<u64> {
    /// Version 1 writes a number near `i64::MAX` for "no limit".
    const NO_LIMIT: u64 = 1 << 60;
    let mut found = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
        let (folder, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            list if list.split(',').any(|c| c == "memory") => (root.join("memory"), "memory.limit_in_bytes"),
            _ => continue,
        };
        // Inside a container the group's own folder is the root.
        for place in [folder.join(group.trim_start_matches('/')).join(file), folder.join(file)] {
            let limit = fs::read_to_string(place).ok().and_then(|text| text.trim().parse::<u64>().ok()).filter(|n| *n < NO_LIMIT);
            found = found.into_iter().chain(limit).min();
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let before = open_files();
        let held: Vec<_> = (0..50).map(|_| fs::File::open("/dev/null").expect("opens")).collect();
        assert!(open_files() >= before + 40, "{before} and 50 more are {}", open_files());
        drop(held);
        assert!(resident_bytes() > 1 << 20 && open_files_max().is_some_and(|max| max > 50));
    }

    #[test]
    fn limits_of_both_versions_are_read() {
        let root = tempfile::tempdir().expect("folder");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("parent")).expect("made");
            fs::write(path, text).expect("written");
        };
        assert_eq!(limit_in(root.path(), "0::/pod/a\n"), None);
        write("pod/a/memory.max", "max\n");
        assert_eq!(limit_in(root.path(), "0::/pod/a\n"), None);
        write("pod/a/memory.max", "67108864\n");
        assert_eq!(limit_in(root.path(), "0::/pod/a\n"), Some(67_108_864));
        write("memory/x/memory.limit_in_bytes", "1048576\n");
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(limit_in(root.path(), "4:cpu,memory:/x\n1:name=systemd:/\n0::/\n"), Some(1_048_576));
    }
}
