//! The store as a whole: what survives, what is refused, and how that is said.

mod crash;
mod damage;
mod life;

use weft_store::{Change, ResourceKey, Source};

/// A write of `name` with `yaml`.
fn put(name: &str, yaml: &str) -> Change {
    Change::Put {
        key: key(name),
        api_version: "networking.istio.io/v1".into(),
        yaml: yaml.into(),
        source: Source::Api,
        file: "x.yaml".into(),
        line: 3,
    }
}

fn key(name: &str) -> ResourceKey {
    let group = "networking.istio.io".into();
    ResourceKey { group, kind: "VirtualService".into(), namespace: "default".into(), name: name.into() }
}

/// Runs one test of this binary alone in a process of its own, with the variable that wakes it.
fn child(test: &str, variable: &str, value: &std::path::Path) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().expect("own path"));
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(variable, value);
    command
}
