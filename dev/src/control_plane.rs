use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::assets::Assets;
use crate::audit::{Events, Tail};
use crate::certificates::Certificates;
use crate::components::{Component, Plan, Ports};
use crate::directory::Directory;
use crate::error::Error;
use crate::kubectl::{Credentials, Kubectl, kubeconfig};
use crate::options::Options;
use crate::process::{Guarded, Signal};
use crate::processes::Processes;

/// How long a component may take to end before it is killed. The API server ends within a second,
/// or when the last client's watch ends: nothing is lost by not waiting for that.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// For kubectl while a component starts: a server that accepts a connection and does not answer is
/// not ready.
const REQUEST_TIMEOUT: &str = "--request-timeout=5s";
/// A port can be taken between being chosen and being listened on.
const ATTEMPTS: usize = 3;
const PORT_TAKEN: &str = "address already in use";

/// A running control plane; dropping it ends its processes, as does the end of this process.
#[derive(Debug)]
pub struct ControlPlane {
    // Fields are dropped in order: the processes end before their folder goes.
    processes: Processes,
    plan: Plan,
    url: String,
    kubectl: Kubectl,
    directory: Directory,
}

impl ControlPlane {
    /// Starts all components and returns when they are ready: `/readyz` answers, the CRDs are
    /// established and, with kube-controller-manager, the `default` ServiceAccount exists.
    pub fn start(options: Options) -> Result<Self, Error> {
        let assets = Assets::locate()?;
        let directory = Directory::new(options.directory.as_deref())?;
        let certificates = Certificates::create(&directory, options.node_address)?;
        let plan = Plan::new(options, assets, &directory, certificates)?;
        let mut control_plane = Self {
            processes: Processes::new(directory.logs()),
            url: plan.ports.api_server_url(),
            kubectl: Kubectl {
                binary: plan.assets.binary("kubectl"),
                kubeconfig: directory.join("admin.kubeconfig"),
                cache: directory.join("kubectl-cache"),
            },
            plan,
            directory,
        };
        let outcome = control_plane.start_components();
        // Such an error names a log in the folder. Others, such as a refused CRD, need no log.
        if let Err(Error::Component { .. }) = outcome {
            control_plane.directory.keep();
        }
        outcome.map(|()| control_plane)
    }

    /// Ends all components, each before what it depends on, and removes a temporary folder.
    pub fn stop(mut self) -> Result<(), Error> {
        for component in [Component::ControllerManager, Component::ApiServer, Component::Etcd] {
            if let Some(process) = self.processes.get_mut(component.name()) {
                process.terminate(STOP_TIMEOUT)?;
            }
        }
        Ok(())
    }

    /// An error, with the end of its log, when a component is not running.
    pub fn check(&mut self) -> Result<(), Error> {
        self.processes.check()
    }

    /// The folder with data, keys and logs.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The folder with each component's log and the audit log.
    pub fn logs_dir(&self) -> PathBuf {
        self.directory.logs()
    }

    /// Keeps a temporary folder at the end.
    pub fn keep_directory(&self) {
        self.directory.keep();
    }

    /// The folder with the binaries.
    pub fn assets(&self) -> &Assets {
        &self.plan.assets
    }

    /// A kubeconfig of a member of `system:masters`.
    pub fn admin_kubeconfig(&self) -> &Path {
        &self.kubectl.kubeconfig
    }

    /// The API server's address, `https://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The certificate of the CA that issued the API server's.
    pub fn ca_pem(&self) -> &str {
        &self.plan.certificates.ca_pem
    }

    /// The files with the API server's certificate and key, for a proxy before it.
    pub fn server_certificate(&self) -> (&Path, &Path) {
        let identity = &self.plan.certificates.server;
        (&identity.certificate, &identity.key)
    }

    /// kubectl, to be run as the administrator.
    pub fn kubectl(&self) -> Command {
        self.kubectl.command()
    }

    /// Runs kubectl as the administrator; returns its stdout, or an error with its stderr.
    pub fn kubectl_ok(&self, arguments: &[&str]) -> Result<String, Error> {
        self.kubectl.ok(arguments)
    }

    /// Runs kubectl with another kubeconfig; returns its stdout, or an error with its stderr.
    pub fn kubectl_as(&self, kubeconfig: &Path, arguments: &[&str]) -> Result<String, Error> {
        Kubectl { kubeconfig: kubeconfig.to_owned(), ..self.kubectl.clone() }.ok(arguments)
    }

    /// Applies a manifest (YAML or JSON, any number of objects) as the administrator.
    pub fn apply(&self, manifest: &str) -> Result<String, Error> {
        self.kubectl.apply(manifest)
    }

    /// A token of an existing ServiceAccount, valid for a day.
    fn service_account_token(&self, namespace: &str, name: &str) -> Result<String, Error> {
        let token = self.kubectl_ok(&["create", "token", name, "-n", namespace, "--duration=24h"])?;
        Ok(token.trim().to_owned())
    }

