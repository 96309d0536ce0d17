//! `kill -9` in the middle of writing: what was acknowledged is there.

use crate::{child, key, put};
use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::Stdio,
};
use weft_store::Store;

const WAKE: &str = "WEFT_STORE_TEST_WRITER";

/// The child: writes for ever and says what was acknowledged. Does nothing unless woken by the other test.
#[test]
fn writer() {
    let Some(folder) = std::env::var_os(WAKE) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    runtime.block_on(async {
        let store = Store::open(Path::new(&folder)).await.expect("opens").store;
        for n in 0_i64.. {
            store.write(vec![put(&format!("r{n}"), &format!("text {n}"))], "api", n).await.expect("writes");
            let mut out = std::io::stdout();
            writeln!(out, "acknowledged {n}").and_then(|()| out.flush()).expect("the parent reads");
        }
    });
}

#[tokio::test]
async fn acknowledged_writes_survive_kill_9() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut writer = child("crash::writer", WAKE, folder.path()).stdout(Stdio::piped()).spawn().expect("starts");
    let lines = BufReader::new(writer.stdout.take().expect("piped")).lines();
    let mut acknowledged = 0_i64;
    for line in lines.map_while(Result::ok) {
        if let Some(n) = line.rsplit_once("acknowledged ").and_then(|(_, n)| n.parse::<i64>().ok()) {
            acknowledged = acknowledged.max(n);
            if acknowledged == 50 {
                // SIGKILL; what is already in the pipe is still read.
                writer.kill().expect("kills");
            }
        }
    }
    writer.wait().expect("ended");
    assert!(acknowledged >= 50);
    let opened = Store::open(folder.path()).await.expect("opens again");
    assert_eq!(opened.moved_aside, None);
    let rows = opened.store.resources().await.expect("reads");
    for n in 0..=acknowledged {
        let row = rows.iter().find(|row| row.key == key(&format!("r{n}"))).unwrap_or_else(|| panic!("r{n} was acknowledged and is lost"));
        assert_eq!(row.yaml, format!("text {n}"));
    }
    opened.store.check().await.expect("sound");
}
