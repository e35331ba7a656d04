//! The series of certificates: some for each, or totals.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use prometheus_client::{encoding::DescriptorEncoder, metrics::MetricType};

use super::family::{GaugeOf, family, gauges};
use crate::figures::{CertificateFigures, Readiness};

/// Each certificate has the first four, and the others only if there is something to tell.
const EACH: [GaugeOf<CertificateFigures>; 7] = [
    GaugeOf {
        name: "usercert_certificate_not_after_timestamp_seconds",
        help: "When the certificate in the Secret expires; none if there is no certificate",
        value: |figures| figures.not_after.map(Timestamp::as_second),
    },
    GaugeOf {
        name: "usercert_certificate_renewal_timestamp_seconds",
        help: "When the certificate is renewed; none if there is no certificate",
        value: |figures| figures.renewal_time.map(Timestamp::as_second),
    },
    GaugeOf {
        name: "usercert_certificate_ready",
        help: "1 if the condition Ready is True, else 0; none for an object that was suspended before its first certificate",
        value: |figures| figures.is_expected().then_some(i64::from(figures.ready == Readiness::True)),
    },
    GaugeOf {
        name: "usercert_certificate_consecutive_failures",
        help: "How often in a row no certificate could be issued",
        value: |figures| Some(figures.consecutive_failures),
    },
    GaugeOf {
        name: "usercert_certificate_unaccounted",
        help: "Certificates of the database user that no Secret of this operator holds or has held; none if there are none",
        value: |figures| Some(figures.unaccounted).filter(|count| *count > 0),
    },
    GaugeOf {
        name: "usercert_certificate_unaccounted_latest_expiry_timestamp_seconds",
        help: "When the last of them expires that Atlas lists",
        value: |figures| figures.unaccounted_latest_expiry.map(Timestamp::as_second),
    },
    GaugeOf {
        name: "usercert_certificate_suspended",
        help: "1 if spec.suspend is true: the certificate expires without being renewed; else none",
        value: |figures| figures.is_suspended.then_some(1),
    },
];

/// Objects without a rollout that was looked at have none.
const ROLLOUT: [GaugeOf<CertificateFigures>; 5] = [
    GaugeOf {
        name: "usercert_rollout_workloads",
        help: "Workloads of the rollout that are to be on the certificate in the Secret",
        value: |figures| Some(figures.rollout.as_ref()?.workloads),
    },
    GaugeOf {
        name: "usercert_rollout_workloads_moved",
        help: "Workloads of the rollout that are on the certificate in the Secret; 0 after a renewal, until they were looked at",
        value: |figures| Some(figures.rollout.as_ref()?.moved),
    },
    GaugeOf {
        name: "usercert_rollout_pods_behind",
        help: "Pods of the rollout that are not known to have the certificate in the Secret; none after a renewal or a restart, until they were looked at",
        value: |figures| if figures.rollout.as_ref()?.is_complete { Some(0) } else { figures.pods_behind },
    },
    GaugeOf {
        name: "usercert_rollout_deadline_timestamp_seconds",
        help: "When the old certificate expires that workloads may still use; none if the rollout is complete or there is no old certificate",
        value: |figures| Some(figures.rollout.as_ref()?.old_not_after?.as_second()),
    },
    GaugeOf {
        name: "usercert_rollout_regardless_of_windows_timestamp_seconds",
        help: "From when on windows do not hold; none if the rollout is complete or has no windows",
        value: |figures| Some(figures.rollout.as_ref()?.regardless_of_windows_after?.as_second()),
    },
];

/// Series for each certificate.
pub(super) fn encode_each(encoder: &mut DescriptorEncoder<'_>, certificates: &[CertificateFigures]) -> fmt::Result {
    gauges(encoder, &EACH, certificates, |figures| {
        let CertificateFigures { object, issuer, .. } = figures;
        [("namespace", object.namespace.as_str()), ("name", &object.name), ("issuer", issuer)]
    })?;
    gauges(encoder, &ROLLOUT, certificates, of_rollout)?;
    let help = "1, with the serial number of the certificate that the rollout moves workloads to";
    family(encoder, "usercert_rollout_info", help, MetricType::Info, |mut info| {
        for figures in certificates {
            if let Some(rollout) = &figures.rollout {
                let serial_number = [("serial_number", rollout.serial_number.as_str())];
                info.encode_family(&of_rollout(figures))?.encode_info(&serial_number)?;
            }
        }
        Ok(())
    })
}

