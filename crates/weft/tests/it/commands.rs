//! Every command in every form of output, and its errors.

use crate::harness::{Mesh, eventually};
use serde_json::Value;

#[test]
fn every_command_prints_a_table_json_and_yaml() {
    let mut mesh = Mesh::up(&[]);
    mesh.run_app("echo", "v1", 9080, &[], &[]);
    let commands: &[&[&str]] = &[
        &["get"],
        &["get", "services"],
        &["get", "workloads"],
        &["get", "diagnostics"],
        &["status"],
        &["top"],
        &["check"],
        &["explain", "http://echo:9080/"],
        &["proxy", "status"],
        &["proxy", "config", "echo-v1"],
        &["proxy", "log-level", "echo-v1", "info"],
    ];
    for command in commands {
        let table = mesh.cli_ok(command);
        assert!(!table.trim().is_empty(), "{command:?} prints something");
        let json = mesh.cli_ok(&[*command, &["-o", "json"]].concat());
        serde_json::from_str::<Value>(&json).unwrap_or_else(|e| panic!("{command:?} -o json: {e}: {json}"));
        let yaml = mesh.cli_ok(&[*command, &["-o", "yaml"]].concat());
        assert!(!yaml.trim_start().starts_with('{') || yaml.trim() == "{}", "{command:?} -o yaml: {yaml}");
    }
    assert!(mesh.cli_ok(&["get", "services"]).contains("echo"));
    assert!(mesh.cli_ok(&["explain", "http://echo:9080/"]).contains("127.0.0.1:"), "endpoints are named");
    assert!(mesh.cli_ok(&["proxy", "config", "echo-v1"]).contains("inbound"));
}

#[test]
fn diff_delete_and_explain_a_code() {
    let mesh = Mesh::up(&[]);
    let file = mesh.state_path().join("one.yaml");
    let text = |port: u16| format!("apiVersion: v1\nkind: Service\nmetadata: {{ name: one }}\nspec:\n  ports:\n  - port: {port}\n");
    std::fs::write(&file, text(80)).expect("written");
    let file = file.display().to_string();
    let diff = mesh.cli(&["diff", "-f", &file]);
    assert_eq!(diff.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&diff.stdout).contains("+kind: Service"));
    assert!(mesh.cli_ok(&["apply", "-f", &file]).contains("created"));
    assert!(mesh.cli_ok(&["apply", "-f", &file]).contains("unchanged"));
    assert!(mesh.cli_ok(&["diff", "-f", &file]).contains("no difference"));
    std::fs::write(&file, text(81)).expect("written");
    let diff = mesh.cli(&["diff", "-f", &file]);
    let diff = String::from_utf8_lossy(&diff.stdout);
    assert!(diff.contains("-  - port: 80") && diff.contains("+  - port: 81"), "{diff}");
    assert!(mesh.cli_ok(&["get", "svc/one"]).contains("port: 80"));
    assert!(mesh.cli_ok(&["delete", "service", "one"]).contains("deleted"));
    let gone = mesh.cli(&["get", "resources", "one"]);
    assert!(!gone.status.success());
    assert!(mesh.cli_ok(&["explain", "WEFT-1001"]).contains("WEFT-1001"));
    let error = mesh.cli(&["proxy", "config", "nobody"]);
    assert!(String::from_utf8_lossy(&error.stderr).contains("weft proxy status"), "an error says what to do");
}

#[test]
fn files_are_watched_and_a_second_up_resumes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("watched.yaml");
    let service =
        |name: &str| format!("apiVersion: v1\nkind: Service\nmetadata: {{ name: {name} }}\nspec: {{ ports: [{{ port: 80 }}] }}\n");
    std::fs::write(&file, service("first")).expect("written");
    let watched = folder.path().display().to_string();
    let mut mesh = Mesh::up(&["-f", &watched]);
    let has = |mesh: &Mesh, name: &str| mesh.cli_ok(&["get", "services"]).contains(name);
    assert!(has(&mesh, "first"));
    std::fs::write(&file, service("second")).expect("written");
    eventually("the change is taken over", || (has(&mesh, "second") && !has(&mesh, "first")).then_some(()));
    let applied = mesh.state_path().join("applied.yaml");
    std::fs::write(&applied, service("applied")).expect("written");
    mesh.cli_ok(&["apply", "-f", &applied.display().to_string()]);
    mesh.kill_up();
    mesh.start_up(&["-f", &watched]);
    assert!(has(&mesh, "second") && has(&mesh, "applied"), "what was acknowledged survives kill -9");
    let token = mesh.token.clone();
    std::fs::remove_file(&file).expect("there");
    eventually("a deleted file takes its resources along", || (!has(&mesh, "second")).then_some(()));
    assert_eq!(mesh.token, token);
}
