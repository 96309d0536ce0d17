//! Limits on what the other side of a session feeds to this crate, and the times of a session.

use std::time::Duration;

/// Hosts and addresses that one proxy may subscribe to.
pub const ROOTS_MAX: usize = 4096;
/// Resources that one proxy may say it has.
pub const RESOURCES_MAX: usize = 100_000;
/// Refusals in one NACK that are kept.
pub const REFUSALS_MAX: usize = 256;
/// Bytes of a refusal's text that are kept.
pub const REFUSAL_BYTES_MAX: usize = 1024;
/// Problems of one proxy that are kept.
pub const PROBLEMS_MAX: usize = 64;
/// Keys of global rate limits that one message may ask tokens for.
pub const LEASES_MAX: usize = 1024;
/// Ports that one workload may register.
pub const PORTS_MAX: usize = 64;
/// Bytes of one message on the stream. A view holds what one workload calls, so that this is far away.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// How often each side says that it is there.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);
/// Silence after which the other side is given up. A partition without a reset is noticed by nothing else.
pub const SILENCE_MAX: Duration = Duration::from_secs(15);
