//! Which renewals have to wait, as far as the objects tell: by the operator's limits, and by those of Atlas.
//!
//! | Limit | What it counts | Where it is known from |
//! | --- | --- | --- |
//! | of an object in an hour | its renewals | the operator |
//! | of a database user in a day | certificates made for it, and renewals | the operator |
//! | of the requests of a project | two for each renewal | Atlas told it when its answers were recorded |
//! | of the certificates of a database user | | Atlas does not publish it: it is told once Atlas has refused one |
//!
//! The project is that which made the newest certificate of an object. An object that Atlas has made no certificate for counts for none.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Serialize;
use usercert_operator_core::{
    api::{DatabaseUserCertificateStatus, Reason, truncated_to_second},
    certificate::Subject,
    decide::{ISSUES_IN_AN_HOUR, held_by_budget, pass::CALLS_WITH_LIST},
};

use super::renewal::Renewal;
use crate::verbs::objects::Certificate;

/// How many requests of a project Atlas admitted at once when its answers were recorded. It is no part of its contract.
pub(super) const REQUESTS: u32 = 1200;

/// How many more it admitted each minute.
pub(super) const REQUESTS_A_MINUTE: u32 = 500;

/// A certificate that is to be renewed more often than the operator does it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Limited {
    pub(super) namespace: String,
    pub(super) name: String,
    /// The first renewal that waits.
    pub(super) from: Timestamp,
}

/// An Atlas project whose renewals wait for each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct QueuedProject {
    pub(super) project: String,
    /// When the first renewal is due that waits.
    pub(super) from: Timestamp,
    /// When the last of them has its turn.
    pub(super) until: Timestamp,
    /// How many wait.
    pub(super) renewals: usize,
    /// How many of these have their turn after their certificates expire.
    pub(super) too_late: usize,
}

/// When a renewal is due, and when the certificate expires that it replaces.
type Due = (Timestamp, Timestamp);

/// A database user of Atlas for whom a renewal waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HeldUser {
    pub(super) project: String,
    pub(super) username: String,
    /// When the first renewal is due that waits, and of which object.
    pub(super) from: Timestamp,
    pub(super) namespace: String,
    pub(super) name: String,
    /// How many of the objects that were read name the user.
    pub(super) objects: usize,
    pub(super) limit: LimitOfUser,
}

/// What a renewal of a user waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(super) enum LimitOfUser {
    /// So many certificates were or will be made within the day before it: the operator makes the next one at this time.
    Budget { made: usize, until: Timestamp },
    /// Atlas has refused one more certificate, until one of the user expires.
    Certificates,
}

/// The first renewal of one certificate that has to wait, because there were as many as an hour may have.
pub(super) fn limited(renewals: &[Renewal]) -> Option<Limited> {
    let is_too_many = |found: &&[Renewal]| {
        let first_and_last = found.first().zip(found.last());
        first_and_last.is_some_and(|(first, last)| last.time.duration_since(first.time) < SignedDuration::from_hours(1))
    };
    let waits = renewals.windows(ISSUES_IN_AN_HOUR + 1).find(is_too_many)?.last()?;
    Some(Limited { namespace: waits.namespace.clone(), name: waits.name.clone(), from: waits.time })
}

/// The Atlas project that made the newest certificate of the object.
fn project_of(object: &Certificate) -> Option<&str> {
    object.status.as_ref()?.history.first()?.issuer.as_deref()?.strip_prefix("atlas/")
}

/// The database user: that of the spec, or of an `AtlasDatabaseUser` by the subject of its certificate.
fn username_of(object: &Certificate) -> Option<String> {
    let of_subject = || Subject::parse(object.status.as_ref()?.subject.as_ref()?).ok()?.lone_common_name();
    object.spec.username.clone().or_else(of_subject)
}

