//! What OpenSSL and Java read in a keystore.

use std::{path::PathBuf, process::Command};

use der::{Decode, Reader, SliceReader, Tagged, asn1::AnyRef};
use secrecy::SecretString;

use super::*;

/// A pair below an intermediate certificate, and a folder.
struct Made {
    folder: PathBuf,
    pair: CertificatePair,
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Made {
    fn new(key: PrivateKeySpec) -> Self {
        let folder = tempfile();
        let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let key_of = |name: &str, key: &PrivateKey| std::fs::write(path(name), key.to_pkcs8_pem().expose_secret()).unwrap();
        let ca_key = PrivateKey::generate(PrivateKeySpec::default()).unwrap();
        key_of("ca.key", &ca_key);
        let own = PrivateKey::generate(key).unwrap();
        key_of("own.key", &own);
        let ca = ["req", "-x509", "-days", "9", "-subj", "/CN=intermediate", "-key", &path("ca.key")];
        let ca = openssl(&ca, "");
        std::fs::write(path("ca.pem"), &ca).unwrap();
        let below = ["req", "-x509", "-days", "9", "-subj", "/CN=orders", "-key", &path("own.key"), "-CA", &path("ca.pem")];
        let leaf = openssl(&[below.as_slice(), &["-CAkey", &path("ca.key")]].concat(), "");
        let pair = CertificatePair::parse((leaf + &ca).as_bytes(), own.to_pkcs8_pem().expose_secret().as_bytes()).unwrap();
        Self { folder, pair }
    }

    fn keystore(&self, alias: &str, password: &str) -> String {
        let encoded = encode_keystore(&self.pair, alias, &SecretString::from(password)).unwrap();
        let path = self.folder.join("keystore.p12");
        std::fs::write(&path, encoded.as_slice()).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// Standard output and standard error, or the latter alone if it failed.
fn run(command: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(command).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &errors) } else { Err(errors) }
}

#[rstest]
#[case::ecdsa(KeyAlgorithm::Ecdsa, 256, "changeit")]
#[case::ecdsa_384(KeyAlgorithm::Ecdsa, 384, " p@ss \"w0rd'~\\")]
#[case::rsa(KeyAlgorithm::Rsa, 2048, "changeit")]
#[case::ed25519(KeyAlgorithm::Ed25519, 256, "changeit")]
#[case::a_password_longer_than_a_block(KeyAlgorithm::Ecdsa, 256, &"0123456789abcdef".repeat(8))]
#[case::the_longest_password(KeyAlgorithm::Ecdsa, 256, &"x".repeat(512))]
fn openssl_reads_key_and_certificates_with_modern_algorithms_and_this_password_alone(
    #[case] algorithm: KeyAlgorithm,
    #[case] size: u32,
    #[case] password: &str,
) {
    let made = Made::new(PrivateKeySpec { algorithm, size });
    let path = made.keystore("certificate", password);
    let secret = made.folder.join("password");
    std::fs::write(&secret, password).unwrap();
    let source = format!("file:{}", secret.display());
    let open = |extra: &[&str]| run("openssl", &[["pkcs12", "-in", &path, "-passin", &source].as_slice(), extra].concat());
    let info = open(&["-info", "-noout"]).unwrap();
    assert!(info.contains("MAC: sha256, Iteration 10000"), "{info}");
    let sealed = "PBES2, PBKDF2, AES-256-CBC, Iteration 10000, PRF hmacWithSHA256";
    assert_eq!(info.matches(sealed).count(), 2, "certificates and key: {info}");
    let certificates = open(&["-nokeys"]).unwrap();
    assert_eq!(read_certificates(certificates.as_bytes()).unwrap(), made.pair.certificates());
    let key = PrivateKey::from_pem(open(&["-nocerts", "-noenc"]).unwrap().as_bytes()).unwrap();
    assert_eq!(
        key.public_key_info(),
        PrivateKey::from_pem(made.pair.key_pem().expose_secret().as_bytes()).unwrap().public_key_info()
    );
    std::fs::write(&secret, format!("{password}x")).unwrap();
    assert!(open(&["-info", "-noout"]).unwrap_err().contains("Mac verify error"));
}

#[rstest]
#[case::ecdsa(KeyAlgorithm::Ecdsa, 256, "certificate", "changeit")]
#[case::rsa(KeyAlgorithm::Rsa, 2048, "orders-1", "p@ss \"w0rd'~")]
#[case::ed25519(KeyAlgorithm::Ed25519, 256, "certificate", "changeit")]
#[case::a_password_longer_than_a_block(KeyAlgorithm::Ecdsa, 256, "a", &"0123456789abcdef".repeat(8))]
fn java_reads_the_key_under_its_alias_with_its_chain(
    #[case] algorithm: KeyAlgorithm,
    #[case] size: u32,
    #[case] alias: &str,
    #[case] password: &str,
) {
    if Command::new("keytool").arg("-help").output().is_err() {
        println!("skipped: needs keytool (Java 17)");
        return;
    }
    let made = Made::new(PrivateKeySpec { algorithm, size });
    let path = made.keystore(alias, password);
    let keytool = |arguments: &[&str]| {
        run("keytool", &[arguments, &["-J-Duser.language=en", "-keystore", &path, "-storetype", "PKCS12"]].concat())
    };
    let listed = keytool(&["-list", "-v", "-storepass", password]).unwrap();
    for words in [&format!("Alias name: {alias}"), "Entry type: PrivateKeyEntry", "Certificate chain length: 2"] {
        assert!(listed.contains(words), "{words}: {listed}");
    }
    assert!(listed.contains("Your keystore contains 1 entry"), "{listed}");
    let signed = keytool(&["-certreq", "-alias", alias, "-storepass", password]).unwrap();
    openssl(&["req", "-verify", "-noout"], &signed);
    assert!(keytool(&["-list", "-storepass", "another"]).is_err());
}

#[test]
fn the_same_content_gives_the_same_bytes_and_any_other_shares_no_salt() {
    let made = Made::new(PrivateKeySpec::default());
    let encode = |pair: &CertificatePair, alias: &str, password: &str| {
        encode_keystore(pair, alias, &SecretString::from(password)).unwrap().to_vec()
    };
    let first = encode(&made.pair, "certificate", "changeit");
    assert_eq!(first, encode(&made.pair, "certificate", "changeit"));
    let leaf_alone = made.pair.with_chain(&[]);
    let other = Made::new(PrivateKeySpec::default());
    for different in [
        encode(&made.pair, "other", "changeit"),
        encode(&leaf_alone, "certificate", "changeit"),
        encode(&other.pair, "certificate", "changeit"),
    ] {
        let (first, different) = (salts(&first).unwrap(), salts(&different).unwrap());
        assert_eq!(first.len(), 5, "{first:?}");
        assert!(first.iter().all(|salt| !different.contains(salt)), "{first:?} {different:?}");
    }
    assert_ne!(first, encode(&made.pair, "certificate", "changed"), "another password");
}

/// The octet strings of 16 bytes: three salts and two initialization vectors. `None` if this is no DER: what is encrypted is none.
fn salts(der: &[u8]) -> Option<Vec<String>> {
    let (mut reader, mut found) = (SliceReader::new(der).ok()?, Vec::new());
    while !reader.is_finished() {
        let element = AnyRef::decode(&mut reader).ok()?;
        match element.tag() {
            der::Tag::OctetString if element.value().len() == 16 => found.push(hex::encode(element.value())),
            der::Tag::OctetString => found.extend(salts(element.value()).unwrap_or_default()),
            tag if tag.is_constructed() => found.extend(salts(element.value())?),
            _ => {}
        }
    }
    Some(found)
}
