//! Why there is no session with a server, and what to do about each.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;

use tokio_rustls::rustls::Error as RustlsError;

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
    #[error(
        "the server asks for the password in clear text, and nothing has shown that it is the right one"
    )]
    ClearTextPassword,
}

impl TlsError {
    pub(super) fn advice(&self) -> &'static str {
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
            Self::ClearTextPassword => {
                "say sslmode = \"verify-full\", with root_certificate if the authority is your own, or let pg_hba.conf \
                 ask by scram-sha-256"
            }
        }
    }
}
