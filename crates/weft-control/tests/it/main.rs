//! The control plane as a whole, in process: configuration in, generations, catalogue, graph and checks out.

#![allow(clippy::panic, reason = "tests")]

mod configuration;
mod files;
mod mesh;

use std::{net::TcpListener, path::Path, time::Duration};
use weft_control::{Control, ControlConfig, MeshWatch};

/// Longer than anything here takes; a test that reaches it has failed.
const LONG: Duration = Duration::from_secs(20);

async fn start(state: &Path, files: &[&Path]) -> Control {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let files = files.iter().map(|path| path.to_path_buf()).collect();
    Control::start(ControlConfig { files, ..ControlConfig::new(state, listener) }).await.expect("starts")
}

/// Waits until the mesh is as `wanted`.
async fn eventually(watch: &mut MeshWatch, what: &str, wanted: impl Fn(&weft_control::CompiledMesh) -> bool) {
    let waited = tokio::time::timeout(LONG, watch.wait_for(wanted)).await;
    waited.unwrap_or_else(|_| panic!("it did not come true that {what}")).expect("the control plane lives");
}

const HOST: &str = "reviews.default.svc.cluster.local";

fn service(port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: reviews\nspec:\n  selector:\n    app: reviews\n  ports:\n  - name: http\n    port: {port}\n"
    )
}

const ROUTE_TO_V1: &str = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: reviews\nspec:\n  hosts:\n  - reviews\n  http:\n  - route:\n    - destination:\n        host: reviews\n        subset: v1\n";
