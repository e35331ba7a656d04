//! What the next certificate will not have that this one has. A takeover changes nothing at first, and the first renewal does: whoever relies
//! on a name, a use or a length of time has to know before.

use jiff::{SignedDuration, Timestamp, ToSpan, tz::TimeZone};
use serde_json::{Value, json};
use usercert_operator_core::{
    api::{IssuerSource, IssuerSpec},
    certificate::{Certificate, CertificateFacts, name_of},
    decide::{default_duration, parse_duration},
};
use x509_cert::{
    der::oid::{
        ObjectIdentifier,
        db::rfc5280::{ANY_EXTENDED_KEY_USAGE, ID_KP_CLIENT_AUTH, ID_KP_SERVER_AUTH},
    },
    ext::pkix::{ExtendedKeyUsage, SubjectAltName, name::GeneralName},
};

use super::obstacles::{Consent, Obstacle};
use crate::text::count;

/// The extension of MongoDB that gives roles to whoever presents the certificate.
const MONGODB_ROLES: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.34601.2.1.1");

/// Issuers let a certificate begin some minutes before it is made. Lifetimes that differ by less than this are taken to be the same.
const BACKDATING: SignedDuration = SignedDuration::from_hours(1);

/// By how much a lifetime may miss a number of months: Atlas lets certificates begin an hour before, and months end on different days.
const MONTH_MISSES: SignedDuration = SignedDuration::from_hours(48);

/// What is lost at the first renewal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) notes: Vec<String>,
    pub(super) obstacles: Vec<Obstacle>,
}

/// What the operator's certificates do not have, for they are for clients of a database alone.
pub(super) fn lost_with(certificate: &Certificate) -> Lost {
    let fields = certificate.tbs_certificate();
    let mut lost = Lost::default();
    let names = fields.get_extension::<SubjectAltName>().ok().flatten().map(|(_, names)| names.0).unwrap_or_default();
    if !names.is_empty() {
        let names: Vec<String> = names.iter().map(words).collect();
        lost.notes.push(format!(
            "the certificate has the names {}, and the next one will not: databases know users by the subject",
            names.join(", ")
        ));
    }
    let usages = fields.get_extension::<ExtendedKeyUsage>().ok().flatten().map(|(_, usages)| usages.0).unwrap_or_default();
    for usage in usages.iter().filter(|usage| **usage != ID_KP_CLIENT_AUTH) {
        if [ID_KP_SERVER_AUTH, ANY_EXTENDED_KEY_USAGE].contains(usage) {
            lost.obstacles.push(Obstacle::unless(
                Consent::Loss,
                format!(
                    "the certificate is for servers too ({}), and the next one will be for clients alone: a server that uses it would be refused after the renewal, so give the server a certificate of its own first",
                    name_of(usage)
                ),
            ));
        } else {
            lost.notes
                .push(format!("the certificate is for {} too, and the next one will be for clients alone", name_of(usage)));
        }
    }
    let grants_roles = fields.extensions().is_some_and(|all| all.iter().any(|extension| extension.extn_id == MONGODB_ROLES));
    if grants_roles {
        lost.obstacles.push(Obstacle::unless(
            Consent::Loss,
            format!(
                "the certificate grants roles of MongoDB by itself (the extension {MONGODB_ROLES}), and the next one will not: give the roles to the $external user of this subject first"
            ),
        ));
    }
    lost
}

fn words(name: &GeneralName) -> String {
    match name {
        GeneralName::DnsName(name) => format!("DNS:{name}"),
        GeneralName::Rfc822Name(name) => format!("email:{name}"),
        GeneralName::UniformResourceIdentifier(name) => format!("URI:{name}"),
        GeneralName::DirectoryName(name) => format!("directory name {name}"),
        GeneralName::RegisteredId(id) => format!("registered ID {id}"),
        GeneralName::IpAddress(address) => {
            let address = address.as_bytes();
            let four = <[u8; 4]>::try_from(address).map(|bytes| std::net::IpAddr::from(bytes).to_string());
            let sixteen = || <[u8; 16]>::try_from(address).map(|bytes| std::net::IpAddr::from(bytes).to_string());
            format!("IP:{}", four.or_else(|_| sixteen()).unwrap_or_else(|_| format!("{address:?}")))
        }
        GeneralName::OtherName(_) | GeneralName::EdiPartyName(_) => "one of another kind".to_owned(),
    }
}

/// How long the next certificates are valid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lifetime {
    /// The field of the spec that asks for what this certificate has, with its value; `None` if the issuer's own is the same, or if it does not
    /// permit that.
    pub(super) field: Option<(&'static str, Value)>,
    /// What to know of it.
    pub(super) note: Option<String>,
}

