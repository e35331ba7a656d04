//! The watches, what they wake, and the controllers: how everything is put together.

use std::{
    sync::{Arc, Weak},
    time::Instant,
};

use futures::{FutureExt, Stream, StreamExt, TryStreamExt, future::BoxFuture, stream};
use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Resource,
    runtime::{
        Controller, WatchStreamExt,
        controller::{Config, Error as ControllerError},
        reflector::{self, ObjectRef, Store, store::Writer},
        watcher,
    },
};
use tracing::{info, warn};

use super::{
    Context, FromMetadata, NamespaceMetadata, Received, Scope, SecretMetadata, Settings,
    deletions::Deletions,
    dispatch::{self, Dispatch},
    events::Events,
    failures::Failures,
    issuers::{
        IssuerDirectory, atlas_objects,
        controller::{self as issuer_controller, IssuerObject},
    },
    kubernetes::chain,
    memory::{Memory, places::Places},
    pass::{after_error, drain, reconcile},
    rollout::Rollouts,
    triggers::{Triggered, Triggers, Waiting},
    watches::{
        by_name::NameWatches,
        gone::Gone,
        lists::Lists,
        metadata::{metadata_events, watch_namespaces, watch_secrets},
        relists::Relists,
    },
};
use crate::{
    api::{
        CertificateIssuer, ClusterCertificateIssuer, DatabaseUserCertificate, IssuerKey, ObjectKey,
        names::CERTIFICATE_UID_LABEL,
    },
    runtime::{CLOCK_LIMIT, Inventory, Readiness, clock_jumps},
};

/// Runs the controllers of one scope until the process stops or has lost the lead. Passes that are under way are finished first,
/// and certificates that are only in memory are saved.
pub async fn run(client: Client, settings: Settings, readiness: Readiness) {
    let leadership = settings.leadership.clone();
    let stop = async move { leadership.end().await }.shared();
    let (triggers, triggered) = Triggers::new();
    let triggers = Arc::new(triggers);
    let memory = Arc::new(Memory::default());
    settings.liveness.counts_unsaved(unsaved_in(&memory));
    let lists = Lists::new(readiness.clone());
    let relists = Relists::new(Arc::clone(&settings.metrics), settings.liveness.clone(), readiness.clone());
    let scope = &settings.scope;
    let named = |what: &str| name_in(scope, what);

    let secret_watches =
        Arc::new(NameWatches::new(client.clone(), scope, secrets_of, |_| {}, relists.clone(), Arc::clone(&triggers)));

    let (secrets, secret_writer) = reflector::store();
    let secret_config = watcher::Config::default().labels(CERTIFICATE_UID_LABEL);
    let secret_watch = named("watch/secrets");
    let secret_events = watch_secrets(
        metadata_events(relists.watch(&secret_watch, scoped(&client, scope), secret_config), "Secrets"),
        secret_writer,
        Arc::clone(&memory),
        Arc::clone(&triggers),
        Arc::clone(&secret_watches),
        lists.expect(&secret_watch),
    );
    let (deletions, deleted) = Deletions::new();
    let watched = Watched { relists: &relists, lists: &lists, triggers: &triggers, settings: &settings };
    let certificates =
        watched.controller("watch/certificates", scoped(&client, scope), move |object| deletions.saw(object), certificate);
    let certificate_store = certificates.store();
    let issuers = watched.controller("watch/issuers", scoped(&client, scope), |_| {}, issuer::<CertificateIssuer>);
    let cluster_issuers = matches!(scope, Scope::Cluster { .. }).then(|| {
        watched.controller("watch/cluster-issuers", Api::all(client.clone()), |_| {}, issuer::<ClusterCertificateIssuer>)
    });
    let (namespace_store, namespace_writer) = reflector::store();
    let namespace_events = watched.namespaces(&client, namespace_writer, certificate_store.clone());

    let atlas_watches =
        |api| NameWatches::new(client.clone(), scope, api, atlas_objects::reduce, relists.clone(), Arc::clone(&triggers));
    let context = Arc::new(Context {
        events: Events::new(client.clone()),
        secret_watches,
        atlas_projects: atlas_watches(atlas_objects::projects),
        atlas_users: atlas_watches(atlas_objects::users),
        settings: settings.clone(),
        atlas: settings.atlas_access(),
        memory,
        failures: Failures::default(),
        rollouts: Rollouts::default(),
        lists,
        places: Places::new(settings.max_concurrent),
        issuers: IssuerDirectory::default(),
        user_issuers: IssuerDirectory::default(),
        triggers,
        secrets,
        namespaces: matches!(scope, Scope::Cluster { .. }).then_some(namespace_store),
        issuer_store: issuers.store(),
        cluster_issuer_store: cluster_issuers.as_ref().map(Controller::store),
        certificate_store,
        client,
    });
    introduce(&context);

    let controllers = Controllers { certificates, issuers, cluster_issuers };
    tokio::select! {
        () = controllers.work(&context, triggered, stop.clone()) => {}
        () = deleted.tell(&context, settings.liveness.expect(named("deletions"), dispatch::LIMIT)) => {}
        () = let_stand(stop.clone(), &settings) => {}
        () = stopped_before_filled(stop.clone(), &context) => {}
        () = secret_events => {}
        () = namespace_events => {}
        () = relists.run(named("clock/lists"), Arc::clone(&settings.clock)) => {}
        () = tell_filled(&context, &readiness) => {}
    }
}

