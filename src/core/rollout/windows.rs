//! The times of the week at which workloads may be moved.

use std::sync::LazyLock;

use jiff::{
    Span, Timestamp,
    civil::{Date, Time, Weekday},
    tz::{TimeZone, TimeZoneDatabase},
};

use crate::{
    api::{Day, RolloutWindow},
    decide::InvalidSpec,
};

/// The zones that the program brings along. Those of the machine are not read: the core reads nothing, and an image without a
/// distribution has none.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// A window is looked for on so many days, from yesterday on: each day of the week comes, and one more if clocks skip a day.
const DAYS: i64 = 10;

/// Windows whose every value was read. Without one, every time is inside.
#[derive(Clone, Debug, Default)]
pub struct Windows(Vec<Window>);

#[derive(Clone, Debug)]
struct Window {
    /// Empty: each day.
    days: Vec<Weekday>,
    from: Time,
    /// `None`: the end of the day.
    to: Option<Time>,
    zone: TimeZone,
}

impl Windows {
    /// Reads them.
    ///
    /// # Errors
    /// [`InvalidSpec`] names the value: the schema cannot tell which time zones there are.
    pub fn parse(windows: &[RolloutWindow]) -> Result<Self, InvalidSpec> {
        windows.iter().map(Window::parse).collect::<Result<_, _>>().map(Self)
    }

    /// Whether this time is inside a window. A window begins with its first moment and ends before its last.
    #[must_use]
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.0.is_empty() || self.spans(now).any(|(start, end)| start <= now && now < end)
    }

    /// When the next window opens; `None` if one is open.
    #[must_use]
    pub fn next_opening(&self, now: Timestamp) -> Option<Timestamp> {
        if self.is_open(now) {
            return None;
        }
        self.spans(now).filter(|(start, end)| now < *start && start < end).map(|(start, _)| start).min()
    }

    fn spans(&self, now: Timestamp) -> impl Iterator<Item = (Timestamp, Timestamp)> + '_ {
        self.0.iter().flat_map(move |window| {
            let today = now.to_zoned(window.zone.clone()).date();
            (-1..DAYS).filter_map(move |days| window.on(today.checked_add(Span::new().try_days(days).ok()?).ok()?))
        })
    }
}

impl Window {
    fn parse(window: &RolloutWindow) -> Result<Self, InvalidSpec> {
        let name = window.time_zone.as_deref().unwrap_or("UTC");
        let zone = ZONES.get(name).map_err(|_| {
            InvalidSpec(format!("spec.rollout.windows: {name:?} is no IANA time zone; write one such as Europe/Berlin"))
        })?;
        let to = if window.to == "24:00" { None } else { Some(time(&window.to)?) };
        let days = window.days.iter().flatten().map(|day| weekday(*day)).collect();
        Ok(Self { days, from: time(&window.from)?, to, zone })
    }

    /// The window that starts on this date, if one does.
    fn on(&self, date: Date) -> Option<(Timestamp, Timestamp)> {
        if !self.days.is_empty() && !self.days.contains(&date.weekday()) {
            return None;
        }
        let tomorrow = date.tomorrow().ok()?;
        let end = match self.to {
            None => tomorrow.to_datetime(Time::midnight()),
            Some(to) if to > self.from => date.to_datetime(to),
            Some(to) => tomorrow.to_datetime(to),
        };
        // "Compatible" as in RFC 5545, section 3.3.5: what is skipped is counted with the offset before, what comes twice is the first.
        let at = |time| self.zone.to_ambiguous_timestamp(time).compatible().ok();
        Some((at(date.to_datetime(self.from))?, at(end)?))
    }
}

fn time(text: &str) -> Result<Time, InvalidSpec> {
    let invalid = || InvalidSpec(format!("spec.rollout.windows: {text:?} is no time of the day; write one such as 22:00"));
    let (hour, minute) = text.split_once(':').ok_or_else(invalid)?;
    let (hour, minute) = (hour.parse().map_err(|_| invalid())?, minute.parse().map_err(|_| invalid())?);
    Time::new(hour, minute, 0, 0).map_err(|_| invalid())
}

