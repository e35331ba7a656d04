//! How turns are shared out between namespaces. Pure.
//!
//! A namespace gets another turn only while it holds fewer turns than are free. So the first namespace holds at most half of all turns, the
//! next one half of the rest, and whoever comes new finds one free. Nobody has to give a turn back for that: a turn may last for minutes.
//!
//! Of namespaces that hold equally many turns, the one goes first that got its last turn the longest ago. So nobody who gives a turn back
//! takes it again before those who wait.

use std::collections::HashMap;

/// The turns that are given or under way, by namespace.
#[derive(Debug)]
pub struct Shares {
    all: u32,
    busy: u32,
    held: HashMap<String, u32>,
    /// How many turns were given so far.
    given: u64,
    /// The number of the last turn that each namespace got. One that is not here got none for long.
    last: HashMap<String, u64>,
}

/// So many turns back it is known who got one.
const REMEMBERED: u64 = 1_000;

impl Shares {
    /// So many turns, all free.
    #[must_use]
    pub fn new(all: u32) -> Self {
        Self { all, busy: 0, held: HashMap::new(), given: 0, last: HashMap::new() }
    }

    /// Whether the namespace may have another turn now.
    #[must_use]
    pub fn have_room_for(&self, namespace: &str) -> bool {
        self.held_by(namespace) < self.all.saturating_sub(self.busy)
    }

    /// Which of several namespaces comes next: the one for which this is least.
    #[must_use]
    pub fn order_of(&self, namespace: &str) -> (u32, u64) {
        (self.held_by(namespace), self.last.get(namespace).copied().unwrap_or_default())
    }

    /// How many turns the namespace holds.
    #[must_use]
    pub fn held_by(&self, namespace: &str) -> u32 {
        self.held.get(namespace).copied().unwrap_or_default()
    }

    /// The namespace gets a turn.
    pub fn take(&mut self, namespace: &str) {
        self.busy += 1;
        *self.held.entry(namespace.to_owned()).or_default() += 1;
        self.given += 1;
        self.last.insert(namespace.to_owned(), self.given);
        let forgotten = self.given.saturating_sub(REMEMBERED);
        if self.last.len() > 2 * self.held.len() + 64 {
            self.last.retain(|_, number| *number > forgotten);
        }
    }

    /// A turn of the namespace has ended.
    pub fn give_back(&mut self, namespace: &str) {
        let Some(held) = self.held.get_mut(namespace) else { return };
        self.busy = self.busy.saturating_sub(1);
        *held = held.saturating_sub(1);
        if *held == 0 {
            self.held.remove(namespace);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// How many turns the namespace gets if it takes all that it may have.
    fn fill(shares: &mut Shares, namespace: &str) -> u32 {
        while shares.have_room_for(namespace) {
            shares.take(namespace);
        }
        shares.held_by(namespace)
    }

    #[test]
    fn the_first_namespace_has_half_and_each_further_one_half_of_the_rest() {
        let mut shares = Shares::new(16);
        assert_eq!(["a", "b", "c", "d"].map(|namespace| fill(&mut shares, namespace)), [8, 4, 2, 1]);
        assert!(shares.have_room_for("new"));
        shares.give_back("a");
        assert!(!shares.have_room_for("a"), "a namespace does not get back what it gives back while others hold their shares");
    }

    #[test]
    fn one_turn_is_enough_for_everybody_to_get_it_once() {
        let mut shares = Shares::new(1);
        assert_eq!(fill(&mut shares, "a"), 1);
        assert!(!shares.have_room_for("b"));
        shares.give_back("a");
        assert_eq!(fill(&mut shares, "b"), 1);
    }

    #[test]
    fn who_got_a_turn_last_comes_last_and_is_forgotten_in_time() {
        let mut shares = Shares::new(4);
        for namespace in ["a", "b"] {
            shares.take(namespace);
            shares.give_back(namespace);
        }
        assert!(shares.order_of("new") < shares.order_of("a") && shares.order_of("a") < shares.order_of("b"));
        for number in 0..5_000 {
            let namespace = number.to_string();
            shares.take(&namespace);
            shares.give_back(&namespace);
        }
        assert!(shares.last.len() <= 1_000 && !shares.last.contains_key("a"));
    }

    proptest! {
        #[test]
        fn whatever_one_namespace_does_another_finds_a_turn(all in 2_u32..64, others in 0_u32..64) {
            let mut shares = Shares::new(all);
            for _ in 0..others {
                if shares.have_room_for("greedy") {
                    shares.take("greedy");
                }
            }
            prop_assert!(shares.have_room_for("new"));
            prop_assert!(shares.held_by("greedy") <= all.div_ceil(2));
        }
    }
}
