//! Files that are damaged, newer, or not to be written.

use crate::{child, put};
use std::{fs, os::unix::process::CommandExt, path::Path};
use weft_store::{DATABASE_FILE, Store, StoreError};

async fn with_one_row(folder: &Path) {
    let store = Store::open(folder).await.expect("opens").store;
    store.write(vec![put("a", "text")], "api", 1).await.expect("writes");
    store.close().await;
}

#[tokio::test]
async fn a_corrupt_file_is_moved_aside_each_time_under_a_new_name() {
    let folder = tempfile::tempdir().expect("temporary folder");
    for n in 1..=2 {
        with_one_row(folder.path()).await;
        fs::write(folder.path().join(DATABASE_FILE), b"this is not a database at all, and long enough to look like one").expect("damages");
        let opened = Store::open(folder.path()).await.expect("opens afresh");
        let aside = opened.moved_aside.expect("was moved");
        assert_eq!(aside, folder.path().join(format!("{DATABASE_FILE}.corrupt-{n}")));
        assert!(fs::read(&aside).expect("kept").starts_with(b"this is not"));
        assert!(opened.store.resources().await.expect("reads").is_empty());
        opened.store.write(vec![put("b", "text")], "api", 1).await.expect("the fresh one works");
        opened.store.close().await;
    }
}

#[tokio::test]
async fn pages_overwritten_in_the_middle_are_noticed() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let store = Store::open(folder.path()).await.expect("opens").store;
    for n in 0..200 {
        store.write(vec![put(&format!("r{n}"), &"x".repeat(200))], "api", n).await.expect("writes");
    }
    store.close().await;
    let path = folder.path().join(DATABASE_FILE);
    let mut bytes = fs::read(&path).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0xa5);
    fs::write(&path, bytes).expect("damages");
    let opened = Store::open(folder.path()).await.expect("opens afresh");
    assert!(opened.moved_aside.is_some());
}

#[tokio::test]
async fn a_newer_schema_is_refused_not_touched() {
    let folder = tempfile::tempdir().expect("temporary folder");
    with_one_row(folder.path()).await;
    let url = format!("sqlite://{}", folder.path().join(DATABASE_FILE).display());
    let pool = sqlx::SqlitePool::connect(&url).await.expect("opens");
    sqlx::query("UPDATE schema_version SET version = 99").execute(&pool).await.expect("writes");
    pool.close().await;
    let refused = Store::open(folder.path()).await.expect_err("is newer");
    assert!(matches!(refused, StoreError::Newer { found: 99, .. }), "{refused}");
    assert!(refused.to_string().contains("run the newer Weft"));
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_said_with_what_to_do() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let file = folder.path().join("a-file");
    fs::write(&file, b"").expect("writes");
    let refused = Store::open(&file.join("state")).await.expect_err("a file is in the way").to_string();
    assert!(refused.contains("a-file/state") && refused.contains("--state-dir"), "{refused}");
}

const WAKE: &str = "WEFT_STORE_TEST_READ_ONLY";

/// The child: opens a folder that it may not write.
#[test]
fn opener() {
    let Some(folder) = std::env::var_os(WAKE) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    let refused = runtime.block_on(Store::open(Path::new(&folder))).expect_err("may not be written").to_string();
    assert!(refused.contains("cannot be written") && refused.contains("--state-dir"), "{refused}");
}

#[tokio::test]
async fn a_read_only_folder_is_said_with_what_to_do() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let folder = tempfile::tempdir().expect("temporary folder");
    with_one_row(folder.path()).await;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).expect("may");
    let mut opener = child("damage::opener", WAKE, folder.path());
    let elsewhere = tempfile::tempdir().expect("temporary folder");
    if fs::metadata("/proc/self").expect("proc").uid() == 0 {
        // Root may write everywhere: be somebody else, who may not look into root's folders, so that the program is copied.
        fs::set_permissions(elsewhere.path(), fs::Permissions::from_mode(0o755)).expect("may");
        let copy = elsewhere.path().join("it");
        fs::copy(opener.get_program(), &copy).expect("copies");
        let mut other = std::process::Command::new(copy);
        other.args(opener.get_args()).env(WAKE, folder.path()).uid(65_534).gid(65_534).current_dir("/");
        opener = other;
    }
    let ended = opener.output().expect("starts");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("may");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
}