const fn weekday(day: Day) -> Weekday {
    match day {
        Day::Mon => Weekday::Monday,
        Day::Tue => Weekday::Tuesday,
        Day::Wed => Weekday::Wednesday,
        Day::Thu => Weekday::Thursday,
        Day::Fri => Weekday::Friday,
        Day::Sat => Weekday::Saturday,
        Day::Sun => Weekday::Sunday,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn windows(value: Value) -> Result<Windows, InvalidSpec> {
        Windows::parse(&serde_json::from_value::<Vec<RolloutWindow>>(value).unwrap())
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn night() -> Value {
        json!([{ "days": ["Fri"], "from": "22:00", "to": "04:00", "timeZone": "Europe/Berlin" }])
    }

    #[rstest]
    // 27 November 2026 is a Friday; Berlin is an hour ahead of UTC.
    #[case::before(night(), "2026-11-27T20:59:59Z", Some("2026-11-27T21:00:00Z"))]
    #[case::first_moment(night(), "2026-11-27T21:00:00Z", None)]
    #[case::past_midnight_it_is_still_fridays(night(), "2026-11-28T02:59:59Z", None)]
    #[case::last_moment(night(), "2026-11-28T03:00:00Z", Some("2026-12-04T21:00:00Z"))]
    #[case::the_night_before_is_thursdays(night(), "2026-11-27T01:00:00Z", Some("2026-11-27T21:00:00Z"))]
    #[case::each_day(json!([{ "from": "02:00", "to": "03:00" }]), "2026-11-27T03:00:00Z", Some("2026-11-28T02:00:00Z"))]
    #[case::whole_days(json!([{ "days": ["Sat"], "from": "00:00", "to": "24:00" }]), "2026-11-28T23:59:59Z", None)]
    #[case::whole_days_end(json!([{ "days": ["Sat"], "from": "00:00", "to": "24:00" }]), "2026-11-29T00:00:00Z", Some("2026-12-05T00:00:00Z"))]
    #[case::the_earlier_of_two(json!([{ "days": ["Mon"], "from": "08:00", "to": "09:00" }, { "days": ["Sun"], "from": "08:00", "to": "09:00" }]),
        "2026-11-27T00:00:00Z", Some("2026-11-29T08:00:00Z"))]
    // Berlin put its clocks from 02:00 to 03:00 on 29 March 2026: 02:30 counts as 03:30, which is 01:30 UTC.
    #[case::skipped_start(json!([{ "from": "02:30", "to": "05:00", "timeZone": "Europe/Berlin" }]), "2026-03-29T01:29:59Z", Some("2026-03-29T01:30:00Z"))]
    #[case::skipped_start_open(json!([{ "from": "02:30", "to": "05:00", "timeZone": "Europe/Berlin" }]), "2026-03-29T01:30:00Z", None)]
    #[case::skipped_end(json!([{ "from": "01:00", "to": "02:30", "timeZone": "Europe/Berlin" }]), "2026-03-29T01:29:59Z", None)]
    #[case::skipped_end_over(json!([{ "from": "01:00", "to": "02:30", "timeZone": "Europe/Berlin" }]), "2026-03-29T01:30:00Z", Some("2026-03-29T23:00:00Z"))]
    #[case::wholly_skipped_keeps_its_length(json!([{ "from": "02:10", "to": "02:20", "timeZone": "Europe/Berlin" }]), "2026-03-29T01:15:00Z", None)]
    // Berlin put its clocks from 03:00 to 02:00 on 25 October 2026: 02:30 was at 00:30 UTC first.
    #[case::start_that_comes_twice(json!([{ "from": "02:30", "to": "05:00", "timeZone": "Europe/Berlin" }]), "2026-10-25T00:30:00Z", None)]
    #[case::end_that_comes_twice(json!([{ "from": "01:00", "to": "02:30", "timeZone": "Europe/Berlin" }]), "2026-10-25T00:30:00Z", Some("2026-10-26T00:00:00Z"))]
    // Apia had no 30 December 2011.
    #[case::a_day_that_was_skipped(json!([{ "days": ["Sat"], "from": "10:00", "to": "11:00", "timeZone": "Pacific/Apia" }]), "2011-12-30T09:00:00Z", Some("2011-12-30T20:00:00Z"))]
    fn a_window_opens_and_closes_by_the_clock_of_its_zone(#[case] spec: Value, #[case] now: &str, #[case] next: Option<&str>) {
        let windows = windows(spec).unwrap();
        assert_eq!(windows.next_opening(at(now)), next.map(at));
        assert_eq!(windows.is_open(at(now)), next.is_none());
    }

    #[test]
    fn without_windows_every_time_is_inside() {
        assert!(Windows::default().is_open(at("2026-01-01T00:00:00Z")));
        assert_eq!(Windows::default().next_opening(at("2026-01-01T00:00:00Z")), None);
    }

    #[rstest]
    #[case(json!({ "from": "22:00", "to": "04:00", "timeZone": "Europe/Berlyn" }), "Europe/Berlyn")]
    #[case(json!({ "from": "25:00", "to": "04:00" }), "25:00")]
    #[case(json!({ "from": "22:00", "to": "4" }), "\"4\"")]
    fn what_cannot_be_read_is_named(#[case] window: Value, #[case] named: &str) {
        let error = windows(json!([window])).unwrap_err();
        assert!(error.to_string().contains(named), "{error}");
    }
}
