//! What users and strangers get wrong: each gives a clear answer and leaves everything else working.

use crate::harness::{Mesh, Process, WEFT, eventually, http, list, raw};
use std::{net::TcpListener, process::Command};

fn write(mesh: &Mesh, name: &str, text: &str) -> String {
    let path = mesh.state_path().join(name);
    std::fs::write(&path, text).expect("written");
    path.display().to_string()
}

#[test]
fn bad_resources_are_named_by_file_and_line_and_harm_only_themselves() {
    let mesh = Mesh::up(&[]);
    let good = "apiVersion: v1\nkind: Service\nmetadata: { name: good }\nspec: { ports: [{ port: 80, name: http }] }\n";
    let file = write(&mesh, "malformed.yaml", &format!("{good}---\nkind: [unclosed\n"));
    let output = mesh.cli(&["apply", "-f", &file]);
    let error = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!output.status.success(), "{error}");
    assert!(error.contains("malformed.yaml:6") || error.contains("malformed.yaml:7"), "{error}");
    assert!(mesh.cli_ok(&["get", "services"]).contains("good"), "the good document of the same file is kept");

    let file = write(
        &mesh,
        "odd.yaml",
        "apiVersion: example.com/v1\nkind: Gizmo\nmetadata: { name: x }\n---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n\
         metadata: { name: odd }\nspec:\n  hosts: [good]\n  htpp: []\n  http:\n  - route:\n    - destination: { host: nowhere }\n",
    );
    let text = mesh.cli(&["apply", "-f", &file]);
    let text = format!("{}{}", String::from_utf8_lossy(&text.stdout), String::from_utf8_lossy(&text.stderr));
    assert!(text.contains("Gizmo"), "an unknown kind is said: {text}");
    assert!(text.contains("htpp") && text.contains("odd.yaml:10"), "an unknown field is said with its line: {text}");
    assert!(text.contains("nowhere") && text.contains("odd.yaml:1"), "a reference to nothing is said with its line: {text}");

    let twin = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: twin }\nspec:\n  hosts: [good]\n  http:\n  - route:\n    \
                - destination: { host: good }\n";
    let file = write(&mesh, "twin.yaml", twin);
    let text = mesh.cli(&["apply", "-f", &file]);
    let text = format!("{}{}", String::from_utf8_lossy(&text.stdout), String::from_utf8_lossy(&text.stderr));
    assert!(text.contains("odd") && text.contains("twin"), "two objects for one host: both are named: {text}");
}

#[test]
fn a_port_already_taken_is_said_and_a_taken_gateway_port_harms_only_itself() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let state = tempfile::tempdir().expect("a temporary folder");
    let output =
        Command::new(WEFT).args(["up", "--api-port", &port, "--xds-port", "0"]).env("WEFT_STATE_DIR", state.path()).output().expect("runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(error.contains(&port) && error.contains("--api-port") && error.contains("fix"), "{error}");

    let gateway = format!("81={port}");
    let mesh = Mesh::up(&["--gateway", &gateway]);
    let file = write(
        &mesh,
        "gateway.yaml",
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: { name: two }\nspec:\n  gatewayClassName: weft\n  listeners:\n  \
         - { name: a, port: 80, protocol: HTTP }\n  - { name: b, port: 81, protocol: HTTP }\n",
    );
    mesh.cli(&["apply", "-f", &file]);
    eventually("the free listener answers", || (mesh.through_gateway("/", &[]).status == 404).then_some(()));
    eventually("the taken port is reported", || mesh.cli_ok(&["status"]).contains(&port).then_some(()));
}

