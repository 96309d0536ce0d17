//! `AuthorizationPolicy`: who may do what.

use super::{PolicyTargetReference, WorkloadSelector};
use crate::read::Spanned;

object! {
    /// `security.istio.io AuthorizationPolicy`: who may do what to some workloads.
    pub struct AuthorizationPolicy {
        /// Workloads; absent: all of the namespace (all of the mesh in the root namespace).
        selector: Option<WorkloadSelector> = "selector",
        /// Resources it is attached to, in place of a selector.
        target_refs: Vec<Spanned<PolicyTargetReference>> = "targetRefs",
        /// The older, single form of `target_refs`.
        target_ref: Option<Spanned<PolicyTargetReference>> = "targetRef",
        /// What a match does; absent: `ALLOW`.
        action: Option<AuthorizationAction> = "action",
        /// Provider for `CUSTOM`.
        provider: Option<ExtensionProvider> = "provider",
        /// Rules. No rules: nothing matches.
        rules: Vec<Spanned<Rule>> = "rules",
    }
}

choice! {
    /// What a match does.
    pub enum AuthorizationAction {
        /// Lets the request through, if nothing denies it.
        Allow = "ALLOW",
        /// Refuses it.
        Deny = "DENY",
        /// Logs it.
        Audit = "AUDIT",
        /// Asks a provider.
        Custom = "CUSTOM",
    }
}

object! {
    /// A provider of decisions.
    pub struct ExtensionProvider {
        /// Its name.
        name: Option<String> = "name",
    }
}

object! {
    /// Some source, some operation and every condition must match. An empty rule always matches.
    pub struct Rule {
        /// Who.
        from: Vec<RuleFrom> = "from",
        /// What.
        to: Vec<RuleTo> = "to",
        /// Further conditions.
        when: Vec<Spanned<Condition>> = "when",
    }
}

object! {
    /// Wraps a source, as the API does.
    pub struct RuleFrom {
        /// The source; absent: any.
        source: Option<Spanned<Source>> = "source",
    }
}

object! {
    /// Who calls: all fields that are given must match. The JWT fields are read so that a rule with them is never taken for wider than it is.
    pub struct Source {
        /// Identities `<trust domain>/ns/<namespace>/sa/<account>`, with `*` at one end.
        principals: Vec<String> = "principals",
        /// Not these.
        not_principals: Vec<String> = "notPrincipals",
        /// JWT `issuer/subject`.
        request_principals: Vec<String> = "requestPrincipals",
        /// Not these.
        not_request_principals: Vec<String> = "notRequestPrincipals",
        /// Namespaces.
        namespaces: Vec<String> = "namespaces",
        /// Not these.
        not_namespaces: Vec<String> = "notNamespaces",
        /// Accounts: `namespace/account`, or `account` in the policy's namespace.
        service_accounts: Vec<String> = "serviceAccounts",
        /// Not these.
        not_service_accounts: Vec<String> = "notServiceAccounts",
        /// Address of the connection.
        ip_blocks: Vec<ipnet::IpNet> = "ipBlocks",
        /// Not these.
        not_ip_blocks: Vec<ipnet::IpNet> = "notIpBlocks",
        /// Address of the client behind trusted proxies.
        remote_ip_blocks: Vec<ipnet::IpNet> = "remoteIpBlocks",
        /// Not these.
        not_remote_ip_blocks: Vec<ipnet::IpNet> = "notRemoteIpBlocks",
        /// Trust domains.
        trust_domains: Vec<String> = "trustDomains",
        /// Not these.
        not_trust_domains: Vec<String> = "notTrustDomains",
    }
}

object! {
    /// Wraps an operation, as the API does.
    pub struct RuleTo {
        /// The operation; absent: any.
        operation: Option<Spanned<Operation>> = "operation",
    }
}

object! {
    /// What is called: all fields that are given must match. Values may have `*` at one end.
    pub struct Operation {
        /// Hosts; case is ignored.
        hosts: Vec<String> = "hosts",
        /// Not these.
        not_hosts: Vec<String> = "notHosts",
        /// Ports, as text.
        ports: Vec<String> = "ports",
        /// Not these.
        not_ports: Vec<String> = "notPorts",
        /// Methods.
        methods: Vec<String> = "methods",
        /// Not these.
        not_methods: Vec<String> = "notMethods",
        /// Paths; also templates with `{*}` and `{**}`.
        paths: Vec<String> = "paths",
        /// Not these.
        not_paths: Vec<String> = "notPaths",
    }
}

object! {
    /// A condition on one attribute.
    pub struct Condition {
        /// Attribute, e.g. `request.headers[version]` or `source.ip`.
        key: String = "key",
        /// One of these.
        values: Vec<String> = "values",
        /// None of these.
        not_values: Vec<String> = "notValues",
    }
}
