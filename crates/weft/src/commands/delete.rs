//! `weft delete`: by kind and name, or whatever a file holds.

use super::{apply, files, get, value};
use crate::{cli::Global, output};
use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Kind, e.g. virtualservice.
    #[arg(requires = "name")]
    kind: Option<String>,
    /// Name.
    name: Option<String>,
    /// Namespace.
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Delete what these files hold. Repeatable.
    #[arg(short, long = "filename", conflicts_with = "kind", value_name = "FILE|DIR|-")]
    filename: Vec<PathBuf>,
}

pub(crate) async fn delete(global: &Global, args: DeleteArgs) -> Result<()> {
    let client = global.client()?;
    let objects: Vec<(String, String, String)> = match (&args.kind, &args.name) {
        (Some(kind), Some(name)) => vec![(get::kind(kind), args.namespace.clone(), name.clone())],
        _ if args.filename.is_empty() => bail!("what? give a kind and a name, or -f FILE"),
        _ => objects(&args.filename)?,
    };
    let (mut results, mut diagnostics) = (Vec::new(), Vec::new());
    for (kind, namespace, name) in objects {
        // Cluster-wide kinds have no namespace; `-` holds its place in the path.
        let namespace = if namespace.is_empty() { "-".to_owned() } else { files::encode(&namespace) };
        let answer: Value = client.delete(&format!("resources/{}/{namespace}/{}", files::encode(&kind), files::encode(&name))).await?;
        results.extend_from_slice(value::items(&answer, "/results"));
        diagnostics.extend_from_slice(value::items(&answer, "/diagnostics"));
    }
    let answer = json!({ "results": results, "diagnostics": diagnostics });
    output::print(global.output, &answer, apply::table)
}

/// Kind, namespace and name of every document in the files.
fn objects(paths: &[PathBuf]) -> Result<Vec<(String, String, String)>> {
    let mut objects = Vec::new();
    for manifest in files::read(paths)? {
        let parsed = weft_api::parse(&manifest.text, &manifest.source);
        objects.extend(parsed.documents.into_iter().map(|d| (d.meta.kind, d.meta.namespace, d.meta.name)));
    }
    Ok(objects)
}
