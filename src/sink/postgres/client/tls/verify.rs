//! Which certificates of servers are taken.

use std::sync::Arc;

use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::{WebPkiServerVerifier, verify_server_name};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use crate::sink::postgres::sslmode::Verifies;

/// Takes any certificate, those of trusted authorities, or those of them that are for the host.
#[derive(Debug)]
pub(super) struct Verifier {
    provider: Arc<CryptoProvider>,
    /// `None` takes any.
    trusted: Option<Trusted>,
}

#[derive(Debug)]
struct Trusted {
    chains: Arc<WebPkiServerVerifier>,
    roots: Vec<CertificateDer<'static>>,
    verifies: Verifies,
}

impl Verifier {
    /// # Errors
    /// If none of the roots can be used.
    pub(super) fn new(
        provider: &Arc<CryptoProvider>,
        verifies: Option<Verifies>,
        roots: Vec<CertificateDer<'static>>,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let trusted = match verifies {
            None => None,
            Some(verifies) => {
                let mut store = RootCertStore::empty();
                store.add_parsable_certificates(roots.iter().cloned());
                let (store, provider) = (Arc::new(store), Arc::clone(provider));
                let chains =
                    WebPkiServerVerifier::builder_with_provider(store, provider).build()?;
                Some(Trusted { chains, roots, verifies })
            }
        };
        Ok(Self { provider: Arc::clone(provider), trusted })
    }
}

impl Trusted {
    fn check(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let checked = self.chains.verify_server_cert(certificate, others, name, &[], now);
        let Err(Error::InvalidCertificate(reason)) = checked else { return checked.map(|_| ()) };
        match (reason, self.verifies) {
            // The chain is checked before the name.
            (
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                Verifies::Authority,
            ) => Ok(()),
            // A self-signed certificate is an authority, which as a server's certificate is refused: but this very
            // one was given to be trusted. Its times are checked before its purpose.
            (CertificateError::Other(_), verifies) if self.is_pinned(certificate) => match verifies
            {
                Verifies::Authority => Ok(()),
                Verifies::Host => {
                    verify_server_name(&ParsedCertificate::try_from(certificate)?, name)
                }
            },
            (reason, _) => Err(Error::InvalidCertificate(reason)),
        }
    }

    fn is_pinned(&self, certificate: &CertificateDer<'_>) -> bool {
        self.roots.iter().any(|root| root.as_ref() == certificate.as_ref())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(trusted) = &self.trusted {
            trusted.check(certificate, others, name, now)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
