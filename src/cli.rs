//! Flags; each is an environment variable too.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::PossibleValue;
use clap::parser::ValueSource;
use clap::{Arg, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::config::{Config, EventsLevel, LeaseSettings};
use crate::dps::host::{AllowedHosts, PatternError};
use crate::dps::ids::is_dns_label;
use crate::dps::proxy::{NotAProxy, Proxy};

/// Kubernetes operator for Azure IoT Device Provisioning Service.
///
/// Declare a DpsIntegration (one DPS instance and an enrollment group's key) and a
/// ProvisionedDevice per device; each device gets its hub in status and its credentials in a Secret.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Reads the command line and the environment; ends the process where they make no sense, or with
    /// the help that was asked for.
    pub fn read() -> Self {
        Self::of(std::env::args_os()).unwrap_or_else(|error| {
            let text = error.render().to_string();
            match without_passwords(&text) {
                Cow::Owned(shown) if error.use_stderr() => {
                    // Nothing is left to be done if standard error is closed.
                    let _ = write!(std::io::stderr(), "{shown}");
                    std::process::exit(error.exit_code())
                }
                _ => error.exit(),
            }
        })
    }

    fn of(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut command = Self::command();
        let matches = command.try_get_matches_from_mut(arguments)?;
        let mut cli = Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
        if let (Command::Run(args), Some(("run", run))) = (&mut cli.command, matches.subcommand()) {
            args.proxy_is_argument = run.value_source("dps_proxy") == Some(ValueSource::CommandLine);
        }
        Ok(cli)
    }
}

/// Messages repeat the value that makes no sense, and a proxy's address may stand where it does not
/// belong. So what comes before an `@` is left out, back to the quote that the value begins with, or
/// to its first letter.
pub fn without_passwords(text: &str) -> Cow<'_, str> {
    let Some((before, behind)) = text.rsplit_once('@') else { return Cow::Borrowed(text) };
    let quote = before.find(['"', '\'']).map(|at| at + 1);
    let first = before.find('@').unwrap_or(before.len());
    let begin = quote.or_else(|| before[..first].rfind(char::is_whitespace).map(|at| at + 1)).unwrap_or(0);
    Cow::Owned(format!("{}…@{behind}", &before[..begin]))
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator against the cluster of the current kubeconfig or ServiceAccount.
    Run(Box<RunArgs>),
    /// Print the CustomResourceDefinitions: `dps-operator crds | kubectl apply --server-side -f -`.
    Crds {
        /// Write one file per kind into this folder instead.
        #[arg(long)]
        directory: Option<PathBuf>,
    },
    /// Print docs/flags.md; for `make generate`.
    #[command(hide = true)]
    Docs,
}

