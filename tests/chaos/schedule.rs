//! Schedules: one scenario with one thing that goes wrong at one point, from the start to the verdict.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tokio::sync::Notify;
use usercert_test_support::fault_proxy::{Asked, Fault, Moment, WatchFault};

use crate::{
    oracle::{EndState, Mints, judge_account, judge_readiness},
    scenario::{Before, Scenario, is_settled, make_again},
    world::{IssuerType, Server, World},
};

/// How long a view stays old.
const STALE: Duration = Duration::from_secs(3);

/// How long requests are denied: longer than a pass that fails waits for its first repetitions.
const DENIED: Duration = Duration::from_secs(10);

/// The time limit of a request to Atlas in these runs.
pub const ATLAS_LIMIT: Duration = Duration::from_secs(3);

/// Which requests are denied for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Writes of the Secret, as by a webhook: it is asked about dry runs too.
    Secret,
    /// Writes of the status.
    Status,
    /// All, as by an API server that is over its limits.
    All,
}

impl Denied {
    fn is_about(self, asked: &Asked) -> bool {
        let path = asked.target.split('?').next().unwrap_or_default();
        match self {
            Self::Secret => asked.method != "GET" && path.contains("/secrets"),
            Self::Status => asked.is_write() && path.ends_with("/status"),
            Self::All => true,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Status => "status",
            Self::All => "all",
        }
    }
}

/// Where and how it goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum Wrong {
    /// Nothing: the reference.
    Nothing,
    /// At this request.
    Request(Server, usize, Fault),
    /// At all of these requests for a while, with this status.
    Denied(Denied, u16),
    /// Atlas answers late by so long, for a while.
    SlowAtlas(Duration),
    /// The object is deleted and made again while this request is held.
    MadeAgain(Server, usize, Moment),
    /// At this event of a watch.
    Event(usize, WatchFault),
    /// At this list of a start, with the object there already.
    Start(usize, Fault),
    /// All watches are behind by so many events, from the operator's first request on.
    Lag(usize),
    /// After all is done, the operator starts with lists and watches as they were at this event.
    Stale(usize),
    /// Two operators that both believe to lead.
    TwoLeaders(Since),
}

/// Since when there is a second leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// Before it happens.
    Start,
    /// The first has begun to follow.
    FirstRequest,
}

/// One run.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    pub scenario: Scenario,
    pub issuer: IssuerType,
    pub wrong: Wrong,
}

/// What a run without faults did.
#[derive(Clone, Debug, Default)]
pub struct Reference {
    /// The requests to the API server, and to Atlas.
    pub requests: [Vec<Asked>; 2],
    /// The resourceVersions of the watches' events.
    pub events: Vec<String>,
    pub state: Option<EndState>,
    pub mints: Mints,
}

impl Reference {
    /// How many requests it took.
    pub fn request_count(&self) -> usize {
        self.requests.iter().map(Vec::len).sum()
    }
}

/// What came of a schedule.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    pub mints: Mints,
    /// The point was reached, so that something did go wrong.
    pub played: bool,
}

impl Schedule {
    /// What repeats it: `--only NAME`.
    pub fn name(&self) -> String {
        let wrong = match &self.wrong {
            Wrong::Nothing => "reference".to_owned(),
            Wrong::Request(server, number, fault) => format!("{}-{number}/{}", server.name(), fault_name(fault)),
            Wrong::Denied(denied, status) => format!("denied-{}/{status}", denied.name()),
            Wrong::SlowAtlas(by) => format!("slow-atlas/{}-s", by.as_secs()),
            Wrong::Start(number, fault) => format!("start-{number}/{}", fault_name(fault)),
            Wrong::MadeAgain(server, number, at) => format!("{}-{number}/made-again-{}", server.name(), moment(*at)),
            Wrong::Event(number, fault) => format!("event-{number}/{fault:?}").to_lowercase(),
            Wrong::Lag(events) => format!("lag-{events}"),
            Wrong::Stale(event) => format!("stale-{event}"),
            Wrong::TwoLeaders(Since::Start) => "two-leaders-from-the-start".to_owned(),
            Wrong::TwoLeaders(Since::FirstRequest) => "two-leaders-meanwhile".to_owned(),
        };
        format!("{}/{}/{wrong}", self.scenario.name(), self.issuer.name())
    }

