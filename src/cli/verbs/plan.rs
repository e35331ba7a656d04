//! `plan`: the renewals ahead, as a chart.

mod chart;
mod foresee;
mod limits;
mod renewal;

use jiff::SignedDuration;
use usercert_operator_core::decide::{ISSUES_IN_AN_HOUR, pass::CALLS_WITH_LIST};

use self::{
    chart::{chart, date},
    foresee::{FORESEEN, FORESEEN_IN_ALL, Plan, foresee},
    limits::{HeldUser, LimitOfUser, REQUESTS, REQUESTS_A_MINUTE},
};
use super::{
    leader::{Leader, below, leader},
    namespace::must_exist_if_empty,
    objects::certificates,
};
use crate::{
    arguments::PlanArguments,
    cluster::Cluster,
    exit::{Answer, CliError, Exit, for_programs},
    session::Session,
    table::{Cell, Table},
    terminal::{Mood, Terminal},
    text::{append, count, paragraph, relative},
};

/// How many renewals stand in the table below the chart.
const LISTED: usize = 10;

/// Answers `plan`.
pub(super) async fn plan(cluster: &Cluster, session: &Session, arguments: &PlanArguments) -> Result<Answer, CliError> {
    let objects = certificates(cluster, &[], &arguments.selection).await?;
    must_exist_if_empty(cluster, objects.is_empty(), arguments.selection.all_namespaces).await?;
    let days = SignedDuration::from_hours(24 * i64::from(arguments.days));
    let mut plan = foresee(&objects, session.now(), days, usize::from(arguments.storm));
    // Without an operator none of these renewals comes.
    let (operator, clocks) = leader(cluster, session.now()).await;
    plan.clocks = clocks.faults();
    let exit = if plan.needs_attention() || matches!(operator, Leader::Gone(_)) { Exit::Attention } else { Exit::Good };
    let below = below(&operator, &plan.clocks, &session.terminal);
    plan.operator = Some(operator);
    let text = for_programs(&plan, arguments.output)?
        .unwrap_or_else(|| render(&plan, usize::from(arguments.storm), &session.terminal) + &below);
    Ok(Answer::new(text, exit))
}

impl Plan {
    fn needs_attention(&self) -> bool {
        let nothing_is_wrong = self.storms.is_empty()
            && self.unrenewed.is_empty()
            && self.without_renewal.is_empty()
            && self.limited.is_empty()
            && self.held_users.is_empty()
            && self.clocks.is_empty();
        // The operator settles a queue by itself, if it does so in time.
        !nothing_is_wrong || self.queued_projects.iter().any(|queue| queue.too_late > 0)
    }

    fn reaches_limit(&self) -> bool {
        !(self.limited.is_empty() && self.queued_projects.is_empty() && self.held_users.is_empty())
    }
}

fn render(plan: &Plan, storm: usize, terminal: &Terminal) -> String {
    let title = |text: &str| format!("{}\n", terminal.paint(Mood::Title, text));
    let words = |text: &str| paragraph(Cell::whole(text).text(), 2, terminal);
    let heading = format!("{} from {} to {} (UTC)", count(plan.renewals.len(), "renewal"), date(plan.from), date(plan.until));
    let mut text = title(&heading) + &chart(plan, terminal);
    if !plan.renewals.is_empty() {
        text.push('\n');
        text.push_str(&next(plan, terminal));
    }
    if !plan.storms.is_empty() {
        append(&mut text, format_args!("\n{}", title("Storms")));
        for found in &plan.storms {
            text.push_str(&words(&format!(
                "{}: {} of {} within the hour",
                found.hour,
                count(found.renewals, "renewal"),
                found.issuer
            )));
        }
        text.push_str(&words(&format!(
            "An hour with {storm} renewals of one issuer and more counts as a storm. The operator queues them, what expires first in front, so usually nothing is to be done. To spread them, make spec.renewBefore of a part of them longer, or renew a part of them before: kubectl usercert renew -l ... --at-most {}/h. That is one more certificate for each, and Atlas cannot revoke the former one",
            (storm / 2).clamp(1, 1000)
        )));
    }
    if plan.reaches_limit() {
        append(&mut text, format_args!("\n{}", title("Limits")));
        for sentence in limits(plan) {
            text.push_str(&words(&sentence));
        }
    }
    if !plan.cut_off.is_empty() || plan.foreseen_until.is_some() {
        append(&mut text, format_args!("\n{}", title("Foreseen in part")));
        if let Some(until) = plan.foreseen_until {
            text.push_str(&words(&format!(
                "there are more than {FORESEEN_IN_ALL} renewals in this time: those after {until} are missing here. Ask for less: --days, -l, or one namespace"
            )));
        }
        for found in &plan.cut_off {
            text.push_str(&words(&format!(
                "{}/{} has more than {FORESEEN} renewals in this time: those after {} are missing here",
                found.namespace, found.name, found.after
            )));
        }
    }
    if !plan.without_renewal.is_empty() {
        append(&mut text, format_args!("\n{}", title("Without a renewal")));
        for found in &plan.without_renewal {
            let (namespace, name) = (&found.namespace, &found.name);
            text.push_str(&words(&format!("{namespace}/{name}: {}: kubectl usercert why {name} -n {namespace}", found.why)));
        }
    }
    if !plan.unrenewed.is_empty() {
        append(&mut text, format_args!("\n{}", title("Not renewed before they expire")));
        for found in &plan.unrenewed {
            let expires = relative(found.not_after, plan.from);
            text.push_str(&words(&format!(
                "{}/{} expires {expires}, at {}: {}",
                found.namespace, found.name, found.not_after, found.why
            )));
        }
    }
    text
}

