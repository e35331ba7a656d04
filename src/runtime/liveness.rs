//! Whether the loops of this process move.
//!
//! # Guarantees
//!
//! - A loop that has not moved for its limit fails [`Liveness::look`], and so does one that ended by a panic.
//! - Only time counts for which this process could run ([`counted`]). A process that was paused, a machine that slept and a clock that was
//!   corrected are logged and counted, and fail nothing: a restart helps against none of them, and loses what is in memory alone.
//! - While certificates are in memory alone, a loop that stands still fails nothing for half an hour ([`HELD_BACK`]).
//! - While the process stops, loops may stand still for as long as that may take ([`Liveness::stopping`]): nothing new is begun, and a restart
//!   would cut off what is under way. A panic fails all the same.
//!
//! # Assumptions
//!
//! - [`Liveness::watch_clocks`] was called. Without it no time counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use tracing::{error, warn};

use super::{Check, clock::is_jump};

/// How often the clocks are compared.
const PERIOD: Duration = Duration::from_secs(1);

/// The most that one period counts for.
const MOST_COUNTED: Duration = Duration::from_secs(2);

/// A period that took longer is told as a pause. A busy machine takes less.
const PAUSE: Duration = Duration::from_secs(10);

/// For how long a loop may stand still beyond its limit while certificates are in memory alone. A write of a Secret that is refused is tried
/// again every eight minutes, and a pass takes at most twelve: in this time a pass that can still save them does so.
pub const HELD_BACK: Duration = Duration::from_mins(30);

/// How many certificates one memory holds that are in no Secret yet.
type CountUnsaved = Box<dyn Fn() -> usize + Send + Sync>;

/// The loops of a process, and when each moved last.
#[derive(Clone, Default)]
pub struct Liveness(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// For how many milliseconds this process could run.
    awake: AtomicU64,
    /// For how many milliseconds a loop may stand still beyond its limit, because the process stops.
    allowance: AtomicU64,
    loops: Mutex<Loops>,
    unsaved: Mutex<Vec<CountUnsaved>>,
    clock_jumps: AtomicU64,
    pauses: AtomicU64,
}

#[derive(Default)]
struct Loops {
    last_id: u64,
    by_id: BTreeMap<u64, Loop>,
    /// The names of those that were told to stand still.
    told: BTreeSet<Arc<str>>,
}

struct Loop {
    name: Arc<str>,
    limit: Duration,
    /// When it moved last, in milliseconds that this process could run; [`NOT_BEGUN`] before it first did.
    moved: Arc<AtomicU64>,
    /// Whether it ended by a panic.
    has_panicked: bool,
}

const NOT_BEGUN: u64 = u64::MAX;

/// The time that counts, and what a stop allows beyond each limit.
#[derive(Clone, Copy)]
struct Now {
    awake: u64,
    allowance: Duration,
}

impl Loop {
    fn stood_for(&self, now: Now) -> Duration {
        Duration::from_millis(now.awake.saturating_sub(self.moved.load(Ordering::SeqCst)))
    }

    /// For how long it has stood still beyond its limit; `None` if it moves.
    fn overdue(&self, now: Now) -> Option<Duration> {
        let stood = self.stood_for(now);
        if self.has_panicked {
            return Some(stood);
        }
        stood.checked_sub(self.limit.saturating_add(now.allowance)).filter(|overdue| !overdue.is_zero())
    }

    /// What is told of it when it stands still.
    fn why(&self, now: Now) -> String {
        if self.has_panicked {
            return "it ended by a panic: see the log".to_owned();
        }
        let allowed = self.limit.saturating_add(now.allowance);
        format!("it has not moved for {} s, of {} s allowed", self.stood_for(now).as_secs(), allowed.as_secs())
    }

    fn check(&self, now: Now) -> Check {
        match (self.overdue(now), self.moved.load(Ordering::SeqCst)) {
            (Some(_), _) => Check::failed(&*self.name, self.why(now)),
            (None, NOT_BEGUN) => Check::passed(&*self.name, "it has not begun"),
            (None, _) => Check::passed(&*self.name, ""),
        }
    }
}

/// By this a loop shows that it moves. The loop counts as ended when it is dropped.
pub struct Heartbeat {
    liveness: Liveness,
    id: u64,
    moved: Arc<AtomicU64>,
}

/// What a look at the loops has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// A line for each name.
    pub checks: Vec<Check>,
    /// What is to follow.
    pub verdict: Verdict,
}

/// Whether the process is to be started anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All loops move.
    Alive,
    /// A loop stands still, and a restart now would lose this many certificates.
    HeldBack(usize),
    /// A loop stands still.
    Restart,
}

/// How much of the time between two looks counts: less than all of it if the process was paused meanwhile.
fn counted(elapsed: Duration) -> Duration {
    elapsed.min(MOST_COUNTED)
}

/// What follows when the loop that stands still the longest has done so for `overdue` beyond its limit. `unsaved` is called only if there is
/// such a loop.
fn verdict(overdue: Option<Duration>, unsaved: impl FnOnce() -> usize) -> Verdict {
    match overdue {
        None => Verdict::Alive,
        Some(overdue) if overdue >= HELD_BACK => Verdict::Restart,
        Some(_) => match unsaved() {
            0 => Verdict::Restart,
            count => Verdict::HeldBack(count),
        },
    }
}