    /// How many answers may be lost: what a kill interrupts, or what Atlas answered to nobody.
    fn losses(&self, lost_at_kill: usize, reference: &Reference) -> usize {
        let mints = |number: &usize| {
            let asked = reference.requests[1].get(*number);
            asked.is_some_and(|asked| asked.method == "POST" && asked.route().ends_with("/certs"))
        };
        match &self.wrong {
            Wrong::Request(_, _, Fault::Kill(_)) => lost_at_kill,
            Wrong::Request(
                Server::Atlas,
                number,
                Fault::Cut(Moment::After) | Fault::Refuse(Moment::After, _) | Fault::Halve,
            ) => usize::from(mints(number)),
            Wrong::MadeAgain(..) => 1,
            // An answer after the time limit is lost, and nothing is asked for again while that is slow.
            Wrong::SlowAtlas(by) => usize::from(*by > ATLAS_LIMIT),
            // A delay of one second is within the time limit.
            _ => 0,
        }
    }

    /// The reference: nothing goes wrong.
    pub async fn record(scenario: Scenario, issuer: IssuerType) -> Result<Reference> {
        let schedule = Self { scenario, issuer, wrong: Wrong::Nothing };
        let world = World::open("reference", issuer).await?;
        let before = scenario.prepare(&world).await?;
        let base = (world.kubernetes.asked_count(), world.atlas.asked_count(), world.kubernetes.happened().len());
        scenario.trigger(&world).await?;
        world.settle(|| scenario.is_reached(&world, &before)).await?;
        // What a stray Event or a list adds is not worth a point.
        let requests = [world.asked_since(Server::Kubernetes, base.0), world.asked_since(Server::Atlas, base.1)];
        let events = world.kubernetes.happened().split_off(base.2).into_iter().map(|event| event.resource_version).collect();
        schedule.judge(&world, None, 0).await?;
        let reference =
            Reference { requests, events, state: Some(EndState::of(&world).await?), mints: Mints::of(&world).await? };
        world.close();
        Ok(reference)
    }

    /// Runs it.
    pub async fn run(&self, reference: &Reference) -> Result<Outcome> {
        let world = World::open(self.scenario.name(), self.issuer).await?;
        let outcome = self.run_in(&world, reference).await;
        world.close();
        outcome.with_context(|| world.last_words())
    }

