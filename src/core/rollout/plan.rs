//! What comes next: which workloads are moved now, and what the status says.

use aws_lc_rs::digest;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    Awaited, Input, Readiness, SerialNumbers, Workload,
    figures::old_not_after,
    found::MOST_NAMES,
    gate::{DEFAULT_READY_TIMEOUT, Gate, Wanted},
    state::{State, Tracked},
    summary::{expired, summary},
};
use crate::{
    api::{BegunWorkload, Reason, RolloutStatus, WorkloadReference, truncated_to_second},
    decide::InvalidSpec,
};

/// Of so many begun workloads the status keeps track: as many as may be moved at once, and as many that wait for a person.
const MOST_BEGUN: usize = 200;

/// While workloads are on their way, they are looked at this often.
const WHILE_MOVING: SignedDuration = SignedDuration::from_secs(5);

/// While a workload is stuck, it is looked at this often.
const WHILE_STOPPED: SignedDuration = SignedDuration::from_secs(30);

/// While only others can do something, this often it is looked at whether they did.
const WHILE_OTHERS_ACT: SignedDuration = SignedDuration::from_mins(10);

/// While no window is open, this often it is looked at whether somebody has restarted workloads.
const WHILE_CLOSED: SignedDuration = SignedDuration::from_hours(1);

/// A longer request to go on is kept by its SHA-256, which has as many characters in hexadecimal digits.
const LONGEST_REQUEST: usize = 64;

/// One change of one workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Which workload.
    pub workload: WorkloadReference,
    /// The object with this UID.
    pub uid: String,
    /// In exactly this version: so two certificates cannot take each other's entry away.
    pub resource_version: String,
    /// The new value of the annotation.
    pub serial_numbers: String,
}

impl Move {
    /// The serial numbers that the workload has afterwards.
    #[must_use]
    pub fn serial_numbers(&self) -> SerialNumbers {
        SerialNumbers::parse(&self.serial_numbers)
    }
}

/// When to look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Not before the certificate or the spec changes.
    Never,
    /// At this time.
    At(Timestamp),
}

/// What comes next. The status is written first, and then the workloads are moved: a workload is never changed that the status does not
/// keep track of.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What the status says, and in it whether all is done.
    pub status: RolloutStatus,
    /// Why all is done or is not.
    pub reason: Reason,
    /// The numbers, and the names that matter.
    pub message: String,
    /// That the old certificate has expired, and who may still use it.
    pub expired: Option<String>,
    /// The workloads to be moved now.
    pub moves: Vec<Move>,
    /// When to look again.
    pub look: Look,
    /// Those on whom alone it depends until then whether anything changes.
    pub awaited: Option<Awaited>,
    /// How many pods are not known to have the certificate.
    pub pods_behind: i64,
}

/// What comes next.
#[must_use]
pub fn plan(input: &Input<'_>) -> Plan {
    let mut status = carried(input);
    let certificate = input.certificate.completed(status.secret_complete_since.as_ref().map(|since| since.0));
    let input = &Input { certificate: &certificate, ..*input };
    let wanted = match Wanted::read(input, &mut status) {
        Ok(wanted) => wanted,
        Err(InvalidSpec(message)) => {
            return invalid(input, status, message);
        }
    };
    resume(input, &wanted, &mut status);
    let mut tracked = track(input, wanted.ready_timeout, &status);
    let gate = Gate::new(input, &wanted, &status, &tracked);
    tracked.iter_mut().for_each(give_up_place);
    let moves = if gate == Gate::Open { moves(input, &mut tracked) } else { Vec::new() };
    fill(&mut status, input, &tracked, gate);
    let expired = expired(input, &status, &tracked);
    status.old_certificate_expired = expired.is_some();
    let (is_complete, reason, message) = summary(input, &status, &tracked, gate, expired.as_deref());
    status.complete = is_complete;
    if is_complete {
        // No workload has the old certificate any more.
        status.old_not_after = None;
    }
    let look = look(input, &status, &tracked, gate, &moves);
    let awaited = Awaited::of(&tracked, gate, input.certificate, wanted.ready_timeout, input.now);
    let pods_behind = pods_behind(&tracked);
    Plan { status, reason, message, expired, moves, look, awaited, pods_behind }
}