/// Settings of `run`.
#[derive(Args, Debug)]
// Help is for all who look; what the environment holds is not.
#[command(mut_args = |arg| arg.hide_env_values(true))]
pub struct RunArgs {
    /// Namespaces to watch, separated by commas; all when empty.
    #[arg(long, env = "DPS_OPERATOR_WATCH_NAMESPACES", value_name = "NAMESPACES", value_delimiter = ',')]
    watch_namespaces: Vec<String>,
    /// Registrations and lookups a minute for each id scope. Azure allows 1,000 per instance and
    /// minute, shared with everything else that registers there.
    #[arg(long, env = "DPS_OPERATOR_REGISTRATIONS_PER_MINUTE", value_name = "NUMBER", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..))]
    registrations_per_minute: u32,
    /// Hosts that may be called; `*.` stands for one label, a port other than 443 must be named.
    #[arg(
        long,
        env = "DPS_OPERATOR_ALLOWED_DPS_HOSTS",
        value_name = "HOSTS",
        value_delimiter = ',',
        default_value = "*.azure-devices-provisioning.net,*.azure-devices-provisioning.us,*.azure-devices-provisioning.cn"
    )]
    allowed_dps_hosts: Vec<String>,
    /// Suffixes that an assigned hub must have.
    #[arg(
        long,
        env = "DPS_OPERATOR_ALLOWED_HUB_SUFFIXES",
        value_name = "SUFFIXES",
        value_delimiter = ',',
        default_value = ".azure-devices.net,.azure-devices.us,.azure-devices.cn"
    )]
    allowed_hub_suffixes: Vec<String>,
    /// HTTP proxy for calls to DPS; the usual proxy variables are ignored. With a password in it use the
    /// environment variable: arguments are seen by all who may list processes or read the Pod.
    #[arg(long, env = "DPS_OPERATOR_DPS_PROXY", value_name = "URL")]
    dps_proxy: Option<Unseen>,
    /// Whether the proxy is an argument and not from the environment.
    #[arg(skip)]
    proxy_is_argument: bool,
    /// Labels and annotations that users give to generated Secrets must begin with one of these,
    /// separated by commas; any when empty. Other controllers may act on what a Secret carries.
    #[arg(
        long,
        env = "DPS_OPERATOR_SECRET_METADATA_ALLOWED_PREFIXES",
        value_name = "PREFIXES",
        value_delimiter = ','
    )]
    secret_metadata_allowed_prefixes: Vec<String>,
    /// Ask cert-manager for the certificates of devices whose integration says so
    /// (attestation.x509.certManager). Needs the right to create and patch Certificates, which the chart
    /// gives with certManager.enabled.
    #[arg(long, env = "DPS_OPERATOR_CERT_MANAGER", default_value_t = false, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    cert_manager: bool,
    /// Largest number of registrations and lookups in flight.
    #[arg(long, env = "DPS_OPERATOR_MAX_IN_FLIGHT", value_name = "NUMBER", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    max_in_flight: u32,
    /// Events on devices and integrations: changes and trouble (of first assignments and renewed certificates ten a minute), all (no fewer of these), or none.
    #[arg(long, env = "DPS_OPERATOR_EVENTS", value_name = "WHICH", value_enum, default_value_t = EventsLevel::Changes)]
    events: EventsLevel,
    /// Where /metrics and the probes (/livez, /readyz) are served; "" turns that off.
    #[arg(long, env = "DPS_OPERATOR_HTTP_ADDR", value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    http_addr: String,
    /// Where the probes are served on a port of their own, too, which a network policy can close to
    /// everything but the node.
    #[arg(long, env = "DPS_OPERATOR_PROBE_ADDR", value_name = "ADDRESS")]
    probe_addr: Option<String>,
    /// Act only while holding a Lease, so that several replicas can run.
    #[arg(long, env = "DPS_OPERATOR_LEADER_ELECT", default_value_t = false, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    leader_elect: bool,
    /// Name of the Lease for --leader-elect.
    #[arg(long, env = "DPS_OPERATOR_LEASE_NAME", value_name = "NAME", default_value = "dps-operator")]
    lease_name: String,
    /// Namespace of the Lease for --leader-elect; the ServiceAccount's, or the kubeconfig's, when not given.
    #[arg(long, env = "DPS_OPERATOR_LEASE_NAMESPACE", value_name = "NAMESPACE")]
    lease_namespace: Option<String>,
    /// error, warn, info, debug, trace (of the operator; its libraries stay at info), off, or a list
    /// such as info,dps_operator::dps=trace.
    #[arg(long, env = "DPS_OPERATOR_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
    /// Form of log lines.
    #[arg(long, env = "DPS_OPERATOR_LOG_FORMAT", value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Context of the kubeconfig to use instead of its current one.
    #[arg(long, env = "DPS_OPERATOR_CONTEXT")]
    pub context: Option<String>,
}

/// A value that may hold a password.
#[derive(Clone)]
struct Unseen(String);