/// The controllers of one scope.
struct Controllers {
    certificates: Controller<Received<DatabaseUserCertificate>>,
    issuers: Controller<Received<CertificateIssuer>>,
    cluster_issuers: Option<Controller<Received<ClusterCertificateIssuer>>>,
}

impl Controllers {
    /// Makes passes until the process stops. Then it lets passes end, and saves what is only in memory.
    async fn work(
        self,
        context: &Arc<Context>,
        triggered: Triggered,
        stop: impl Future<Output = ()> + Clone + Send + Sync + 'static,
    ) {
        let (certificates, dispatch) = woken(context, "certificates", self.certificates, triggered.certificates, stop.clone());
        let certificates = run_certificates(certificates, dispatch, Arc::clone(context));
        let (issuers, dispatch) = woken(context, "issuers", self.issuers, triggered.issuers, stop.clone());
        let issuers = issuer_controller::run(issuers, dispatch, Arc::clone(context));
        let cluster_issuers = match self.cluster_issuers {
            Some(controller) => {
                let (controller, dispatch) =
                    woken(context, "cluster-issuers", controller, triggered.cluster_issuers, stop.clone());
                issuer_controller::run(controller, dispatch, Arc::clone(context)).boxed()
            }
            None => stop.clone().boxed(),
        };
        let stopped = stop.map(|()| Instant::now());
        let ((), (), (), stopped) = tokio::join!(certificates, issuers, cluster_issuers, stopped);
        drain(context, stopped, context.settings.stop_limit).await;
    }
}

/// Lets loops stand still when the process stops: nothing new is begun then, and the streams that would do so are not asked any more, while
/// passes that are under way end and certificates are saved. It does not end.
async fn let_stand(stop: impl Future<Output = ()>, settings: &Settings) {
    stop.await;
    settings.liveness.stopping(dispatch::LIMIT + settings.stop_limit);
    std::future::pending::<()>().await;
}

/// Lets the rest of the process know what this scope holds, for as long as its controllers run.
fn introduce(scope: &Arc<Context>) {
    scope.settings.users.join(scope);
    let inventory: Weak<dyn Inventory> = Arc::<Context>::downgrade(scope);
    scope.settings.metrics.tell_of(inventory);
}

/// The controller, which looks at the objects that `wake` names, and at all of them after each list and each jump of the clock. A list after
/// an interruption of a watch does not tell which objects went meanwhile, and does not wake those that depend on what came. Looking at them
/// costs no request.
fn woken<K>(
    context: &Context,
    whose: &str,
    controller: Controller<Received<K>>,
    wake: impl Stream<Item = ObjectRef<Received<K>>> + Send + 'static,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) -> (Controller<Received<K>>, Dispatch)
where
    K: FromMetadata<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    let Settings { scope, liveness, clock, .. } = &context.settings;
    let heartbeat = liveness.expect(name_in(scope, &format!("clock/{whose}")), CLOCK_LIMIT);
    let dispatch = Dispatch::new(name_in(scope, &format!("passes/{whose}")), liveness, context.lists.clone());
    let controller = controller
        .reconcile_on(wake)
        .reconcile_on(Dispatch::requests())
        .reconcile_all_on(stream::select(clock_jumps(Arc::clone(clock), heartbeat), context.lists.come()))
        .graceful_shutdown_on(stop);
    (controller, dispatch)
}

/// Tells when all caches are filled, and does not end.
async fn tell_filled(context: &Context, readiness: &Readiness) {
    context.lists.filled().await;
    info!(scope = ?context.settings.scope, "the caches are filled");
    readiness.set_ready();
    std::future::pending::<()>().await;
}

/// Ends when the process stops before all lists have come. It is needed because no controller ends before its first list. No pass
/// was begun by then, so nothing waits to be saved.
async fn stopped_before_filled(stop: impl Future<Output = ()>, context: &Context) {
    stop.await;
    if context.lists.are_filled() {
        std::future::pending::<()>().await;
    }
}

