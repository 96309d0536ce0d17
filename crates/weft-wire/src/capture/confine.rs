//! The inside of a captured program's world: its namespaces, its network, its resolver, its missing privileges.

use super::CaptureUnavailable;
use caps::{CapSet, Capability};
use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::{
        prctl,
        signal::{SigSet, SigmaskHow, Signal, sigprocmask},
    },
    unistd::{getgid, getuid},
};
use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Where the proxy's outbound listener waits inside the namespace.
pub const OUTBOUND_PORT: u16 = 15001;

/// Where the mesh's DNS answers inside the namespace.
pub const DNS_ADDRESS: ([u8; 4], u16) = ([127, 0, 0, 53], 53);

/// The program's address beside the loopback. Resolver libraries look up IPv4 names only for programs that have one
/// (AI_ADDRCONFIG), and some programs want to know "their" address.
pub const PROGRAM_ADDRESS: &str = "169.254.240.1";

/// TCP that does not stay on the loopback goes to the proxy; DNS goes to the mesh's resolver whomever it asks; all else is refused.
const RULES: &str = "\
table inet weft {
  chain captured {
    type nat hook output priority -100; policy accept;
    ip daddr { 127.0.0.0/8, PROGRAM } accept
    ip6 daddr ::1 accept
    udp dport 53 dnat ip to 127.0.0.53
    tcp dport 53 dnat ip to 127.0.0.53
    meta l4proto tcp redirect to :15001
  }
  chain confined {
    type filter hook output priority 0; policy accept;
    ip daddr { 127.0.0.0/8, PROGRAM } accept
    ip6 daddr ::1 accept
    meta l4proto tcp accept
    ct status dnat accept
    REFUSE
  }
}
";

/// Moves this single-threaded process into new user, network and mount namespaces, as the same user and group.
pub(super) fn enter_namespaces() -> Result<(), CaptureUnavailable> {
    let (uid, gid) = (getuid(), getgid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).map_err(namespaces_off)?;
    // user_namespaces(7): an ordinary user must give up setgroups(2) before a group may be mapped.
    fs::write("/proc/self/setgroups", "deny")
        .and_then(|()| fs::write("/proc/self/uid_map", format!("{uid} {uid} 1")))
        .and_then(|()| fs::write("/proc/self/gid_map", format!("{gid} {gid} 1")))
        .map_err(|error| unavailable(format!("the user cannot be mapped into a user namespace: {error}"), FIX_NAMESPACES))?;
    // The loopback of the new namespace is down, and mounts may still be those that others see.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .map_err(|error| unavailable(format!("mounts cannot be made private: {error}"), FIX_NAMESPACES))
}

/// Brings the loopback up, routes everything to it, and redirects TCP to the proxy. Answers whether IPv6 is there.
pub(super) fn set_up_network() -> Result<bool, CaptureUnavailable> {
    let (ip, nft) = (find("ip", "iproute2")?, find("nft", "nftables")?);
    lend_net_admin().map_err(|error| unavailable(format!("the network of a namespace cannot be administered: {error}"), FIX_NAMESPACES))?;
    run(&ip, &["link", "set", "lo", "up"], "")
        .map_err(|text| unavailable(format!("`ip link set lo up` failed: {text}"), FIX_NAMESPACES))?;
    run(&ip, &["route", "add", "local", "default", "dev", "lo"], "")
        .map_err(|text| unavailable(format!("`ip route add local default dev lo` failed: {text}"), FIX_NAMESPACES))?;
    run(&ip, &["address", "add", PROGRAM_ADDRESS, "dev", "lo", "scope", "global"], "")
        .map_err(|text| unavailable(format!("`ip address add` failed: {text}"), FIX_NAMESPACES))?;
    // The namespace is the program's own, so it may have every port. Where /proc is read-only, ports below 1024 stay closed to it.
    fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0").ok();
    // A kernel without IPv6 has nothing to capture there.
    let v6 = run(&ip, &["route", "add", "local", "::/0", "dev", "lo"], "").is_ok();
    let with = |refuse: &str| RULES.replace("REFUSE", refuse).replace("PROGRAM", PROGRAM_ADDRESS);
    // A refusal tells the program at once; a kernel without the module for it drops in silence.
    run(&nft, &["-f", "-"], &with("reject with icmpx admin-prohibited")).or_else(|_| run(&nft, &["-f", "-"], &with("drop"))).map_err(
        |text| {
            unavailable(
                format!("nft cannot redirect connections: {text}"),
                "load the kernel modules with `modprobe nf_tables nft_chain_nat nft_redir nft_ct`",
            )
        },
    )?;
    Ok(v6)
}

/// Gives the program a resolver of its own: only `/etc/resolv.conf` and what could walk around it are replaced, and only here.
pub(super) fn set_up_resolver(search: &str) -> Result<(), CaptureUnavailable> {
    let resolv =
        format!("# Written by weft run: names are answered by the mesh.\nnameserver 127.0.0.53\nsearch {search}\noptions ndots:5\n");
    let mut replaced = vec![(PathBuf::from("/etc/resolv.conf"), resolv)];
    if let Some(text) = fs::read_to_string("/etc/nsswitch.conf").ok().and_then(|text| plain_hosts_line(&text)) {
        replaced.push(("/etc/nsswitch.conf".into(), text));
    }
    replace_files(&replaced).map_err(|error| {
        unavailable(
            format!("/etc/resolv.conf cannot be replaced in the program's mount namespace: {error}"),
            "make sure that the file exists; a mount namespace must be allowed to mount tmpfs",
        )
    })?;
    // A name service cache outside would answer with the machine's names.
    for cache in ["/run/nscd", "/var/run/nscd"].map(Path::new) {
        if cache.is_dir() {
            mount(Some("tmpfs"), cache, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("size=4k")).ok();
        }
    }
    Ok(())
}