impl From<String> for Unseen {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Unseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// A flag whose value makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum BadFlag {
    #[error("--allowed-dps-hosts: {0}")]
    Hosts(#[from] PatternError),
    #[error("--allowed-hub-suffixes: {0:?} is not a domain suffix such as .azure-devices.net")]
    HubSuffix(String),
    #[error("{flag}: {value:?} is not an address with a port such as 0.0.0.0:8080")]
    Address { flag: &'static str, value: String },
    #[error("--allowed-hub-suffixes: no hub would be accepted; leave it out for Azure's")]
    NoHubSuffix,
    #[error("--dps-proxy is {0}")]
    Proxy(#[from] NotAProxy),
    #[error("{flag}: {value:?} is not a name that Kubernetes knows: lower-case letters, digits and \"-\"")]
    Name { flag: &'static str, value: String },
    #[error(
        "--secret-metadata-allowed-prefixes: {0:?} has characters that no label or annotation has; there are no wildcards"
    )]
    MetadataPrefix(String),
}

impl RunArgs {
    /// Checks what clap cannot.
    ///
    /// # Errors
    /// The first flag that makes no sense.
    pub fn config(&self) -> Result<Config, BadFlag> {
        let texts = |list: &[String]| -> Vec<String> {
            list.iter().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).collect()
        };
        let suffixes = texts(&self.allowed_hub_suffixes);
        let labels = |suffix: &str| suffix.split('.').all(is_dns_label);
        if let Some(bad) = suffixes.iter().find(|suffix| !suffix.strip_prefix('.').is_some_and(labels)) {
            return Err(BadFlag::HubSuffix(bad.clone()));
        }
        if suffixes.is_empty() {
            return Err(BadFlag::NoHubSuffix);
        }
        let watch_namespaces: BTreeSet<String> = texts(&self.watch_namespaces).into_iter().collect();
        let leases = [&self.lease_name].into_iter().chain(&self.lease_namespace);
        let names = watch_namespaces.iter().map(|name| ("--watch-namespaces", name));
        for (flag, value) in names.chain(leases.map(|name| ("--lease-name, --lease-namespace", name))) {
            if !is_name(value) {
                return Err(BadFlag::Name { flag, value: value.clone() });
            }
        }
        let prefixes = texts(&self.secret_metadata_allowed_prefixes);
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        if let Some(bad) = prefixes.iter().find(|prefix| !prefix.chars().all(allowed)) {
            return Err(BadFlag::MetadataPrefix(bad.clone()));
        }
        Ok(Config {
            watch_namespaces: watch_namespaces.into_iter().collect(),
            registrations_per_minute: self.registrations_per_minute,
            max_in_flight: self.max_in_flight,
            allowed_dps_hosts: AllowedHosts::parse(
                texts(&self.allowed_dps_hosts).iter().map(String::as_str),
            )?,
            allowed_hub_suffixes: suffixes.iter().map(|suffix| suffix.to_ascii_lowercase()).collect(),
            dps_proxy: self.dps_proxy()?,
            secret_metadata_prefixes: prefixes,
            cert_manager: self.cert_manager,
            events: self.events,
            http_addr: address("--http-addr", &self.http_addr)?,
            probe_addr: address("--probe-addr", self.probe_addr.as_deref().unwrap_or_default())?,
            lease: self.leader_elect.then(|| LeaseSettings {
                name: self.lease_name.clone(),
                namespace: self.lease_namespace.clone(),
            }),
        })
    }

    fn dps_proxy(&self) -> Result<Option<Proxy>, BadFlag> {
        let proxy = self.dps_proxy.as_ref().map(|proxy| proxy.0.trim()).filter(|proxy| !proxy.is_empty());
        Ok(proxy.map(Proxy::parse).transpose()?)
    }

    /// Whether a password stands where all who may list processes see it.
    pub fn shows_a_password(&self) -> bool {
        self.proxy_is_argument && self.dps_proxy.as_ref().is_some_and(|proxy| proxy.0.contains('@'))
    }
}

fn address(flag: &'static str, value: &str) -> Result<Option<SocketAddr>, BadFlag> {
    let text = value.trim();
    if text.is_empty() {
        return Ok(None);
    }
    // ":8080" is how the field writes all addresses.
    let full = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    full.parse().map(Some).map_err(|_| BadFlag::Address { flag, value: text.to_owned() })
}

/// What docs/flags.md says before the table of flags, and behind it.
const PAGE: (&str, &str) = (
    "\
<!-- Generated from src/cli.rs by `make generate`. To change a text, change the doc comment there. -->

# Flags

What `dps-operator run` takes. Each flag is an environment variable, too; a flag wins. With the chart they are
[values](../charts/dps-operator/README.md#flags-of-the-operator), and `extraArgs` and `extraEnv` take what is not.
A value that cannot be used ends the program at once, with a message.

| flag | environment variable | default | meaning |
| --- | --- | --- | --- |
",
    "
For example `DPS_OPERATOR_LOG_FORMAT=json`. Lists are separated by commas. `dps-operator crds` prints the CRDs, and with `--directory` writes a file for each.
At `--http-addr` are the [probes and metrics](monitoring.md). What `--registrations-per-minute` means for a fleet is in [sizing.md](sizing.md), what the allowed hosts and suffixes keep out in [threat-model.md](threat-model.md#the-way-to-azure).
",
);

/// The page on the flags of `run`.
pub fn page() -> String {
    let (before, behind) = PAGE;
    format!("{before}{}{behind}", rows().concat())
}

/// A line of the table for each flag of `run`.
fn rows() -> Vec<String> {
    let mut cli = Cli::command();
    // Completes what clap's macros leave open, such as the values that a switch may have.
    cli.build();
    let run = cli.find_subcommand("run");
    run.into_iter()
        .flat_map(|run| run.get_arguments())
        .filter(|arg| arg.get_id() != "help")
        .map(row)
        .collect()
}

fn row(arg: &Arg) -> String {
    let variable = arg.get_env().map(|name| format!("`{}`", name.display())).unwrap_or_default();
    let defaults = arg.get_default_values().iter().map(|value| format!("`{}`", value.display()));
    let defaults = defaults.collect::<Vec<_>>().join("<br>");
    let default = arg.get_value_delimiter().map(|by| defaults.replace(by, "`<br>`")).unwrap_or(defaults);
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let meaning = format!("{help}{}", choices(&arg.get_possible_values())).replace('|', "\\|");
    format!("| `{arg}` | {variable} | {default} | {meaning}. |\n")
}

/// The values that a flag can have, with what they mean if that is said of one.
fn choices(values: &[PossibleValue]) -> String {
    let named = |value: &PossibleValue| match value.get_help() {
        Some(help) => format!("`{}`: {help}", value.get_name()),
        None => format!("`{}`", value.get_name()),
    };
    let list = |by: &str| values.iter().map(named).collect::<Vec<_>>().join(by);
    match values {
        [] => String::new(),
        some if some.iter().any(|value| value.get_help().is_some()) => format!(". {}", list("; ")),
        _ => format!(". One of {}", list(", ")),
    }
}

/// A DNS subdomain, as names of namespaces and Leases are.
fn is_name(text: &str) -> bool {
    let lower_case = !text.bytes().any(|b| b.is_ascii_uppercase());
    text.len() <= 253 && lower_case && text.split('.').all(is_dns_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(flags: &[&str]) -> Result<Config, BadFlag> {
        let arguments = ["dps-operator", "run"].into_iter().chain(flags.iter().copied());
        match Cli::of(arguments.map(OsString::from)).unwrap().command {
            Command::Run(args) => args.config(),
            _ => unreachable!(),
        }
    }

    #[test]
    fn values_that_make_no_sense_are_refused_by_the_name_of_their_flag() {
        for flag in [
            "--dps-proxy=ftp://x",
            "--dps-proxy=proxy:1",
            "--watch-namespaces=A_b",
            "--allowed-hub-suffixes=",
            "--allowed-hub-suffixes=azure-devices.net",
            "--secret-metadata-allowed-prefixes=*",
            "--lease-name=A_B",
            "--http-addr=8080",
            "--probe-addr=localhost:8081",
            "--allowed-dps-hosts=https://a",
        ] {
            let error = config(&[flag]).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.starts_with(flag.split('=').next().unwrap_or_default()), "{flag}: {error}");
        }
    }

    #[test]
    fn a_password_is_left_out_of_what_is_said_of_a_value() {
        for (text, shown) in [
            ("nothing to hide", "nothing to hide"),
            ("error: unexpected argument 'http://u:p@h' found", "error: unexpected argument '…@h' found"),
            ("a \"http://u:my p'@ss@h:1\" is none", "a \"…@h:1\" is none"),
            ("cannot read http://u:p@h", "cannot read …@h"),
            ("u:p@h", "…@h"),
        ] {
            assert_eq!(without_passwords(text), shown);
        }
    }

    #[test]
    fn settings_are_shown_without_the_proxys_password() {
        let run = |flags: &[&str]| {
            let arguments = ["dps-operator", "run"].into_iter().chain(flags.iter().copied());
            match Cli::of(arguments.map(OsString::from)).unwrap().command {
                Command::Run(args) => args,
                _ => unreachable!(),
            }
        };
        let args = run(&["--dps-proxy=http://user:c2VjcmV0@proxy.example:3128"]);
        let shown = format!("{args:?} {:?}", args.config().unwrap());
        assert!(shown.contains("proxy.example") && !shown.contains("c2VjcmV0"), "{shown}");
        assert!(args.shows_a_password());
        assert!(!run(&["--dps-proxy=http://proxy.example:3128"]).shows_a_password());
    }

    #[test]
    fn every_flag_has_a_row_with_its_variable_and_its_help_text() {
        let run = RunArgs::augment_args(clap::Command::new("run"));
        let rows = rows();
        assert_eq!(rows.len(), run.get_arguments().count());
        for (row, arg) in rows.iter().zip(run.get_arguments()) {
            let [flag, variable, _, meaning] = row.split(" | ").collect::<Vec<_>>()[..] else {
                panic!("not four cells: {row}")
            };
            let name = arg.get_long().unwrap();
            assert!(
                flag.starts_with(&format!("| `--{name} <")) || flag.starts_with(&format!("| `--{name} ["))
            );
            assert_eq!(variable, format!("`DPS_OPERATOR_{}`", name.replace('-', "_").to_uppercase()));
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(!help.is_empty() && meaning.starts_with(&help), "--{name}: {meaning}");
        }
    }

    #[test]
    fn usual_values_are_taken() {
        let usual = config(&[
            "--dps-proxy=http://user:p@proxy.example:3128",
            "--watch-namespaces=a, b,a",
            "--http-addr=:8080",
            "--secret-metadata-allowed-prefixes=example.com/,app.kubernetes.io/",
            "--leader-elect",
        ])
        .unwrap();
        assert_eq!(usual.watch_namespaces, ["a", "b"]);
        assert_eq!(usual.http_addr.unwrap().to_string(), "0.0.0.0:8080");
        assert!(usual.lease.is_some() && config(&["--leader-elect=false"]).unwrap().lease.is_none());
        let (unset, probes) =
            (config(&["--http-addr="]).unwrap(), config(&["--probe-addr=[::1]:81"]).unwrap());
        assert!(unset.http_addr.is_none() && unset.probe_addr.is_none());
        assert_eq!(probes.probe_addr.unwrap().to_string(), "[::1]:81");
    }
}
