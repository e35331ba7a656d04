//! The operator is killed, the connection cut and the answer delayed at every point of a mint, and a hundred times anywhere.
//!
//! Whatever happens, no more is minted than certificates were wanted and answers lost, and every lost one is accounted for.
//! `SEED=… cargo test --test interruptions` repeats a run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
#![allow(clippy::default_trait_access, reason = "the parameters of requests are of no interest here")]

mod harness;

use std::{
    collections::{BTreeSet, HashMap},
    io::Write as _,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use harness::{Cluster, Options, Shop};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use usercert_test_support::atlas::{DigestAlgorithm, Fault, Point, X509Type};

static CLUSTER: LazyLock<Cluster> =
    LazyLock::new(|| harness::start(&Options { digest: DigestAlgorithm::Md5, namespaces: &[] }));

const POINTS: [Point; 4] = [Point::Challenge, Point::Asked, Point::Made, Point::Answered];

/// So long the operator waits for an answer here: less than most rounds take until the next kill.
const ATLAS_LIMIT: Duration = Duration::from_secs(3);
const TOO_LATE: Duration = Duration::from_secs(4);
const IN_TIME: Duration = Duration::from_millis(300);

/// A process that lives would have saved its certificate by then. One that does not know its Pod cannot know that the one before has ended.
const SAVED_BY_THEN: Duration = Duration::from_secs(90);

/// Where the one before is known to have ended, its loss is known as soon as Atlas lists it.
const AT_ONCE: Duration = Duration::from_secs(25);

/// So long Atlas's list lags behind.
const LAG: SignedDuration = SignedDuration::from_secs(10);

/// Connections that are cut and answers that come late, at every point.
fn faults() -> Vec<(&'static str, Fault)> {
    vec![
        ("cut-challenge", Fault::ResetChallenge),
        ("cut-asked", Fault::ResetUnminted),
        ("cut-made", Fault::Reset),
        ("cut-answered", Fault::CutBody),
        ("late-challenge", Fault::DelayChallenge(TOO_LATE)),
        ("late-asked", Fault::DelayMint(TOO_LATE)),
        ("late-made", Fault::Delay(TOO_LATE)),
        ("late-answered", Fault::NeverEnds),
        ("slow-challenge", Fault::DelayChallenge(IN_TIME)),
        ("slow-asked", Fault::DelayMint(IN_TIME)),
        ("slow-made", Fault::Delay(IN_TIME)),
    ]
}

/// Where the next kill is to happen.
type Trap = Arc<Mutex<Option<(Point, String)>>>;

struct Bench {
    shop: Shop,
    trap: Trap,
    /// For each user, how often something may have cost an answer.
    interrupted: HashMap<String, usize>,
    kills: usize,
    /// When the last kill was, by the operator's clock.
    killed_at: Timestamp,
}

/// Numbers that a seed repeats (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }

    fn milliseconds(&mut self, end: u64) -> Duration {
        Duration::from_millis(self.below(end))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_minted_than_was_wanted_and_lost_and_every_loss_is_accounted_for() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_124);
    eprintln!("seed {seed}: SEED={seed} cargo test --test interruptions");
    let mut bench = Bench::open().await;
    for (name, fault) in faults() {
        bench.create(name, Some(fault)).await;
    }
    for point in POINTS {
        let name = format!("kill-{point:?}").to_lowercase();
        bench.kill_at(point, &name).await;
        let waited = bench.until_ready_after_kill(&name).await;
        let is_listed = matches!(point, Point::Made | Point::Answered);
        assert!(!is_listed || waited < SAVED_BY_THEN, "{name}: Atlas lists the certificate, and {waited:?} passed");
    }
    bench.kill_where_the_one_before_is_known_to_have_ended().await;
    bench.kill_when_claimed("kill-claimed").await;
    bench.until_ready_after_kill("kill-claimed").await;
    bench.kill_when_written("kill-written").await;
    bench.until_ready_after_kill("kill-written").await;
    let mut random = Random(seed);
    let rounds = std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(100);
    for round in 0..rounds {
        if round % 20 == 0 {
            eprintln!("round {round} of {rounds}, {} kills", bench.kills);
        }
        bench.round(&format!("random-{round}"), &mut random).await;
    }
    bench.settle().await;
    bench.judge(seed).await;
}

