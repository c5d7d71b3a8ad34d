//! Certificates: the cluster's CA, the nodes' certificates, and what TLS does with them.
//!
//! Owns: how keys and certificates are made, what is in them, which peers TLS lets through. Does not own: who is
//! let in (`join`), who was removed since (`ledger`; it is asked after each handshake).

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SigningKey, date_time_ymd,
};
use ring::digest;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring as provider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{
    CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime,
};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
    version,
};

use super::ClusterError;
use super::version::Protocols;
use crate::model::NodeId;

/// What every node's certificate is good for, besides its own name.
const ANY_MEMBER: &str = "member.lanmesh";

fn own_name(node: NodeId) -> String {
    format!("{node}.node.lanmesh")
}

fn failed<E: ToString>(what: &'static str) -> impl Fn(E) -> ClusterError {
    move |why| ClusterError::Crypto { what, why: why.to_string() }
}

/// SHA-256 of a certificate, or of a key.
pub(super) fn fingerprint(certificate: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, certificate).as_ref());
    out
}

/// The CA with its key: what the manager has.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Vec<u8>,
}

/// Valid in every clock that people meet: a machine without a battery starts in 1970. Who belongs to the cluster
/// is decided by the ledger, not by expiry.
fn lasting(mut params: CertificateParams) -> CertificateParams {
    params.not_before = date_time_ymd(1970, 1, 1);
    params.not_after = date_time_ymd(2120, 1, 1);
    params
}

impl Authority {
    /// A new CA.
    pub fn generate(cluster: &str) -> Result<Self, ClusterError> {
        let key = KeyPair::generate().map_err(failed("CA key"))?;
        let mut params = lasting(CertificateParams::default());
        params.distinguished_name.push(DnType::CommonName, format!("lanmesh {cluster}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).map_err(failed("CA certificate"))?.der().to_vec();
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// The CA that was stored.
    pub fn restore(certificate: Vec<u8>, key: &[u8]) -> Result<Self, ClusterError> {
        let key = KeyPair::try_from(key).map_err(failed("CA key"))?;
        let der = CertificateDer::from(certificate.clone());
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(failed("CA certificate"))?;
        Ok(Self { issuer, certificate })
    }

    /// Its certificate, in DER.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// Its key, in PKCS #8.
    pub fn key(&self) -> Vec<u8> {
        self.issuer.key().serialize_der()
    }

    /// Signs a message of ours.
    pub fn sign_message(&self, message: &[u8]) -> Result<Vec<u8>, ClusterError> {
        self.issuer.key().sign(message).map_err(failed("signature"))
    }

    /// A certificate for a node. Of the request nothing but the public key is taken.
    pub fn sign(&self, node: NodeId, request: &[u8]) -> Result<Vec<u8>, ClusterError> {
        let request = CertificateSigningRequestDer::from(request);
        let request = CertificateSigningRequestParams::from_der(&request).map_err(failed("request"))?;
        let names = vec![own_name(node), ANY_MEMBER.to_owned()];
        let mut params = lasting(CertificateParams::new(names).map_err(failed("certificate"))?);
        params.distinguished_name.push(DnType::CommonName, node.to_string());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate =
            params.signed_by(&request.public_key, &self.issuer).map_err(failed("certificate"))?;
        Ok(certificate.der().to_vec())
    }
}

/// A node's new key (PKCS #8) and the request for its certificate, both in DER.
pub(super) fn new_key() -> Result<(Vec<u8>, Vec<u8>), ClusterError> {
    let key = KeyPair::generate().map_err(failed("key"))?;
    let request = CertificateParams::default().serialize_request(&key).map_err(failed("request"))?;
    Ok((key.serialize_der(), request.der().to_vec()))
}

/// A request for a certificate of a key (PKCS #8), in DER.
pub(super) fn request(key: &[u8]) -> Result<Vec<u8>, ClusterError> {
    let key = KeyPair::try_from(key).map_err(failed("key"))?;
    let request = CertificateParams::default().serialize_request(&key).map_err(failed("request"))?;
    Ok(request.der().to_vec())
}

/// Who a certificate says that a peer is, and by which key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shown {
    /// The node that it names.
    pub node: NodeId,
    /// SHA-256 of its public key.
    pub key: [u8; 32],
}

impl Shown {
    /// What a certificate (DER) says; `None` where it names no node.
    pub fn of(certificate: &[u8]) -> Option<Self> {
        let key = fingerprint(&public_key(certificate).ok()?);
        Some(Self { node: node_of(certificate)?, key })
    }
}

/// SHA-256 of the public key that a request (PKCS #10, DER) is for.
pub(super) fn key_of_request(request: &[u8]) -> Result<[u8; 32], ClusterError> {
    let request = CertificateSigningRequestDer::from(request);
    let request = CertificateSigningRequestParams::from_der(&request).map_err(failed("request"))?;
    Ok(fingerprint(request.public_key.der_bytes()))
}

/// Which node a certificate names.
pub(super) fn node_of(certificate: &[u8]) -> Option<NodeId> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let names = &certificate.subject_alternative_name().ok()??.value.general_names;
    names.iter().find_map(|name| match name {
        x509_parser::extensions::GeneralName::DNSName(name) => {
            name.strip_suffix(".node.lanmesh")?.parse().ok()
        }
        _ => None,
    })
}

/// The public key of a certificate: a point on P-256, uncompressed.
pub(super) fn public_key(certificate: &[u8]) -> Result<Vec<u8>, ClusterError> {
    let (_, certificate) =
        x509_parser::parse_x509_certificate(certificate).map_err(failed("CA certificate"))?;
    Ok(certificate.public_key().subject_public_key.data.to_vec())
}

/// How a node shows who it is: its certificate and the CA that it is from, in DER.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chain<'a> {
    /// The CA's certificate.
    pub ca: &'a [u8],
    /// The node's certificate.
    pub certificate: &'a [u8],
}

