//! Who logged in with which certificate, and who was refused.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::{CertificateError, Error as TlsError};

/// A connection that is authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The number of the connection, from 1.
    pub connection: u64,
    /// The subject of the certificate, in the form of RFC 2253.
    pub subject: String,
    /// The serial number of the certificate, of 16 bytes at most.
    pub serial_number: u128,
    /// The driver and its version, as the client tells them.
    pub driver: String,
    /// Whether the client logged in within its first message.
    pub speculative: bool,
}

/// A connection that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The number of the connection, from 1.
    pub connection: u64,
    /// Why.
    pub refusal: Refusal,
}

/// Why a connection is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The client's certificate has expired.
    Expired,
    /// The client's certificate is not from the CA.
    UnknownIssuer,
    /// The client has no certificate.
    NoCertificate,
    /// The handshake failed otherwise; rustls's words.
    Handshake(String),
    /// No user has the subject of this certificate for a name.
    UnknownUser(String),
    /// The client named another user than its certificate does.
    OtherUser(String),
    /// The client named another database than `$external`.
    OtherDatabase(String),
    /// The client named another mechanism than `MONGODB-X509`.
    OtherMechanism(String),
}

impl Refusal {
    /// Why a handshake failed.
    pub(super) fn of_handshake(error: &std::io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
        match inner {
            Some(TlsError::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => {
                Self::Expired
            }
            Some(TlsError::InvalidCertificate(CertificateError::UnknownIssuer)) => Self::UnknownIssuer,
            Some(TlsError::NoCertificatesPresented) => Self::NoCertificate,
            _ => Self::Handshake(error.to_string()),
        }
    }
}

/// What happened so far.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    logins: Mutex<Vec<Login>>,
    refusals: Mutex<Vec<Refused>>,
}

impl Ledger {
    pub(super) fn logins(&self) -> Vec<Login> {
        lock(&self.logins).clone()
    }

    pub(super) fn refusals(&self) -> Vec<Refused> {
        lock(&self.refusals).clone()
    }

    pub(super) fn let_in(&self, login: Login) {
        lock(&self.logins).push(login);
    }

    pub(super) fn refuse(&self, connection: u64, refusal: Refusal) {
        lock(&self.refusals).push(Refused { connection, refusal });
    }
}

/// What a thread that panicked left is whole: each change is one push.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
