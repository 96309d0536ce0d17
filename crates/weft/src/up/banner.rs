//! What `weft up` prints: one line per thing done, then where to go.

use crate::{output, state::StateDir};
use std::{net::SocketAddr, time::Instant};

/// Prints as the start goes on.
pub(crate) struct Banner {
    started: Instant,
    last: Instant,
}

impl Banner {
    pub(crate) fn start(state: &StateDir) -> Self {
        println!(
            "{} · state in {} · one process, no root needed",
            output::bold(concat!("weft ", env!("CARGO_PKG_VERSION"))),
            state.path().display()
        );
        let now = Instant::now();
        Self { started: now, last: now }
    }
    /// A step is done.
    pub(crate) fn done(&mut self, what: &str) {
        let ms = self.last.elapsed().as_millis();
        self.last = Instant::now();
        println!("  {} {what} {}", output::mark("ok"), output::dim(&format!("{ms} ms")));
    }
    /// Something to know.
    pub(crate) fn warn(&self, what: &str) {
        println!("  {} {what}", output::mark("warning"));
    }
    /// All is up.
    pub(crate) fn finish(&self, api: SocketAddr, token: &str, demo: bool, gateway: SocketAddr) {
        println!("  ready in {} ms\n", self.started.elapsed().as_millis());
        println!("  Open  http://{api}/?token={token}");
        if demo {
            println!("  Try   weft top                        who talks to whom, right now");
            println!("        weft why --last --status 5xx    why the failing request failed");
            println!("        curl http://{gateway}/admin     a denial; then: weft why --last --status 403");
        } else {
            println!("  Try   weft run --name hello --port 8000 -- python3 -m http.server 8000");
            println!("        weft apply -f resources.yaml    Gateway API and Istio resources, as they are");
        }
        println!("        weft down                       stop; nothing was installed");
    }
}
