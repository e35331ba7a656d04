//! Answers of the API server that say no.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::core::Status;
use usercert_operator::{
    api::{ISSUING, Reason, set_condition},
    controller::{KubernetesError, chain},
    decide::pass::RequestErrorKind,
};

use crate::{Outcome, now, oracle::assert_readable};

/// A `Status` as JSON: an admission webhook wrote its message, or whoever is in between.
pub fn kubernetes_status(data: &[u8]) -> Outcome {
    let Ok(status) = serde_json::from_slice::<Status>(data) else { return Outcome::Unread };
    let (code, message) = (status.code, status.message.clone());
    let source = Box::new(kube::Error::Api(Box::new(status)));
    let error = KubernetesError::Request { operation: "create the Secret", source };
    match error.kind() {
        RequestErrorKind::Unanswered => unreachable!("it is an answer: {error:?}"),
        RequestErrorKind::Conflict => assert_eq!(code, 409),
        RequestErrorKind::NotFound => assert_eq!(code, 404),
        RequestErrorKind::Refused => assert!((400..500).contains(&code), "a server that fails refuses nothing: {error:?}"),
        RequestErrorKind::Failed => assert!(code != 403, "{error:?}"),
        // Whatever the code, its cause says so.
        RequestErrorKind::NamespaceTerminating => {}
    }
    assert_eq!(error.is_denied(), code == 401 || code == 403);
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
