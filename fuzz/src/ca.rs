//! The Secret of an in-cluster CA.

use jiff::SignedDuration;
use usercert_operator::{
    api::Reason,
    certificate::{PrivateKeySpec, Subject},
    issuer::{
        atlas::MintRequest,
        ca::{CaError, CaIssuer, SignRequest},
    },
};

use crate::{Outcome, certificate::assert_is_pair, now, oracle::assert_keeps_secret, two_texts};

/// `tls.crt` and `tls.key` of a CA: in one text, or in two with a NUL between them. A CA that is taken signs what it permits.
pub fn ca_secret(data: &[u8]) -> Outcome {
    let (certificates, key) = two_texts(data);
    let ca = CaIssuer::from_secret(Some(certificates), Some(key), now());
    let ca = match ca {
        Ok(ca) => ca,
        Err(CaError::Certificate(_) | CaError::Key(_)) => {
            assert_keeps_secret(&format!("{ca:?}"), data);
            return Outcome::Read;
        }
        // The others name a subject, which is the input's.
        Err(_) => return Outcome::Read,
    };
    assert_keeps_secret(&format!("{ca:?}"), data);
    let request = request();
    let issued = ca.issue(&request);
    if let Err(violation) = ca.name_constraints().check(&request.subject) {
        let error = issued.map(|_| ()).expect_err("it is not permitted");
        assert_eq!((error.reason, error.message), (Reason::IssuerNotAllowed, violation.to_string()));
        return Outcome::Read;
    }
    let issued = issued.expect("a CA that was tried out signs what it permits");
    assert_eq!(issued.pair.verify(&request.subject, now()), Ok(()));
    assert!(issued.pair.facts().not_after <= ca.not_after());
    assert_is_pair(&issued.pair, data);
    Outcome::Read
}

/// What a CA is asked for.
pub fn request() -> SignRequest {
    let MintRequest { subject, now, .. } = mint_request();
    SignRequest { subject, duration: SignedDuration::from_hours(1), private_key: PrivateKeySpec::default(), now }
}

/// What Atlas is asked for.
pub fn mint_request() -> MintRequest {
    MintRequest {
        username: "orders".to_owned(),
        subject: Subject::common_name("orders").expect("a name"),
        months_until_expiration: 3,
        now: now(),
    }
}
