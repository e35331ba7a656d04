//! The chart: how many renewals each week has.

use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};

use super::foresee::Plan;
use crate::{
    terminal::{Mood, Terminal},
    text::{append, paragraph},
};

/// The columns of the longest bar, if the terminal does not say how many it has.
const BAR: usize = 50;

/// The day of a time, in UTC.
pub(super) fn date(time: Timestamp) -> Date {
    time.to_zoned(TimeZone::UTC).date()
}

/// A line for each week: its first day, a bar, the number. `!` marks a storm, `l` a limit, `w` workloads that wait for a window.
pub(super) fn chart(plan: &Plan, terminal: &Terminal) -> String {
    let week = |time: Timestamp| usize::try_from(time.duration_since(plan.from).as_hours() / (24 * 7)).unwrap_or_default();
    let weeks = week(plan.until) + 1;
    let mut bars = vec![(0_usize, false, false, false); weeks];
    for renewal in &plan.renewals {
        if let Some((number, _, _, waits)) = bars.get_mut(week(renewal.time)) {
            *number += 1;
            *waits |= renewal.workloads_from.is_some();
        }
    }
    for storm in &plan.storms {
        if let Some((_, is_storm, ..)) = bars.get_mut(week(storm.hour.max(plan.from))) {
            *is_storm = true;
        }
    }
    let limits = plan.limited.iter().map(|found| found.from);
    let limits = limits.chain(plan.queued_projects.iter().map(|found| found.from));
    for from in limits.chain(plan.held_users.iter().map(|found| found.from)) {
        if let Some((_, _, is_limited, _)) = bars.get_mut(week(from)) {
            *is_limited = true;
        }
    }
    let longest = bars.iter().map(|(number, ..)| *number).max().unwrap_or_default().max(1);
    // The date, the number, the marks, and the spaces between them.
    let room = terminal.width.map_or(BAR, |width| width.saturating_sub(10 + 2 + 2 + 8 + 6).clamp(5, BAR));
    let mut text = String::new();
    for (index, (number, is_storm, is_limited, waits)) in bars.iter().enumerate() {
        let begins = plan.from.saturating_add(SignedDuration::from_hours(24 * 7 * i64::try_from(index).unwrap_or_default()));
        // Whatever is there is seen.
        let length = if longest <= room { *number } else { (number * room).div_ceil(longest) };
        let mood = if *is_storm || *is_limited { Mood::Warning } else { Mood::Good };
        let bar = terminal.paint(mood, &"#".repeat(length));
        let marks = [(*is_storm, " !"), (*is_limited, " l"), (*waits, " w")]
            .iter()
            .filter(|(is_set, _)| *is_set)
            .map(|(_, mark)| *mark)
            .collect::<String>();
        let number = if *number == 0 { String::new() } else { format!(" {number}") };
        append(
            &mut text,
            format_args!("{}  {bar}{number}{marks}", begins.map_or_else(|_| String::new(), |begins| date(begins).to_string())),
        );
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    let legend = [
        (true, "each line is a week"),
        (!plan.storms.is_empty(), "! has a storm"),
        (plan.reaches_limit(), "l reaches a limit of the operator or of Atlas"),
        (bars.iter().any(|(.., waits)| *waits), "w workloads wait for a window of their rollout"),
    ];
    let legend: Vec<&str> = legend.iter().filter(|(is_used, _)| *is_used).map(|(_, words)| *words).collect();
    text + &paragraph(&legend.join("; "), 0, terminal)
}
