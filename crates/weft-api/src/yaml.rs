//! YAML to nodes.