    async fn run_in(&self, world: &World, reference: &Reference) -> Result<Outcome> {
        let before = self.scenario.prepare(world).await?;
        let mut lost_at_kill = 0;
        let mut played = true;
        match &self.wrong {
            Wrong::Nothing => {}
            Wrong::Request(server, number, fault) => {
                let expected = reference.requests[usize::from(*server == Server::Atlas)].get(*number);
                let met = self.with_fault(world, *server, *number, fault, &mut lost_at_kill).await?;
                // Two requests may come in another order than in the reference.
                played = met.is_some_and(|met| expected.is_none_or(|expected| expected.route() == met.route()));
            }
            Wrong::Denied(denied, status) => {
                let (denied, status) = (*denied, *status);
                world.kubernetes.plan(move |asked| denied.is_about(asked).then_some(Fault::Refuse(Moment::Before, status)));
                self.scenario.trigger(world).await?;
                tokio::time::sleep(DENIED).await;
                played = !world.kubernetes.played().is_empty();
                world.kubernetes.clear();
            }
            Wrong::SlowAtlas(by) => {
                let (atlas, by) = (world.proxy(Server::Atlas), *by);
                atlas.plan(move |_| Some(Fault::Delay(Moment::After, by)));
                self.scenario.trigger(world).await?;
                tokio::time::sleep(DENIED).await;
                played = !atlas.played().is_empty();
                atlas.clear();
            }
            Wrong::Start(number, fault) => self.start_with(world, *number, fault).await?,
            Wrong::MadeAgain(server, number, moment) => {
                return self.made_again(world, reference, *server, *number, *moment).await;
            }
            Wrong::Event(number, fault) => self.with_watch_fault(world, *number, *fault).await?,
            Wrong::Lag(events) => {
                self.trigger_and_await_request(world).await?;
                let seen = world.kubernetes.happened().len();
                world.kubernetes.lag(*events);
                tokio::time::sleep(STALE).await;
                played = world.kubernetes.happened().len() > seen;
                world.kubernetes.lag(0);
            }
            Wrong::Stale(event) => self.start_in_the_past(world, &before, *event).await?,
            Wrong::TwoLeaders(since) => {
                let twin = world.operator.twin();
                if *since == Since::Start {
                    world.start(&twin).await?;
                    self.scenario.trigger(world).await?;
                } else {
                    self.trigger_and_await_request(world).await?;
                    world.start(&twin).await?;
                }
                let result = world.settle(|| self.scenario.is_reached(world, &before)).await;
                twin.kill();
                result?;
            }
        }
        world.settle(|| self.scenario.is_reached(world, &before)).await?;
        let mints = self.judge(world, Some(reference), lost_at_kill).await?;
        if matches!(self.wrong, Wrong::Event(..) | Wrong::Stale(_) | Wrong::Start(..)) {
            played = !world.kubernetes.played().is_empty();
        }
        Ok(Outcome { mints, played })
    }

