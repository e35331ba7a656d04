//! A path as text: told when a property is violated, and walked again step by step.

use std::fmt;

use stateright::{Model, Path};

use crate::{
    action::Action,
    model::Operator,
    mutation::Mutation,
    world::{Budget, World},
};

/// The environment variable that holds the bound and the actions.
pub const VARIABLE: &str = "MODEL_REPLAY";

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Budget { faults, requests, deletions, renewals, expiries, compromises, moves, unknowns } = self.bound;
        write!(f, "faults={faults} requests={requests} deletions={deletions} renewals={renewals} expiries={expiries}")?;
        write!(f, " compromises={compromises} moves={moves} unknowns={unknowns} list={}", self.may_list)?;
        self.mutation.map_or(Ok(()), |mutation| write!(f, " mutation={mutation:?}"))
    }
}

/// The actions until the property is violated, and how to walk them again.
pub fn explanation(operator: Operator, property: &'static str, path: Path<World, Action>) -> String {
    let condition = operator.property(property).condition;
    let mut actions = Vec::new();
    for (world, action) in path.into_vec() {
        if !condition(&operator, &world) {
            break;
        }
        actions.extend(action);
    }
    format!("violated: {property}\n{}", command(operator, &actions))
}

/// The command that walks these actions again and shows every state.
pub fn command(operator: Operator, actions: &[Action]) -> String {
    let actions: Vec<String> = actions.iter().map(|action| format!("{action:?}")).collect();
    format!("{VARIABLE}='{operator}; {}' cargo test --test model replay -- --nocapture", actions.join("; "))
}

/// Walks a path.
pub fn run(text: &str) {
    let mut parts = text.split("; ");
    let operator = parse(parts.next().unwrap());
    let mut world = operator.init_states().remove(0);
    for wanted in parts.filter(|part| !part.is_empty()) {
        let steps = operator.next_steps(&world);
        let step = steps.into_iter().find(|(action, _)| format!("{action:?}") == wanted);
        (_, world) = step.unwrap_or_else(|| panic!("{wanted} cannot happen in {world:#?}"));
        println!("{wanted}:\n{world:#?}");
    }
    let properties = operator.properties();
    let failures = properties.iter().filter(|property| property.expectation.discovery_is_failure());
    let violated: Vec<&str> =
        failures.filter(|property| !(property.condition)(&operator, &world)).map(|property| property.name).collect();
    assert!(violated.is_empty(), "violated: {violated:?}");
}

fn parse(text: &str) -> Operator {
    let value = |name: &str| text.split(' ').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    let number = |name: &str| value(name).map_or(0, |text| text.parse().unwrap());
    let bound = Budget {
        faults: number("faults"),
        requests: number("requests"),
        deletions: number("deletions"),
        renewals: number("renewals"),
        expiries: number("expiries"),
        compromises: number("compromises"),
        moves: number("moves"),
        unknowns: number("unknowns"),
    };
    let mutation = Mutation::ALL.into_iter().find(|mutation| value("mutation") == Some(&format!("{mutation:?}")));
    Operator { bound, may_list: value("list") == Some("true"), mutation }
}