/// The times at which renewals of one project wait for each other. `each`: the renewals of each object.
pub(super) fn queued_projects(objects: &[Certificate], each: &[Vec<Renewal>]) -> Vec<QueuedProject> {
    let mut times: BTreeMap<&str, Vec<Due>> = BTreeMap::new();
    for (object, renewals) in objects.iter().zip(each) {
        if let Some(project) = project_of(object) {
            times.entry(project).or_default().extend(renewals.iter().map(|renewal| (renewal.time, expiry(object, renewal))));
        }
    }
    let mut queued: Vec<QueuedProject> = Vec::new();
    for (project, mut times) in times {
        times.sort_unstable();
        queued.extend(queues(project, &times));
    }
    queued.sort_by(|one, other| (one.from, &one.project).cmp(&(other.from, &other.project)));
    queued
}

/// When the certificate expires that the renewal replaces, if lifetimes stay.
fn expiry(object: &Certificate, renewal: &Renewal) -> Timestamp {
    let status = object.status.as_ref();
    let time = |of: fn(&DatabaseUserCertificateStatus) -> Option<&Time>| status.and_then(of).map(|time| time.0);
    let not_after = time(|status| status.not_after.as_ref()).unwrap_or(Timestamp::MAX);
    let next = time(|status| status.renewal_time.as_ref()).filter(|_| renewal.is_estimate);
    next.map_or(not_after, |next| renewal.time.saturating_add(not_after.duration_since(next)).unwrap_or(Timestamp::MAX))
}

/// The queues before the bucket of requests of one project, which is full at first.
fn queues(project: &str, times: &[Due]) -> Vec<QueuedProject> {
    let (cost, size, a_second) = (f64::from(CALLS_WITH_LIST), f64::from(REQUESTS), f64::from(REQUESTS_A_MINUTE) / 60.0);
    let mut queues: Vec<QueuedProject> = Vec::new();
    let (mut left, mut at, mut is_queue) = (size, Timestamp::MIN, false);
    for &(due, expiry) in times {
        let mut turn = due.max(at);
        left = turn.duration_since(at).as_secs_f64().mul_add(a_second, left).min(size);
        if left < cost {
            let wait = SignedDuration::from_secs_f64((cost - left) / a_second);
            (turn, left) = (turn.saturating_add(wait).unwrap_or(Timestamp::MAX), cost);
        }
        (left, at) = (left - cost, turn);
        // A queue that is shorter than this is none that anybody sees.
        let waits = turn.duration_since(due) >= SignedDuration::from_secs(1);
        let until = truncated_to_second(turn);
        let too_late = usize::from(turn >= expiry);
        match queues.last_mut().filter(|_| waits && is_queue) {
            Some(queue) => {
                (queue.until, queue.renewals, queue.too_late) = (until, queue.renewals + 1, queue.too_late + too_late);
            }
            None if waits => {
                queues.push(QueuedProject { project: project.to_owned(), from: due, until, renewals: 1, too_late });
            }
            None => {}
        }
        is_queue = waits;
    }
    queues
}

/// An object and its renewals.
type Foreseen<'a> = (&'a Certificate, &'a [Renewal]);

/// The database users for whom a renewal waits: the first of each.
pub(super) fn held_users(objects: &[Certificate], each: &[Vec<Renewal>]) -> Vec<HeldUser> {
    let mut users: BTreeMap<(&str, String), Vec<Foreseen<'_>>> = BTreeMap::new();
    for (object, renewals) in objects.iter().zip(each) {
        if let (Some(project), Some(username)) = (project_of(object), username_of(object)) {
            users.entry((project, username)).or_default().push((object, renewals));
        }
    }
    let mut held: Vec<HeldUser> = users
        .into_iter()
        .filter_map(|((project, username), of)| {
            let (waits, limit) = first_held(&of)?;
            Some(HeldUser {
                project: project.to_owned(),
                username,
                from: waits.time,
                namespace: waits.namespace.clone(),
                name: waits.name.clone(),
                objects: of.len(),
                limit,
            })
        })
        .collect();
    held.sort_by(|one, other| (one.from, &one.project, &one.username).cmp(&(other.from, &other.project, &other.username)));
    held
}