/// Moves nobody, for the spec cannot be read. How many workloads are behind is told all the same.
fn invalid(input: &Input<'_>, mut status: RolloutStatus, message: String) -> Plan {
    let tracked = track(input, DEFAULT_READY_TIMEOUT, &status);
    fill(&mut status, input, &tracked, Gate::NotReady);
    // What was complete for another spec may not be so for this one.
    status.complete = false;
    let expired = expired(input, &status, &tracked);
    status.old_certificate_expired = expired.is_some();
    let parts: Vec<String> = [Some(message), expired.clone()].into_iter().flatten().collect();
    let (reason, message) = (Reason::InvalidSpec, parts.join("; "));
    let look = expiry_ahead(&status, input.now).map_or(Look::Never, Look::At);
    let pods_behind = pods_behind(&tracked);
    Plan { status, reason, message, expired, moves: Vec::new(), look, awaited: None, pods_behind }
}

fn pods_behind(tracked: &[Tracked<'_>]) -> i64 {
    tracked.iter().map(Tracked::pods_behind).fold(0, i64::saturating_add)
}

/// The status as it begins: as it was, or anew for another certificate. Workloads that were begun for the last certificate and may not be
/// ready keep their places.
fn carried(input: &Input<'_>) -> RolloutStatus {
    let certificate = input.certificate;
    let old = input.status.cloned().unwrap_or_default();
    let is_first = input.status.is_none();
    let mut status = if old.serial_number == certificate.serial_number {
        // Workloads that another spec covers may have any of the older certificates, as if nobody had looked.
        let older = || old_not_after(None, certificate).filter(|_| old.complete).map(Time);
        RolloutStatus { old_not_after: old.old_not_after.clone().or_else(older), ..old }
    } else {
        RolloutStatus {
            serial_number: certificate.serial_number.clone(),
            urgent: certificate.is_urgent() || old.urgent && !old.complete,
            old_not_after: old_not_after(input.status, certificate).map(Time),
            begun: old.begun.into_iter().filter(|begun| !begun.passed_over).map(begun_anew).collect(),
            resume_request_handled: old.resume_request_handled,
            ..RolloutStatus::default()
        }
    };
    // A certificate may be found to be compromised when the one after it is there already.
    let old_not_after = status.old_not_after.as_ref().map(|time| time.0);
    status.urgent = status.urgent || !status.complete && certificate.is_after_compromised(old_not_after);
    status.observed_generation = input.generation;
    if status.secret_incomplete && certificate.is_complete {
        status.secret_complete_since = Some(Time(truncated_to_second(input.now)));
    }
    status.secret_incomplete = !certificate.is_complete;
    // If nothing was stopped, nothing is asked to go on.
    let handled = if is_first { input.resume } else { status.resume_request_handled.as_deref() };
    status.resume_request_handled = handled.map(handled_request);
    status
}

/// What the status keeps of a request to go on: a long value by its SHA-256, for an annotation may be as long as a quarter of a megabyte.
fn handled_request(request: &str) -> String {
    if request.chars().count() <= LONGEST_REQUEST {
        return request.to_owned();
    }
    hex::encode(digest::digest(&digest::SHA256, request.as_bytes()).as_ref())
}

fn begun_anew(begun: BegunWorkload) -> BegunWorkload {
    BegunWorkload { changed: false, taken_back: 0, ..begun }
}

/// Goes on without the workloads that are stuck, if a person asks for it.
fn resume(input: &Input<'_>, wanted: &Wanted, status: &mut RolloutStatus) {
    let request = input.resume.map(handled_request);
    if request.is_none() || request == status.resume_request_handled {
        return;
    }
    status.resume_request_handled = request;
    let stuck: Vec<WorkloadReference> = track(input, wanted.ready_timeout, status)
        .into_iter()
        .filter(|tracked| matches!(tracked.state, State::Stuck(_)))
        .map(|tracked| tracked.workload.reference.clone())
        .collect();
    for begun in status.begun.iter_mut().filter(|begun| stuck.contains(&begun.workload)) {
        begun.passed_over = true;
    }
}

fn track<'a>(input: &Input<'a>, ready_timeout: SignedDuration, status: &RolloutStatus) -> Vec<Tracked<'a>> {
    let living = input.found.workloads.iter().filter(|workload| !workload.is_being_deleted);
    living
        .map(|workload| {
            let begun = status.begun.iter().find(|begun| begun.workload == workload.reference).cloned();
            let tracked = Tracked::new(workload, begun, input.certificate, ready_timeout, input.now);
            let refused = input.found.refused.iter().find(|(refused, _)| *refused == workload.reference);
            tracked.refused(refused.map(|(_, why)| why.as_str())).shared_with(input.others, input.now)
        })
        .collect()
}

