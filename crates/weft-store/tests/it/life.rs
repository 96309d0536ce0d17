//! Ordinary life: versions, history, watching, tokens, generations.

use crate::{key, put};
use weft_store::{Action, AuditRow, Change, GenerationRow, Store, TokenRefusal};

async fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let store = Store::open(folder.path()).await.expect("opens").store;
    (folder, store)
}

#[tokio::test]
async fn versions_grow_with_the_text_and_history_remembers() {
    let (_folder, store) = store().await;
    let mut watch = store.watch();
    let mut actions = Vec::new();
    for (text, now_ms) in [("one", 1), ("one", 2), ("two", 3)] {
        let outcome = store.write(vec![put("a", text)], "api", now_ms).await.expect("writes").remove(0);
        actions.push((outcome.action, outcome.row.expect("is there").version));
    }
    assert_eq!(actions, [(Action::Created, 1), (Action::Unchanged, 1), (Action::Configured, 2)]);
    assert!(watch.has_changed().expect("store lives"));
    assert_eq!(*watch.borrow_and_update(), 2, "an unchanged text is no change");
    let row = store.resources().await.expect("reads").remove(0);
    assert_eq!((row.created_ms, row.updated_ms, row.line), (1, 3, 3));
    let deleted = store.write(vec![Change::Delete(key("a")), Change::Delete(key("b"))], "api", 4).await.expect("writes");
    assert_eq!(deleted.iter().map(|o| o.action).collect::<Vec<_>>(), [Action::Deleted, Action::Missing]);
    let history = store.history(&key("a"), 10).await.expect("reads");
    let told: Vec<_> = history.iter().map(|h| (h.action.as_str(), h.version, h.yaml.as_str())).collect();
    assert_eq!(told, [("deleted", 2, "two"), ("configured", 2, "two"), ("created", 1, "one")]);
}

#[tokio::test]
async fn of_many_who_show_one_token_one_gets_in() {
    let (_folder, store) = store().await;
    store.put_token("hash", "grant", 100, 0).await.expect("writes");
    let uses = (0..8).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { store.use_token("hash", 50).await.expect("answers") })
    });
    let mut good = 0;
    for answer in uses.collect::<Vec<_>>() {
        match answer.await.expect("no panic") {
            Ok(body) => {
                assert_eq!(body, "grant");
                good += 1;
            }
            Err(refusal) => assert_eq!(refusal, TokenRefusal::Used),
        }
    }
    assert_eq!(good, 1);
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let (folder, store) = store().await;
    store.write(vec![put("a", "text")], "api", 1).await.expect("writes");
    store.put_workload("default/a-1", "{}", 1).await.expect("writes");
    store.put_token("hash", "grant", 100, 0).await.expect("writes");
    let generation = GenerationRow { generation: 7, hash: "h".into(), at_ms: 1, cause: "apply".into() };
    store.put_generation(&generation).await.expect("writes");
    let audit = AuditRow { at_ms: 1, actor: "api".into(), action: "apply".into(), object: "x".into(), detail: String::new() };
    store.audit(&audit).await.expect("writes");
    store.close().await;
    let store = Store::open(folder.path()).await.expect("opens").store;
    assert_eq!(store.resources().await.expect("reads").len(), 1);
    assert_eq!(store.workloads().await.expect("reads")[0].id, "default/a-1");
    assert_eq!(store.tokens().await.expect("reads")[0].hash, "hash");
    assert_eq!(store.generations(5).await.expect("reads"), [generation]);
    assert_eq!(store.audit_rows(5).await.expect("reads"), [audit]);
}

#[tokio::test]
async fn two_processes_do_not_corrupt_each_other() {
    let (folder, one) = store().await;
    let two = Store::open(folder.path()).await.expect("opens").store;
    for n in 0..20 {
        one.write(vec![put(&format!("a{n}"), "x")], "api", n).await.expect("writes");
        two.write(vec![put(&format!("b{n}"), "x")], "api", n).await.expect("writes");
    }
    assert_eq!(one.resources().await.expect("reads").len(), 40);
}

#[tokio::test]
async fn the_files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, store) = store().await;
    store.write(vec![put("a", "text")], "api", 1).await.expect("writes");
    for file in std::fs::read_dir(folder.path()).expect("reads").flatten() {
        let mode = file.metadata().expect("exists").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", file.file_name());
    }
}
