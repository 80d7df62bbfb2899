//! TLS to the server, by the `sslmode` words of libpq.
//!
//! The client library asks the server whether it speaks TLS; what follows is rustls with the cipher suites
//! and the provider of the REST client. Files are read for each connection, so that a renewed certificate
//! is taken without a restart.

mod verify;

use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Socket;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, Error as RustlsError,
};

use self::verify::Verifier;
use crate::sink::SinkError;
use crate::sink::postgres::config::{PostgresConfig, SslMode};

const CONNECTING: &str = "connecting";
const NO_TLS: &str = "turn `ssl` on in the server's postgresql.conf, or say sslmode = \"prefer\" on a trusted network";

/// Why there is no TLS session, or none that can be trusted; one variant per advice.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("{option}: {} can't be read: {source}", path.display())]
    File { option: &'static str, path: PathBuf, source: Box<dyn StdError + Send + Sync> },
    #[error("{option}: {} holds no {what} in PEM form", path.display())]
    Empty { option: &'static str, path: PathBuf, what: &'static str },
    #[error("client_certificate and client_key don't fit each other: {0}")]
    ClientKey(RustlsError),
    #[error("no authority of this system's certificate store can be read")]
    NoAuthorities,
    #[error("'{0}' is no name that a certificate could be for")]
    Name(String),
    #[error("the server's certificate is signed by none of the authorities in {0}")]
    UnknownAuthority(String),
    #[error("the server's certificate is for {presented}, and not for {expected}")]
    OtherName { expected: String, presented: String },
    #[error("the server's certificate is not valid at this time: {0}")]
    Outdated(RustlsError),
    #[error("no TLS session: {0}")]
    Handshake(RustlsError),
    #[error("no TLS session")]
    Connection(#[source] io::Error),
}

impl TlsError {
    fn advice(&self) -> &'static str {
        match self {
            Self::File { .. } | Self::Empty { .. } => {
                "give a file in PEM form that the processor may read"
            }
            Self::ClientKey(_) => "give the key that the client's certificate was made for",
            Self::NoAuthorities => {
                "install the package ca-certificates, or give root_certificate, the certificate of the authority \
                 that signed the server's"
            }
            Self::Name(_) => "give the server's host name, or sslmode = \"require\"",
            Self::UnknownAuthority(_) => {
                "give the certificate of the authority that signed it as root_certificate; if it should have been \
                 this one, another server answers"
            }
            Self::OtherName { .. } => {
                "connect by one of its names (subjectAltName), have it made for this one, or say sslmode = \
                 \"verify-ca\""
            }
            Self::Outdated(_) => "renew it, or correct this machine's clock",
            Self::Handshake(_) | Self::Connection(_) => {
                "see the server's log for what it says about this connection, and its ssl settings"
            }
        }
    }
}

/// Makes TLS sessions for the client library.
#[derive(Clone)]
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
    /// Where the trusted authorities are from.
    authorities: String,
}

impl Tls {
    /// Reads the certificates.
    ///
    /// # Errors
    /// [`SinkError::Refused`] with the option that is wrong.
    pub(crate) async fn load(config: &PostgresConfig) -> Result<Self, SinkError> {
        let config = config.clone();
        let loaded = tokio::task::spawn_blocking(move || Self::read(&config)).await;
        match loaded {
            Ok(loaded) => loaded.map_err(refused),
            Err(join) => {
                Err(SinkError::Unavailable { doing: CONNECTING.to_owned(), source: join.into() })
            }
        }
    }

    fn read(config: &PostgresConfig) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let roots = match config.root_certificate.as_deref() {
            Some(path) => certificates("root_certificate", path)?,
            None if config.verifies().is_some() => system_authorities()?,
            None => Vec::new(),
        };
        let authorities = match &config.root_certificate {
            Some(path) => path.display().to_string(),
            None => "this system's certificate store".to_owned(),
        };
        let verifier = Verifier::new(&provider, config.verifies(), roots).map_err(|_| {
            let path = config.root_certificate.clone().unwrap_or_default();
            TlsError::Empty { option: "root_certificate", path, what: "usable certificate" }
        })?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Handshake)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let config = match (&config.client_certificate, &config.client_key) {
            (Some(certificate), Some(key)) => {
                let chain = certificates("client_certificate", certificate)?;
                builder
                    .with_client_auth_cert(chain, private_key(key)?)
                    .map_err(TlsError::ClientKey)?
            }
            _ => builder.with_no_client_auth(),
        };
        Ok(Self { config: Arc::new(config), authorities })
    }
}

