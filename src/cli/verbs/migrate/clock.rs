//! By which time a takeover is judged: the API server's, for the clock of the machine that asks may be wrong. The operator goes by its own clock,
//! so a wrong one of the operator is in the way.

use jiff::Timestamp;

use super::obstacles::Obstacle;
use crate::{
    cluster::Cluster,
    session::Session,
    verbs::leader::{Clocks, Leader, leader},
};

/// The time, and what is to be known of it.
#[derive(Debug)]
pub(super) struct Clock {
    pub(super) now: Timestamp,
    pub(super) notes: Vec<String>,
    pub(super) obstacle: Option<Obstacle>,
}

/// Asks the API server for the time, and looks at the operator's Lease for its clock.
pub(super) async fn clock(cluster: &Cluster, session: &Session) -> Clock {
    let own = session.now();
    let (operator, clocks) = leader(cluster, own).await;
    judged(own, &operator, clocks)
}

fn judged(own: Timestamp, operator: &Leader, clocks: Clocks) -> Clock {
    let server = clocks.own.and_then(|ahead| own.checked_sub(ahead).ok());
    let mut notes = Vec::new();
    if server.is_none() {
        notes.push(
            "the API server does not tell the time, so this machine's clock tells what is due and what has expired".to_owned(),
        );
    }
    notes.extend(clocks.fault_of_own().map(|fault| format!("{fault}: all times here are the API server's")));
    if clocks.operator.is_none() {
        let why = match operator {
            Leader::Gone(why) | Leader::Unknown(why) | Leader::Denied(why) => why,
            Leader::Leads(_) => "the Lease does not tell what it says",
        };
        notes.push(format!("whether the operator's clock is right is not known: {why}"));
    }
    let obstacle = clocks.fault_of_operator().map(|fault| {
        Obstacle::change(format!("{fault}, so it would renew at another time than is told here: correct the clock of its node"))
    });
    Clock { now: server.unwrap_or(own), notes, obstacle }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    const OWN: Timestamp = Timestamp::UNIX_EPOCH;

    fn found(own: Option<SignedDuration>, operator: Option<SignedDuration>) -> Clock {
        judged(OWN, &Leader::Leads("pod_1".into()), Clocks { own, operator })
    }

    const RIGHT: Option<SignedDuration> = Some(SignedDuration::ZERO);
    const TWO_DAYS_BEHIND: Option<SignedDuration> = Some(SignedDuration::from_hours(-48));

    #[test]
    fn the_time_is_the_api_servers() {
        let right = found(RIGHT, RIGHT);
        assert_eq!((right.now, right.notes, right.obstacle), (OWN, Vec::new(), None));
        let behind = found(TWO_DAYS_BEHIND, RIGHT);
        assert_eq!((behind.now, behind.obstacle), (OWN + SignedDuration::from_hours(48), None));
        let told = "this machine's clock is 2d behind the API server's: all times here are the API server's";
        assert_eq!(behind.notes, [told]);
    }

    #[test]
    fn without_the_api_servers_time_it_is_this_machines_and_that_is_told() {
        let Clock { now, notes, obstacle } = found(None, RIGHT);
        assert_eq!((now, obstacle), (OWN, None));
        assert!(notes.len() == 1 && notes[0].contains("this machine's clock tells what is due"), "{notes:?}");
    }

    #[test]
    fn a_wrong_clock_of_the_operator_is_in_the_way_and_one_that_is_not_known_is_told() {
        let told = "the operator's clock is 2d behind the API server's, so it would renew at another time than is told here: correct the clock of its node";
        assert_eq!(found(RIGHT, TWO_DAYS_BEHIND).obstacle, Some(Obstacle::change(told)));
        assert_eq!(found(RIGHT, Some(SignedDuration::from_secs(60))).obstacle, None, "as much as why tolerates");
        let unknown = judged(OWN, &Leader::Denied("you may not".into()), Clocks { own: RIGHT, operator: None });
        assert_eq!(unknown.obstacle, None);
        assert_eq!(unknown.notes, ["whether the operator's clock is right is not known: you may not"]);
    }
}
