//! Every bound on what the network can make the control plane do. Each has a name, a unit and a reason.

use std::time::Duration;

/// How often is looked whether a key set is due.
pub(crate) const KEY_SETS_LOOK: Duration = Duration::from_millis(500);
/// How often a key set of a token issuer is fetched again.
pub(crate) const KEY_SETS_REFRESH: Duration = Duration::from_secs(300);
/// First wait after a failed fetch; doubled each time.
pub(crate) const KEY_SETS_RETRY: Duration = Duration::from_secs(2);
/// Longest time for one key set, whatever a rule says.
pub(crate) const KEY_SETS_TIMEOUT_MAX: Duration = Duration::from_secs(10);
/// Most key sets of a mesh.
pub(crate) const KEY_SOURCES_MAX: usize = 64;
/// Tapped exchanges that wait for a user to read them; beyond it they are left out.
pub(crate) const TAPPED_WAITING_MAX: usize = 256;
/// How long after the end of a tap the last reports may come.
pub(crate) const TAP_GRACE: Duration = Duration::from_secs(2);