fn certificates(
    option: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |error: tokio_rustls::rustls::pki_types::pem::Error| TlsError::File {
        option,
        path: path.to_owned(),
        source: error.into(),
    };
    let all = CertificateDer::pem_file_iter(path).map_err(unreadable)?;
    let all = all.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    if all.is_empty() {
        Err(TlsError::Empty { option, path: path.to_owned(), what: "certificate" })
    } else {
        Ok(all)
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    use tokio_rustls::rustls::pki_types::pem::Error as PemError;
    let (option, at) = ("client_key", path.to_owned());
    PrivateKeyDer::from_pem_file(path).map_err(|error| match error {
        PemError::NoItemsFound => TlsError::Empty { option, path: at, what: "private key" },
        error => TlsError::File { option, path: at, source: error.into() },
    })
}

fn system_authorities() -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    if let Some(error) = found.errors.first() {
        tracing::debug!(%error, "a part of the certificate store can't be read");
    }
    if found.certs.is_empty() { Err(TlsError::NoAuthorities) } else { Ok(found.certs) }
}

fn refused(error: TlsError) -> SinkError {
    SinkError::Refused {
        doing: CONNECTING.to_owned(),
        message: error.to_string(),
        advice: error.advice(),
        source: Some(error.into()),
    }
}

/// What a failure to connect says about TLS; `None` if nothing.
pub(crate) fn explain(error: &tokio_postgres::Error, mode: SslMode) -> Option<SinkError> {
    let mut cause: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(inner) = cause {
        let session = inner.downcast_ref::<TlsError>();
        if session.is_some_and(|session| !matches!(session, TlsError::Connection(_))) {
            return session.map(|session| as_refused(&session.to_string(), session.advice()));
        }
        // The library has no other word for it.
        if mode.is_required() && inner.to_string() == "server does not support TLS" {
            return Some(as_refused(
                "the server does not speak TLS, which sslmode asks for",
                NO_TLS,
            ));
        }
        if let Some(alert) = alert(inner) {
            let message = format!("the server ends the TLS session: {alert:?}");
            return Some(as_refused(&message, alert_advice(alert)));
        }
        cause = inner.source();
    }
    None
}

fn as_refused(message: &str, advice: &'static str) -> SinkError {
    let (doing, message) = (CONNECTING.to_owned(), message.to_owned());
    SinkError::Refused { doing, message, advice, source: None }
}

/// What a server says about our certificate comes after the handshake, with the first bytes.
fn alert(cause: &(dyn StdError + 'static)) -> Option<AlertDescription> {
    let io = cause.downcast_ref::<io::Error>()?;
    match io.get_ref()?.downcast_ref::<RustlsError>()? {
        RustlsError::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

fn alert_advice(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::UnknownCA
        | AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown => {
            "the server doesn't trust client_certificate: its ssl_ca_file must have the authority that signed it"
        }
        AlertDescription::CertificateExpired => "renew client_certificate",
        AlertDescription::CertificateRequired => "give client_certificate and client_key",
        _ => "see the server's log for what it says about this connection, and its ssl settings",
    }
}

impl MakeTlsConnect<Socket> for Tls {
    type Stream = Encrypted;
    type TlsConnect = Handshake;
    type Error = TlsError;

    fn make_tls_connect(&mut self, host: &str) -> Result<Handshake, TlsError> {
        Ok(Handshake { tls: self.clone(), host: host.to_owned() })
    }
}

/// A session to be made with a host.
pub(crate) struct Handshake {
    tls: Tls,
    host: String,
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Encrypted;
    type Error = TlsError;
    type Future = Pin<Box<dyn Future<Output = Result<Encrypted, TlsError>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            let Self { tls, host } = self;
            let name = ServerName::try_from(host.clone()).map_err(|_| TlsError::Name(host))?;
            let session = TlsConnector::from(tls.config).connect(name, socket).await;
            session.map(Encrypted).map_err(|error| failed(error, tls.authorities))
        })
    }
}

fn failed(error: io::Error, authorities: String) -> TlsError {
    let rustls = error.get_ref().and_then(|inner| inner.downcast_ref::<RustlsError>());
    let Some(rustls) = rustls.cloned() else { return TlsError::Connection(error) };
    match &rustls {
        RustlsError::InvalidCertificate(certificate) => match certificate {
            // The second one: an authority of the same name with another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                TlsError::UnknownAuthority(authorities)
            }
            CertificateError::NotValidForNameContext { expected, presented } => {
                TlsError::OtherName {
                    expected: expected.to_str().into_owned(),
                    presented: if presented.is_empty() {
                        "no name at all".to_owned()
                    } else {
                        presented.join(", ")
                    },
                }
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => TlsError::Outdated(rustls),
            _ => TlsError::Handshake(rustls),
        },
        _ => TlsError::Handshake(rustls),
    }
}

/// A socket inside a TLS session.
pub(crate) struct Encrypted(tokio_rustls::client::TlsStream<Socket>);

impl TlsStream for Encrypted {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
