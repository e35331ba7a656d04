//! Who may see the metrics: the API server says who the bearer of a token is (`TokenReview`), and what that user may do
//! (`SubjectAccessReview`).
//!
//! # Guarantees
//!
//! - An answer counts for a minute ([`ADMITTED_FOR`]), a refusal for ten seconds. So a right that was taken away ends within a minute.
//! - Neither tokens without end nor many at once cost much memory or many requests: a thousand answers are kept, by the digests of the tokens,
//!   and eight reviews are under way.
//! - No token is logged or kept.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use aws_lc_rs::digest;
use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec, UserInfo},
    authorization::v1::{NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, Client, api::PostParams};
use tokio::sync::Semaphore;
use tracing::{error, warn};

use crate::controller::{KubernetesError, chain, request};

/// For how long an admission counts.
const ADMITTED_FOR: Duration = Duration::from_mins(1);

/// For how long a refusal counts. It is shorter, because somebody may have just been given the right.
const REFUSED_FOR: Duration = Duration::from_secs(10);

/// How many answers are kept.
const MOST_KEPT: usize = 1000;

/// How many tokens are reviewed at once.
const AT_ONCE: usize = 8;

/// Longer than any token of a service account.
const LONGEST_TOKEN: usize = 16 * 1024;

/// What was found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Whoever asks may.
    Admitted,
    /// No token, or one that the API server does not know.
    Unauthenticated,
    /// This user may not.
    Forbidden(String),
    /// The API server does not answer, or too many ask.
    Unknown,
}

/// Token, verb and path.
type Digest = [u8; digest::SHA256_OUTPUT_LEN];

/// Asks the API server.
pub(super) struct Reviewer {
    client: Client,
    kept: Mutex<HashMap<Digest, (Instant, Answer)>>,
    permits: Semaphore,
}

impl Reviewer {
    pub(super) fn new(client: Client) -> Self {
        Self { client, kept: Mutex::default(), permits: Semaphore::new(AT_ONCE) }
    }

    /// Whether the bearer of this authorization may do this.
    pub(super) async fn review(&self, authorization: Option<&str>, verb: &str, path: &str) -> Answer {
        let Some(token) = authorization.and_then(bearer) else { return Answer::Unauthenticated };
        let key = digest_of(&[token, verb, path]);
        if let Some(answer) = recall(&self.lock(), &key, Instant::now()) {
            return answer;
        }
        let Ok(_permit) = self.permits.try_acquire() else { return Answer::Unknown };
        match self.ask(token, verb, path).await {
            Ok(answer) => {
                keep(&mut self.lock(), key, answer.clone(), Instant::now());
                answer
            }
            Err(error) => {
                if error.is_denied() {
                    error!(
                        error = chain(&error),
                        "nobody can see the metrics: give the operator the right to create tokenreviews and subjectaccessreviews"
                    );
                } else {
                    warn!(error = chain(&error), "it cannot be found out who asks for the metrics");
                }
                Answer::Unknown
            }
        }
    }

    async fn ask(&self, token: &str, verb: &str, path: &str) -> Result<Answer, KubernetesError> {
        let review =
            TokenReview { spec: TokenReviewSpec { token: Some(token.to_owned()), audiences: None }, ..TokenReview::default() };
        let reviews = Api::<TokenReview>::all(self.client.clone());
        let reviewed = request("review a token", reviews.create(&PostParams::default(), &review)).await?;
        let user = reviewed.status.filter(|status| status.authenticated == Some(true)).and_then(|status| status.user);
        let Some(user) = user else { return Ok(Answer::Unauthenticated) };
        let name = user.username.clone().unwrap_or_default();
        let reviews = Api::<SubjectAccessReview>::all(self.client.clone());
        let review = access(user, verb, path);
        let reviewed = request("review a right", reviews.create(&PostParams::default(), &review)).await?;
        let is_allowed = reviewed.status.is_some_and(|status| status.allowed);
        Ok(if is_allowed { Answer::Admitted } else { Answer::Forbidden(name) })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, (Instant, Answer)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The token of `Bearer TOKEN` (RFC 6750, section 2.1). The scheme is written in any case (RFC 9110, section 11.1).
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.len() <= LONGEST_TOKEN).then_some(token)
}

