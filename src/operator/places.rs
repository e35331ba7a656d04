//! A few places, of which one client cannot take all.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Places for what clients want at the same time.
#[derive(Clone)]
pub(super) struct Places(Arc<Shared>);

struct Shared {
    most: usize,
    most_of_one: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Places {
    /// So many, and so many of them for one address.
    pub(super) fn new(most: usize, most_of_one: usize) -> Self {
        Self(Arc::new(Shared { most, most_of_one, taken: Mutex::default() }))
    }

    /// A place for a client at this address, if there is one.
    pub(super) fn take(&self, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        let mut taken = self.taken();
        let of_one = taken.by_address.get(&address).copied().unwrap_or_default();
        if taken.all >= self.0.most || of_one >= self.0.most_of_one {
            return None;
        }
        taken.all += 1;
        taken.by_address.insert(address, of_one + 1);
        Some(Place { places: self.clone(), address })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are taken.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.taken().all
    }
}

/// A place that is taken. It is free again when this is dropped.
pub(super) struct Place {
    places: Places,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all = taken.all.saturating_sub(1);
        match taken.by_address.get_mut(&self.address) {
            Some(of_one) if *of_one > 1 => *of_one -= 1,
            _ => drop(taken.by_address.remove(&self.address)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_few_places_and_all_have_not_many() {
        let places = Places::new(5, 2);
        let address = |last: u8| IpAddr::from([10, 0, 0, last]);
        let mut taken: Vec<Place> = (1..=9).flat_map(|last| [last; 5]).filter_map(|last| places.take(address(last))).collect();
        let held: Vec<u8> =
            taken.iter().map(|place| if let IpAddr::V4(address) = place.address { address.octets()[3] } else { 0 }).collect();
        assert_eq!(held, [1, 1, 2, 2, 3]);
        // An address of IPv4 counts as the same in the form of IPv6.
        taken.truncate(4);
        assert!(places.take(address(2)).is_none() && places.take("::ffff:10.0.0.2".parse().unwrap_or(address(2))).is_none());
        assert!(places.take(address(9)).is_some());
        drop(taken);
        assert!(places.count() == 0 && places.taken().by_address.is_empty(), "nothing is kept of who is gone");
    }
}
