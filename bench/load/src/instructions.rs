//! Instructions per request, counted by callgrind: a figure that does not depend on the machine's load, so that it can be a bar.
//!
//! Two runs that differ in the number of requests only: their difference is what requests cost, without start and end.

use crate::{
    Options,
    scenario::{Children, find},
};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    io::{Read, Write as _},
    net::TcpStream,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

/// Requests of the shorter and of the longer run.
const REQUESTS: [u64; 2] = [200, 1_200];
/// How much more than the bar is still no regression, in percent: the counts of two builds of one source differ a little.
const SLACK_PERCENT: u64 = 5;

/// `weft-bench instructions [--bar FILE]`: prints `name count` lines; with a bar, fails when one is exceeded.
pub(crate) fn instructions(options: &Options) -> Result<()> {
    let mut found = vec![];
    for protocol in ["HTTP", "GRPC"] {
        let mut counts = vec![];
        for requests in REQUESTS {
            counts.push(run(protocol, requests)?);
        }
        let each = counts[1].saturating_sub(counts[0]) / (REQUESTS[1] - REQUESTS[0]);
        println!("{protocol} {each}");
        found.push((protocol, each));
    }
    let Some(path) = options.text("bar") else { return Ok(()) };
    let bars = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    for (protocol, each) in found {
        let bar = bars.lines().find_map(|l| l.strip_prefix(protocol)?.trim().parse::<u64>().ok());
        let bar = bar.with_context(|| format!("{path} has no line `{protocol} COUNT`"))?;
        if each * 100 > bar * (100 + SLACK_PERCENT) {
            bail!(
                "a {protocol} request through one proxy takes {each} instructions; the bar is {bar}. Find out why (callgrind_annotate), or move the bar in {path} and say why"
            );
        }
    }
    Ok(())
}

/// Instructions of a proxy that served `requests`.
fn run(protocol: &str, requests: u64) -> Result<u64> {
    let valgrind = find("valgrind").context("valgrind is not installed")?;
    let folder = tempfile::Builder::new().prefix("weft-bench-").tempdir()?;
    let mut origins = Children::default();
    let origin = origins.listening(&["origin", "--protocol", protocol])?;
    let log = folder.path().join("callgrind");
    let mut proxies = Children::default();
    let mut command = Command::new(valgrind);
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", &format!("--log-file={}", log.display())]);
    command.arg(std::env::current_exe()?).args(["proxy", "--side", "alone", "--next", &origin, "--protocol", protocol, "--folder"]);
    let target = proxies.started(command.arg(folder.path()))?;
    match protocol {
        "GRPC" => grpc(&target, requests, folder.path())?,
        _ => http(&target, requests)?,
    }
    drop(proxies);
    let text = fs::read_to_string(&log)?;
    let collected = text.lines().find_map(|l| l.split("Collected :").nth(1)?.trim().parse().ok());
    collected.with_context(|| format!("callgrind says nothing:\n{text}"))
}

/// One connection, one request after the other.
fn http(target: &str, requests: u64) -> Result<()> {
    let mut stream = TcpStream::connect(target)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut answer = [0; 8_192];
    for _ in 0..requests {
        stream.write_all(b"GET /bench HTTP/1.1\r\nhost: origin\r\nuser-agent: weft-bench\r\n\r\n")?;
        let mut got = 0;
        // The body alone is 1,024 bytes long and ends with an x.
        while got < 1_100 || answer.get(got - 1) != Some(&b'x') {
            match stream.read(answer.get_mut(got..).context("the answer is too long")?)? {
                0 => bail!("closed"),
                n => got += n,
            }
        }
        anyhow::ensure!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..got]));
    }
    Ok(())
}

/// One connection, eight streams at a time.
fn grpc(target: &str, requests: u64, folder: &Path) -> Result<()> {
    let program = find("h2load").context("h2load is not installed (nghttp2-client)")?;
    let message = folder.join("message");
    fs::write(&message, [&[0, 0, 0, 4, 0], "x".repeat(1_024).as_bytes()].concat())?;
    let started = Instant::now();
    let output = Command::new(program)
        .args(["-c", "1", "-m", "8", "-n", &requests.to_string(), "-H", "content-type: application/grpc", "-H", "te: trailers"])
        .args(["-H", ":authority: origin", "-d"])
        .arg(&message)
        .arg(format!("http://{target}/bench.Bench/Call"))
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    anyhow::ensure!(text.contains(&format!("{requests} succeeded")), "not all succeeded within {:?}: {text}", started.elapsed());
    Ok(())
}
