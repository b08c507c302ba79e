//! The server certificate and the CA that issues it.

use std::fs;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};

use crate::any_client::AnyClient;
use crate::config;

const CA_CERTIFICATE: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const CA_NAME: &str = "dps-simulator CA";
/// How long a server certificate is valid: clients refuse much more than two years.
const SERVER_DAYS: i64 = 700;
const CA_DAYS: i64 = 3_650;

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot {action} {}: {source}", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{} has no {wanted} in PEM: {source}", path.display())]
    Pem { wanted: &'static str, path: PathBuf, source: pem::Error },
    #[error(
        "{} has only one of ca.crt and ca.key; delete it to have both made anew",
        directory.display()
    )]
    HalfCa { directory: PathBuf },
    #[error("cannot make a certificate: {0}")]
    Issue(#[from] rcgen::Error),
    #[error("cannot use the certificate: {0}")]
    Use(#[from] rustls::Error),
    #[error("a date is out of range: {0}")]
    Date(#[from] jiff::Error),
}

/// The TLS configuration, and the certificate that clients have to trust.
#[derive(Debug)]
pub(crate) struct ServerTls {
    /// Asks clients for a certificate,
    pub config: Arc<ServerConfig>,
    /// and does not.
    pub without_request: Arc<ServerConfig>,
    /// The certificate that clients have to trust, in PEM.
    pub ca_pem: String,
    /// The file with that certificate, if there is one.
    pub ca_file: Option<PathBuf>,
}

impl ServerTls {
    /// Loads or makes the certificates as configured.
    pub fn prepare(config: &config::Tls) -> Result<Self, TlsError> {
        if let (Some(certificate), Some(key)) = (&config.certificate, &config.key) {
            let chain =
                read_pem(certificate, "certificate", |text| CertificateDer::pem_slice_iter(text).collect())?;
            let key = read_pem(key, "private key", PrivateKeyDer::from_pem_slice)?;
            let (ca_pem, ca_file) = (read(certificate)?, Some(certificate.clone()));
            return Self::of(chain, &key, config.versions, ca_pem, ca_file);
        }
        let ca = match &config.directory {
            Some(directory) => Ca::in_directory(directory)?,
            None => Ca::generate()?,
        };
        let (certificate, key) = ca.issue(&config.names)?;
        let ca_file = config.directory.as_ref().map(|dir| dir.join(CA_CERTIFICATE));
        Self::of(vec![certificate], &key, config.versions, ca.pem, ca_file)
    }

    fn of(
        chain: Vec<CertificateDer<'static>>,
        key: &PrivateKeyDer<'static>,
        versions: config::TlsVersions,
        ca_pem: String,
        ca_file: Option<PathBuf>,
    ) -> Result<Self, TlsError> {
        let config = |asks| server_config(chain.clone(), key.clone_key(), versions, asks);
        Ok(Self { config: config(true)?, without_request: config(false)?, ca_pem, ca_file })
    }
}

/// The simulator's own CA. Each start issues a new server certificate.
struct Ca {
    pem: String,
    key: KeyPair,
}

impl Ca {
    fn generate() -> Result<Self, TlsError> {
        let key = KeyPair::generate()?;
        let pem = ca_params()?.self_signed(&key)?.pem();
        Ok(Self { pem, key })
    }

    fn in_directory(directory: &Path) -> Result<Self, TlsError> {
        let certificate = directory.join(CA_CERTIFICATE);
        let key = directory.join(CA_KEY);
        match (certificate.exists(), key.exists()) {
            (true, true) => Ok(Self { pem: read(&certificate)?, key: KeyPair::from_pem(&read(&key)?)? }),
            (false, false) => {
                let ca = Self::generate()?;
                fs::create_dir_all(directory).map_err(failed("create", directory))?;
                write_private(&key, &ca.key.serialize_pem()).map_err(failed("write", &key))?;
                fs::write(&certificate, &ca.pem).map_err(failed("write", &certificate))?;
                Ok(ca)
            }
            _ => Err(TlsError::HalfCa { directory: directory.to_owned() }),
        }
    }

    fn issue(&self, names: &[String]) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), TlsError> {
        let mut all = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        all.extend(names.iter().filter(|name| !is_default(name)).cloned());
        let mut params = CertificateParams::new(all)?;
        params.distinguished_name = common_name("dps-simulator");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        valid_for(&mut params, SERVER_DAYS)?;
        let key = KeyPair::generate()?;
        // Only name and key of the CA are used, which are the same in its certificate in the file.
        let issuer = Issuer::new(ca_params()?, &self.key);
        let certificate = params.signed_by(&key, &issuer)?;
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        Ok((certificate.der().clone(), key))
    }
}

fn is_default(name: &str) -> bool {
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip == Ipv4Addr::LOCALHOST)
}