/// The API for watches of Secrets by name.
fn secrets_of(client: &Client, namespace: &str) -> Api<SecretMetadata> {
    Api::namespaced(client.clone(), namespace)
}

/// The API for a namespaced kind in the scope.
fn scoped<K>(client: &Client, scope: &Scope) -> Api<Received<K>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match scope {
        Scope::Cluster { .. } => Api::all(client.clone()),
        Scope::Namespace(namespace) => Api::namespaced(client.clone(), namespace),
    }
}

/// How many certificates this memory holds that are in no Secret yet. It keeps nothing of a set of controllers that has ended.
fn unsaved_in(memory: &Arc<Memory>) -> impl Fn() -> usize + Send + Sync + use<> {
    let memory = Arc::downgrade(memory);
    move || memory.upgrade().map_or(0, |memory| memory.all_kept().len())
}

/// The name of a loop. Where namespaces are served one by one, each has its own loops.
fn name_in(scope: &Scope, what: &str) -> String {
    match scope {
        Scope::Cluster { .. } => what.to_owned(),
        Scope::Namespace(namespace) => format!("{namespace}/{what}"),
    }
}

/// What the controllers have in common.
struct Watched<'a> {
    relists: &'a Relists,
    lists: &'a Lists,
    triggers: &'a Arc<Triggers>,
    settings: &'a Settings,
}

impl Watched<'_> {
    /// Keeps the labels of namespaces in the cache, where all namespaces are served. Their list is expected from the beginning.
    fn namespaces(
        &self,
        client: &Client,
        writer: Writer<NamespaceMetadata>,
        certificates: Store<Received<DatabaseUserCertificate>>,
    ) -> BoxFuture<'static, ()> {
        if matches!(self.settings.scope, Scope::Namespace(_)) {
            return std::future::pending().boxed();
        }
        let name = name_in(&self.settings.scope, "watch/namespaces");
        let watch = self.relists.watch(&name, Api::all(client.clone()), watcher::Config::default());
        let events = metadata_events(watch, "namespaces");
        watch_namespaces(events, writer, certificates, Arc::clone(self.triggers), self.lists.expect(&name)).boxed()
    }

    /// A controller that deletions wake too, unlike that of `Controller::new`: whoever used what is gone must be told. Each deletion that the
    /// watch shows is handed to `deleted`. An object whose deletion fell into an interruption of the watch, so that only its absence from the
    /// next list shows it, is woken as `waiting`, and its controller forgets it. The watch has this name.
    fn controller<K>(
        &self,
        name: &str,
        api: Api<Received<K>>,
        deleted: impl Fn(&Received<K>) + Send + 'static,
        waiting: fn(&ObjectKey) -> Waiting,
    ) -> Controller<Received<K>>
    where
        K: FromMetadata<DynamicType = ()> + Clone + Send + Sync + 'static,
    {
        let (store, writer) = reflector::store();
        let name = &name_in(&self.settings.scope, name);
        let (mut gone, triggers, filling) = (Gone::new(store.clone()), Arc::clone(self.triggers), self.lists.expect(name));
        let objects = self
            .relists
            .watch(name, api, watcher::Config::default())
            .reflect(writer)
            .inspect_ok(move |event| {
                gone.after(event).iter().for_each(|name| triggers.wake(&waiting(name)));
                match event {
                    watcher::Event::InitDone => filling.done(),
                    watcher::Event::Delete(object) => deleted(object),
                    _ => {}
                }
            })
            .touched_objects();
        Controller::for_stream(objects, store).with_config(Config::default().concurrency(self.settings.max_concurrent))
    }
}

fn certificate(name: &ObjectKey) -> Waiting {
    Waiting::Certificate(name.clone())
}

/// A cluster's object has no namespace.
fn issuer<K: IssuerObject>(name: &ObjectKey) -> Waiting {
    Waiting::Issuer(IssuerKey { kind: K::KIND, namespace: name.namespace.clone(), name: name.name.clone() })
}

async fn run_certificates(
    controller: Controller<Received<DatabaseUserCertificate>>,
    dispatch: Dispatch,
    context: Arc<Context>,
) {
    controller
        .run(reconcile, after_error, Arc::clone(&context))
        .for_each(move |result| {
            dispatch.moved();
            match result {
                Err(ControllerError::ObjectNotFound(gone)) if Dispatch::is_sign_of_life(&gone) => {}
                Err(ControllerError::ObjectNotFound(gone)) => {
                    let name = ObjectKey::new(gone.namespace.unwrap_or_default(), gone.name);
                    context.forget(&name);
                }
                Err(ControllerError::QueueError(error)) => {
                    warn!(error = chain(&error), "the watch of certificates failed and goes on");
                }
                Ok(_) | Err(_) => {}
            }
            futures::future::ready(())
        })
        .await;
}
