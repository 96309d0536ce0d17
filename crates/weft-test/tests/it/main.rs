//! The golden tests: one per concept, over the fixtures of `tests/golden/<concept>`. `UPDATE=1` rewrites them.

mod corpus;

macro_rules! concepts {
    ($($name:ident),* $(,)?) => {$(
        #[test]
        fn $name() {
            weft_test::check_folder(stringify!($name));
        }
    )*};
}

concepts![
    authorization,
    balancing,
    connection_pool,
    health_check,
    locality,
    outlier,
    bad_references,
    cors,
    delegate,
    concurrency,
    conflicts,
    destination_rule,
    explain,
    gateway,
    gateway_api,
    grpc_route,
    http_route,
    mesh_config,
    peer_authentication,
    rate_limit,
    reference_grant,
    retry,
    route_policy,
    request_authentication,
    service_entry,
    services,
    tcp_route,
    telemetry,
    tls_origination,
    virtual_service,
];