/// A workload that was to be moved and was not keeps its place only while it is not ready, or to count how often it was taken back. Another
/// certificate may have taken the place meanwhile.
fn give_up_place(tracked: &mut Tracked<'_>) {
    let is_ready = tracked.workload.readiness == Readiness::Ready;
    if tracked.state == State::Behind && is_ready && tracked.begun.as_ref().is_some_and(|begun| begun.taken_back == 0) {
        tracked.begun = None;
    }
}

/// The workloads that are moved now: first those that have a place, then those that are ready, then the others, whom a restart may help.
fn moves(input: &Input<'_>, tracked: &mut [Tracked<'_>]) -> Vec<Move> {
    let mut places = tracked.iter().filter(|tracked| tracked.takes_place()).count();
    let mut begun = places;
    // One that keeps its place from another certificate, or from a larger maxConcurrent, is not on its way yet.
    let is_on_its_way = |tracked: &&Tracked<'_>| tracked.state != State::Behind || tracked.begun_for.is_some();
    let mut on_their_way = tracked.iter().filter(|tracked| tracked.takes_place()).filter(is_on_its_way).count();
    let most = input.certificate.rollout.max_concurrent();
    let mut behind: Vec<&mut Tracked<'_>> = tracked.iter_mut().filter(|tracked| tracked.state == State::Behind).collect();
    behind.sort_by_key(|tracked| (!tracked.takes_place(), tracked.workload.readiness != Readiness::Ready));
    let mut moves = Vec::new();
    for tracked in behind {
        let Some(next) = next_move(input, tracked.workload) else { continue };
        let needs_place = tracked.workload.updates.leaves_all().is_none();
        // If another certificate has begun it, it takes a place already.
        let is_begun_by_another = tracked.begun_for.is_some();
        if tracked.begun.is_none() {
            if begun >= MOST_BEGUN || needs_place && places - usize::from(is_begun_by_another) >= most {
                continue;
            }
            begun += 1;
            places += usize::from(needs_place && !is_begun_by_another);
        } else if needs_place && !is_begun_by_another && on_their_way >= most {
            continue;
        }
        on_their_way += usize::from(needs_place && !is_begun_by_another);
        tracked.begin(input.now);
        moves.push(next);
    }
    moves
}

