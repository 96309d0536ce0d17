//! Certificates of the mesh: the CA, SVIDs and their rotation, trust bundles, and the TLS configurations made of them.
//!
//! This crate does no network I/O and awaits nothing. Together with `weft-wire` it is the only one that sees rustls; others get
//! [`Peer`] and texts.
//!
//! The way of a certificate: a proxy makes a [`KeyAndCsr`], the [`Authority`] signs it for the identity that the control plane
//! attests (never for a name the request asks for), the proxy makes an [`Svid`] of both and puts it into its [`SvidState`]. Every
//! handshake reads that state, so a rotation is one pointer swap and no configuration is rebuilt.

mod authority;
mod csr;
mod svid;

mod bundle;
mod verify;

mod mesh_tls;
mod peer;

mod rotation;

pub mod edge_tls;
pub mod files;
pub mod public_tls;

pub mod limits;

pub use authority::{Authority, AuthorityError, IssuedCertificate, ROOT_LIFETIME};
pub use bundle::{BundleError, TrustBundle};
pub use csr::{CsrError, KeyAndCsr};
pub use mesh_tls::{Alpn, ClientAuth, MESH_SERVER_NAME};
pub use peer::{Peer, TlsInUse};
pub use rotation::{Alarm, Rotation, RotationEvent, RotationOutput};
pub use svid::{Svid, SvidError, SvidState};
pub use verify::{PeerError, explain, peer_error};
