//! Diagnostics that only the control plane can find: in files, and in what proxies say. Codes in the 3000s.

use crate::ProxyProblem;
use weft_api::{Diagnostic, diag::Code};
use weft_model::Origin;

/// Every code of this crate.
pub const CODES: &[Code] = &[
    Code {
        code: "WEFT-3001",
        title: "declared twice",
        explanation: "Two watched files hold the same resource. The one in the file that comes first by path is used.",
    },
    Code {
        code: "WEFT-3002",
        title: "file overridden",
        explanation: "A resource of a watched file was changed through the API. The API's form is used until the file changes.",
    },
    Code {
        code: "WEFT-3003",
        title: "file not readable",
        explanation: "A watched file or folder cannot be read. What it held before stays out.",
    },
    Code {
        code: "WEFT-3004",
        title: "too many or too large files",
        explanation: "A watched folder holds more, or larger, files than Weft reads.",
    },
    Code {
        code: "WEFT-3101",
        title: "refused by a proxy",
        explanation: "A proxy could not use a part of its configuration and goes on with the last form that it could use.",
    },
    Code {
        code: "WEFT-3102",
        title: "does not work at a proxy",
        explanation: "A proxy took its configuration over and cannot carry out a part of it, as a port of a gateway that another \
                      program has. The rest is not affected. The proxy tries again every few seconds.",
    },
];

fn file(name: &str) -> Origin {
    Origin { file: name.into(), ..Origin::default() }
}

/// A resource is in two files.
pub(crate) fn declared_twice(loser: Origin, winner: &Origin) -> Diagnostic {
    let message = format!("{} is also declared in {}:{}, which is used", loser.object(), winner.file, winner.line);
    Diagnostic::warning("WEFT-3001", loser, message).fix("remove one of the two")
}

/// The API's form rules for now.
pub(crate) fn file_overridden(origin: Origin) -> Diagnostic {
    let message = format!("{} was changed through the API; what this file says is not used until the file changes", origin.object());
    Diagnostic::info("WEFT-3002", origin, message).fix("delete the resource through the API to return to the file, or change the file")
}

/// A file cannot be read.
pub(crate) fn file_unreadable(name: &str, reason: &str) -> Diagnostic {
    Diagnostic::error("WEFT-3003", file(name), format!("{name} cannot be read: {reason}"))
        .fix("check the path given with -f and its permissions")
}

/// A file is too large.
pub(crate) fn file_too_large(name: &str, bytes: u64, bytes_max: u64) -> Diagnostic {
    let message = format!("{name} has {bytes} bytes, {bytes_max} are read at most");
    Diagnostic::error("WEFT-3004", file(name), message).fix("split the file")
}

/// There are too many files.
pub(crate) fn too_many_files(name: &str, files_max: usize) -> Diagnostic {
    let message = format!("more than {files_max} files: those from {name} on are not read");
    Diagnostic::error("WEFT-3004", file(name), message).fix("watch a smaller folder")
}

/// Something does not work at a proxy. It says what to do, as far as it knows.
pub(crate) fn not_working(proxy: &str, problem: &ProxyProblem) -> Diagnostic {
    let origin = match problem.origin.is_built_in() {
        true => Origin { kind: "Proxy".into(), name: proxy.into(), ..Origin::default() },
        false => problem.origin.clone(),
    };
    let fix = if problem.fix.is_empty() { "look at the log of this proxy" } else { &problem.fix };
    Diagnostic::error("WEFT-3102", origin, problem.message.clone()).fix(fix)
}

/// A proxy refused a resource.
pub(crate) fn refused(proxy: &str, resource: &str, field: &str, reason: &str, origin: Origin) -> Diagnostic {
    let at = if field.is_empty() { String::new() } else { format!(" at {field}") };
    let message = format!("proxy {proxy} refused {resource}{at}: {reason}");
    Diagnostic::error("WEFT-3101", origin, message)
        .fix("the proxy goes on with the last form it could use; change the resource, or update the proxy")
}