/// Binds files of a tmpfs over existing ones. The tmpfs is mounted where it hides something for a moment only and then taken away;
/// the bound files keep it alive, and nothing is left on disk.
fn replace_files(files: &[(PathBuf, String)]) -> io::Result<()> {
    let scratch = Path::new("/tmp");
    mount(Some("tmpfs"), scratch, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("size=256k,mode=755"))?;
    let bound = files.iter().enumerate().try_for_each(|(index, (path, text))| {
        let source = scratch.join(index.to_string());
        fs::write(&source, text)?;
        // A link, as systemd-resolved makes it, is followed to the file behind it.
        mount(Some(&source), &fs::canonicalize(path)?, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        Ok(())
    });
    umount2(scratch, MntFlags::MNT_DETACH)?;
    bound
}

/// `nsswitch.conf` with only files and DNS as sources of host names, when it has others (systemd's `resolve` talks over a socket
/// in the file system, out of the namespace).
fn plain_hosts_line(text: &str) -> Option<String> {
    let is_hosts = |line: &str| line.trim_start().starts_with("hosts:");
    let hosts = text.lines().find(|line| is_hosts(line))?;
    let plain = hosts.trim_start().trim_start_matches("hosts:").split_whitespace().all(|source| matches!(source, "files" | "dns"));
    let replaced = || text.lines().map(|line| if is_hosts(line) { "hosts: files dns" } else { line }.to_owned() + "\n").collect();
    (!plain).then(replaced)
}

/// Runs in the child, between fork and exec: no capability survives, whoever the user is; set-user-id programs gain nothing; the
/// program dies with the agent.
pub(super) fn give_up_privileges() -> io::Result<()> {
    let failed = |error: caps::errors::CapsError| io::Error::other(error.to_string());
    caps::clear(None, CapSet::Ambient).map_err(failed)?;
    caps::clear(None, CapSet::Inheritable).map_err(failed)?;
    // For root, exec would raise everything that is still in the bounding set.
    caps::clear(None, CapSet::Bounding).map_err(failed)?;
    prctl::set_no_new_privs()?;
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

/// Lets `ip` and `nft` keep CAP_NET_ADMIN across exec, which an ordinary user's capabilities do not survive otherwise. The program
/// gets none of it: see [`give_up_privileges`].
fn lend_net_admin() -> Result<(), caps::errors::CapsError> {
    caps::raise(None, CapSet::Inheritable, Capability::CAP_NET_ADMIN)?;
    caps::raise(None, CapSet::Ambient, Capability::CAP_NET_ADMIN)
}

/// Runs a tool to its end. The error is what it says.
fn run(tool: &Path, arguments: &[&str], input: &str) -> Result<(), String> {
    let spawned = Command::new(tool).args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| error.to_string())?;
    if let Some(mut stdin) = child.stdin.take() {
        // A tool that does not read fails for a reason of its own, which is more telling.
        stdin.write_all(input.as_bytes()).ok();
    }
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

/// Finds a tool in PATH or where administrators' tools are, which is not in every user's PATH.
fn find(tool: &str, package: &str) -> Result<PathBuf, CaptureUnavailable> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from));
    let found = folders.map(|folder| folder.join(tool)).find(|candidate| candidate.is_file());
    found.ok_or_else(|| unavailable(format!("the program `{tool}` is not installed"), &format!("install it: `apt-get install {package}`")))
}

const FIX_NAMESPACES: &str = "allow user namespaces to ordinary users: `sysctl -w user.max_user_namespaces=15000`, on Debian `sysctl -w kernel.unprivileged_userns_clone=1`, on Ubuntu `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`; in a container they must be allowed by its seccomp profile";

fn namespaces_off(error: Errno) -> CaptureUnavailable {
    let reason = match error {
        Errno::EPERM => "user namespaces are not allowed to this user".into(),
        Errno::ENOSPC | Errno::EUSERS => "there are no user namespaces left (user.max_user_namespaces, or nested too deeply)".into(),
        Errno::EINVAL | Errno::ENOSYS => format!("this kernel cannot make the namespaces ({error})"),
        other => format!("namespaces cannot be made: {other}"),
    };
    unavailable(reason, FIX_NAMESPACES)
}

pub(super) fn unavailable(reason: String, fix: &str) -> CaptureUnavailable {
    CaptureUnavailable { reason, fix: fix.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_foreign_sources_of_names_are_taken_out() {
        assert_eq!(plain_hosts_line("passwd: files\nhosts: files dns\n"), None);
        assert_eq!(plain_hosts_line("passwd: files\n"), None);
        let systemd = "passwd: files systemd\nhosts:  mymachines resolve [!UNAVAIL=return] files dns\nservices: files\n";
        assert_eq!(plain_hosts_line(systemd).as_deref(), Some("passwd: files systemd\nhosts: files dns\nservices: files\n"));
    }

    #[test]
    fn missing_tools_are_named_with_their_package() {
        let error = find("no-such-tool-of-weft", "nftables").expect_err("missing");
        assert!(error.to_string().contains("apt-get install nftables"), "{error}");
    }
}
