//! TO BE REPLACED: entries that the operator does not write yet.
//!
//! Until it writes them, OpenSSL makes them from the Secret's own pair, here and nowhere else. Whoever merges asks for them in the
//! spec of `stage::certificate` (`PKCS8DER` as `tls.pk8`, the keystore with its password, `connection` for `uri`), and has `complete`
//! add to the URI no more than what only a test wants: `serverSelectionTimeoutMS`.

use std::{fs, path::Path, time::Duration};

use crate::{harness::openssl, stage::Entries};

/// The entries with `tls.pk8`, `keystore.p12`, `keystore-password` and `uri`.
///
/// A client that finds no server that takes it gives up after this time.
pub fn complete(mut entries: Entries, port: u16, mount: &Path, server_ca: &Path, patience: Duration) -> Entries {
    let text = |name: &str| String::from_utf8(entries[name].clone()).unwrap();
    let (password, pair, key) = ("a-password-of-the-test".to_owned(), text("tls-combined.pem"), text("tls.key"));
    let folder = tempfile::tempdir().unwrap();
    // OpenSSL reads its input once, and wants certificate and key.
    let pair_file = folder.path().join("pair");
    fs::write(&pair_file, pair).unwrap();
    let pair = pair_file.display().to_string();
    let password_option = format!("pass:{password}");
    let keystore = ["pkcs12", "-export", "-name", "user", "-passout", &password_option, "-in", &pair, "-inkey", &pair];
    let made = |name: &str, arguments: &[&str], input: &str| {
        let file = folder.path().join(name);
        openssl(&[arguments, &["-out", &file.display().to_string()]].concat(), input);
        (name.to_owned(), fs::read(file).unwrap())
    };
    let made = [
        made("tls.pk8", &["pkcs8", "-topk8", "-nocrypt", "-outform", "DER"], &key),
        made("keystore.p12", &keystore, ""),
        ("keystore-password".to_owned(), password.into_bytes()),
        ("uri".to_owned(), uri(port, mount, server_ca, patience).into_bytes()),
    ];
    entries.extend(made);
    entries
}

fn uri(port: u16, mount: &Path, server_ca: &Path, patience: Duration) -> String {
    let (mount, server_ca, patience) = (mount.display(), server_ca.display(), patience.as_millis());
    format!(
        "mongodb://127.0.0.1:{port}/?authMechanism=MONGODB-X509&authSource=%24external&tls=true\
         &tlsCertificateKeyFile={mount}/tls-combined.pem&tlsCAFile={server_ca}&serverSelectionTimeoutMS={patience}"
    )
}
