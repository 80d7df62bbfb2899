//! TLS to the server, by the `sslmode` words of libpq.
//!
//! The client library asks the server whether it speaks TLS; what follows is rustls with the cipher suites
//! and the provider of the REST client. Files are read for each connection, so that a renewed certificate
//! is taken without a restart.

mod login_guard;
mod session;
mod tls_error;
mod verify;

use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use tokio_postgres::config::{SslMode as ClientSslMode, SslNegotiation};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Client, Connection, Socket};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, Error as RustlsError,
};

use self::login_guard::LoginGuard;
use self::session::{Session, Stream};
use self::tls_error::TlsError;
use self::verify::Verifier;
use crate::sink::SinkError;
use crate::sink::postgres::config::PostgresConfig;
use crate::sink::postgres::sslmode::SslMode;

const CONNECTING: &str = "connecting";
const NO_TLS: &str = "turn `ssl` on in the server's postgresql.conf, or say sslmode = \"prefer\" on a trusted network";
/// What the client library says of it; it has no other word.
const SERVER_WITHOUT_TLS: &str = "server does not support TLS";

/// Makes TLS sessions for the client library.
#[derive(Clone)]
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
    /// Where the trusted authorities are from.
    authorities: String,
    guard: LoginGuard,
    transport: Transport,
}

/// What a session runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Encrypted,
    /// The socket itself, so that a login over it can be guarded.
    Plain,
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
        let guard = if config.guards_password() { LoginGuard::on() } else { LoginGuard::Off };
        let config = match (&config.client_certificate, &config.client_key) {
            (Some(certificate), Some(key)) => {
                let chain = certificates("client_certificate", certificate)?;
                builder
                    .with_client_auth_cert(chain, private_key(key)?)
                    .map_err(TlsError::ClientKey)?
            }
            _ => builder.with_no_client_auth(),
        };
        let transport = Transport::Encrypted;
        Ok(Self { config: Arc::new(config), authorities, guard, transport })
    }

    /// Connects. The password goes in clear text only to a server that was verified, or on this machine.
    pub(crate) async fn connect(
        self,
        config: &tokio_postgres::Config,
    ) -> Result<(Client, Connection<Socket, Session>), tokio_postgres::Error> {
        if matches!(self.guard, LoginGuard::Off) {
            return config.connect(self).await;
        }
        match config.get_ssl_mode() {
            ClientSslMode::Disable => self.connect_plain(config).await,
            ClientSslMode::Prefer => {
                let mut required = config.clone();
                required.ssl_mode(ClientSslMode::Require);
                match required.connect(self.clone()).await {
                    Err(error) if is_without_tls(&error) => self.connect_plain(config).await,
                    connected => connected,
                }
            }
            _ => config.connect(self).await,
        }
    }

    /// Without TLS, but through a session of ours: the client library has no other place to look at a login.
    async fn connect_plain(
        self,
        config: &tokio_postgres::Config,
    ) -> Result<(Client, Connection<Socket, Session>), tokio_postgres::Error> {
        let mut config = config.clone();
        config.ssl_mode(ClientSslMode::Require).ssl_negotiation(SslNegotiation::Direct);
        config.connect(Self { transport: Transport::Plain, ..self }).await
    }
}

fn is_without_tls(error: &tokio_postgres::Error) -> bool {
    error.source().is_some_and(|cause| cause.to_string() == SERVER_WITHOUT_TLS)
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
        let session = inner.downcast_ref::<TlsError>().or_else(|| while_reading(inner));
        if session.is_some_and(|session| !matches!(session, TlsError::Connection(_))) {
            return session.map(|session| as_refused(&session.to_string(), session.advice()));
        }
        if mode.is_required() && inner.to_string() == SERVER_WITHOUT_TLS {
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

/// What our own end of the session says about what it reads.
fn while_reading<'a>(cause: &'a (dyn StdError + 'static)) -> Option<&'a TlsError> {
    cause.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref()
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
    type Stream = Session;
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
    type Stream = Session;
    type Error = TlsError;
    type Future = Pin<Box<dyn Future<Output = Result<Session, TlsError>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            let Self { tls: Tls { config, authorities, guard, transport }, host } = self;
            if transport == Transport::Plain {
                return Ok(Session { stream: Stream::Plain(socket), guard });
            }
            let name = ServerName::try_from(host.clone()).map_err(|_| TlsError::Name(host))?;
            let stream = TlsConnector::from(config).connect(name, socket).await;
            let stream = stream.map_err(|error| failed(error, authorities))?;
            Ok(Session { stream: Stream::Encrypted(Box::new(stream)), guard })
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