fn of_rollout(figures: &CertificateFigures) -> [(&'static str, &str); 2] {
    [("namespace", figures.object.namespace.as_str()), ("name", &figures.object.name)]
}

/// The certificates of one issuer.
#[derive(Clone, Debug, Default)]
struct Total {
    issuer: String,
    of_readiness: BTreeMap<Readiness, i64>,
    earliest_not_after: Option<Timestamp>,
    earliest_renewal: Option<Timestamp>,
    earliest_overdue_not_after: Option<Timestamp>,
    not_ready: i64,
    expired: i64,
    overdue: i64,
    failing: i64,
    unaccounted: i64,
    suspended: i64,
}

const TOTALS: [GaugeOf<Total>; 9] = [
    GaugeOf {
        name: "usercert_certificates_earliest_not_after_timestamp_seconds",
        help: "When the first of the certificates in Secrets expires",
        value: |total| total.earliest_not_after.map(Timestamp::as_second),
    },
    GaugeOf {
        name: "usercert_certificates_earliest_renewal_timestamp_seconds",
        help: "The earliest renewal time of the certificates that have not expired; suspended ones do not count",
        value: |total| total.earliest_renewal.map(Timestamp::as_second),
    },
    GaugeOf {
        name: "usercert_certificates_not_ready",
        help: "Objects whose condition Ready is not True, without those that were suspended before their first certificate",
        value: |total| Some(total.not_ready),
    },
    GaugeOf {
        name: "usercert_certificates_expired",
        help: "Certificates in Secrets that have expired",
        value: |total| Some(total.expired),
    },
    GaugeOf {
        name: "usercert_certificates_overdue",
        help: "Certificates that have not expired and should have been renewed, without the suspended ones",
        value: |total| Some(total.overdue),
    },
    GaugeOf {
        name: "usercert_certificates_earliest_overdue_not_after_timestamp_seconds",
        help: "When the first of those expires whose renewal has been due for an hour, or for half of the time until then; none if there are none",
        value: |total| total.earliest_overdue_not_after.map(Timestamp::as_second),
    },
    GaugeOf {
        name: "usercert_certificates_failing",
        help: "Objects for which the last attempt to issue a certificate failed, without the suspended ones",
        value: |total| Some(total.failing),
    },
    GaugeOf {
        name: "usercert_certificates_unaccounted",
        help: "Certificates of database users that no Secret of this operator holds or has held",
        value: |total| Some(total.unaccounted),
    },
    GaugeOf {
        name: "usercert_certificates_suspended",
        help: "Objects with spec.suspend: their certificates expire without being renewed",
        value: |total| Some(total.suspended),
    },
];

/// The rollouts of all certificates.
const ROLLOUT_TOTALS: [GaugeOf<(Vec<CertificateFigures>, Timestamp)>; 3] = [
    GaugeOf {
        name: "usercert_rollouts_incomplete",
        help: "Rollouts that are not complete",
        value: |(all, _)| i64::try_from(incomplete(all).count()).ok(),
    },
    GaugeOf {
        name: "usercert_rollouts_late",
        help: "Those of them whose old certificate has less than a twentieth of the time left that the new one has",
        value: |(all, now)| i64::try_from(all.iter().filter(|figures| figures.is_rollout_late(*now)).count()).ok(),
    },
    GaugeOf {
        name: "usercert_rollouts_earliest_deadline_timestamp_seconds",
        help: "When the first of the old certificates expires that workloads may still use; none if there are none",
        value: |(all, _)| Some(incomplete(all).filter_map(|rollout| rollout.old_not_after).min()?.as_second()),
    },
];

fn incomplete(all: &[CertificateFigures]) -> impl Iterator<Item = &crate::rollout::Figures> {
    all.iter().filter_map(|figures| figures.rollout.as_ref()).filter(|rollout| !rollout.is_complete)
}

/// Where certificates are counted whose issuer is not there. Who may make certificates alone must not choose the number of series.
const NO_SUCH_ISSUER: &str = "missing";

/// Totals for each issuer, whose number does not grow with that of the certificates.
pub(super) fn encode_totals(
    encoder: &mut DescriptorEncoder<'_>,
    certificates: Vec<CertificateFigures>,
    now: Timestamp,
) -> fmt::Result {
    let mut totals = BTreeMap::<&str, Total>::new();
    for figures in &certificates {
        let issuer = if figures.issuer_exists { figures.issuer.as_str() } else { NO_SUCH_ISSUER };
        totals.entry(issuer).or_insert_with(|| Total { issuer: issuer.to_owned(), ..Total::default() }).add(figures, now);
    }
    let totals: Vec<Total> = totals.into_values().collect();
    let help = "DatabaseUserCertificates by their condition Ready";
    family(encoder, "usercert_certificates", help, MetricType::Gauge, |mut gauge| {
        for total in &totals {
            for ready in Readiness::ALL {
                let count = total.of_readiness.get(&ready).copied().unwrap_or(0);
                let labels = [("issuer", total.issuer.as_str()), ("ready", ready.as_str())];
                gauge.encode_family(&labels)?.encode_gauge(&count)?;
            }
        }
        Ok(())
    })?;
    gauges(encoder, &TOTALS, &totals, |total| [("issuer", total.issuer.as_str())])?;
    gauges(encoder, &ROLLOUT_TOTALS, &[(certificates, now)], |_| [("", ""); 0])
}

impl Total {
    fn add(&mut self, figures: &CertificateFigures, now: Timestamp) {
        let earlier = |known: Option<Timestamp>, other: Option<Timestamp>| known.into_iter().chain(other).min();
        let (is_active, is_expired, is_overdue) = (!figures.is_suspended, figures.is_expired(now), figures.is_overdue(now));
        let to_be_renewed = figures.renewal_time.filter(|_| is_active && !is_expired);
        *self.of_readiness.entry(figures.ready).or_default() += 1;
        self.earliest_not_after = earlier(self.earliest_not_after, figures.not_after);
        self.earliest_renewal = earlier(self.earliest_renewal, to_be_renewed);
        self.earliest_overdue_not_after = earlier(self.earliest_overdue_not_after, figures.late_not_after(now));
        self.not_ready += i64::from(figures.is_expected() && figures.ready != Readiness::True);
        self.expired += i64::from(is_expired);
        self.overdue += i64::from(is_overdue);
        self.failing += i64::from(is_active && figures.consecutive_failures > 0);
        self.unaccounted += figures.unaccounted;
        self.suspended += i64::from(figures.is_suspended);
    }
}
