//! Answers of the API server that say no.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::core::Status;
use usercert_operator::{
    api::{ISSUING, Reason, set_condition},
    controller::{KubernetesError, chain},
};

use crate::{Outcome, now, oracle::assert_readable};

/// A `Status` as JSON: an admission webhook wrote its message, or whoever is in between.
pub fn kubernetes_status(data: &[u8]) -> Outcome {
    let Ok(status) = serde_json::from_slice::<Status>(data) else { return Outcome::Unread };
    let (code, message) = (status.code, status.message.clone());
    let source = Box::new(kube::Error::Api(Box::new(status)));
    let error = KubernetesError::Request { operation: "create the Secret", source };
    assert_eq!(error.is_conflict(), code == 409);
    assert_eq!(error.is_not_found(), code == 404);
    assert!(error.is_answer() && (!error.is_conflict() || !error.is_denied()), "{error:?}");
    assert!(!error.is_refusal() || (400..500).contains(&code), "a server that fails refuses nothing: {error:?}");
    assert!(code != 403 || error.is_refusal() && error.is_denied(), "{error:?}");
    let _ = error.is_namespace_terminating();
    let (explanation, told) = (error.explanation(), chain(&error));
    assert_eq!(explanation, message, "what the API server said is said");
    assert!(told.starts_with("could not create the Secret"), "{told}");
    assert!(told.len() <= "could not create the Secret: ".len() + message.len(), "it is said more than once: {told}");
    let mut conditions = Vec::new();
    for text in [&explanation, &told] {
        set_condition(&mut conditions, ISSUING, false, Reason::SecretNotWritable, text, Some(1), now());
        assert_eq!(conditions.len(), 1);
        assert_readable(&conditions[0].message);
        let written = serde_json::to_string(&conditions).expect("conditions are written");
        assert_eq!(serde_json::from_str::<Vec<Condition>>(&written).expect("conditions are read"), conditions);
    }
    Outcome::Read
}
