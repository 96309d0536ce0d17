//! What the handlers share.

use crate::session::Sessions;
use std::sync::Arc;
use weft_control::Control;

/// Shared by all handlers; cheap to clone.
#[derive(Clone)]
pub struct ManageState {
    pub(crate) control: Control,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) stop: Arc<dyn Fn() + Send + Sync>,
}

impl ManageState {
    /// For `control`, with the API's token; `stop` is called when a client asks for the end.
    pub fn new(control: Control, api_token: impl Into<String>, stop: impl Fn() + Send + Sync + 'static) -> Self {
        Self { control, sessions: Arc::new(Sessions::new(&api_token.into())), stop: Arc::new(stop) }
    }
}

impl std::fmt::Debug for ManageState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ManageState").field("control", &self.control).finish_non_exhaustive()
    }
}