    /// Makes it happen, and waits until the operator asks for something.
    async fn trigger_and_await_request(&self, world: &World) -> Result<()> {
        let asked = world.asked_count();
        self.scenario.trigger(world).await?;
        for _ in 0..4000 {
            if world.asked_count() > asked {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// The object is there, and a process starts that meets the fault at this list.
    async fn start_with(&self, world: &World, number: usize, fault: &Fault) -> Result<()> {
        world.operator.kill();
        self.scenario.trigger(world).await?;
        let (lists, wanted) = (std::sync::atomic::AtomicUsize::new(0), fault.clone());
        world.kubernetes.plan(move |asked| {
            let is_it = asked.is_list() && lists.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == number;
            is_it.then(|| wanted.clone())
        });
        world.start_operator().await
    }

    /// The request that met the fault.
    async fn with_fault(
        &self,
        world: &World,
        server: Server,
        number: usize,
        fault: &Fault,
        lost_at_kill: &mut usize,
    ) -> Result<Option<Asked>> {
        let proxy = world.proxy(server);
        let (target, wanted) = (proxy.asked_count() + number, fault.clone());
        proxy.plan(move |asked| (asked.number == target).then(|| wanted.clone()));
        self.scenario.trigger(world).await?;
        if !matches!(fault, Fault::Kill(_)) {
            // Until the point is passed, or nothing more comes; the clock is looked at every five seconds.
            for _ in 0..300 {
                if !proxy.played().is_empty() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
            world.calm().await;
            return Ok(proxy.asked().get(target).cloned());
        }
        for _ in 0..800 {
            if !proxy.played().is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        // The operator is killed by the proxy when it has noted the fault, and a little later.
        tokio::time::sleep(Duration::from_millis(50)).await;
        *lost_at_kill = Mints::of(world).await?.lost;
        let met = proxy.asked().get(target).cloned();
        proxy.clear();
        world.restart_operator().await?;
        Ok(met)
    }

    async fn with_watch_fault(&self, world: &World, number: usize, fault: WatchFault) -> Result<()> {
        let target = world.kubernetes.happened().len() + number;
        world.kubernetes.plan_watches(move |event| (event.number == target).then_some(fault));
        self.scenario.trigger(world).await?;
        world.calm().await;
        Ok(())
    }

    /// All is done, and a process starts that is shown how it was.
    async fn start_in_the_past(&self, world: &World, before: &Before, event: usize) -> Result<()> {
        let base = world.kubernetes.happened().len();
        self.scenario.trigger(world).await?;
        world.settle(|| self.scenario.is_reached(world, before)).await?;
        let Some(past) = world.kubernetes.happened().get(base + event).map(|event| event.resource_version.clone()) else {
            return Ok(());
        };
        world.operator.kill();
        world.kubernetes.plan(move |asked| asked.is_list().then(|| Fault::StaleList(past.clone())));
        world.kubernetes.lag(usize::MAX);
        world.start_operator().await?;
        tokio::time::sleep(STALE).await;
        world.kubernetes.clear();
        world.calm().await;
        Ok(())
    }

    /// The object is deleted and made again under its name while a request for the old one is on its way.
    async fn made_again(
        &self,
        world: &World,
        reference: &Reference,
        server: Server,
        number: usize,
        moment: Moment,
    ) -> Result<Outcome> {
        let proxy = world.proxy(server);
        let (target, held) = (proxy.asked_count() + number, Arc::new(Notify::new()));
        let notify = Arc::clone(&held);
        proxy.plan(move |asked| {
            (asked.number == target).then(|| {
                notify.notify_one();
                Fault::Delay(moment, Duration::from_millis(700))
            })
        });
        self.scenario.trigger(world).await?;
        // Where the point is not reached, all is made again a little later.
        let played = tokio::time::timeout(Duration::from_secs(5), held.notified()).await.is_ok();
        proxy.clear();
        let uid = make_again(world).await?;
        let settled = || async {
            let object = world.object().await?;
            Ok(object.is_some_and(|object| object.metadata.uid.as_ref() == Some(&uid) && is_settled(&object)))
        };
        world.settle(settled).await?;
        world.assert_quiet().await?;
        judge_readiness(world).await?;
        world.secrets.judge()?;
        let (state, expected) = (EndState::of(world).await?, reference.state.as_ref());
        ensure!(expected.is_none_or(|expected| state.is_like(expected)), "it ends in {state:#?}\ninstead of {expected:#?}");
        let mints = Mints::of(world).await?;
        // The new object needs one of its own, and that for the old one may have been saved or lost.
        let allowed = Mints { made: reference.mints.made + 1, lost: 0 };
        mints.judge(allowed, self.losses(0, reference))?;
        Ok(Outcome { mints, played })
    }

    async fn judge(&self, world: &World, reference: Option<&Reference>, lost_at_kill: usize) -> Result<Mints> {
        world.assert_quiet().await?;
        judge_readiness(world).await?;
        let mints = Mints::of(world).await?;
        world.secrets.judge()?;
        judge_account(world, mints).await?;
        if let Some(reference) = reference {
            mints.judge(reference.mints, self.losses(lost_at_kill, reference))?;
            let state = EndState::of(world).await?;
            ensure!(Some(&state) == reference.state.as_ref(), "it ends in {state:#?}\ninstead of {:#?}", reference.state);
        }
        Ok(mints)
    }
}

fn fault_name(fault: &Fault) -> String {
    match fault {
        Fault::Cut(at) => format!("cut-{}", moment(*at)),
        Fault::Kill(at) => format!("kill-{}", moment(*at)),
        Fault::Refuse(at, status) => format!("{status}-{}", moment(*at)),
        Fault::Delay(at, _) => format!("delay-{}", moment(*at)),
        Fault::Hang => "hang".to_owned(),
        Fault::Halve => "halve".to_owned(),
        Fault::StaleList(_) => "stale-list".to_owned(),
    }
}

const fn moment(moment: Moment) -> &'static str {
    match moment {
        Moment::Before => "before",
        Moment::After => "after",
    }
}
