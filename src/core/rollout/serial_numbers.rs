//! The annotation that moves a workload.

use std::{collections::BTreeMap, fmt};

/// The serial numbers of the certificates that a workload was moved to, by the name of their `DatabaseUserCertificate`. In the
/// annotation they are sorted, as in `orders=4AF3,payments=77`, so that the same set has one text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SerialNumbers(BTreeMap<String, String>);

impl SerialNumbers {
    /// From the annotation. What does not read as an entry is dropped.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let entry = |part: &str| {
            let (name, serial_number) = part.split_once('=')?;
            let (name, serial_number) = (name.trim(), serial_number.trim());
            (!name.is_empty() && !serial_number.is_empty()).then(|| (name.to_owned(), serial_number.to_owned()))
        };
        Self(text.split(',').filter_map(entry).collect())
    }

    /// The serial number for this object.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Sets the serial number for this object.
    pub fn set(&mut self, name: &str, serial_number: &str) {
        self.0.insert(name.to_owned(), serial_number.to_owned());
    }

    /// Keeps the entries of these objects alone.
    pub fn retain(&mut self, is_kept: impl Fn(&str) -> bool) {
        self.0.retain(|name, _| is_kept(name));
    }
}

impl fmt::Display for SerialNumbers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (name, serial_number)) in self.0.iter().enumerate() {
            let separator = if position == 0 { "" } else { "," };
            write!(formatter, "{separator}{name}={serial_number}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_set_has_one_text() {
        let mut serial_numbers = SerialNumbers::parse("payments=77");
        serial_numbers.set("orders", "4AF3");
        assert_eq!(serial_numbers.to_string(), "orders=4AF3,payments=77");
        assert_eq!(SerialNumbers::parse("payments=77, orders=4AF3"), serial_numbers);
        assert_eq!(serial_numbers.get("payments"), Some("77"));
        serial_numbers.retain(|name| name == "orders");
        assert_eq!(serial_numbers.to_string(), "orders=4AF3");
    }

    #[test]
    fn what_is_no_entry_is_dropped() {
        for text in ["", ",", "orders", "=77", "orders=", " , =,"] {
            assert_eq!(SerialNumbers::parse(text), SerialNumbers::default(), "{text:?}");
        }
        assert_eq!(SerialNumbers::parse("garbage,orders=1").to_string(), "orders=1");
    }
}
