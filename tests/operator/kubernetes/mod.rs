//! The cluster around the operator: its API server, the CRDs' rules, RBAC, backups.

mod api_server;
mod backup;
mod crds;
mod rbac;
