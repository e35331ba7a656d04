//! Who may see the metrics: the API server says who the bearer of a token is (`TokenReview`), and what that user may do
//! (`SubjectAccessReview`).
//!
//! # Guarantees
//!
//! - An answer counts for a minute ([`ADMITTED_FOR`]), a refusal for ten seconds. So a right that was taken away ends within a minute.
//! - If the API server does not say that a token is good, nobody is let in.
//! - Tokens that are made up cost the API server little: few are reviewed at once and in a second, and fewer for one address ([`Rate`]). They
//!   cost little memory: a thousand answers are kept, by the digests of the tokens.
//! - They do not keep out who was let in within the last hour: that token is reviewed again regardless of the others.
//! - No token is logged or kept.
//!
//! # Limits
//!
//! - Whoever has many addresses can keep out a token that was not let in yet, such as the first one of a scraper.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_lc_rs::digest;
use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec, UserInfo},
    authorization::v1::{NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, Client, api::PostParams};
use tokio::{sync::Semaphore, time::Instant};
use tracing::{error, warn};

use super::places::Places;
use crate::controller::{KubernetesError, chain, request};

/// For how long an admission counts.
const ADMITTED_FOR: Duration = Duration::from_mins(1);

/// For how long a refusal counts. It is shorter, because somebody may have just been given the right.
const REFUSED_FOR: Duration = Duration::from_secs(10);

/// For how long a token that was let in is known, so that it is reviewed again before those that are not. A token of a Pod lives about as long.
const KNOWN_FOR: Duration = Duration::from_hours(1);

/// How many answers are kept.
const MOST_KEPT: usize = 1000;

/// How many tokens are reviewed at once that are not known.
const AT_ONCE: usize = 8;

/// How many of them may be from one address.
const AT_ONCE_OF_ONE: usize = 4;

/// How many known tokens are reviewed at once. The others wait.
const KNOWN_AT_ONCE: usize = 4;

/// How many unknown tokens are reviewed for all, and for one address.
const OF_ALL: Limit = Limit { every: Duration::from_millis(100), burst: 40 };
const OF_ONE: Limit = Limit { every: Duration::from_secs(1), burst: 10 };

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
    /// The API server does not answer.
    Unknown,
    /// Too many unknown tokens were shown.
    TooMany,
}

/// Token, verb and path.
type Digest = [u8; digest::SHA256_OUTPUT_LEN];

/// Asks the API server.
pub(super) struct Reviewer {
    client: Client,
    kept: Mutex<HashMap<Digest, (Instant, Answer)>>,
    rate: Mutex<Rate>,
    strangers: Places,
    known: Semaphore,
}

/// What is remembered of a token.
#[derive(Debug, PartialEq, Eq)]
enum Recalled {
    /// An answer that still counts.
    Answer(Answer),
    /// It was let in, and has to be reviewed again.
    Known,
    Stranger,
}

impl Reviewer {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            kept: Mutex::default(),
            rate: Mutex::default(),
            strangers: Places::new(AT_ONCE, AT_ONCE_OF_ONE),
            known: Semaphore::new(KNOWN_AT_ONCE),
        }
    }

    /// Whether the bearer of this authorization, who asks from this address, may do this.
    pub(super) async fn review(&self, address: IpAddr, authorization: Option<&str>, verb: &str, path: &str) -> Answer {
        let Some(token) = authorization.and_then(bearer) else { return Answer::Unauthenticated };
        let key = digest_of(&[token, verb, path]);
        let recalled = recall(&lock(&self.kept), &key, Instant::now());
        let reviewed = match recalled {
            Recalled::Answer(answer) => return answer,
            Recalled::Known => {
                let _permit = self.known.acquire().await;
                self.ask(token, verb, path).await
            }
            Recalled::Stranger => {
                let Some(_place) = self.strangers.take(address) else { return Answer::TooMany };
                if !lock(&self.rate).take(address.to_canonical(), Instant::now()) {
                    return Answer::TooMany;
                }
                self.ask(token, verb, path).await
            }
        };
        match reviewed {
            Ok(answer) => {
                keep(&mut lock(&self.kept), key, answer.clone(), Instant::now());
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
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One for each time that has passed, and so many at once after a rest.
struct Limit {
    every: Duration,
    burst: u32,
}

impl Limit {
    /// Takes one, if one is left. `due` is when all of them are there again: after it is taken, that is later.
    fn take(&self, due: Option<Instant>, now: Instant) -> Option<Instant> {
        let due = due.map_or(now, |due| due.max(now));
        (due.duration_since(now) <= self.every * (self.burst - 1)).then(|| due + self.every)
    }
}

/// How many unknown tokens were reviewed lately. It holds no more addresses than [`OF_ALL`] lets through while those of one address come again.
#[derive(Default)]
struct Rate {
    all: Option<Instant>,
    by_address: HashMap<IpAddr, Instant>,
}

impl Rate {
    /// Whether one more may be reviewed.
    fn take(&mut self, address: IpAddr, now: Instant) -> bool {
        let of_one = OF_ONE.take(self.by_address.get(&address).copied(), now);
        let Some((of_one, all)) = of_one.zip(OF_ALL.take(self.all, now)) else { return false };
        self.by_address.retain(|_, due| *due > now);
        self.by_address.insert(address, of_one);
        self.all = Some(all);
        true
    }
}

/// The token of `Bearer TOKEN` (RFC 6750, section 2.1). The scheme is written in any case (RFC 9110, section 11.1). What can be no token is none,
/// and costs no review.
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    let token = token.trim();
    let letters = token.trim_end_matches('=');
    let is_token = !letters.is_empty() && letters.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte));
    (scheme.eq_ignore_ascii_case("bearer") && is_token && token.len() <= LONGEST_TOKEN).then_some(token)
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

fn recall(kept: &HashMap<Digest, (Instant, Answer)>, key: &Digest, now: Instant) -> Recalled {
    match kept.get(key) {
        Some((since, answer)) if now.duration_since(*since) < counts_for(answer) => Recalled::Answer(answer.clone()),
        Some((since, answer)) if is_known(*since, answer, now) => Recalled::Known,
        _ => Recalled::Stranger,
    }
}

fn is_known(since: Instant, answer: &Answer, now: Instant) -> bool {
    *answer == Answer::Admitted && now.duration_since(since) < KNOWN_FOR
}

/// Keeps an answer. If there are too many, those that do not count any more go, and then the refusals: whoever is let in is not pushed out by
/// tokens that are made up.
fn keep(kept: &mut HashMap<Digest, (Instant, Answer)>, key: Digest, answer: Answer, now: Instant) {
    if kept.len() >= MOST_KEPT {
        kept.retain(|_, (since, answer)| now.duration_since(*since) < counts_for(answer) || is_known(*since, answer, now));
    }
    if kept.len() >= MOST_KEPT {
        kept.retain(|_, (_, answer)| *answer == Answer::Admitted);
    }
    if kept.len() < MOST_KEPT || kept.contains_key(&key) {
        kept.insert(key, (now, answer));
    }
}

#[cfg(test)]
mod tests;
