//! What the commands need besides Rust: named with the exact command that installs it, or installed when asked to.

use anyhow::Result;
use std::process::{Command, Stdio};

/// A program that is not part of the Rust toolchain.
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    /// Debian packages that bring it.
    pub(crate) packages: &'static [&'static str],
    /// What it is for.
    pub(crate) purpose: &'static str,
    /// Lowest major version, if it matters.
    pub(crate) major_min: u32,
}

pub(crate) const NODE: Tool = Tool { program: "node", packages: &["nodejs", "npm"], purpose: "builds the page", major_min: 20 };
pub(crate) const NPM: Tool = Tool { program: "npm", packages: &["npm"], purpose: "builds the page", major_min: 0 };
pub(crate) const CC: Tool =
    Tool { program: "cc", packages: &["build-essential"], purpose: "builds the TLS library and SQLite", major_min: 0 };
pub(crate) const CHROMIUM: Tool = Tool { program: "chromium", packages: &["chromium"], purpose: "tests the page", major_min: 0 };
pub(crate) const NFT: Tool =
    Tool { program: "nft", packages: &["nftables"], purpose: "captures the traffic of `weft run` programs", major_min: 0 };
pub(crate) const IP: Tool =
    Tool { program: "ip", packages: &["iproute2"], purpose: "captures the traffic of `weft run` programs", major_min: 0 };
pub(crate) const CURL: Tool =
    Tool { program: "curl", packages: &["curl"], purpose: "is used as an unmodified program in tests", major_min: 0 };
pub(crate) const CXX: Tool = Tool { program: "c++", packages: &["build-essential"], purpose: "builds the fuzz targets", major_min: 0 };
pub(crate) const VALGRIND: Tool =
    Tool { program: "valgrind", packages: &["valgrind"], purpose: "counts the instructions of a request", major_min: 0 };
pub(crate) const H2LOAD: Tool =
    Tool { program: "h2load", packages: &["nghttp2-client"], purpose: "sends gRPC requests in benches", major_min: 0 };
pub(crate) const PROMTOOL: Tool =
    Tool { program: "promtool", packages: &["prometheus"], purpose: "checks the metrics' text", major_min: 0 };

impl Tool {
    /// Is it there, and new enough?
    pub(crate) fn present(&self) -> bool {
        // Administrators' programs are often not in an ordinary user's PATH.
        let places = ["", "/usr/sbin/", "/sbin/"];
        places.iter().any(|place| {
            let flag = if self.program == "ip" { "-V" } else { "--version" };
            let output = Command::new(format!("{place}{}", self.program)).arg(flag).stdin(Stdio::null()).output();
            output.is_ok_and(|o| o.status.success() && self.new_enough(&String::from_utf8_lossy(&o.stdout)))
        })
    }
    fn new_enough(&self, version: &str) -> bool {
        let digits: String = version.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
        self.major_min == 0 || digits.parse::<u32>().is_ok_and(|major| major >= self.major_min)
    }
}

/// Those of `tools` that are missing.
pub(crate) fn missing(tools: &[&'static Tool]) -> Vec<&'static Tool> {
    tools.iter().copied().filter(|t| !t.present()).collect()
}

/// The command that installs `tools` on Debian and Ubuntu.
fn install_command(tools: &[&Tool]) -> String {
    let mut packages: Vec<&str> = tools.iter().flat_map(|t| t.packages).copied().collect();
    packages.sort_unstable();
    packages.dedup();
    format!("apt-get install -y --no-install-recommends {}", packages.join(" "))
}

/// Names what is missing and how to get it.
pub(crate) fn tell(tools: &[&Tool]) {
    for tool in tools {
        let version = if tool.major_min > 0 { format!(" {} or later", tool.major_min) } else { String::new() };
        eprintln!("missing: {}{version} ({})", tool.program, tool.purpose);
    }
    if !tools.is_empty() {
        eprintln!("install: sudo {}", install_command(tools));
    }
    if tools.iter().any(|t| t.program == NODE.program) {
        eprintln!("         (where the distribution's Node.js is older: https://nodejs.org/en/download)");
    }
}

/// Installs `tools` with apt-get where that is allowed; else names them. Tests that need them are then skipped, and say so.
pub(crate) fn install(tools: &[&Tool]) -> Result<()> {
    if tools.is_empty() {
        return Ok(());
    }
    let command = install_command(tools);
    eprintln!("installing: {command}");
    let script = format!("apt-get update -qq && {command} -qq >/dev/null");
    let status = Command::new("sh").args(["-c", &script]).env("DEBIAN_FRONTEND", "noninteractive").status()?;
    if !status.success() {
        eprintln!("could not install with apt-get:");
        tell(tools);
    }
    Ok(())
}
