//! What can be made to go wrong.

use std::time::Duration;

use serde_json::json;

/// An answer other than a success.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The `errorCode`, also sent as `X-Error-Code`; empty as some real 401s have it.
    pub code: &'static str,
    /// The `detail`.
    pub detail: String,
    /// The `Retry-After` header.
    pub retry_after: Option<String>,
    /// A body instead of the error envelope.
    pub body: Option<String>,
}

impl Refusal {
    /// An answer with the error envelope.
    #[must_use]
    pub fn new(status: u16, code: &'static str) -> Self {
        Self { status, code, detail: format!("stand-in detail for {code}"), retry_after: None, body: None }
    }

    /// With this `Retry-After`.
    #[must_use]
    pub fn retry_after(mut self, value: &str) -> Self {
        self.retry_after = Some(value.to_owned());
        self
    }

    /// With this body, as a gateway would.
    #[must_use]
    pub fn body(mut self, body: &str) -> Self {
        self.body = Some(body.to_owned());
        self
    }

    pub(super) fn envelope(&self) -> String {
        self.body.clone().unwrap_or_else(|| {
            json!({
                "detail": self.detail,
                "error": self.status,
                "errorCode": self.code,
                "parameters": null,
                "reason": "stand-in",
            })
            .to_string()
        })
    }
}

/// The points of a mint, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Point {
    /// The request came without credentials.
    Challenge,
    /// The request came with credentials; nothing is made yet.
    Asked,
    /// The certificate is made and in the ledger; nothing is answered yet.
    Made,
    /// The answer is on its way.
    Answered,
}

/// What goes wrong when a certificate is asked for. All for which nothing else is said record the certificate in the ledger: Atlas has made it.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Refused: nothing is minted.
    Refuse(Refusal),
    /// Refused without a look at the credentials: nothing is minted.
    RefuseChallenge(Refusal),
    /// The connection is closed instead of a challenge: nothing is minted.
    ResetChallenge,
    /// The challenge, late.
    DelayChallenge(Duration),
    /// The connection is closed instead of a look at the request: nothing is minted.
    ResetUnminted,
    /// The certificate is made late.
    DelayMint(Duration),
    /// The connection is closed in the middle of the answer.
    CutBody,
    /// The nonce is said to be too old: nothing is minted.
    StaleNonce,
    /// A redirect to another place: nothing is minted.
    Redirect(String),
    /// A header of a megabyte; nothing is minted.
    HugeHeader,
    /// An HTML page instead of the PEM.
    HtmlBody,
    /// No body.
    EmptyBody,
    /// The PEM ends in the middle of the key.
    TruncatedPem,
    /// The key of another certificate.
    WrongKey,
    /// A certificate that has expired.
    ExpiredCertificate,
    /// A certificate for another user.
    OtherUser,
    /// The certificate twice.
    TwoCertificates,
    /// A body of 5 MB.
    FiveMegabytes,
    /// The body begins and never ends.
    NeverEnds,
    /// No answer, ever.
    NeverAnswers,
    /// The connection is closed without an answer.
    Reset,
    /// An error after the certificate was made.
    RefuseAfterMint(Refusal),
    /// The right answer, late.
    Delay(Duration),
}
