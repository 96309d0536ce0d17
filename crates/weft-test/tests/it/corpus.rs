//! Every sample of Istio and the Gateway API that is at hand links, projects and explains without a panic.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use weft_compile::{ExplainRequest, Inputs, ProxyIdentity, ProxyRole, explain, link, project};
use weft_model::{Root, SpiffeId};

fn yaml_files(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        match path.is_dir() {
            true => yaml_files(&path, found),
            false if path.extension().is_some_and(|e| e == "yaml" || e == "yml") => found.push(path),
            false => {}
        }
    }
}

fn proxy(role: ProxyRole) -> ProxyIdentity {
    let labels = [("app", "productpage"), ("istio", "ingressgateway")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    ProxyIdentity {
        workload_id: "default/p".into(),
        namespace: "default".into(),
        labels: labels.into_iter().collect(),
        identity: SpiffeId::new("cluster.local", "default", "p").expect("legal"),
        role,
    }
}

#[test]
#[allow(clippy::print_stderr, reason = "a skipped test says so")]
fn samples_link() {
    let Some(corpus) = std::env::var_os("WEFT_CORPUS") else {
        eprintln!("SKIPPED: set WEFT_CORPUS to a folder of Istio and Gateway API samples to link them all");
        return;
    };
    let mut files = Vec::new();
    yaml_files(Path::new(&corpus), &mut files);
    assert!(!files.is_empty(), "WEFT_CORPUS has YAML files");
    let bookinfo = files.iter().find(|f| f.ends_with("bookinfo/platform/kube/bookinfo.yaml"));
    let base = bookinfo.map(|f| fs::read_to_string(f).expect("readable")).unwrap_or_default();
    for file in &files {
        let name = file.strip_prefix(&corpus).expect("below the corpus").display().to_string();
        let text = fs::read_to_string(file).expect("readable");
        let mut documents = weft_api::parse(&base, "bookinfo.yaml").documents;
        documents.extend(weft_api::parse(&text, &name).documents);
        let linked = link(&Inputs { documents: documents.into_iter().map(Arc::new).collect(), ..Inputs::default() });
        let hosts: Vec<String> = linked.mesh.all_services().map(|s| s.service.host.to_string()).collect();
        let roots = hosts.iter().map(|h| Root::Host(h.clone())).collect();
        for role in [ProxyRole::Sidecar, ProxyRole::Gateway] {
            let projection = project(&linked.mesh, &proxy(role), &roots);
            assert!(!projection.view.values.is_empty(), "{name}");
        }
        for host in &hosts {
            let request = ExplainRequest { authority: format!("{host}:9080"), ..ExplainRequest::default() };
            assert!(!explain(&linked.mesh, &request).sentence.is_empty(), "{name}");
        }
        if std::env::var_os("WEFT_CORPUS_PRINT").is_some() {
            for d in &linked.diagnostics {
                eprintln!("{d}");
            }
        }
    }
}