impl Liveness {
    /// A loop that has to move at least every `limit`, from its first sign of life on. Loops may share a name, which is a single word such as
    /// `watch/secrets`.
    #[must_use]
    pub fn expect(&self, name: impl Into<Arc<str>>, limit: Duration) -> Heartbeat {
        let moved = Arc::new(AtomicU64::new(NOT_BEGUN));
        let mut loops = self.loops();
        loops.last_id += 1;
        let id = loops.last_id;
        loops.by_id.insert(id, Loop { name: name.into(), limit, moved: Arc::clone(&moved), has_panicked: false });
        Heartbeat { liveness: self.clone(), id, moved }
    }

    /// Adds a memory that may hold certificates which are in no Secret yet.
    pub fn counts_unsaved(&self, count: impl Fn() -> usize + Send + Sync + 'static) {
        self.0.unsaved.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(count));
    }

    /// Counts the time in which this process can run, and tells of pauses, jumps of the wall clock, and loops that stand still. It does so on a
    /// thread of its own, so that no loop can hold it up.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn watch_clocks(&self) -> std::io::Result<()> {
        let shared = Arc::downgrade(&self.0);
        thread::Builder::new().name("clocks".to_owned()).spawn(move || watch_clocks(&shared)).map(|_| ())
    }

    /// The process stops: nothing new is begun, so that loops stand still while what is under way ends. They may do so for `limit` longer than
    /// otherwise.
    pub fn stopping(&self, limit: Duration) {
        let milliseconds = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        self.0.allowance.fetch_max(milliseconds, Ordering::SeqCst);
    }

    /// Looks at all loops.
    #[must_use]
    pub fn look(&self) -> Pulse {
        let now = self.now();
        let mut by_name = BTreeMap::<Arc<str>, Check>::new();
        let mut longest = None;
        for one in self.loops().by_id.values() {
            let overdue = one.overdue(now);
            longest = longest.max(overdue);
            // Of loops with one name one that stands still is shown.
            let shown = by_name.entry(Arc::clone(&one.name)).or_insert_with(|| one.check(now));
            if overdue.is_some() && shown.is_passed() {
                *shown = one.check(now);
            }
        }
        Pulse { checks: by_name.into_values().collect(), verdict: verdict(longest, || self.unsaved()) }
    }

    /// How many loops stand still.
    #[must_use]
    pub fn stalled(&self) -> usize {
        let now = self.now();
        self.loops().by_id.values().filter(|one| one.overdue(now).is_some()).count()
    }

    fn now(&self) -> Now {
        let allowance = Duration::from_millis(self.0.allowance.load(Ordering::SeqCst));
        Now { awake: self.0.awake.load(Ordering::SeqCst), allowance }
    }

    /// How often the wall clock has jumped against the monotonic one.
    #[must_use]
    pub fn clock_jumps(&self) -> u64 {
        self.0.clock_jumps.load(Ordering::Relaxed)
    }

    /// How often this process was paused for longer than ten seconds.
    #[must_use]
    pub fn pauses(&self) -> u64 {
        self.0.pauses.load(Ordering::Relaxed)
    }

    fn unsaved(&self) -> usize {
        self.0.unsaved.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|count| count()).sum()
    }

    fn loops(&self) -> MutexGuard<'_, Loops> {
        self.0.loops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that so much time has passed, by each clock.
    fn passed(&self, monotonic: Duration, wall: SignedDuration) {
        let milliseconds = u64::try_from(counted(monotonic).as_millis()).unwrap_or(u64::MAX);
        self.0.awake.fetch_add(milliseconds, Ordering::SeqCst);
        if monotonic >= PAUSE {
            self.0.pauses.fetch_add(1, Ordering::Relaxed);
            warn!(
                seconds = monotonic.as_secs(),
                "this process was paused, or got no processor: it goes on with what it has in memory"
            );
        }
        if is_jump(wall, monotonic) {
            self.0.clock_jumps.fetch_add(1, Ordering::Relaxed);
            let by = wall.saturating_sub(SignedDuration::try_from(monotonic).unwrap_or(SignedDuration::MAX));
            warn!(
                seconds = by.as_secs(),
                "the wall clock has jumped, because it was corrected or the machine slept: everything is looked at again"
            );
        }
        self.tell();
    }

    /// Logs which loops have come to stand still, and which move again.
    fn tell(&self) {
        let now = self.now();
        let mut loops = self.loops();
        let mut failed = BTreeSet::new();
        for one in loops.by_id.values().filter(|one| one.overdue(now).is_some()) {
            if failed.insert(Arc::clone(&one.name)) && !loops.told.contains(&one.name) {
                error!(name = &*one.name, why = one.why(now), "a loop of this process stands still");
            }
        }
        for name in loops.told.difference(&failed) {
            warn!(name = &**name, "the loop moves again, or has ended");
        }
        loops.told = failed;
    }
}

fn watch_clocks(shared: &Weak<Shared>) {
    let mut last = (Instant::now(), Timestamp::now());
    loop {
        thread::sleep(PERIOD);
        let Some(shared) = shared.upgrade() else { return };
        let now = (Instant::now(), Timestamp::now());
        Liveness(shared).passed(now.0.saturating_duration_since(last.0), now.1.duration_since(last.1));
        last = now;
    }
}

impl Heartbeat {
    /// The loop moves.
    pub fn beat(&self) {
        self.moved.store(self.liveness.0.awake.load(Ordering::SeqCst), Ordering::SeqCst);
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        let mut loops = self.liveness.loops();
        if thread::panicking() {
            if let Some(ended) = loops.by_id.get_mut(&self.id) {
                ended.has_panicked = true;
                ended.moved.store(self.liveness.0.awake.load(Ordering::SeqCst), Ordering::SeqCst);
            }
        } else {
            loops.by_id.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests;
