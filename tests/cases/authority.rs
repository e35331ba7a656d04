//! CAs of every kind that the cases need, made by OpenSSL.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

pub const P256: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];

/// A folder with keys and certificates, each under a name.
pub struct Authority(tempfile::TempDir);

impl Authority {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn key_path(&self, name: &str) -> String {
        text(&self.path(&format!("{name}.key")))
    }

    fn certificate_path(&self, name: &str) -> String {
        text(&self.path(&format!("{name}.crt")))
    }

    /// The key of this name, generated when it is first asked for.
    pub fn key(&self, name: &str, kind: &[&str]) -> String {
        let path = self.key_path(name);
        if !Path::new(&path).exists() {
            openssl(&[&["genpkey", "-quiet", "-out", &path][..], kind].concat())
                .unwrap_or_else(|_| openssl(&[&["genpkey", "-out", &path][..], kind].concat()).unwrap());
        }
        std::fs::read_to_string(path).unwrap()
    }

    /// A CA certificate `name` for the key `key` and this subject, signed by the certificate `parent` with its key, or by itself.
    pub fn ca(&self, name: &str, key: &str, subject: &str, parent: Option<(&str, &str)>, more: &[&str]) -> String {
        self.key(key, P256);
        let (key, out) = (self.key_path(key), self.certificate_path(name));
        let mut arguments = vec!["req", "-x509", "-new", "-key", &key, "-out", &out, "-subj", subject];
        let parent = parent.map(|(certificate, key)| (self.certificate_path(certificate), self.key_path(key)));
        if let Some((certificate, key)) = &parent {
            arguments.extend(["-CA", certificate, "-CAkey", key]);
        }
        if !more.contains(&"-days") {
            arguments.extend(["-days", "30"]);
        }
        arguments.extend(more);
        openssl(&arguments).unwrap();
        std::fs::read_to_string(out).unwrap()
    }

    /// The same by a request to `parent`, or by itself: valid until yesterday, of version 1 without extensions, or below such a root, which
    /// `req` does not make.
    pub fn by_request(
        &self,
        name: &str,
        key: &str,
        subject: &str,
        parent: &str,
        days: &str,
        extensions: Option<&str>,
    ) -> String {
        self.key(key, P256);
        let (ca, ca_key) = (self.certificate_path(parent), self.key_path(parent));
        let (key, out) = (self.key_path(key), self.certificate_path(name));
        let request = text(&self.path(&format!("{name}.csr")));
        openssl(&["req", "-new", "-key", &key, "-subj", subject, "-out", &request]).unwrap();
        let mut arguments = vec!["x509", "-req", "-in", &request, "-days", days, "-out", &out];
        arguments.extend(if parent == name {
            vec!["-signkey", &key]
        } else {
            vec!["-CA", &ca, "-CAkey", &ca_key, "-set_serial", "7"]
        });
        let file = text(&self.path(&format!("{name}.ext")));
        if let Some(extensions) = extensions {
            std::fs::write(&file, extensions).unwrap();
            arguments.extend(["-extfile", &file]);
        }
        openssl(&arguments).unwrap();
        std::fs::read_to_string(out).unwrap()
    }

    /// What OpenSSL says of a client certificate that it signed below the certificate `ca` itself, with this file for the rest of the chain.
    pub fn opinion(&self, ca: &str, key: &str, subject: &str, file: &str, root: &str) -> Result<(), String> {
        let path = |name: &str| text(&self.path(name));
        self.key("leaf", P256);
        openssl(&["req", "-new", "-utf8", "-key", &self.key_path("leaf"), "-subj", subject, "-out", &path("leaf.csr")])?;
        std::fs::write(path("leaf.ext"), "extendedKeyUsage=clientAuth\n").unwrap();
        let (ca, key) = (self.certificate_path(ca), self.key_path(key));
        let signed = path("leaf.pem");
        let serial = ["-set_serial", "99", "-days", "1", "-extfile", &path("leaf.ext"), "-out", &signed];
        openssl(&[&["x509", "-req", "-in", &path("leaf.csr"), "-CA", &ca, "-CAkey", &key][..], &serial].concat())?;
        std::fs::write(path("file.pem"), file).unwrap();
        self.verify(root, &path("file.pem"), &signed)
    }

    /// Whether OpenSSL verifies what is handed on, with nothing but this root.
    pub fn verifies(&self, got: &str, root: &str) -> Result<(), String> {
        let path = text(&self.path("got.pem"));
        std::fs::write(&path, got).unwrap();
        self.verify(root, &path, &path)
    }

    fn verify(&self, root: &str, untrusted: &str, leaf: &str) -> Result<(), String> {
        let trusted = text(&self.path("trusted.pem"));
        std::fs::write(&trusted, root).unwrap();
        let only = ["-purpose", "sslclient", "-no-CApath", "-no-CAstore", "-CAfile", &trusted];
        openssl(&[&["verify"], &only[..], &["-untrusted", untrusted, leaf]].concat()).map(|_| ())
    }
}

/// Runs OpenSSL; of a failure the first line that says why.
pub fn openssl(arguments: &[&str]) -> Result<Output, String> {
    let output = Command::new("openssl").args(arguments).output().unwrap();
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let telling = said.lines().find(|line| line.contains("lookup:") || line.contains(":PEM ")).or(said.lines().next());
    Err(telling.unwrap_or_default().rsplit("lookup:").next().unwrap_or_default().trim().to_owned())
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
