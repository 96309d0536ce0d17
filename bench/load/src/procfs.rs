//! What the kernel says about processes: CPU time, resident memory, children.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fs};

/// CPU time since start.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Cpu {
    /// On the processor, in nanoseconds, from `schedstat`.
    pub(crate) run_ns: u64,
    /// In user mode, in clock ticks.
    pub(crate) user_ticks: u64,
    /// In the kernel, in clock ticks.
    pub(crate) kernel_ticks: u64,
}

/// The proxies' processes: `roots` and all below them, without the programs of the load test itself.
pub(crate) fn proxies(roots: &[u32]) -> Vec<u32> {
    let parents: Vec<(u32, u32, String)> = all().into_iter().filter_map(|pid| stat(pid).map(|s| (pid, s.parent, s.name))).collect();
    let mut found: BTreeSet<u32> = roots.iter().copied().collect();
    loop {
        let more: Vec<u32> =
            parents.iter().filter(|(pid, parent, _)| found.contains(parent) && !found.contains(pid)).map(|p| p.0).collect();
        if more.is_empty() {
            break;
        }
        found.extend(more);
    }
    let ours = |pid: u32| parents.iter().any(|(p, _, name)| *p == pid && name == "weft-bench");
    found.into_iter().filter(|pid| roots.contains(pid) || !ours(*pid)).collect()
}

/// CPU time of all threads of `pids`.
pub(crate) fn cpu(pids: &[u32]) -> Cpu {
    let mut sum = Cpu::default();
    for pid in pids {
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            sum.run_ns += text.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        }
        if let Some(stat) = stat(*pid) {
            sum.user_ticks += stat.user_ticks;
            sum.kernel_ticks += stat.kernel_ticks;
        }
    }
    sum
}

/// Resident memory of each of `pids`, in KiB.
pub(crate) fn resident_kib(pids: &[u32]) -> Vec<u64> {
    let of = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()
    };
    pids.iter().filter_map(of).collect()
}

struct Stat {
    name: String,
    parent: u32,
    user_ticks: u64,
    kernel_ticks: u64,
}

fn all() -> Vec<u32> {
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

/// The name is in brackets and may hold anything; the numbers follow the last bracket.
fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, tail) = text.rsplit_once(')')?;
    let fields: Vec<&str> = tail.split_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|f| f.parse::<u64>().ok());
    Some(Stat {
        name: head.split_once('(')?.1.to_owned(),
        parent: u32::try_from(number(1)?).ok()?,
        user_ticks: number(11)?,
        kernel_ticks: number(12)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let own = [std::process::id()];
        assert!(cpu(&own).run_ns > 0);
        assert!(resident_kib(&own).first().is_some_and(|kib| *kib > 100));
        assert!(proxies(&own).contains(&std::process::id()));
        assert!(resident_kib(&[u32::MAX]).is_empty());
    }
}
