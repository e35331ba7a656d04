//! The verbs. Each reads what it needs and hands it to a pure function, which makes the answer.

mod check;
mod create;
mod inspect;
mod leader;
mod migrate;
mod namespace;
mod objects;
mod observe;
mod orphans;
mod plan;
mod print;
mod renew;
mod report;
mod state;
mod status;
mod suspend;
mod whole;
mod why;

/// What the operator may do, for a comparison with the chart.
pub use self::check::rights;

use crate::{
    arguments::{Arguments, InspectArguments, Verb},
    cluster::Cluster,
    exit::{Answer, CliError},
    session::Session,
};

/// Does what the arguments ask for.
pub(crate) async fn execute(arguments: Arguments, session: Session) -> Result<Answer, CliError> {
    arguments.check().map_err(CliError::Usage)?;
    if let Verb::Print(printed) = &arguments.verb {
        return print::print(printed);
    }
    if let Verb::Inspect(InspectArguments { file: Some(file), key, ca, output, .. }) = &arguments.verb {
        return inspect::inspect_file(&session, file, key.as_deref(), ca.as_deref(), *output);
    }
    let cluster = Cluster::connect(&arguments.connection, session.terminal.clone()).await?;
    match arguments.verb {
        Verb::Print(printed) => print::print(&printed),
        Verb::Status(arguments) => status::status(&cluster, &session, &arguments).await,
        Verb::Why(arguments) => why::why(&cluster, &session, &arguments).await,
        Verb::Inspect(arguments) => {
            let name = arguments.secret.unwrap_or_default();
            inspect::inspect_secret(&cluster, &session, &name, arguments.output).await
        }
        Verb::Orphans(arguments) => orphans::orphans(&cluster, &session, &arguments).await,
        Verb::Plan(arguments) => plan::plan(&cluster, &session, &arguments).await,
        Verb::Check(arguments) => check::check(&cluster, &session, &arguments).await,
        Verb::Report(arguments) => report::report(&cluster, &session, &arguments).await,
        Verb::Create(arguments) => create::create(&cluster, &session, &arguments).await,
        Verb::Migrate(arguments) => migrate::migrate(&cluster, &session, &arguments).await,
        Verb::Renew(arguments) => renew::renew(&cluster, &session, &arguments).await,
        Verb::Suspend(arguments) => suspend::suspend(&cluster, &session, &arguments, true).await,
        Verb::Resume(arguments) => suspend::suspend(&cluster, &session, &arguments, false).await,
    }
}
