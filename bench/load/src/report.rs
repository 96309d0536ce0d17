//! The table: medians of the rounds, with their range, and ratios within this run.

use crate::{
    client::Outcome,
    scenario::{Round, Subject},
};
use std::{collections::BTreeSet, fmt::Write, fs};

/// The report as Markdown.
pub(crate) fn text(rounds: &[Round], count: u64, seconds: u64, rate: u64) -> String {
    let mut out = format!("# Load test of {}\n\n{}\n\n", today(), machine());
    writeln!(
        out,
        "Client → proxy → mutual TLS 1.3 → proxy → server, HTTP/1.1, 1,024-byte body. Client, proxies and server share core 0. Medians of {count} rounds of {seconds} s\n\
         after 1 s of warm-up (range in brackets). CPU is the scheduler's run time of both proxies together, per request.\n\
         Absolute figures do not carry to another machine or day; ratios within one table do, and differences under 20 % are ties.\n\
         `weft`: both programs under `weft run`, traffic captured. `pair`: Weft's two proxies alone, with a configuration made by hand.\n\
         Idle memory is that of each process of one side: for `weft`, the sidecar and the agent inside of the program's namespace.\n"
    )
    .expect("a String takes all");
    let subjects: BTreeSet<Subject> = rounds.iter().map(|r| r.subject).collect();
    let of = |s: Subject| rounds.iter().filter(move |r| r.subject == s);
    let envoy = median(of(Subject::Envoy).map(|r| r.closed.cpu_us).collect());
    out.push_str("## 64 connections, as fast as it goes\n\n| | requests/s | CPU µs/request | vs Envoy | user / kernel µs | p50 / p99 µs | errors |\n|---|--:|--:|--:|--:|--:|--:|\n");
    for subject in &subjects {
        let pick = |f: &dyn Fn(&Outcome) -> f64| of(*subject).map(|r| f(&r.closed)).collect::<Vec<_>>();
        let cpu = pick(&|o| o.cpu_us);
        let ratio = match (envoy, median(cpu.clone())) {
            (Some(e), Some(own)) if e > 0.0 && own > 0.0 => format!("{:.2}", own / e),
            _ => "–".into(),
        };
        row(
            &mut out,
            *subject,
            &[
                range(pick(&|o| o.requests as f64 / o.seconds), 0),
                range(cpu, 1),
                ratio,
                format!("{} / {}", one(pick(&|o| o.user_us), 0), one(pick(&|o| o.kernel_us), 0)),
                format!("{} / {}", one(pick(&|o| o.p50_us as f64), 0), one(pick(&|o| o.p99_us as f64), 0)),
                sum(pick(&|o| o.errors as f64)),
            ],
        );
    }
    writeln!(out, "\n## {rate} requests/s, latency from the intended time; one connection; memory\n\n| | CPU µs/request | p50 / p99 µs | errors | one connection: p50 / p99 µs | idle MB, one side | after load MB, both |\n|---|--:|--:|--:|--:|--:|--:|").expect("a String takes all");
    for subject in &subjects {
        let open = |f: &dyn Fn(&Outcome) -> f64| of(*subject).map(|r| f(&r.open)).collect::<Vec<_>>();
        let single = |f: &dyn Fn(&Outcome) -> f64| of(*subject).map(|r| f(&r.single)).collect::<Vec<_>>();
        let resident = |o: &Outcome| o.resident_kib.iter().sum::<u64>() as f64 / 1_024.0;
        row(
            &mut out,
            *subject,
            &[
                range(open(&|o| o.cpu_us), 1),
                format!("{} / {}", range(open(&|o| o.p50_us as f64), 0), range(open(&|o| o.p99_us as f64), 0)),
                sum(open(&|o| o.errors as f64)),
                format!("{} / {}", one(single(&|o| o.p50_us as f64), 0), one(single(&|o| o.p99_us as f64), 0)),
                each(&of(*subject).map(|r| r.idle_kib.as_slice()).collect::<Vec<_>>()),
                one(of(*subject).map(|r| resident(&r.closed)).collect(), 1),
            ],
        );
    }
    out
}

fn row(out: &mut String, subject: Subject, cells: &[String]) {
    writeln!(out, "| {} | {} |", subject.name(), cells.join(" | ")).expect("a String takes all");
}

pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn one(values: Vec<f64>, digits: usize) -> String {
    median(values).map_or("–".into(), |m| format!("{m:.digits$}"))
}

/// Medians of each process: `9.1 + 2.0` for a proxy and its helper.
fn each(rounds: &[&[u64]]) -> String {
    let processes = rounds.iter().map(|r| r.len()).max().unwrap_or(0);
    let medians = (0..processes).map(|at| one(rounds.iter().filter_map(|r| r.get(at)).map(|kib| *kib as f64 / 1_024.0).collect(), 1));
    medians.collect::<Vec<_>>().join(" + ")
}

fn sum(values: Vec<f64>) -> String {
    format!("{:.0}", values.iter().sum::<f64>())
}

/// `12.3 (11.9–12.8)`.
pub(crate) fn range(values: Vec<f64>, digits: usize) -> String {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(0.0, f64::max);
    match (median(values.clone()), values.len()) {
        (None, _) => "–".into(),
        (Some(m), 1) => format!("{m:.digits$}"),
        (Some(m), _) => format!("{m:.digits$} ({low:.digits$}–{high:.digits$})"),
    }
}

pub(crate) fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|l| l.strip_prefix("model name")).map_or("unknown CPU", |m| m.trim_start_matches([' ', '\t', ':']));
    let cores = cpu.lines().filter(|l| l.starts_with("processor")).count();
    let load = read("/proc/loadavg");
    format!(
        "{cores} × {model}, Linux {}, load average {} at the end.",
        read("/proc/sys/kernel/osrelease").trim(),
        load.split_whitespace().next().unwrap_or("?")
    )
}

/// `2026-11-21`, in UTC.
pub(crate) fn today() -> String {
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map(|d| d.as_secs()).unwrap_or(0);
    let z = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let (day, month) = (day_of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    format!("{:04}-{month:02}-{day:02}", year_of_era + era * 400 + u64::from(month <= 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_to_envoy_of_the_same_run() {
        let outcome = |cpu_us| Outcome { requests: 10, seconds: 1.0, cpu_us, ..Outcome::default() };
        let round = |subject, cpu| Round { subject, closed: outcome(cpu), open: outcome(cpu), single: outcome(cpu), idle_kib: vec![2_048] };
        let rounds = [round(Subject::Weft, 30.0), round(Subject::Envoy, 100.0), round(Subject::Weft, 50.0), round(Subject::Weft, 40.0)];
        let text = text(&rounds, 3, 1, 2_000);
        assert!(text.contains("| weft | 10 (10–10) | 40.0 (30.0–50.0) | 0.40 |"), "{text}");
        assert!(text.contains("| envoy | 10 | 100.0 | 1.00 |"), "{text}");
    }
}