fn ca_params() -> Result<CertificateParams, TlsError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = common_name(CA_NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_for(&mut params, CA_DAYS)?;
    Ok(params)
}

pub(crate) fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// Valid from yesterday on, for clients whose clock is behind.
fn valid_for(params: &mut CertificateParams, days: i64) -> Result<(), TlsError> {
    let today = Timestamp::now().to_zoned(TimeZone::UTC);
    let date = |offset: i64| -> Result<_, TlsError> {
        let date = today.checked_add(offset.days())?.date();
        let [month, day] = [date.month(), date.day()].map(i8::unsigned_abs);
        Ok(rcgen::date_time_ymd(date.year().into(), month, day))
    };
    params.not_before = date(-1)?;
    params.not_after = date(days)?;
    Ok(())
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    versions: config::TlsVersions,
    asks_for_certificate: bool,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = match versions {
        config::TlsVersions::Only12 => builder.with_protocol_versions(&[&TLS12]),
        config::TlsVersions::From12 => builder.with_protocol_versions(&[&TLS12, &TLS13]),
    }?;
    let builder = match asks_for_certificate {
        true => builder.with_client_cert_verifier(Arc::new(AnyClient(provider))),
        false => builder.with_no_client_auth(),
    };
    Ok(Arc::new(builder.with_single_cert(chain, key)?))
}

fn read(path: &Path) -> Result<String, TlsError> {
    fs::read_to_string(path).map_err(failed("read", path))
}

fn read_pem<T>(
    path: &Path,
    wanted: &'static str,
    parse: impl Fn(&[u8]) -> Result<T, pem::Error>,
) -> Result<T, TlsError> {
    parse(read(path)?.as_bytes()).map_err(|source| TlsError::Pem { wanted, path: path.to_owned(), source })
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TlsError {
    move |source| TlsError::File { action, path: path.to_owned(), source }
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_is_made_once_and_used_again() {
        let directory = std::env::temp_dir().join(format!("dps-simulator-ca-{}", std::process::id()));
        let config = config::Tls {
            directory: Some(directory.clone()),
            names: vec!["dps.example".to_owned(), "127.0.0.2".to_owned()],
            ..config::Tls::default()
        };
        let first = ServerTls::prepare(&config).unwrap();
        let second = ServerTls::prepare(&config).unwrap();
        assert_eq!(first.ca_pem, second.ca_pem);
        assert_eq!(first.ca_file, Some(directory.join("ca.crt")));

        fs::remove_file(directory.join("ca.key")).unwrap();
        let half = ServerTls::prepare(&config).unwrap_err();
        assert!(half.to_string().contains("only one of ca.crt and ca.key"));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_missing_certificate_file_is_named() {
        let config = config::Tls {
            certificate: Some("/nowhere/server.crt".into()),
            key: Some("/nowhere/server.key".into()),
            ..config::Tls::default()
        };
        let message = ServerTls::prepare(&config).unwrap_err().to_string();
        assert!(message.contains("/nowhere/server.crt"), "{message}");
    }
}
