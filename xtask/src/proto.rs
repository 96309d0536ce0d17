//! The protobuf part of `cargo xtask generate` (feature `generate`): makes `crates/weft-proto/src/generated.rs` from `proto/`.
//!
//! The result is checked in, so that a build needs neither `protoc` nor the generator's dependencies.

use anyhow::{Context, Result};
use std::path::Path;

const FILES: [&str; 3] = ["weft/v1/discovery.proto", "weft/v1/identity.proto", "weft/v1/telemetry.proto"];

/// Generates below `root`, the folder of the workspace.
///
/// # Errors
/// When a `.proto` file does not parse, or a file cannot be written.
pub(crate) fn generate(root: &Path) -> Result<()> {
    let protos = root.join("proto");
    let descriptors = protox::compile(FILES.map(|file| protos.join(file)), [&protos]).context("the .proto files do not parse")?;
    let out = root.join("target").join("generated-proto");
    std::fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    tonic_prost_build::configure()
        .bytes(".weft.v1.Resource.body")
        .btree_map(".")
        .build_transport(false)
        .out_dir(&out)
        .compile_fds(descriptors)
        .context("cannot generate")?;
    let (from, to) = (out.join("weft.v1.rs"), root.join("crates/weft-proto/src/generated.rs"));
    std::fs::copy(&from, &to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}