#[test]
fn a_state_folder_that_cannot_be_written_is_said() {
    let output =
        Command::new(WEFT).args(["up", "--api-port", "0", "--xds-port", "0"]).env("WEFT_STATE_DIR", "/proc/weft").output().expect("runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(error.contains("/proc/weft") && error.contains("--state-dir"), "{error}");
}

#[test]
fn a_corrupt_store_is_moved_aside_and_a_corrupt_key_is_refused() {
    let state = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(state.path().join("weft.db"), b"this is not a database, whatever its name says").expect("written");
    let mut mesh = Mesh::up_on(state, &[]);
    let said = mesh.up_process().output();
    assert!(said.contains("weft.db.corrupt"), "{said}");
    eventually("it works all the same", || (mesh.get("health")["status"] == "healthy").then_some(()));
    mesh.kill_up();

    let keys: Vec<_> = walk(mesh.state_path()).into_iter().filter(|p| p.to_string_lossy().contains("key")).collect();
    assert!(!keys.is_empty(), "the authority keeps its key on disk");
    for key in &keys {
        std::fs::write(key, b"-----BEGIN GARBAGE").expect("written");
    }
    let mut command = mesh.command(&["up", "--api-port", "0", "--xds-port", "0"]);
    let output = command.output().expect("runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "a damaged root key must never be replaced silently: {error}");
    assert!(error.contains("key"), "{error}");
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).expect("readable").map(|e| e.expect("entry").path());
    entries.flat_map(|p| if p.is_dir() { walk(&p) } else { vec![p] }).collect()
}

#[test]
fn strict_refuses_plain_text_and_large_headers_are_answered() {
    let mut mesh = Mesh::up(&[]);
    mesh.run_app("echo", "v1", 9080, &[], &[]);
    let file = write(
        &mesh,
        "edge.yaml",
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: { name: g }\nspec:\n  gatewayClassName: weft\n  listeners:\n  \
         - { name: a, port: 80, protocol: HTTP }\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: { name: r }\nspec:\n  \
         parentRefs: [{ name: g }]\n  rules:\n  - backendRefs: [{ name: echo, port: 9080 }]\n",
    );
    mesh.cli_ok(&["apply", "-f", &file]);
    eventually("the gateway routes", || (mesh.through_gateway("/", &[]).status == 200).then_some(()));

    let address = mesh.proxy_address("echo-v1");
    assert_eq!(http(address, "GET", "/", &[], "").status, 200, "PERMISSIVE is the default: plain text is served");
    let strict =
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: { name: strict }\nspec: { mtls: { mode: STRICT } }\n";
    mesh.cli_ok(&["apply", "-f", &write(&mesh, "strict.yaml", strict)]);
    let refused = http(address, "GET", "/", &[], "");
    assert_eq!(refused.status, 403, "HTTP gets an answer that says why; the program never sees it");
    assert!(refused.body.contains("strict"), "{refused:?}");
    assert_eq!(raw(address, b"\x00\x01 not HTTP"), b"", "anything else is closed");
    assert_eq!(mesh.through_gateway("/", &[]).status, 200, "mutual TLS goes on");

    let long = "x".repeat(100_000);
    assert_eq!(mesh.through_gateway("/", &[("x-long", &long)]).status, 431);
    let smuggled = raw(
        ([127, 0, 0, 1], mesh.gateway_port).into(),
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n0\r\n\r\nGET /admin HTTP/1.1\r\nhost: a\r\n\r\n",
    );
    let answer = String::from_utf8_lossy(&smuggled);
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "one request, one answer: {answer}");
    assert_eq!(mesh.through_gateway("/", &[]).status, 200);
}

#[test]
fn a_program_that_cannot_start_is_said_and_its_exit_code_is_the_shells() {
    let mesh = Mesh::up(&[]);
    let output = mesh.cli(&["run", "--name", "ghost", "--port", "9080", "--", "/no/such/program"]);
    assert_eq!(output.status.code(), Some(127));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/no/such/program"));
    let not_executable = write(&mesh, "text.txt", "not a program");
    let output = mesh.cli(&["run", "--name", "ghost", "--", &not_executable]);
    assert_eq!(output.status.code(), Some(126));
    let output = mesh.cli(&["run", "--name", "seven", "--", "sh", "-c", "exit 7"]);
    assert_eq!(output.status.code(), Some(7));
    let mut command = mesh.command(&["run", "--name", "sleeper", "--", "sleep", "600"]);
    let mut sleeper = Process::start(&mut command);
    sleeper.expect_line("in the mesh as");
    sleeper.signal("TERM");
    assert_eq!(sleeper.wait().code(), Some(128 + 15));
    eventually("it has left the catalogue", || {
        let workloads = mesh.get("workloads");
        list(&workloads).iter().all(|w| w["name"] != "sleeper-v1").then_some(())
    });
}