/// Each part is preceded by its length, so that no two lists of parts are the same bytes.
fn digest_of(parts: &[&str]) -> Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&part.len().to_be_bytes());
        context.update(part.as_bytes());
    }
    let mut digest = Digest::default();
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

fn access(user: UserInfo, verb: &str, path: &str) -> SubjectAccessReview {
    let wanted = NonResourceAttributes { verb: Some(verb.to_owned()), path: Some(path.to_owned()) };
    let spec = SubjectAccessReviewSpec {
        user: user.username,
        groups: user.groups,
        uid: user.uid,
        extra: user.extra,
        non_resource_attributes: Some(wanted),
        resource_attributes: None,
    };
    SubjectAccessReview { spec, ..SubjectAccessReview::default() }
}

fn counts_for(answer: &Answer) -> Duration {
    if *answer == Answer::Admitted { ADMITTED_FOR } else { REFUSED_FOR }
}

fn recall(kept: &HashMap<Digest, (Instant, Answer)>, key: &Digest, now: Instant) -> Option<Answer> {
    let (since, answer) = kept.get(key)?;
    (now.saturating_duration_since(*since) < counts_for(answer)).then(|| answer.clone())
}

/// Keeps an answer. If there are too many, those that do not count any more go, and then the refusals: whoever is let in is not pushed out by
/// tokens that are made up.
fn keep(kept: &mut HashMap<Digest, (Instant, Answer)>, key: Digest, answer: Answer, now: Instant) {
    if kept.len() >= MOST_KEPT {
        kept.retain(|_, (since, answer)| now.saturating_duration_since(*since) < counts_for(answer));
    }
    if kept.len() >= MOST_KEPT {
        kept.retain(|_, (_, answer)| *answer == Answer::Admitted);
    }
    if kept.len() < MOST_KEPT {
        kept.insert(key, (now, answer));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn only_a_bearer_token_counts() {
        for (authorization, token) in [
            ("Bearer abc", Some("abc")),
            ("bearer abc", Some("abc")),
            ("Bearer  abc ", Some("abc")),
            ("Bearer ", None),
            ("Bearer", None),
            ("Basic YTpi", None),
            ("", None),
        ] {
            assert_eq!(bearer(authorization), token, "{authorization}");
        }
        let long = format!("Bearer {}", "a".repeat(LONGEST_TOKEN + 1));
        assert_eq!(bearer(&long), None);
    }

    #[test]
    fn answers_count_shortly_and_refusals_shorter() {
        let (mut kept, now) = (HashMap::new(), Instant::now());
        let key = |token: &str| digest_of(&[token, "get", "/metrics"]);
        keep(&mut kept, key("a"), Answer::Admitted, now);
        keep(&mut kept, key("b"), Answer::Forbidden("b".to_owned()), now);
        let at = |token: &str, seconds| recall(&kept, &key(token), now + Duration::from_secs(seconds));
        assert_eq!((at("a", 59), at("a", 60)), (Some(Answer::Admitted), None));
        assert_eq!((at("b", 9), at("b", 10)), (Some(Answer::Forbidden("b".to_owned())), None));
        assert_eq!(at("c", 0), None);
        assert_ne!(digest_of(&["ab", "c"]), digest_of(&["a", "bc"]));
        assert_ne!(key("a"), digest_of(&["a", "head", "/metrics"]), "another verb is another question");
    }

    #[test]
    fn many_tokens_push_nobody_out_who_was_admitted() {
        let (mut kept, now) = (HashMap::new(), Instant::now());
        let key = |token: &str| digest_of(&[token]);
        keep(&mut kept, key("scraper"), Answer::Admitted, now);
        for number in 0..5 * MOST_KEPT {
            keep(&mut kept, key(&number.to_string()), Answer::Unauthenticated, now);
            assert!(kept.len() <= MOST_KEPT);
        }
        assert_eq!(recall(&kept, &key("scraper"), now), Some(Answer::Admitted));
    }
}
