//! Starting and ending a simulator.

use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::admin;
use crate::config::{Config, Invalid, loopback};
use crate::control::Control;
use crate::issuing_ca::IssuingCa;
use crate::server::device::Acceptors;
use crate::server::{self, BindError};
use crate::shared::Shared;
use crate::tls::{ServerTls, TlsError};

/// Why a simulator could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Config(#[from] Invalid),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("cannot make the CA that issues certificates: {0}")]
    IssuingCa(#[from] rcgen::Error),
    #[error("cannot tell the address of a listener: {0}")]
    Address(#[from] io::Error),
}

/// Starts simulators.
#[derive(Debug)]
pub struct Simulator;

impl Simulator {
    /// Starts a simulator on the current runtime; it is ready when this returns.
    pub async fn start(config: Config) -> Result<Running, Error> {
        config.validate()?;
        let tls = ServerTls::prepare(&config.tls)?;
        let shared = Arc::new(Shared::of(&config, IssuingCa::generate()?));
        let control = Control::of(Arc::clone(&shared));
        let (stop, stopped) = watch::channel(false);
        let listener = server::bind(config.listen.unwrap_or(loopback(0))).await?;
        let address = listener.local_addr()?;
        let acceptors = Acceptors {
            asking: TlsAcceptor::from(Arc::clone(&tls.config)),
            without_request: TlsAcceptor::from(Arc::clone(&tls.without_request)),
        };
        let mut running = Running { control, address, admin_address: None, tls, stop, tasks: Vec::new() };
        if let Some(admin) = config.admin {
            let listener = server::bind(admin).await?;
            running.admin_address = Some(listener.local_addr()?);
            let control = running.control();
            let serve = move |stream, stop| admin::serve(control.clone(), stream, stop);
            running.tasks.push(tokio::spawn(server::accept(listener, stopped.clone(), serve)));
        }
        let serve =
            move |stream, stop| server::device::serve(Arc::clone(&shared), acceptors.clone(), stream, stop);
        running.tasks.push(tokio::spawn(server::accept(listener, stopped, serve)));
        Ok(running)
    }
}

/// A running simulator. Dropping it ends it at once; [`Running::shutdown`] lets open requests finish.
///
/// It is observed and changed through [`Control`], to which it dereferences.
#[derive(Debug)]
pub struct Running {
    control: Control,
    address: SocketAddr,
    admin_address: Option<SocketAddr>,
    tls: ServerTls,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Running {
    /// The address of the device endpoint.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of the device endpoint, with the name that is in the certificate.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// The address of the admin API, if the configuration has one.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// The certificate that clients have to trust, in PEM.
    pub fn ca_pem(&self) -> &str {
        &self.tls.ca_pem
    }

    /// The file with that certificate, if there is one.
    pub fn ca_file(&self) -> Option<&Path> {
        self.tls.ca_file.as_deref()
    }

    /// A handle that can be passed on.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Accepts no more connections, lets open requests finish for a moment, and ends.
    pub async fn shutdown(mut self) {
        // It fails if all tasks have ended already.
        let _ = self.stop.send(true);
        for task in std::mem::take(&mut self.tasks) {
            // A task that panicked has ended, too.
            let _ = task.await;
        }
    }
}

impl Deref for Running {
    type Target = Control;

    fn deref(&self) -> &Control {
        &self.control
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