/// Has the next certificates live as long as this one, as far as the issuer permits.
pub(super) fn lifetime(facts: &CertificateFacts, issuer: &IssuerSpec) -> Lifetime {
    match issuer.source() {
        Some(IssuerSource::Ca(ca)) => {
            let read = |text: &Option<String>| parse_duration("", text.as_deref()?).ok();
            of_ca(facts.not_after.duration_since(facts.not_before), read(&ca.duration), read(&ca.max_duration))
        }
        Some(IssuerSource::Atlas(atlas)) => of_atlas(facts, atlas.months_until_expiration),
        None => Lifetime::default(),
    }
}

fn of_ca(found: SignedDuration, default: Option<SignedDuration>, max: Option<SignedDuration>) -> Lifetime {
    let own = default.unwrap_or_else(|| default_duration(max));
    if (found - own).abs() <= BACKDATING {
        return Lifetime::default();
    }
    let (hours, own) = (found.as_hours(), count(own.as_hours(), "hour"));
    match max {
        Some(max) if found - BACKDATING > max => Lifetime {
            field: None,
            note: Some(format!(
                "the certificate was made for {}, and the issuer permits {} at most: the next one is valid for {own}",
                count(hours, "hour"),
                count(max.as_hours(), "hour")
            )),
        },
        _ if hours < 1 => Lifetime {
            field: None,
            note: Some(format!("the certificate was made for less than an hour: the next one is valid for {own}")),
        },
        _ => {
            let hours = max.map_or(hours, |max| hours.min(max.as_hours()));
            Lifetime {
                field: Some(("duration", json!(format!("{hours}h")))),
                note: Some(format!(
                    "each next certificate is valid for {} as this one (spec.duration); without that field for {own}",
                    count(hours, "hour")
                )),
            }
        }
    }
}

fn of_atlas(facts: &CertificateFacts, default: u8) -> Lifetime {
    let months = (1..=24_u8).find(|months| {
        let end = after(facts.not_before, *months);
        end.is_some_and(|end| end.duration_since(facts.not_after).abs() <= MONTH_MISSES)
    });
    match months {
        Some(months) if months == default => Lifetime::default(),
        Some(months) => Lifetime {
            field: Some(("monthsUntilExpiration", json!(months))),
            note: Some(format!(
                "each next certificate is valid for {} as this one (spec.monthsUntilExpiration); without that field for {default}",
                count(months, "month")
            )),
        },
        None => Lifetime {
            field: None,
            note: Some(format!(
                "the certificate was made for {}, which is no number of months that Atlas gives: the next one is valid for {}",
                count(facts.not_after.duration_since(facts.not_before).as_hours() / 24, "day"),
                count(default, "month")
            )),
        },
    }
}