impl Bench {
    async fn open() -> Self {
        let shop = Shop::open(&CLUSTER, "interruptions").await;
        shop.cluster.limit_atlas(ATLAS_LIMIT);
        shop.cluster.kill_operator();
        shop.cluster.start_operator().await;
        shop.atlas_issuer().await;
        shop.until_issuer("atlas", "True IssuerReady").await;
        let trap = Trap::default();
        let (sprung, cluster) = (Arc::clone(&trap), shop.cluster);
        shop.cluster.atlas.observe(move |point, user| {
            let mut trap = sprung.lock().unwrap();
            if trap.as_ref().is_some_and(|(at, who)| *at == point && who == user) {
                cluster.kill_operator();
                *trap = None;
            }
        });
        Self { shop, trap, interrupted: HashMap::new(), kills: 0, killed_at: Timestamp::UNIX_EPOCH }
    }

    async fn create(&mut self, name: &str, fault: Option<Fault>) {
        let atlas = &self.shop.cluster.atlas;
        atlas.add_user(&self.shop.project, name, X509Type::Managed);
        let interrupted = self.interrupted.entry(name.to_owned()).or_default();
        if let Some(fault) = fault {
            *interrupted += 1;
            atlas.fault_once(name, fault);
        }
        self.shop.certificate(name, "atlas", json!({})).await;
    }

    /// Kills the operator when this user's mint is at this point, and starts it again.
    async fn kill_at(&mut self, point: Point, name: &str) {
        self.set_trap(point, name).await;
        harness::eventually("the operator is killed at this point", || async { self.is_sprung().then_some(()) }).await;
        self.restart().await;
    }

