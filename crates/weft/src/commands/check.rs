//! `weft check`: one line per check, a section per part of the mesh, exit code 1 when something is broken.

use super::value;
use crate::{cli::Global, output};
use anyhow::Result;
use serde_json::{Value, json};
use std::process::ExitCode;

pub(crate) async fn check(global: &Global) -> Result<ExitCode> {
    let answer = match global.client() {
        Ok(client) => client.get("checks").await,
        Err(error) => Err(error),
    };
    // A mesh that does not answer is the first thing to check, not a reason to print no checks.
    let answer: Value = answer.unwrap_or_else(|error| {
        let reached = json!({ "code": "api", "name": "the API answers", "status": "failed", "detail": format!("{error:#}"), "fix": "start the mesh with `weft up`" });
        json!({ "ok": false, "sections": [{ "title": "control-plane", "checks": [reached] }] })
    });
    output::print(global.output, &answer, table)?;
    Ok(if value::truth(&answer, "/ok") { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn table(answer: &Value) -> String {
    let mut lines = Vec::new();
    for section in value::items(answer, "/sections") {
        let title = value::text(section, "/title");
        lines.push(output::bold(title));
        lines.push("-".repeat(title.chars().count()));
        for check in value::items(section, "/checks") {
            lines.push(format!("{} {}", output::mark(value::text(check, "/status")), value::text(check, "/name")));
            let more = [("", value::text(check, "/detail")), ("fix: ", value::text(check, "/fix")), ("see ", value::text(check, "/url"))];
            if value::text(check, "/status") != "ok" {
                lines.extend(more.iter().filter(|(_, t)| !t.is_empty()).map(|(p, t)| format!("    {p}{t}")));
            }
        }
        lines.push(String::new());
    }
    let worst = if value::truth(answer, "/ok") { "ok" } else { "failed" };
    lines.push(format!("Status check results are {}", output::mark(worst)));
    lines.join("\n")
}
