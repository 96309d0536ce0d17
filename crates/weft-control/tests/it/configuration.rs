//! Applying, refusing, deleting; generations and what survives a restart.

use crate::{HOST, ROUTE_TO_V1, service, start};
use weft_control::{DeleteOutcome, ResourceKey};

fn actions(result: &weft_control::ApplyResult) -> Vec<&str> {
    result.results.iter().map(|one| one.action.as_str()).collect()
}

#[tokio::test]
async fn each_real_change_is_a_generation() {
    let state = tempfile::tempdir().expect("temporary folder");
    let control = start(state.path(), &[]).await;
    let first = control.generation();
    let created = control.apply(&service(9080), "a.yaml", false).await.expect("applies");
    assert_eq!((actions(&created), created.generation), (vec!["created"], first + 1));
    let same = control.apply(&service(9080), "a.yaml", false).await.expect("applies");
    assert_eq!((actions(&same), same.generation), (vec!["unchanged"], first + 1));
    let other = control.apply(&service(9081), "a.yaml", false).await.expect("applies");
    assert_eq!((actions(&other), other.generation), (vec!["configured"], first + 2));
    assert!(control.mesh().mesh.services[HOST][0].port(9081).is_some());
    control.shutdown().await;
}

#[tokio::test]
async fn a_reference_to_nothing_is_a_diagnostic_with_its_line() {
    let state = tempfile::tempdir().expect("temporary folder");
    let control = start(state.path(), &[]).await;
    let text = format!("{}---\n{ROUTE_TO_V1}", service(9080));
    let result = control.apply(&text, "reviews.yaml", false).await.expect("applies");
    let said = result.diagnostics.iter().find(|d| d.message.contains("v1")).unwrap_or_else(|| panic!("{:?}", result.diagnostics));
    assert_eq!(said.origin.file, "reviews.yaml");
    assert!(said.origin.line > 12, "the line in the whole file: {said}");
    assert!(control.diagnostics().contains(said));
    control.shutdown().await;
}

#[tokio::test]
async fn an_error_in_one_document_refuses_that_one() {
    let state = tempfile::tempdir().expect("temporary folder");
    let control = start(state.path(), &[]).await;
    let before = control.generation();
    let bad = "apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {ports: many}\n";
    let result = control.apply(bad, "bad.yaml", false).await.expect("answers");
    assert!(result.refused(), "{result:?}");
    assert_eq!((actions(&result), control.generation()), (vec!["refused"], before));
    let result = control.apply(&format!("{}---\n{bad}", service(9080)), "bad.yaml", false).await.expect("answers");
    assert!(!result.refused() && result.diagnostics.iter().any(|d| d.is_error() && d.origin.line > 11), "{result:?}");
    assert_eq!(actions(&result), ["refused", "created"]);
    assert_eq!(control.resources().await.len(), 1);
    let empty = control.apply("# nothing\n", "empty.yaml", false).await.expect("answers");
    assert!(empty.results.is_empty());
    control.shutdown().await;
}

#[tokio::test]
async fn a_refused_change_leaves_the_form_before() {
    let state = tempfile::tempdir().expect("temporary folder");
    let control = start(state.path(), &[]).await;
    control.apply(&service(9080), "a.yaml", false).await.expect("applies");
    let bad = service(9080).replace("9080", "many");
    assert!(control.apply(&bad, "a.yaml", false).await.expect("answers").refused());
    assert!(control.mesh().mesh.services[HOST][0].port(9080).is_some());
    control.shutdown().await;
}

#[tokio::test]
async fn a_dry_run_says_all_and_changes_nothing() {
    let state = tempfile::tempdir().expect("temporary folder");
    let control = start(state.path(), &[]).await;
    control.apply(&service(9080), "a.yaml", false).await.expect("applies");
    let before = control.generation();
    let result = control.apply(&format!("{}---\n{ROUTE_TO_V1}", service(1)), "a.yaml", true).await.expect("answers");
    let mut actions = actions(&result);
    actions.sort_unstable();
    assert_eq!(actions, ["configured", "created"]);
    assert!(result.dry_run && !result.diagnostics.is_empty());
    assert_eq!((control.generation(), control.resources().await.len()), (before, 1));
    control.shutdown().await;
}

#[tokio::test]
async fn a_restart_resumes_where_it_was() {
    let state = tempfile::tempdir().expect("temporary folder");
    let control = start(state.path(), &[]).await;
    control.apply(&format!("\n\n{}", service(9080)), "a.yaml", false).await.expect("applies");
    let (generation, origin) = (control.generation(), control.resources().await[0].document.origin.clone());
    let bundle = control.bundle_pem().to_owned();
    control.shutdown().await;
    let again = start(state.path(), &[]).await;
    assert_eq!(again.generation(), generation, "nothing has changed");
    assert_eq!(again.resources().await[0].document.origin, origin, "lines are those of the file");
    assert_eq!(again.bundle_pem(), bundle);
    assert!(again.mesh().mesh.services.contains_key(HOST));
    again.shutdown().await;
}

#[tokio::test]
async fn deleting_is_a_change_too() {
    let state = tempfile::tempdir().expect("temporary folder");
    let control = start(state.path(), &[]).await;
    control.apply(&service(9080), "a.yaml", false).await.expect("applies");
    let key = control.resources().await[0].row.key.clone();
    let DeleteOutcome::Deleted(result) = control.delete(&key).await.expect("deletes") else { panic!("was there") };
    assert_eq!(actions(&result), ["deleted"]);
    assert!(!control.mesh().mesh.services.contains_key(HOST));
    assert_eq!(control.delete(&key).await.expect("answers"), DeleteOutcome::Missing);
    let none = ResourceKey { name: "none".into(), ..key };
    assert_eq!(control.delete(&none).await.expect("answers"), DeleteOutcome::Missing);
    let told: Vec<String> = control.journal(0, 10).into_iter().map(|entry| entry.text).collect();
    assert_eq!(told, ["Service default/reviews deleted", "Service default/reviews created"]);
    control.shutdown().await;
}
