//! HTTP digest authentication (RFC 7616), the server's side.

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use md5::{Digest as _, Md5};
use sha2::Sha256;

const REALM: &str = "MMS Public API";

/// The algorithm of the challenge: Atlas uses MD5, Atlas for Government SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum DigestAlgorithm {
    /// MD5.
    Md5,
    /// SHA-256.
    Sha256,
}

impl DigestAlgorithm {
    const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
        }
    }

    fn hash(self, text: &str) -> String {
        match self {
            Self::Md5 => hex::encode(Md5::digest(text.as_bytes())),
            Self::Sha256 => hex::encode(Sha256::digest(text.as_bytes())),
        }
    }
}

/// The nonces that were given out.
pub(super) struct Nonces {
    algorithm: DigestAlgorithm,
    lifetime: SignedDuration,
    given: HashMap<String, Timestamp>,
    used: HashSet<(String, String)>,
    counter: u64,
}

/// Whether a request proved to know a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// By this public key.
    Authenticated(String),
    /// Not; `stale` if only the nonce was too old.
    Refused { stale: bool },
}

impl Nonces {
    pub(super) fn new(algorithm: DigestAlgorithm, lifetime: SignedDuration) -> Self {
        Self { algorithm, lifetime, given: HashMap::new(), used: HashSet::new(), counter: 0 }
    }

    /// The value of a `WWW-Authenticate` header with a new nonce.
    pub(super) fn challenge(&mut self, stale: bool, now: Timestamp) -> String {
        self.counter += 1;
        let nonce = hex::encode(Sha256::digest(format!("{}/{}", self.counter, now.as_nanosecond())));
        self.given.insert(nonce.clone(), now);
        format!(
            r#"Digest realm="{REALM}", domain="", nonce="{nonce}", algorithm={}, qop="auth", stale={stale}"#,
            self.algorithm.name()
        )
    }

    /// Checks an `Authorization` header for this method and request target; each (nonce, count) passes once.
    pub(super) fn verify(
        &mut self,
        header: Option<&str>,
        method: &str,
        target: &str,
        key_of: impl Fn(&str) -> Option<String>,
        now: Timestamp,
    ) -> Verdict {
        let refused = Verdict::Refused { stale: false };
        let Some(fields) = header.and_then(|header| header.strip_prefix("Digest ")).map(parse) else { return refused };
        let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
        let (username, nonce, count) = (field("username"), field("nonce"), field("nc"));
        let Some(password) = key_of(username) else { return refused };
        let Some(given) = self.given.get(nonce) else { return refused };
        if field("realm") != REALM
            || field("uri") != target
            || field("qop") != "auth"
            || field("algorithm") != self.algorithm.name()
        {
            return refused;
        }
        let hash = |text: String| self.algorithm.hash(&text);
        let secret = hash(format!("{username}:{REALM}:{password}"));
        let request = hash(format!("{method}:{target}"));
        let expected = hash(format!("{secret}:{nonce}:{count}:{}:auth:{request}", field("cnonce")));
        if field("response") != expected {
            return refused;
        }
        if now.duration_since(*given) > self.lifetime {
            return Verdict::Refused { stale: true };
        }
        if self.used.insert((nonce.to_owned(), count.to_owned())) {
            Verdict::Authenticated(username.to_owned())
        } else {
            refused
        }
    }
}

/// The fields of a digest header. Commas may stand inside quotes.
fn parse(text: &str) -> HashMap<String, String> {
    let mut fields = HashMap::new();
    let mut rest = text.trim();
    while let Some((name, after)) = rest.split_once('=') {
        let (value, remaining) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        fields.insert(name.trim_matches([' ', ',']).to_owned(), value.trim().to_owned());
        rest = remaining.trim_start_matches([' ', ',']);
    }
    fields
}