    /// A kubeconfig with such a token: its user may do what a Pod of that ServiceAccount may do.
    pub fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> Result<PathBuf, Error> {
        self.service_account_kubeconfig_at(namespace, name, &self.url)
    }

    /// The same, for a proxy before the API server that has its certificate.
    pub fn service_account_kubeconfig_at(
        &self,
        namespace: &str,
        name: &str,
        server: &str,
    ) -> Result<PathBuf, Error> {
        let token = self.service_account_token(namespace, name)?;
        let port = server.rsplit(':').next().unwrap_or_default();
        self.write_kubeconfig(&format!("{namespace}-{name}-{port}"), server, &Credentials::Token(&token))
    }

    /// The API server's audit log, with all requests at level Metadata.
    pub fn audit_log(&self) -> &Path {
        &self.plan.audit_log
    }

    /// All events of the audit log so far.
    pub fn audit_events(&self) -> Result<Events, Error> {
        Tail::new(self.audit_log()).read()
    }

    /// The pid of a component that was started.
    pub fn pid_of(&self, component: Component) -> Option<u32> {
        self.process(component).map(Guarded::pid)
    }

    /// A component's process, to measure it.
    pub fn process(&self, component: Component) -> Option<&Guarded> {
        self.processes.get(component.name())
    }

    /// Sends a signal to a component, e.g. [`Signal::Stop`] to make it hang.
    pub fn signal(&mut self, component: Component, signal: Signal) -> Result<(), Error> {
        match self.processes.get_mut(component.name()) {
            Some(process) => Ok(process.signal(signal)?),
            None => Ok(()),
        }
    }

    /// Ends the API server without warning; its port refuses connections until
    /// [`restart_api_server`](Self::restart_api_server).
    pub fn kill_api_server(&mut self) {
        self.processes.kill(Component::ApiServer.name());
    }

    /// Kills the API server if it runs, starts it on the same port and waits until it is ready.
    pub fn restart_api_server(&mut self) -> Result<(), Error> {
        self.kill_api_server();
        self.launch(Component::ApiServer)?;
        self.await_api_server()
    }

    fn start_components(&mut self) -> Result<(), Error> {
        for _ in 1..ATTEMPTS {
            match self.try_start_components() {
                Err(Error::Component { tail, .. }) if tail.contains(PORT_TAKEN) => {
                    self.processes.kill_all();
                    self.plan.ports = Ports::free()?;
                    self.url = self.plan.ports.api_server_url();
                }
                other => return other,
            }
        }
        self.try_start_components()
    }

    fn try_start_components(&mut self) -> Result<(), Error> {
        self.write_kubeconfigs()?;
        // The API server waits for etcd, so both start at the same time.
        self.launch(Component::Etcd)?;
        self.launch(Component::ApiServer)?;
        self.await_api_server()?;
        self.install_crds()?;
        if self.plan.options.controller_manager {
            self.launch(Component::ControllerManager)?;
            self.await_controller_manager()?;
        }
        Ok(())
    }

    fn write_kubeconfigs(&self) -> Result<(), Error> {
        let certificates = &self.plan.certificates;
        for (user, identity) in
            [("admin", &certificates.admin), ("controller-manager", &certificates.controller_manager)]
        {
            self.write_kubeconfig(user, &self.url, &Credentials::Certificate(identity))?;
        }
        Ok(())
    }

    pub(crate) fn certificates(&self) -> &Certificates {
        &self.plan.certificates
    }

    pub(crate) fn write_kubeconfig(
        &self,
        user: &str,
        server: &str,
        credentials: &Credentials,
    ) -> Result<PathBuf, Error> {
        let text = kubeconfig(server, &self.plan.certificates.ca, user, credentials);
        self.directory.write(&format!("{user}.kubeconfig"), &text)
    }

    fn launch(&mut self, component: Component) -> Result<(), Error> {
        self.processes.launch(component.name(), &self.plan.command(component))
    }

    fn install_crds(&self) -> Result<(), Error> {
        for path in &self.plan.options.crds {
            let path = path.to_string_lossy();
            self.kubectl_ok(&["apply", "--server-side", "-f", &path])?;
        }
        if !self.plan.options.crds.is_empty() {
            self.kubectl_ok(&["wait", "crd", "--all", "--for=condition=Established"])?;
        }
        Ok(())
    }

    fn await_api_server(&mut self) -> Result<(), Error> {
        let kubectl = &self.kubectl;
        self.processes.await_ready(Component::ApiServer.name(), || {
            kubectl.ok(&[REQUEST_TIMEOUT, "get", "--raw", "/readyz"])
        })
    }

    fn await_controller_manager(&mut self) -> Result<(), Error> {
        let component = Component::ControllerManager.name();
        let server = self.plan.ports.controller_manager_url();
        let kubectl = &self.kubectl;
        self.processes.await_ready(component, || {
            kubectl.ok(&[REQUEST_TIMEOUT, "--server", &server, "get", "--raw", "/healthz"])
        })?;
        self.processes.await_ready(component, || {
            kubectl.ok(&[REQUEST_TIMEOUT, "get", "serviceaccount", "default", "-n", "default"])
        })
    }
}