/// The first renewal of one user that waits, and what for.
fn first_held<'a>(of: &[Foreseen<'a>]) -> Option<(&'a Renewal, LimitOfUser)> {
    let mut renewals: Vec<&Renewal> = of.iter().flat_map(|(_, renewals)| renewals.iter()).collect();
    renewals.sort_by_key(|renewal| renewal.time);
    let statuses = || of.iter().filter_map(|(object, _)| object.status.as_ref());
    let mut refusals = statuses().filter_map(|status| status.failure.as_ref());
    if refusals.any(|failure| failure.reason == Reason::AtlasCertificateLimit.as_str()) {
        return renewals.first().map(|renewal| (*renewal, LimitOfUser::Certificates));
    }
    let history = statuses().flat_map(|status| &status.history);
    let made: BTreeMap<&str, Timestamp> = history.map(|made| (made.serial_number.as_str(), made.recorded_at.0)).collect();
    let mut made: Vec<Timestamp> = made.into_values().collect();
    for renewal in renewals {
        if let Some((recent, until)) = held_by_budget(of.len(), made.iter().copied(), renewal.time) {
            return Some((renewal, LimitOfUser::Budget { made: recent, until }));
        }
        made.push(renewal.time);
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::verbs::plan::foresee::{Plan, foresee};

    const FIRST: &str = "atlas/5f0000000000000000000001";

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    /// One that is to be renewed at this time, and for which this issuer made certificates at these times, the newest first.
    fn object(name: &str, renewal_time: &str, issuer: &str, made: &[&str]) -> Value {
        let history = made.iter().map(|time| {
            json!({ "serialNumber": format!("{name}-{time}"), "reason": "RenewalRequested", "issuer": issuer, "recordedAt": time, "notAfter": "2026-02-10T00:00:00Z" })
        });
        json!({
            "apiVersion": "usercert.dev/v1alpha1", "kind": "DatabaseUserCertificate",
            "metadata": { "namespace": "shop", "name": name, "uid": name },
            "spec": { "username": "orders", "issuerRef": { "kind": "CertificateIssuer", "name": "issuer" } },
            "status": {
                "notBefore": "2025-11-10T00:00:00Z", "notAfter": "2026-02-10T00:00:00Z", "renewalTime": renewal_time,
                "subject": "CN=orders", "history": history.collect::<Vec<_>>(),
            },
        })
    }

    fn foreseen(objects: impl IntoIterator<Item = Value>) -> Plan {
        let read = |object| serde_json::from_str(&Value::to_string(&object)).unwrap();
        let objects: Vec<Certificate> = objects.into_iter().map(read).collect();
        foresee(&objects, at("2026-01-01T00:00:00Z"), SignedDuration::from_hours(24 * 27), 10_000)
    }

    /// So many that were to be renewed yesterday.
    fn overdue(number: usize, issuer: &'static str) -> impl Iterator<Item = Value> {
        (0..number).map(move |number| {
            let name = format!("{}-{number}", issuer.rsplit('/').next().unwrap_or_default());
            let mut object = object(&name, "2025-12-31T00:00:00Z", issuer, &["2025-11-10T00:00:00Z"]);
            object["spec"]["username"] = json!(name);
            object
        })
    }

    #[test]
    fn renewals_of_a_project_wait_for_each_other_where_its_requests_do_not_suffice() {
        let queued = foreseen(overdue(700, FIRST)).queued_projects;
        let now = at("2026-01-01T00:00:00Z");
        // 600 take all requests that Atlas admits at once, and 250 more follow each minute.
        let expected = QueuedProject {
            project: "5f0000000000000000000001".to_owned(),
            from: now,
            until: at("2026-01-01T00:00:24Z"),
            renewals: 96,
            too_late: 0,
        };
        assert_eq!(queued, [expected]);
        assert_eq!(foreseen(overdue(600, FIRST)).queued_projects, []);
        let of_two = overdue(500, FIRST).chain(overdue(500, "atlas/5f0000000000000000000002"));
        assert_eq!(foreseen(of_two).queued_projects, [], "each project has its own");
        assert_eq!(foreseen(overdue(700, "ca/0a0b")).queued_projects, [], "a CA is asked for nothing");
        let expire_soon = overdue(700, FIRST).map(|mut object| {
            object["status"]["notAfter"] = json!("2026-01-01T00:00:20Z");
            object
        });
        assert_eq!(foreseen(expire_soon).queued_projects[0].too_late, 17, "250 have their turn in a minute");
    }

    #[test]
    fn a_queue_that_ends_and_another_one_are_two() {
        let minute = |minute: i64| at("2026-01-01T00:00:00Z") + SignedDuration::from_mins(minute);
        let due = |at: i64, number: usize| vec![(minute(at), Timestamp::MAX); number];
        let times = [due(0, 700), due(1, 10), due(60, 800)].concat();
        let queued = queues("p", &times);
        let told: Vec<_> = queued.iter().map(|queue| (queue.from, queue.renewals)).collect();
        assert_eq!(told, [(minute(0), 96), (minute(60), 196)]);
    }

    const FORCED: [&str; 5] = [
        "2025-12-31T20:00:00Z",
        "2025-12-31T19:00:00Z",
        "2025-12-31T18:00:00Z",
        "2025-12-31T17:00:00Z",
        "2025-12-31T16:00:00Z",
    ];

    #[test]
    fn a_renewal_waits_where_the_budget_of_its_user_is_used_up() {
        let forced = object("forced", "2026-03-01T00:00:00Z", FIRST, &FORCED);
        let due = |made: &[&str]| object("due", "2026-01-01T03:00:00Z", FIRST, made);
        let plan = foreseen([forced.clone(), due(&["2025-12-31T10:00:00Z"])]);
        let [found] = plan.held_users.as_slice() else { unreachable!("{:?}", plan.held_users) };
        assert_eq!((found.username.as_str(), found.name.as_str(), found.objects), ("orders", "due", 2));
        assert_eq!(found.from, at("2026-01-01T03:00:00Z"));
        assert_eq!(found.limit, LimitOfUser::Budget { made: 6, until: at("2026-01-01T10:00:00Z") });
        assert_eq!(foreseen([forced.clone(), due(&["2025-12-31T02:00:00Z"])]).held_users, [], "that is more than a day before");
        let mut of_other = due(&["2025-12-31T10:00:00Z"]);
        of_other["spec"]["username"] = json!("bills");
        assert_eq!(foreseen([forced.clone(), of_other]).held_users, [], "another user has a budget of its own");
        let of_ca = [forced, due(&["2025-12-31T10:00:00Z"])].map(|mut object| {
            object["status"]["history"].as_array_mut().unwrap().iter_mut().for_each(|made| made["issuer"] = json!("ca/0a"));
            object
        });
        assert_eq!(foreseen(of_ca).held_users, [], "a CA signs as often as it is asked");
    }

    #[test]
    fn the_user_of_an_atlas_database_user_is_known_by_its_certificate() {
        let mut by_reference = object("due", "2026-01-01T03:00:00Z", FIRST, &["2025-12-31T10:00:00Z"]);
        by_reference["spec"] = json!({ "userRef": { "name": "orders" } });
        let plan = foreseen([object("forced", "2026-03-01T00:00:00Z", FIRST, &FORCED), by_reference]);
        assert_eq!(plan.held_users.len(), 1);
    }

    #[test]
    fn a_user_for_whom_atlas_makes_no_more_certificates_is_told() {
        let mut refused = object("refused", "2025-12-31T00:00:00Z", FIRST, &["2025-11-10T00:00:00Z"]);
        refused["status"]["failure"] = json!({
            "count": 1, "reason": "AtlasCertificateLimit", "message": "no", "inputs": "",
            "lastTime": "2025-12-31T00:00:00Z", "nextAttempt": "2026-01-02T00:00:00Z",
        });
        let other = object("other", "2026-01-20T00:00:00Z", FIRST, &["2025-11-10T00:00:00Z"]);
        let plan = foreseen([refused.clone(), other.clone()]);
        let told: Vec<_> = plan.held_users.iter().map(|found| (found.name.as_str(), &found.limit)).collect();
        assert_eq!(told, [("refused", &LimitOfUser::Certificates)]);
        refused["status"]["failure"]["reason"] = json!("AtlasUnavailable");
        assert_eq!(foreseen([refused, other]).held_users, []);
    }
}