/// What TLS needs, on both sides of a stream between members.
#[derive(Clone)]
pub(super) struct Tls {
    /// For streams that others open. A client may show no certificate: it is not let in yet.
    pub server: Arc<ServerConfig>,
    /// For streams that this node opens.
    pub client: Arc<ClientConfig>,
}

impl Tls {
    /// From the certificates of all CAs of the cluster (DER), this node's own with its key (PKCS #8), and what it
    /// shows to those who join, where that is another one.
    pub fn new<'a>(
        protocols: Protocols,
        authorities: impl IntoIterator<Item = &'a [u8]>,
        own: Chain<'_>,
        key: &[u8],
        join: Option<Chain<'_>>,
    ) -> Result<Self, ClusterError> {
        let provider = Arc::new(provider::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(own.ca.to_vec())).map_err(failed("CA certificate"))?;
        for authority in authorities.into_iter().filter(|authority| *authority != own.ca) {
            // What is no certificate lets nobody in, and keeps nobody out.
            let _ = roots.add(CertificateDer::from(authority.to_vec()));
        }
        let roots = Arc::new(roots);
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(failed("CA certificate"))?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.to_vec()));
        let signing = provider::sign::any_ecdsa_type(&key).map_err(failed("key"))?;
        let certified = |chain: Chain<'_>| Arc::new(CertifiedKey::new(chain.der(), Arc::clone(&signing)));
        let shows = Shows { to_members: certified(own), to_others: certified(join.unwrap_or(own)) };
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&version::TLS13])
            .map_err(failed("TLS"))?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(Arc::new(shows));
        server.alpn_protocols = protocols.alpn();
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])
            .map_err(failed("TLS"))?
            .with_root_certificates(roots)
            .with_client_auth_cert(own.der(), key)
            .map_err(failed("certificate"))?;
        client.alpn_protocols = protocols.alpn();
        Ok(Self { server: Arc::new(server), client: Arc::new(client) })
    }
}

impl Chain<'_> {
    /// The CA goes with it, so that a node that joins can find it by its fingerprint.
    fn der(&self) -> Vec<CertificateDer<'static>> {
        [self.certificate, self.ca].map(|der| CertificateDer::from(der.to_vec())).to_vec()
    }
}

/// Whom this node shows which certificate. A member asks for a node, and may not know the latest CA yet; whoever
/// joins asks for any member, and knows the latest one only.
#[derive(Debug)]
struct Shows {
    to_members: Arc<CertifiedKey>,
    to_others: Arc<CertifiedKey>,
}

impl ResolvesServerCert for Shows {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let joins = hello.server_name() == Some(ANY_MEMBER);
        Some(Arc::clone(if joins { &self.to_others } else { &self.to_members }))
    }
}

/// The name under which TLS checks that it talks with this node.
pub(super) fn server_name(node: NodeId) -> Option<ServerName<'static>> {
    ServerName::try_from(own_name(node)).ok()
}

/// The name under which TLS checks that it talks with any member.
pub(super) fn any_member() -> Option<ServerName<'static>> {
    ServerName::try_from(ANY_MEMBER).ok()
}

/// TLS for a node that knows of the cluster nothing but its CA's fingerprint.
pub(super) fn joining(
    ca_fingerprint: [u8; 32],
    protocols: Protocols,
) -> Result<Arc<ClientConfig>, ClusterError> {
    let provider = Arc::new(provider::default_provider());
    let verifier = Pinned { ca_fingerprint, provider: Arc::clone(&provider) };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])
        .map_err(failed("TLS"))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = protocols.alpn();
    Ok(Arc::new(config))
}

/// Lets those servers through whose chain holds a CA with the right fingerprint, and is right by that CA.
#[derive(Debug)]
struct Pinned {
    ca_fingerprint: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let unknown = || rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let ca = chain.iter().find(|ca| fingerprint(ca) == self.ca_fingerprint).ok_or_else(unknown)?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|_| unknown())?
            .verify_server_cert(leaf, &[], name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // Never reached: only TLS 1.3 is offered.
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_names_its_node_whatever_the_request_says() {
        let authority = Authority::generate("test").unwrap();
        let restored = Authority::restore(authority.certificate().to_vec(), &authority.key()).unwrap();
        let node = NodeId::random();
        let (key, request) = new_key().unwrap();
        let certificate = restored.sign(node, &request).unwrap();
        assert_eq!(node_of(&certificate), Some(node));
        let shown = Shown::of(&certificate).unwrap();
        assert_eq!(shown, Shown { node, key: key_of_request(&request).unwrap() });
        let own = Chain { ca: authority.certificate(), certificate: &certificate };
        assert!(Tls::new(Protocols::SPOKEN, [own.ca, b"no certificate"], own, &key, None).is_ok());
        let again = restored.sign(node, &super::request(&key).unwrap()).unwrap();
        assert_eq!(node_of(&again), Some(node));
        assert!(authority.sign(node, b"no request").is_err());
        assert_eq!(node_of(b"no certificate"), None);
    }
}