/// The change of a workload: the serial numbers of this certificate, and of all others that it follows, so that Secrets that change
/// together cost one restart. `None` while new pods may not have all of them.
fn next_move(input: &Input<'_>, workload: &Workload) -> Option<Move> {
    let mut serial_numbers: SerialNumbers = workload.serial_numbers.clone();
    serial_numbers.retain(|name| input.objects.contains(name));
    serial_numbers.set(&input.certificate.name, &input.certificate.serial_number);
    for other in input
        .others
        .iter()
        .filter(|other| other.is_ready && other.is_complete && !other.is_compromised && other.covers(workload))
    {
        let entry = serial_numbers.get(&other.name);
        if entry == Some(other.serial_number.as_str()) {
            continue;
        }
        // A serial number that is not known is newer than what is known.
        if entry.is_some_and(|entry| !other.known.iter().any(|known| known == entry)) {
            continue;
        }
        if input.now < other.usable_from(input.now) {
            return None;
        }
        serial_numbers.set(&other.name, &other.serial_number);
    }
    Some(Move {
        workload: workload.reference.clone(),
        uid: workload.uid.clone(),
        resource_version: workload.resource_version.clone(),
        serial_numbers: serial_numbers.to_string(),
    })
}

fn fill(status: &mut RolloutStatus, input: &Input<'_>, tracked: &[Tracked<'_>], gate: Gate) {
    let is_moved = |tracked: &&Tracked<'_>| tracked.state == State::Moved;
    status.workloads = number(tracked.len() + input.found.missing.len() + input.found.without_template.len());
    status.moved = number(tracked.iter().filter(is_moved).count());
    status.progress = format!("{}/{}", status.moved, status.workloads);
    status.begun = tracked.iter().filter_map(|tracked| tracked.begun.clone()).take(MOST_BEGUN).collect();
    let left = tracked.iter().filter(|tracked| matches!(tracked.state, State::LeftToOthers(_)));
    status.left_to_others = left.map(|tracked| tracked.workload.reference.to_string()).take(MOST_NAMES).collect();
    let waits = tracked.iter().any(|tracked| tracked.state == State::Behind);
    status.next_window = match gate {
        Gate::Window(next) if waits => next.map(Time),
        _ => None,
    };
    let updated = tracked.iter().filter_map(|tracked| updated_by_restart_alone(input, tracked.workload));
    status.updated_by_restart_alone = updated.take(MOST_NAMES).collect();
    if let Some(outside) = &input.found.outside {
        let first = |names: &[String]| names.iter().take(MOST_NAMES).cloned().collect();
        status.not_movable = first(&outside.not_movable);
        status.not_covered = first(&outside.not_covered);
    }
}

/// The workload, if the kubelet cannot update all that its running pods have of the Secret, and why.
fn updated_by_restart_alone(input: &Input<'_>, workload: &Workload) -> Option<String> {
    let how = workload.uses(&input.certificate.secret_name).updated_by_restart_alone()?;
    Some(format!("{} ({how})", workload.reference))
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn look(input: &Input<'_>, status: &RolloutStatus, tracked: &[Tracked<'_>], gate: Gate, moves: &[Move]) -> Look {
    let after = |delay| input.now.saturating_add(delay).unwrap_or(input.now);
    let is_moving = tracked.iter().any(|tracked| tracked.state == State::Moving);
    let waits = tracked.iter().any(|tracked| tracked.state == State::Behind);
    let at = match gate {
        _ if status.complete => return Look::Never,
        _ if is_moving || !moves.is_empty() => after(WHILE_MOVING),
        Gate::Stopped => after(WHILE_STOPPED),
        Gate::Lag(until) if waits => until,
        Gate::Window(next) if waits => {
            let regardless = status.regardless_of_windows_after.as_ref().map(|time| time.0);
            let times = next.into_iter().chain(regardless).filter(|time| *time > input.now);
            times.min().unwrap_or(after(WHILE_CLOSED)).min(after(WHILE_CLOSED))
        }
        // They wait for another certificate, which new pods may not have yet.
        Gate::Open if waits => after(WHILE_MOVING),
        _ => after(WHILE_OTHERS_ACT),
    };
    // That it has expired is told in time.
    Look::At(expiry_ahead(status, input.now).map_or(at, |expiry| at.min(expiry)))
}

/// When the old certificate expires, unless it has.
fn expiry_ahead(status: &RolloutStatus, now: Timestamp) -> Option<Timestamp> {
    status.old_not_after.as_ref().map(|old| old.0).filter(|expiry| *expiry > now)
}
