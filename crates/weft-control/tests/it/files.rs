//! Watched files: add, change, delete, override, and a database that was lost.

use crate::{HOST, eventually, service, start};
use std::fs;
use weft_control::DeleteOutcome;

#[tokio::test]
async fn files_are_followed() {
    let (state, folder) = (tempfile::tempdir().expect("temporary"), tempfile::tempdir().expect("temporary"));
    let control = start(state.path(), &[folder.path()]).await;
    let mut watch = control.subscribe();
    let path = folder.path().join("reviews.yaml");
    fs::write(&path, service(9080)).expect("writes");
    eventually(&mut watch, "a new file adds its service", |m| m.mesh.services.contains_key(HOST)).await;
    fs::write(&path, service(9081)).expect("writes");
    eventually(&mut watch, "a changed file changes it", |m| m.mesh.services[HOST][0].port(9081).is_some()).await;
    fs::write(&path, "kind: [").expect("writes");
    eventually(&mut watch, "a broken file is said", |m| {
        m.diagnostics.iter().any(|d| d.is_error() && d.origin.file.ends_with("reviews.yaml"))
    })
    .await;
    fs::write(&path, service(9082)).expect("writes");
    eventually(&mut watch, "it is mended", |m| m.diagnostics.is_empty() && m.mesh.services.contains_key(HOST)).await;
    fs::remove_file(&path).expect("removes");
    eventually(&mut watch, "a deleted file deletes its service", |m| !m.mesh.services.contains_key(HOST)).await;
    control.shutdown().await;
}

#[tokio::test]
async fn what_went_while_nobody_looked_is_gone() {
    let (state, folder) = (tempfile::tempdir().expect("temporary"), tempfile::tempdir().expect("temporary"));
    let path = folder.path().join("reviews.yaml");
    fs::write(&path, service(9080)).expect("writes");
    let control = start(state.path(), &[folder.path()]).await;
    assert!(control.mesh().mesh.services.contains_key(HOST));
    let generation = control.generation();
    control.shutdown().await;
    let same = start(state.path(), &[folder.path()]).await;
    assert_eq!(same.generation(), generation);
    same.shutdown().await;
    fs::remove_file(&path).expect("removes");
    let without = start(state.path(), &[folder.path()]).await;
    assert!(!without.mesh().mesh.services.contains_key(HOST));
    without.shutdown().await;
}

#[tokio::test]
async fn the_last_change_wins_between_file_and_api() {
    let (state, folder) = (tempfile::tempdir().expect("temporary"), tempfile::tempdir().expect("temporary"));
    let path = folder.path().join("reviews.yaml");
    fs::write(&path, service(9080)).expect("writes");
    let control = start(state.path(), &[folder.path()]).await;
    let key = control.resources().await[0].row.key.clone();
    let held = control.delete(&key).await.expect("answers");
    assert!(matches!(held, DeleteOutcome::HeldByFile { ref file, .. } if file.ends_with("reviews.yaml")), "{held:?}");

    control.apply(&service(9081), "api", false).await.expect("applies");
    assert!(control.mesh().mesh.services[HOST][0].port(9081).is_some());
    assert!(control.diagnostics().iter().any(|d| d.code == "WEFT-3002"), "{:?}", control.diagnostics());
    control.shutdown().await;

    let control = start(state.path(), &[folder.path()]).await;
    assert!(control.mesh().mesh.services[HOST][0].port(9081).is_some(), "the API's form survives a restart");
    control.delete(&key).await.expect("deletes");
    assert!(control.mesh().mesh.services[HOST][0].port(9080).is_some(), "the file's form is back");

    control.apply(&service(9081), "api", false).await.expect("applies");
    let mut watch = control.subscribe();
    fs::write(&path, service(9082)).expect("writes");
    eventually(&mut watch, "a changed file takes over", |m| m.mesh.services[HOST][0].port(9082).is_some()).await;
    control.shutdown().await;
}

#[tokio::test]
async fn a_corrupt_database_is_moved_aside_and_files_are_read_again() {
    let (state, folder) = (tempfile::tempdir().expect("temporary"), tempfile::tempdir().expect("temporary"));
    fs::write(folder.path().join("reviews.yaml"), service(9080)).expect("writes");
    start(state.path(), &[folder.path()]).await.shutdown().await;
    fs::write(state.path().join("weft.db"), "garbage, garbage, garbage").expect("damages");
    let control = start(state.path(), &[folder.path()]).await;
    assert!(control.mesh().mesh.services.contains_key(HOST));
    assert!(control.notices()[0].contains("weft.db.corrupt-1"), "{:?}", control.notices());
    let checks = control.checks().await;
    let kept = checks.sections.iter().flat_map(|s| &s.checks).find(|c| c.code == "store-kept").expect("is checked");
    assert_eq!(kept.status, weft_control::CheckStatus::Warning);
    control.shutdown().await;
}

#[tokio::test]
async fn a_missing_file_is_an_error_not_an_end() {
    let state = tempfile::tempdir().expect("temporary");
    let control = start(state.path(), &[std::path::Path::new("does/not/exist.yaml")]).await;
    let said = control.diagnostics();
    assert!(said[0].is_error() && said[0].message.contains("does/not/exist.yaml"), "{said:?}");
    control.shutdown().await;
}
