//! The tables: who may use whom, what is pure, who asks the time and who starts tasks.

/// A folder or file, and the only parts of ours that it may use. The longest entry that fits counts.
pub const MAY_USE: &[(&str, &[&str])] = &[
    ("api/", &["api"]),
    ("clock.rs", &[]),
    ("config.rs", &["dps::host", "dps::proxy"]),
    ("dps/", &["clock", "dps"]),
    ("fleet/", &["api", "dps::attestation", "fleet"]),
    ("schedule/", &["api::backoff", "dps::ids", "schedule"]),
    ("controller/mod.rs", &[]),
    // What is decided, rendered and read back.
    ("controller/", &["api", "controller", "dps", "fleet", "schedule"]),
    // What is done.
    ("controller/device/act.rs", &["api", "clock", "controller", "dps", "fleet", "kube_io"]),
    ("controller/device/issue.rs", &["controller", "kube_io"]),
    ("controller/device/own_credential.rs", &["api", "controller", "dps", "kube_io"]),
    ("kube_io/", &["api", "clock", "kube_io", "schedule", "telemetry"]),
    (
        "engine/",
        &[
            "api",
            "clock",
            "config",
            "controller",
            "dps",
            "engine",
            "fleet",
            "kube_io",
            "schedule",
            "telemetry",
        ],
    ),
    ("telemetry/", &["telemetry"]),
    ("cli.rs", &["config", "dps::host", "dps::ids", "dps::proxy"]),
    ("app.rs", &["api", "cli", "clock", "config", "engine", "kube_io", "telemetry"]),
    ("process.rs", &[]),
    // For tests and fuzzers only.
    ("fuzz/", &["api", "controller", "dps", "fleet", "fuzz", "kube_io"]),
    ("lib.rs", &["kube_io::write"]),
    ("main.rs", &[]),
];

/// Walls inside a folder: what a part of it may not use of its neighbours.
pub const MAY_NOT_USE: &[(&str, &[&str])] = &[
    // Owners never call each other, nor the engine: they return what should follow.
    (
        "engine/devices/",
        &[
            "engine::integrations",
            "engine::observe",
            "engine::reconcile",
            "engine::Engine",
            "engine::Context",
            "engine::Message",
        ],
    ),
    (
        "engine/integrations/",
        &[
            "engine::devices",
            "engine::observe",
            "engine::reconcile",
            "engine::Engine",
            "engine::Context",
            "engine::Message",
        ],
    ),
    (
        "engine/publish.rs",
        &["engine::devices", "engine::integrations", "engine::reconcile", "engine::Engine"],
    ),
    // What is observed is taken in and not acted upon.
    ("engine/observe/", &["engine::reconcile", "controller::device"]),
    // An integration does not know its devices.
    ("controller/integration/", &["controller::device"]),
    // Kinds of credentials are known to their folder and to what is written for people and devices.
    ("engine/", &["dps::attestation::symmetric_key", "dps::attestation::Proof"]),
    ("controller/integration/", &["dps::attestation::Proof"]),
    ("fleet/", &["dps::attestation::symmetric_key", "dps::attestation::Proof"]),
];

/// Data and decisions: no client, no clock, no task, no log, and nothing of ours that is not pure.
pub const PURE: &[&str] = &[
    "api/",
    "config.rs",
    "controller/",
    "dps/answer.rs",
    "dps/attestation/",
    "dps/ca_bundle.rs",
    "dps/call.rs",
    "dps/clock_offset.rs",
    "dps/error.rs",
    "dps/host.rs",
    "dps/ids.rs",
    "dps/issuance.rs",
    "dps/operation.rs",
    "dps/patience.rs",
    "dps/proxy.rs",
    "dps/refusal.rs",
    "dps/retry_after.rs",
    "dps/scrub.rs",
    "dps/tls.rs",
    "dps/wire.rs",
    "engine/devices/",
    "engine/integrations/change.rs",
    "engine/integrations/namespaces.rs",
    "engine/integrations/references.rs",
    "engine/issuance/book.rs",
    "engine/observe/sync.rs",
    "fleet/",
    "kube_io/lease/decide.rs",
    "schedule/",
];
pub const NOT_PURE: &[&str] =
    &["controller/device/act.rs", "controller/device/issue.rs", "controller/device/own_credential.rs"];

/// Handles of tasks are data: what is in flight can be aborted by its owner.
pub const PURE_ALL_THE_SAME: &[&str] = &["tokio::task::AbortHandle"];

/// Types and functions of others that pure code may not name.
pub const IMPURE: &[&str] = &[
    "kube::Client",
    "kube::Api",
    "kube::api",
    "kube::client",
    "reqwest",
    "std::fs",
    "std::net::TcpStream",
    "std::time::Instant::now",
    "std::time::SystemTime",
    "tokio::net",
    "tokio::spawn",
    "tokio::sync",
    "tokio::task",
    "tokio::time::sleep",
    "tokio::time::sleep_until",
    "tokio::time::timeout",
    "tokio::time::timeout_at",
    "tokio::time::Instant::now",
    "jiff::Timestamp::now",
    "tracing",
];

/// The only files that ask what time it is.
pub const ASK_THE_TIME: &[&str] = &[
    "app.rs",
    "clock.rs",
    "controller/device/act.rs",
    "dps/client.rs",
    "dps/fuzz.rs",
    "dps/reading.rs",
    "engine/mod.rs",
    "fuzz/device.rs",
    "kube_io/",
    "telemetry/health.rs",
    "telemetry/watches.rs",
];

/// The only files that start tasks.
pub const START_TASKS: &[&str] = &[
    "app.rs",
    "engine/observe/watches.rs",
    "engine/reconcile/start.rs",
    "engine/reports.rs",
    "kube_io/events.rs",
    "kube_io/refs.rs",
    "telemetry/server/",
];
