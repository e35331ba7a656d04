//! All states within the bound, by a search in depth: whether each property holds in each of them, and whether their graph has a cycle.
//!
//! Stateright's `eventually` says nothing of paths that go round, and forgets where paths meet. So liveness is two statements that can be
//! checked in full: no path goes round, and each state that nothing follows is as it should be in the end.

use std::{
    collections::{BTreeSet, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
};

use stateright::{Expectation, Model, Property};

use crate::{action::Action, model::Operator, world::World};

/// What the search came to.
#[derive(Default)]
pub struct Found {
    pub states: usize,
    pub depth: usize,
    /// The actions from the beginning until a state comes for the second time.
    pub cycle: Option<Vec<Action>>,
    /// What must never be, and is.
    pub violated: Option<&'static str>,
    /// What must be somewhere, and is.
    pub reached: BTreeSet<&'static str>,
}

impl Found {
    fn judge(&mut self, operator: Operator, properties: &[Property<Operator>], world: &World) {
        for Property { expectation, name, condition } in properties {
            let holds = condition(&operator, world);
            match expectation {
                Expectation::Always if !holds => self.violated = Some(name),
                Expectation::Sometimes if holds => _ = self.reached.insert(name),
                _ => {}
            }
        }
    }
}

/// A state on the path, and what may follow it that was not tried yet.
struct Visit {
    state: u64,
    next: Vec<(Action, World)>,
    /// The action that led on from here.
    taken: Option<Action>,
}

/// Searches all states within the bound.
pub fn search(operator: Operator) -> Found {
    let (mut found, properties) = (Found::default(), operator.properties());
    let mut on_path: HashMap<u64, bool> = HashMap::new();
    let mut path: Vec<Visit> = Vec::new();
    for world in operator.init_states() {
        found.judge(operator, &properties, &world);
        enter(operator, &world, digest(&world), &mut path, &mut on_path);
    }
    while let Some(visit) = path.last_mut() {
        let Some((action, world)) = visit.next.pop() else {
            on_path.insert(visit.state, false);
            path.pop();
            continue;
        };
        visit.taken = Some(action);
        let state = digest(&world);
        match on_path.get(&state) {
            Some(true) => {
                found.cycle = Some(path.iter().filter_map(|visit| visit.taken).collect());
                break;
            }
            Some(false) => {}
            None => {
                found.judge(operator, &properties, &world);
                if found.violated.is_some() {
                    break;
                }
                enter(operator, &world, state, &mut path, &mut on_path);
            }
        }
        found.depth = found.depth.max(path.len());
    }
    found.states = on_path.len();
    found
}

fn enter(operator: Operator, world: &World, state: u64, path: &mut Vec<Visit>, on_path: &mut HashMap<u64, bool>) {
    on_path.insert(state, true);
    path.push(Visit { state, next: operator.next_steps(world), taken: None });
}

fn digest(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}
