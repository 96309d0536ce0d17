//! The compiled mesh and the channel through which sessions follow it.

use std::sync::Arc;
use tokio::sync::watch;
use weft_api::{Diagnostic, Document};
use weft_compile::Mesh;

/// One generation of the mesh: what it is made of, what it means, and what is wrong with it.
#[derive(Debug, Default)]
pub struct CompiledMesh {
    /// Grows with each real change and survives restarts; 0 before the first compilation.
    pub generation: u64,
    /// The linked mesh.
    pub mesh: Arc<Mesh>,
    /// All diagnostics: of parsing and of linking.
    pub diagnostics: Vec<Diagnostic>,
    /// The documents that went in, oldest first.
    pub documents: Vec<Arc<Document>>,
}

/// Follows the mesh: always has the newest generation. Cloneable; each clone has its own memory of what it has seen.
#[derive(Debug, Clone)]
pub struct MeshWatch {
    receiver: watch::Receiver<Arc<CompiledMesh>>,
}

impl MeshWatch {
    /// From the sending side.
    pub fn new(receiver: watch::Receiver<Arc<CompiledMesh>>) -> Self {
        Self { receiver }
    }
    /// The newest generation.
    pub fn current(&self) -> Arc<CompiledMesh> {
        self.receiver.borrow().clone()
    }
    /// The newest generation; `changed` waits for a newer one than this.
    pub fn current_and_mark_seen(&mut self) -> Arc<CompiledMesh> {
        self.receiver.borrow_and_update().clone()
    }
    /// Waits for a generation that was not seen yet. `None` when the control plane is gone. Cancel safe.
    pub async fn changed(&mut self) -> Option<Arc<CompiledMesh>> {
        self.receiver.changed().await.ok()?;
        Some(self.receiver.borrow_and_update().clone())
    }
    /// Waits until `wanted` holds of the newest mesh. `None` when the control plane is gone. Cancel safe.
    pub async fn wait_for(&mut self, wanted: impl Fn(&CompiledMesh) -> bool) -> Option<Arc<CompiledMesh>> {
        self.receiver.wait_for(|mesh| wanted(mesh)).await.ok().map(|mesh| mesh.clone())
    }
}
