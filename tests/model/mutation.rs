//! Rules that are broken on purpose.

/// A rule that is broken on purpose, to see that the model would tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// A certificate is asked for without a claim.
    NoClaim,
    /// The Secret is written whatever version it has.
    NoPrecondition,
    /// The leadership is not asked before a request is sent.
    NoPermit,
    /// A lost answer has the request sent again.
    RetriedRequest,
    /// A claim without its certificate is dropped and not counted.
    ForgottenClaim,
    /// The status forgets when renewals were forced.
    ForgottenRenewals,
    /// Whoever takes over takes itself for the one before, restarted, and does not wait for what that one may save.
    TakenForRestarted,
    /// A list that shows nothing of a lost claim proves that nothing was made.
    TrustedSilence,
    /// What Atlas told one account is believed of another.
    SharedLists,
    /// A claim is judged by the list of any account.
    AnyAccount,
    /// What failed is not looked at again.
    NoRetry,
    /// Each pass begins the next one.
    NoRest,
}

impl Mutation {
    pub const ALL: [Self; 12] = [
        Self::NoClaim,
        Self::NoPrecondition,
        Self::NoPermit,
        Self::RetriedRequest,
        Self::ForgottenClaim,
        Self::ForgottenRenewals,
        Self::TakenForRestarted,
        Self::TrustedSilence,
        Self::SharedLists,
        Self::AnyAccount,
        Self::NoRetry,
        Self::NoRest,
    ];
}
