//! Two proxies, a program and a client in one process, over real sockets and real certificates. No control plane: the views
//! are written here as a compiler would make them.

#[macro_use]
mod fixture;

mod thread;
mod tokens;

mod balancing;
mod concurrency;
mod connection_pool;
mod drain;
mod edge;
mod endpoint_faults;
mod external_authorization;
mod faults;
mod gateway;
mod goldens;
mod grpc_web;
mod health_check;
mod hostile;
mod http;
mod http1_corpus;
mod http2;
mod http2_corpus;
mod mtls;
mod overload;
mod policy;
mod rate_limit;
mod request_authentication;
mod retries;
mod routing;
mod side;
mod tap;
mod tcp;
mod telemetry;

mod bug_classes;
mod bypass;
mod header_trust;
mod permit;
