//! `ConfigMap`: `istio` holds the settings of the mesh. Others hold roots (`ca.crt`), which are read from the document's JSON.

use crate::diag;
use crate::istio::MeshConfig;
use crate::node::Node;
use crate::read::{Path, Read, Reader};
use crate::yaml::{self, ProblemKind};

object! {
    /// `v1 ConfigMap`.
    pub struct ConfigMap {
        /// Texts by key.
        data: ConfigData = "data",
    }
    open true
}

/// The keys that mean something to a mesh.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConfigData {
    /// `mesh` of the ConfigMap `istio`; `None` in every other ConfigMap.
    pub mesh: Option<Box<MeshConfig>>,
}

/// Name of the ConfigMap that holds Istio's settings.
const MESH_CONFIG: &str = "istio";

impl Read for ConfigData {
    fn read(node: &Node, at: &Path<'_>, reader: &mut Reader) -> Option<Self> {
        let (Some(mesh), true) = (node.field("mesh"), reader.object_name() == MESH_CONFIG) else { return Some(Self::default()) };
        let path = Path::Name(at, "mesh");
        // The text is a block: its first line stands below the `|`.
        let text = reader.text(mesh, &path)?;
        let first_line = mesh.line.saturating_add(u32::from(text.contains('\n')));
        match yaml::load(text, first_line).into_iter().next() {
            None => Some(Self::default()),
            Some(Ok(loaded)) => MeshConfig::read(&loaded.node, &path, reader).map(|mesh| Self { mesh: Some(Box::new(mesh)) }),
            Some(Err(problem)) => {
                let place = reader.place(problem.line, &path);
                reader.report(match problem.what {
                    ProblemKind::Limit(what, max) => diag::over_limit(place, what, max),
                    ProblemKind::Syntax(why) => diag::not_yaml(place, &why),
                });
                None
            }
        }
    }
    fn absent() -> Option<Self> {
        Some(Self::default())
    }
}
