//! One authority and two leaves (P-256), the same for all pairs that read certificates from files.

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use std::{fs, path::Path};

/// Writes `ca.pem`, `client.pem`, `client.key`, `server.pem`, `server.key` and, key after certificate, `client.both` and `server.both`.
pub(crate) fn write(folder: &Path) -> Result<()> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(vec![])?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    ca.distinguished_name.push(rcgen::DnType::CommonName, "bench authority");
    fs::write(folder.join("ca.pem"), ca.self_signed(&ca_key)?.pem())?;
    let issuer = Issuer::new(ca, ca_key);
    for (name, usage) in [("client", ExtendedKeyUsagePurpose::ClientAuth), ("server", ExtendedKeyUsagePurpose::ServerAuth)] {
        let key = KeyPair::generate()?;
        let mut leaf = CertificateParams::new(vec![name.to_owned()])?;
        leaf.distinguished_name.push(rcgen::DnType::CommonName, name);
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![usage];
        let certificate = leaf.signed_by(&key, &issuer)?.pem();
        fs::write(folder.join(format!("{name}.pem")), &certificate)?;
        fs::write(folder.join(format!("{name}.key")), key.serialize_pem())?;
        fs::write(folder.join(format!("{name}.both")), certificate + &key.serialize_pem())?;
    }
    Ok(())
}

/// A chain of DER certificates as PEM.
pub(crate) fn pem(chain: &[Vec<u8>]) -> String {
    use base64::Engine as _;
    let one = |der: &Vec<u8>| {
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
    };
    chain.iter().map(one).collect()
}