    /// The same, or kills it wherever it is after two seconds.
    async fn kill_at_or_soon(&mut self, point: Point, name: &str) {
        self.set_trap(point, name).await;
        for _ in 0..100 {
            if self.is_sprung() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.restart().await;
    }

    async fn set_trap(&mut self, point: Point, name: &str) {
        *self.trap.lock().unwrap() = Some((point, name.to_owned()));
        self.create(name, None).await;
    }

    fn is_sprung(&self) -> bool {
        self.trap.lock().unwrap().is_none()
    }

    /// Kills the operator while Atlas works, in a Pod that starts it again; and then the same while Atlas lists a certificate only some time
    /// after it was made.
    async fn kill_where_the_one_before_is_known_to_have_ended(&mut self) {
        let cluster = self.shop.cluster;
        cluster.run_operator_in(Some("pod"));
        self.restart().await;
        self.kill_at(Point::Made, "kill-made-same-pod").await;
        let waited = self.until_ready_after_kill("kill-made-same-pod").await;
        assert!(waited < AT_ONCE, "the one before has ended, and {waited:?} passed");
        cluster.atlas.set_list_lag(LAG);
        self.kill_at(Point::Made, "kill-made-same-pod-list-lags").await;
        let waited = self.until_ready_after_kill("kill-made-same-pod-list-lags").await;
        assert!(waited < SAVED_BY_THEN, "the list was asked for again, and {waited:?} passed");
        cluster.run_operator_in(None);
        self.restart().await;
        self.kill_at(Point::Made, "kill-made-list-lags").await;
        let waited = self.until_ready_after_kill("kill-made-list-lags").await;
        assert!(waited < SAVED_BY_THEN * 2, "the list was asked for again, and {waited:?} passed");
        cluster.atlas.set_list_lag(SignedDuration::ZERO);
    }

    /// Kills the operator as soon as the claim can be seen.
    async fn kill_when_claimed(&mut self, name: &str) {
        self.create(name, None).await;
        harness::eventually("the claim", || async {
            let status = self.shop.status(name).await;
            (status.issuance.is_some() || status.serial_number.is_some()).then_some(())
        })
        .await;
        self.restart().await;
    }

    /// Kills the operator as soon as the Secret can be seen, before or after the status tells of it.
    async fn kill_when_written(&mut self, name: &str) {
        self.create(name, None).await;
        harness::eventually("the Secret", || async { self.shop.secret(name).await }).await;
        self.restart().await;
    }

    /// Kills the operator, if that is not done yet, and starts it again. Whoever is not ready may have lost an answer.
    async fn restart(&mut self) {
        *self.trap.lock().unwrap() = None;
        self.killed_at = self.shop.cluster.now();
        self.shop.cluster.kill_operator();
        self.kills += 1;
        for name in self.not_ready().await {
            *self.interrupted.entry(name).or_default() += 1;
        }
        self.shop.cluster.start_operator().await;
    }

    /// How long it takes from the kill until the object is Ready. A wait passes at once, and counts.
    async fn until_ready_after_kill(&self, name: &str) -> Duration {
        let cluster = self.shop.cluster;
        let mut waited_for = None;
        // Each question to Atlas, and the wait itself.
        for _ in 0..8 {
            let waits_until = harness::eventually(&format!("{name} is Ready, or waits"), || async {
                let object = self.shop.get(name).await;
                if Shop::is_ready(&object) {
                    return Some(None);
                }
                let failure = object.status.unwrap_or_default().failure?;
                let question = failure.unlisted.map(|unlisted| unlisted.next_question.0);
                let until = question.unwrap_or(failure.next_attempt.0).min(failure.next_attempt.0);
                (waited_for != Some(until)).then_some(Some(until))
            })
            .await;
            let Some(until) = waits_until else { break };
            cluster.advance(until.duration_since(cluster.now()).max(SignedDuration::ZERO) + SignedDuration::from_secs(1));
            waited_for = Some(until);
        }
        self.shop.until_ready(name).await;
        let waited = Duration::try_from(cluster.now().duration_since(self.killed_at)).unwrap();
        // Told although the test succeeds.
        let line = format!("{name}: Ready {:.1} s after the kill\n", waited.as_secs_f64());
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        waited
    }

    async fn round(&mut self, name: &str, random: &mut Random) {
        let fault = faults().swap_remove(usize::try_from(random.below(11)).unwrap()).1;
        match random.below(4) {
            0 => {
                self.create(name, None).await;
                tokio::time::sleep(random.milliseconds(400)).await;
                self.restart().await;
            }
            1 => self.kill_at_or_soon(POINTS[usize::try_from(random.below(4)).unwrap()], name).await,
            2 => self.create(name, Some(fault)).await,
            _ => {
                self.create(name, Some(fault)).await;
                tokio::time::sleep(random.milliseconds(400)).await;
                self.restart().await;
                tokio::time::sleep(random.milliseconds(200)).await;
                self.restart().await;
            }
        }
    }

    async fn not_ready(&self) -> Vec<String> {
        self.shop
            .certificates()
            .await
            .into_iter()
            .filter(|object| !Shop::is_ready(object))
            .map(|object| object.metadata.name.unwrap())
            .collect()
    }

    /// Lets the waits pass until all are ready.
    async fn settle(&self) {
        for _ in 0..10 {
            self.shop.cluster.advance(SignedDuration::from_hours(7));
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(2)).await;
                if self.not_ready().await.is_empty() {
                    return;
                }
            }
            eprintln!("not ready yet: {:?}", self.not_ready().await);
        }
        panic!("not ready although nothing goes wrong any more: {:?}", self.not_ready().await);
    }

    async fn judge(&self, seed: u64) {
        let (mut mints, mut losses) = (0, 0);
        for object in self.shop.certificates().await {
            let (name, status) = (object.metadata.name.unwrap(), object.status.unwrap());
            let made: Vec<String> = self
                .shop
                .cluster
                .atlas
                .mints_of(&name)
                .iter()
                .map(usercert_test_support::atlas::Mint::serial_hexadecimal)
                .collect();
            let held = status.serial_number.unwrap();
            assert!(made.contains(&held), "{name}, seed {seed}");
            let lost: BTreeSet<&String> = made.iter().filter(|serial| **serial != held).collect();
            let interrupted = self.interrupted[&name];
            assert!(made.len() <= 1 + interrupted, "{name}: {} minted, {interrupted} interruptions, seed {seed}", made.len());
            let unaccounted = status.unaccounted_certificates.unwrap_or_default();
            let told: BTreeSet<&String> =
                unaccounted.certificates.iter().map(|certificate| &certificate.serial_number).collect();
            assert_eq!(told, lost, "{name}, seed {seed}");
            assert_eq!(usize::try_from(unaccounted.count).unwrap(), lost.len(), "{name}, seed {seed}");
            assert_eq!(status.history.len(), 1, "{name}, seed {seed}");
            (mints, losses) = (mints + made.len(), losses + lost.len());
        }
        eprintln!(
            "{} objects, {} kills, {mints} mints, {losses} lost and all of them accounted for",
            self.interrupted.len(),
            self.kills
        );
        assert!(losses > 0, "nothing was lost: this run shows nothing");
    }
}