fn after(time: Timestamp, months: u8) -> Option<Timestamp> {
    time.to_zoned(TimeZone::UTC).checked_add(i64::from(months).months()).ok().map(|end| end.timestamp())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use rcgen::{CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, KeyPair, SanType};
    use rstest::rstest;
    use usercert_operator_core::{
        certificate::{Link, NameConstraints},
        decide::{Allow, CaFacts, Desired, IssuerFacts, IssuingMethod},
    };

    use super::*;
    use crate::verbs::migrate::prepare::tests::{prepared, secret};

    fn lost(change: impl FnOnce(&mut CertificateParams)) -> Lost {
        let mut leaf = CertificateParams::default();
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut leaf);
        let certificate = leaf.self_signed(&KeyPair::generate().unwrap()).unwrap();
        lost_with(&Link::new(certificate.der().clone()).unwrap().certificate)
    }

    #[test]
    fn a_plain_client_certificate_loses_nothing() {
        assert_eq!(lost(|_| {}), Lost::default());
    }

    #[test]
    fn names_and_other_usages_are_told() {
        let found = lost(|leaf| {
            leaf.subject_alt_names = vec![
                SanType::DnsName("orders.example.com".try_into().unwrap()),
                SanType::IpAddress([192, 0, 2, 1].into()),
                SanType::URI("spiffe://example.com/orders".try_into().unwrap()),
            ];
            leaf.extended_key_usages.push(ExtendedKeyUsagePurpose::EmailProtection);
        });
        let expected = [
            "has the names DNS:orders.example.com, IP:192.0.2.1, URI:spiffe://example.com/orders, and the next one will not",
            "for id-kp-emailProtection too",
        ];
        assert_eq!(found.notes.len(), expected.len(), "{found:?}");
        assert!(found.notes.iter().zip(expected).all(|(note, expected)| note.contains(expected)), "{found:?}");
        assert_eq!(found.obstacles, []);
    }

    #[rstest]
    #[case::a_server(|leaf: &mut CertificateParams| leaf.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth), "for servers too")]
    #[case::any_use(|leaf: &mut CertificateParams| leaf.extended_key_usages.push(ExtendedKeyUsagePurpose::Any), "for servers too")]
    // A set of one role: read in admin.
    #[case::roles_of_mongodb(
        |leaf: &mut CertificateParams| leaf.custom_extensions.push(CustomExtension::from_oid_content(
            &[1, 3, 6, 1, 4, 1, 34601, 2, 1, 1],
            [&[0x31, 0x0F, 0x30, 0x0D, 0x0C, 0x04][..], b"read", &[0x0C, 0x05], b"admin"].concat(),
        )),
        "grants roles of MongoDB"
    )]
    fn what_stops_working_at_the_renewal_needs_a_word(
        #[case] change: impl FnOnce(&mut CertificateParams),
        #[case] expected: &str,
    ) {
        let found = lost(change);
        assert!(found.obstacles.len() == 1 && found.obstacles[0].message.contains(expected), "{found:?}");
        assert_eq!((found.obstacles[0].consent, found.notes), (Some(Consent::Loss), Vec::new()));
    }

    #[rstest]
    #[case::the_default(2160, None, None, None, None)]
    #[case::backdated(2161, None, None, None, None)]
    #[case::that_of_the_issuer(48, Some(48), None, None, None)]
    #[case::a_year(8760, None, None, Some("8760h"), Some("valid for 8760 hours as this one"))]
    #[case::a_year_is_permitted(8760, Some(2160), Some(8760), Some("8760h"), Some("without that field for 2160 hours"))]
    #[case::backdated_to_more_than_permitted(8761, Some(2160), Some(8760), Some("8760h"), Some("valid for 8760 hours"))]
    #[case::a_year_is_too_long(
        8760,
        None,
        Some(720),
        None,
        Some("permits 720 hours at most: the next one is valid for 720 hours")
    )]
    #[case::a_day(24, None, None, Some("24h"), Some("valid for 24 hours"))]
    #[case::an_hour(1, None, None, Some("1h"), Some("valid for 1 hour as"))]
    #[case::some_minutes(0, None, None, None, Some("less than an hour"))]
    fn the_next_certificate_of_a_ca_is_valid_for_as_long_as_is_permitted(
        #[case] found: i64,
        #[case] default: Option<i64>,
        #[case] max: Option<i64>,
        #[case] duration: Option<&str>,
        #[case] note: Option<&str>,
    ) {
        let hours = SignedDuration::from_hours;
        let lifetime = of_ca(hours(found), default.map(hours), max.map(hours));
        assert_eq!(lifetime.field, duration.map(|duration| ("duration", json!(duration))));
        assert_eq!(lifetime.note.is_some(), note.is_some(), "{lifetime:?}");
        assert!(note.is_none_or(|note| lifetime.note.as_ref().is_some_and(|found| found.contains(note))), "{lifetime:?}");
    }

    #[rstest]
    fn what_an_issuer_gives_by_itself_is_what_the_operator_takes(
        #[values(None, Some(48))] default: Option<i64>,
        #[values(None, Some(720), Some(8760))] max: Option<i64>,
    ) {
        let hours = SignedDuration::from_hours;
        let (duration, max_duration) = (default.map(hours), max.map(hours));
        let ca = CaFacts {
            duration,
            max_duration,
            not_after: Timestamp::MAX,
            ca_digest: String::new(),
            chain_digest: String::new(),
            name_constraints: NameConstraints::default(),
        };
        let facts = IssuerFacts {
            method: IssuingMethod::Sign(ca),
            allow: Allow::default(),
            username: None,
            identity: "ca/1".into(),
            version: "1".into(),
        };
        let takeover = prepared(&secret(None, |_| {}), true).unwrap_or_else(|fault| unreachable!("{fault}"));
        let object = serde_json::from_value(takeover.object).unwrap();
        let desired = Desired::new(&object, &facts).unwrap();
        assert_eq!(duration.unwrap_or_else(|| default_duration(max_duration)), desired.shortest_lifetime());
    }

    #[rstest]
    #[case::the_default("2026-08-10T02:06:35Z", "2026-11-10T03:06:35Z", None)]
    #[case::a_year("2026-08-10T02:06:35Z", "2027-08-10T03:06:35Z", Some(12))]
    #[case::a_month_without_that_day("2026-01-31T00:00:00Z", "2026-02-28T01:00:00Z", Some(1))]
    fn the_next_certificate_of_atlas_is_valid_for_as_many_months(
        #[case] not_before: &str,
        #[case] not_after: &str,
        #[case] months: Option<u8>,
    ) {
        let takeover = prepared(&secret(None, |_| {}), false).unwrap_or_else(|fault| unreachable!("{fault}"));
        let (not_before, not_after) = (not_before.parse().unwrap(), not_after.parse().unwrap());
        let facts = CertificateFacts { not_before, not_after, ..takeover.facts };
        let lifetime = of_atlas(&facts, 3);
        assert_eq!(lifetime.field, months.map(|months| ("monthsUntilExpiration", json!(months))));
        assert_eq!(lifetime.note.is_some(), months.is_some());
        assert!(lifetime.note.is_none_or(|note| months != Some(1) || note.contains("valid for 1 month as")));
        let odd = CertificateFacts {
            not_after: "2026-09-01T00:00:00Z".parse().unwrap(),
            not_before: "2026-08-20T00:00:00Z".parse().unwrap(),
            ..facts
        };
        assert!(of_atlas(&odd, 3).note.is_some_and(|note| note.contains("12 days")));
    }
}
