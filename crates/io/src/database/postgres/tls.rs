//! TLS for a connection: which certificates are good, by libpq's `sslmode`.

use std::{net::TcpStream, path::Path, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    StreamOwned,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};

use super::{Address, PgError, SslMode};

/// Puts TLS around a socket whose server has agreed to it. The handshake happens with the first bytes.
pub(super) fn encrypt(
    socket: TcpStream,
    address: &Address,
) -> Result<Box<StreamOwned<ClientConnection, TcpStream>>, PgError> {
    let failed = |found: String| PgError::Tls { to: address.to_string(), found };
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier::new(address, &provider).map_err(failed)?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let config = match &address.ssl_client {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = read_certificates(certificate).map_err(failed)?;
            let key =
                PrivateKeyDer::from_pem_file(key).map_err(|error| failed(format!("{}: {error}", key.display())))?;
            config.with_client_auth_cert(chain, key).map_err(|error| failed(error.to_string()))?
        }
    };
    let name = ServerName::try_from(address.host.clone()).map_err(|error| failed(error.to_string()))?;
    let connection = ClientConnection::new(Arc::new(config), name).map_err(|error| failed(error.to_string()))?;
    Ok(Box::new(StreamOwned::new(connection, socket)))
}

/// Says yes or no to a server's certificate.
#[derive(Debug)]
struct Verifier {
    /// Checks chain and name; nothing when anybody is good enough.
    strict: Option<Arc<WebPkiServerVerifier>>,
    /// Whether the name has to fit too.
    names: bool,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn new(address: &Address, provider: &Arc<CryptoProvider>) -> Result<Verifier, String> {
        // `require` with a root certificate checks the chain: libpq does so since 8.4, and people rely on it.
        let checked = match address.ssl_mode {
            SslMode::VerifyCa | SslMode::VerifyFull => true,
            SslMode::Require => address.ssl_root.is_some(),
            SslMode::Disable | SslMode::Prefer => false,
        };
        let names = address.ssl_mode == SslMode::VerifyFull;
        if !checked {
            return Ok(Verifier { strict: None, names, provider: provider.clone() });
        }
        let roots = Arc::new(read_roots(address.ssl_root.as_deref())?);
        let strict = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
        Ok(Verifier { strict: Some(strict.map_err(|error| error.to_string())?), names, provider: provider.clone() })
    }
}

fn read_roots(path: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let certificates = match path {
        Some(path) if path != Path::new("system") => read_certificates(path)?,
        _ => rustls_native_certs::load_native_certs().certs,
    };
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        return Err("no root certificate was found; name one with sslrootcert".into());
    }
    Ok(roots)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let all = CertificateDer::pem_file_iter(path).map_err(|error| told(&error))?;
    all.collect::<Result<Vec<_>, _>>().map_err(|error| told(&error))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(strict) = &self.strict else { return Ok(ServerCertVerified::assertion()) };
        match strict.verify_server_cert(end, between, name, ocsp, now) {
            // The chain is checked before the name, so only the name is wrong here.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.names => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