/// A text for each limit that is reached.
fn limits(plan: &Plan) -> Vec<String> {
    let of_objects = plan.limited.iter().map(|found| {
        format!(
            "{}/{} waits from {} on: it is to be renewed more than {ISSUES_IN_AN_HOUR} times within an hour, and the operator does not do that (TooManyIssues). Make spec.renewBefore shorter or the lifetime longer",
            found.namespace, found.name, found.from
        )
    });
    let of_projects = plan.queued_projects.iter().map(|found| {
        format!(
            "Atlas project {}: {} that are due from {} on wait for their turn, until about {} (AtlasQueued). A renewal takes up to {CALLS_WITH_LIST} requests. Atlas admitted {REQUESTS} of a project, and {REQUESTS_A_MINUTE} more each minute, when its answers were recorded. The operator goes by what Atlas tells at the time. What expires first goes first{}",
            found.project,
            count(found.renewals, "renewal"),
            found.from,
            found.until,
            if found.too_late == 0 {
                ", so nothing is to be done".to_owned()
            } else {
                format!(". {} before: make spec.renewBefore of a part of them longer", count(found.too_late, "certificate") + if found.too_late == 1 { " expires" } else { " expire" })
            }
        )
    });
    let of_users = plan.held_users.iter().map(of_user);
    of_objects.chain(of_projects).chain(of_users).collect()
}

fn of_user(found: &HeldUser) -> String {
    let HeldUser { project, username, from, namespace, name, objects, limit } = found;
    let user = format!("database user {username:?} of the Atlas project {project}");
    match limit {
        LimitOfUser::Budget { made, until } => format!(
            "{user}: the renewal of {namespace}/{name} at {from} waits until {until} (AtlasMintBudget). {made} certificates are made for the user within a day, and {} here. If that is too late, ask for the renewal: kubectl usercert renew {name} -n {namespace}",
            if *objects == 1 { "1 object names it".to_owned() } else { format!("{objects} objects name it") },
        ),
        LimitOfUser::Certificates => format!(
            "{user}: Atlas makes no more certificates for it until one of them expires (AtlasCertificateLimit). The renewal of {namespace}/{name} at {from} is the first that needs one. How many Atlas allows is not published"
        ),
    }
}

fn next(plan: &Plan, terminal: &Terminal) -> String {
    let mut table = Table::new(["RENEWS", "NAMESPACE", "NAME", "WORKLOADS FOLLOW FROM"]);
    let known = || plan.renewals.iter().filter(|renewal| !renewal.is_estimate);
    for renewal in known().take(LISTED) {
        table.push([
            relative(renewal.time, plan.from).into(),
            renewal.namespace.as_str().into(),
            renewal.name.as_str().into(),
            renewal.workloads_from.map_or_else(String::new, |time| time.to_string()).into(),
        ]);
    }
    let more = known().count().saturating_sub(LISTED);
    let more = if more == 0 { String::new() } else { format!("and {more} more: -o json has all\n") };
    table.render(terminal) + &more
}

#[cfg(test)]
mod tests;
