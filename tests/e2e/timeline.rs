//! One rotation, from the request to the last Pod.

use jiff::Timestamp;

use crate::consumers::Sighting;

/// What happened when, in the order in which it was noted.
pub struct Timeline {
    title: String,
    started: Timestamp,
    marks: Vec<(Timestamp, String)>,
}

impl Timeline {
    pub fn new(title: &str) -> Self {
        Self { title: title.to_owned(), started: Timestamp::now(), marks: Vec::new() }
    }

    pub fn mark(&mut self, time: Timestamp, what: &str) {
        self.marks.push((time, what.to_owned()));
    }

    /// Each Pod's first look at the new certificate.
    pub fn sightings(&mut self, sightings: &[Sighting]) {
        for sighting in sightings {
            let how = if sighting.first { "starts with" } else { "reads" };
            self.mark(sighting.time, &format!("{} of {} {how} the new {}", sighting.pod, sighting.workload, sighting.secret));
        }
    }

    /// From one mark to the last one, in seconds.
    pub fn seconds_since(&self, time: Timestamp) -> f64 {
        self.marks.iter().map(|(mark, _)| *mark).max().map_or(0.0, |last| last.duration_since(time).as_secs_f64())
    }

    pub fn print(mut self) {
        println!("\n{}", self.title);
        self.marks.sort_by_key(|(time, _)| *time);
        for (time, what) in &self.marks {
            println!("  {:>6.2} s  {what}", time.duration_since(self.started).as_secs_f64());
        }
    }
}
