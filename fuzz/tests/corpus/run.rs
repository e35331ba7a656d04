//! One input: run under watch, and what is said of it when it fails.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use usercert_fuzz::{Outcome, Target};

use crate::MEMORY;

/// No input may take longer. It is far more than any takes, for machines that are busy with other things.
const TIME_LIMIT: Duration = Duration::from_secs(20);

/// No input may have more allocated at once than this above what was there before. The longest answer of Atlas is given 1 MiB.
const MEMORY_LIMIT: usize = 16 << 20;

/// What the names of checked-in inputs begin with that are not meant to be read.
const UNREADABLE: &str = "unreadable-";

/// Where an input comes from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// The file of this name in the checked-in corpus.
    Corpus(Arc<str>),
    /// The mutation with this number.
    Mutation(u32),
    /// A file that the command line names.
    File,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corpus(name) => write!(f, "{name} of the corpus"),
            Self::Mutation(number) => write!(f, "mutation {number}"),
            Self::File => f.write_str("a file"),
        }
    }
}

impl Origin {
    /// What is wrong with an input that got so far: a checked-in one is read, or says by its name that it is not.
    fn fault_of(&self, outcome: Outcome) -> Option<String> {
        let Self::Corpus(name) = self else { return None };
        match (outcome, name.starts_with(UNREADABLE)) {
            (Outcome::Unread, false) => Some(format!("{name} was not read: mend it, or have its name begin with {UNREADABLE}")),
            (Outcome::Read, true) => Some(format!("{name} was read, and its name says that it cannot be")),
            _ => None,
        }
    }
}

/// What one input took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measures {
    pub longest: Duration,
    pub largest: usize,
}

impl Measures {
    pub fn add(&mut self, other: Self) {
        self.longest = self.longest.max(other.longest);
        self.largest = self.largest.max(other.largest);
    }
}

/// An input that must not do what it did.
#[derive(Clone, Debug)]
pub struct Failure {
    origin: Origin,
    input: Arc<[u8]>,
    what: String,
}

impl Failure {
    /// What happened and how to see it again, once the input is in a file.
    pub fn report(&self, target: &Target, seed: u64) -> String {
        let name = target.name;
        let file = self.keep(name).map_or_else(|error| format!("(not written: {error})"), |file| file.display().to_string());
        format!(
            "FAILED {name} ({}, seed {seed}): {}\nthe input is in {file}\n\
             replay it: cargo test --package usercert-fuzz --test corpus -- --only {name} --input {file}\n\
             or the whole run: SEED={seed} cargo test --package usercert-fuzz --test corpus -- --only {name}\n\
             once it is mended: keep the input in fuzz/corpus/{name}/ under a name that says what it is",
            self.origin, self.what
        )
    }

    fn keep(&self, target: &str) -> std::io::Result<PathBuf> {
        let mut hasher = DefaultHasher::new();
        self.input.hash(&mut hasher);
        let target_folder = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap_or(Path::new("."));
        let folder = target_folder.join("fuzz-failures");
        std::fs::create_dir_all(&folder)?;
        let file = folder.join(format!("{target}-{:016x}", hasher.finish()));
        std::fs::write(&file, &self.input)?;
        Ok(file)
    }
}

/// The input that is being run, for the watch.
type Running = Arc<Mutex<Option<(Instant, Target, Origin, Arc<[u8]>)>>>;

/// Runs inputs one after the other, so that what is allocated is theirs.
pub struct Runner {
    running: Running,
    panic: Arc<Mutex<String>>,
}

impl Runner {
    pub fn new(seed: u64) -> Self {
        let runner = Self { running: Arc::default(), panic: Arc::default() };
        let panic = Arc::clone(&runner.panic);
        std::panic::set_hook(Box::new(move |info| {
            *panic.lock().unwrap_or_else(PoisonError::into_inner) = info.to_string();
        }));
        let running = Arc::clone(&runner.running);
        std::thread::spawn(move || watch(&running, seed));
        runner
    }

    pub fn run(&self, target: &Target, origin: Origin, input: &[u8]) -> Result<Measures, Failure> {
        let input: Arc<[u8]> = input.into();
        let started = Instant::now();
        self.set(Some((started, *target, origin.clone(), Arc::clone(&input))));
        MEMORY.reset_peak_usage();
        let before = MEMORY.current_usage();
        let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(&input)));
        let measures = Measures { longest: started.elapsed(), largest: MEMORY.peak_usage().saturating_sub(before) };
        self.set(None);
        let fault = match outcome {
            Err(_) => Some(self.panic.lock().unwrap_or_else(PoisonError::into_inner).clone()),
            Ok(_) if measures.largest > MEMORY_LIMIT => Some(format!("{} bytes were allocated at once", measures.largest)),
            Ok(_) if measures.longest > TIME_LIMIT => Some(format!("it took {} s", measures.longest.as_secs())),
            Ok(outcome) => origin.fault_of(outcome),
        };
        fault.map_or(Ok(measures), |what| Err(Failure { origin, input, what }))
    }

    fn set(&self, running: Option<(Instant, Target, Origin, Arc<[u8]>)>) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = running;
    }
}

/// Ends the process when an input does not come to its end.
fn watch(running: &Running, seed: u64) {
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let now = running.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((started, target, origin, input)) = now
            && started.elapsed() > TIME_LIMIT
        {
            let failure = Failure { origin, input, what: format!("it did not end within {} s", TIME_LIMIT.as_secs()) };
            println!("{}", failure.report(&target, seed));
            std::process::exit(1);
        }
    }
}
