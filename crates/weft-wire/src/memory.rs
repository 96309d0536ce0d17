//! Giving back what only the start needed.
//!
//! Parsing the command line, joining the mesh and compiling the first snapshot touch most of the program's code once. Those pages
//! stay mapped, and a process that then idles for days counts them. They are clean copies of the file: forgotten pages that are
//! needed again come back from the page cache with a minor fault.

use std::{fs, path::Path};

/// Unmaps the code pages of this program that are resident; answers how many bytes of address space that concerned. Only executable,
/// read-only mappings of the program's own file: nothing that could hold a change is touched.
pub fn release_code_pages() -> usize {
    let (Ok(maps), Ok(program)) = (fs::read_to_string("/proc/self/maps"), fs::read_link("/proc/self/exe")) else { return 0 };
    maps.lines()
        .filter_map(|line| code_of(line, &program))
        .filter(|(start, length)| crate::capture::forget_clean_code(*start, *length))
        .map(|(_, length)| length)
        .sum()
}

/// Releases code pages again and again while the process idles: what a few requests brought in goes when nothing follows them.
#[derive(Debug, Default)]
pub struct IdleRelease {
    ticks: Option<u64>,
}

/// How often [`IdleRelease::look`] is to be called, in seconds.
pub const LOOK_S: u64 = 10;
/// Processor time between two looks up to which a process idles, in clock ticks of 10 ms: heartbeats and timers take less.
const IDLE_TICKS_MAX: u64 = 2;

impl IdleRelease {
    /// Releases the code pages if the process has idled since the last look; true when it did. Pages that are needed again cost a
    /// minor fault each, about a tenth of a millisecond in all.
    pub fn look(&mut self) -> bool {
        let now = fs::read_to_string("/proc/self/stat").ok().and_then(|stat| processor_ticks(&stat));
        let before = std::mem::replace(&mut self.ticks, now);
        let idled = now.zip(before).is_some_and(|(now, before)| now.saturating_sub(before) <= IDLE_TICKS_MAX);
        idled && release_code_pages() > 0
    }
}

/// User and system time of all threads, from `/proc/<pid>/stat` (proc(5), fields 14 and 15; the name in field 2 may hold anything).
fn processor_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    Some(user + fields.next()?.parse::<u64>().ok()?)
}

/// Start and length of a line of `/proc/self/maps` that is code of `program`.
fn code_of(line: &str, program: &Path) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let (permissions, file) = (fields.next()?, fields.nth(3)?);
    if permissions != "r-xp" || Path::new(file) != program {
        return None;
    }
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    Some((start, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resident_kb() -> usize {
        let status = fs::read_to_string("/proc/self/status").expect("Linux");
        let line = status.lines().find(|l| l.starts_with("RssFile:")).expect("there");
        line.split_ascii_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
    }

    #[test]
    fn only_executable_mappings_of_the_program_itself() {
        let program = Path::new("/bin/weft");
        assert_eq!(code_of("1000-3000 r-xp 00000000 00:00 1 /bin/weft", program), Some((0x1000, 0x2000)));
        assert_eq!(code_of("1000-3000 r--p 00000000 00:00 1 /bin/weft", program), None);
        assert_eq!(code_of("1000-3000 rwxp 00000000 00:00 1 /bin/weft", program), None);
        assert_eq!(code_of("1000-3000 r-xp 00000000 00:00 1 /lib/libc.so.6", program), None);
        assert_eq!(code_of("1000-3000 r-xp 00000000 00:00 0", program), None);
    }

    #[test]
    fn processor_time_is_read_past_any_name() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 30 12 0 0 20 0 1 0 5";
        assert_eq!(processor_ticks(stat), Some(42));
        assert_eq!(processor_ticks("garbage"), None);
        assert!(!IdleRelease::default().look(), "one look alone says nothing");
    }

    #[test]
    fn the_program_goes_on_with_less() {
        let before = resident_kb();
        assert!(release_code_pages() > 0);
        assert!(resident_kb() < before, "fewer pages of files are resident");
        let words: Vec<String> = (0..100).map(|n| format!("{n:?}")).collect();
        assert_eq!(words.join(",").len(), 289);
    }
}
