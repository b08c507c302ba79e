//! How far DPS's clock is from ours, and what the refusal of a token says about that. Pure.

use std::sync::atomic::{AtomicI64, Ordering};

use tokio::time::Instant;

use super::attestation::CredentialId;

/// Seconds. A clock that is further off is reported, and the next token is made for DPS's time.
const NOTICED: i64 = 5 * 60;
/// Seconds. A `Date` that is further off is named, but no token is made for it: no server may have
/// tokens signed for another day.
const BELIEVED: i64 = 24 * 60 * 60;

/// How far DPS's clock is ahead of ours, in seconds; 0 until DPS refuses a token because of it.
/// Shared by all calls to one instance, so that one refusal is enough.
#[derive(Debug, Default)]
pub struct ClockOffset(AtomicI64);

/// What the token of one request was made from.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenBasis {
    /// Of the credential that signed it.
    pub issuer: CredentialId,
    /// DPS's time as it was believed to be, in Unix seconds.
    pub made_for: i64,
    /// When it was made. Our wall clock may be set while the request is under way; this one is not.
    pub made_at: Instant,
}

/// How the clock stood that a refused token was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenClock {
    /// As DPS's, within five minutes, as far as the answer shows: DPS refused the credential.
    Right,
    /// The same, and only because the token was made for DPS's time: our clock is more than five
    /// minutes off.
    Corrected(Off),
    /// More than five minutes off: the refusal says nothing of the credential.
    Wrong,
    /// More than a day off, which is not corrected for: the refusal says nothing of the credential.
    Unbelievable(Off),
}

/// Where our clock stands beside DPS's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Off {
    Behind,
    Ahead,
}

impl Off {
    /// `skew`: how far DPS's clock is ahead.
    fn of(skew: i64) -> Self {
        if skew > 0 { Self::Behind } else { Self::Ahead }
    }
}

impl ClockOffset {
    /// For a token that is made at this moment, in Unix seconds of our clock.
    pub(super) fn basis(&self, issuer: CredentialId, wall: i64, made_at: Instant) -> TokenBasis {
        TokenBasis { issuer, made_for: wall.saturating_add(self.0.load(Ordering::Relaxed)), made_at }
    }

    /// What a refusal that came at this moment says. `date` is DPS's time by the answer. Each refusal is
    /// held against its own token: others may have been refused meanwhile, and have corrected the clock.
    pub(super) fn refused(
        &self,
        token: &TokenBasis,
        date: Option<i64>,
        wall: i64,
        at: Instant,
    ) -> TokenClock {
        let Some(date) = date else { return TokenClock::Right };
        let skew = date.saturating_sub(wall);
        if skew.saturating_abs() > BELIEVED {
            return TokenClock::Unbelievable(Off::of(skew));
        }
        let is_noticed = |off: i64| off.saturating_abs() > NOTICED;
        self.0.store(if is_noticed(skew) { skew } else { 0 }, Ordering::Relaxed);
        let elapsed =
            i64::try_from(at.saturating_duration_since(token.made_at).as_secs()).unwrap_or(i64::MAX);
        if is_noticed(date.saturating_sub(token.made_for.saturating_add(elapsed))) {
            TokenClock::Wrong
        } else if is_noticed(skew) {
            TokenClock::Corrected(Off::of(skew))
        } else {
            TokenClock::Right
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::dps::attestation::CredentialKind;

    const HOUR: i64 = 3600;
    const NOON: i64 = 1_800_000_000;

    fn issuer() -> CredentialId {
        CredentialId::parse(CredentialKind::GroupKey, "00000000000000aa").unwrap()
    }

    #[test]
    fn all_refusals_in_flight_when_the_clock_jumps_are_the_clocks_and_the_next_one_is_not() {
        let (clock, now) = (ClockOffset::default(), Instant::now());
        let tokens = [(); 6].map(|()| clock.basis(issuer(), NOON, now));
        for (n, token) in (1..).zip(&tokens) {
            let said =
                clock.refused(token, Some(NOON + 2 * HOUR + n), NOON + n, now + Duration::from_secs(1));
            assert_eq!(said, TokenClock::Wrong, "refusal {n}");
        }
        let corrected = clock.basis(issuer(), NOON + 10, now);
        assert_eq!(
            clock.refused(&corrected, Some(NOON + 2 * HOUR + 10), NOON + 10, now),
            TokenClock::Corrected(Off::Behind)
        );
    }

    #[test]
    fn what_a_refusal_says_depends_on_its_own_token_alone() {
        let at = |learnt: i64, date: Option<i64>| {
            let (clock, now) = (ClockOffset(AtomicI64::new(learnt)), Instant::now());
            let token = clock.basis(issuer(), NOON, now);
            // Others have found out otherwise meanwhile.
            clock.0.store(7 * HOUR, Ordering::Relaxed);
            clock.refused(&token, date.map(|ahead| NOON + ahead), NOON, now)
        };
        assert_eq!(at(0, Some(0)), TokenClock::Right);
        assert_eq!(at(0, Some(NOTICED)), TokenClock::Right);
        assert_eq!(at(0, None), TokenClock::Right, "an answer without a date shows nothing");
        assert_eq!(at(HOUR, None), TokenClock::Right);
        assert_eq!(at(0, Some(NOTICED + 1)), TokenClock::Wrong);
        assert_eq!(at(0, Some(-HOUR)), TokenClock::Wrong);
        assert_eq!(at(HOUR, Some(0)), TokenClock::Wrong, "our clock has been set right");
        assert_eq!(at(HOUR, Some(HOUR)), TokenClock::Corrected(Off::Behind));
        assert_eq!(at(-HOUR, Some(-HOUR)), TokenClock::Corrected(Off::Ahead));
        assert_eq!(at(0, Some(BELIEVED)), TokenClock::Wrong);
        assert_eq!(at(0, Some(BELIEVED + 1)), TokenClock::Unbelievable(Off::Behind));
        assert_eq!(at(0, Some(-NOON)), TokenClock::Unbelievable(Off::Ahead));
        assert_eq!(at(0, Some(i64::MAX - NOON)), TokenClock::Unbelievable(Off::Behind));
    }

    #[test]
    fn our_own_clock_may_be_set_while_a_request_is_under_way() {
        let (clock, now) = (ClockOffset::default(), Instant::now());
        let later = now + Duration::from_secs(20);
        // The token was made with the right time; then our clock was set two hours ahead.
        let token = clock.basis(issuer(), NOON, now);
        let said = clock.refused(&token, Some(NOON + 20), NOON + 2 * HOUR, later);
        assert_eq!(said, TokenClock::Corrected(Off::Ahead));
        // The token was made with a clock that has been set right since.
        let token = TokenBasis { issuer: issuer(), made_for: NOON - 2 * HOUR, made_at: now };
        assert_eq!(clock.refused(&token, Some(NOON + 20), NOON + 20, later), TokenClock::Wrong);
        assert_eq!(clock.basis(issuer(), NOON, now).made_for, NOON, "and is right now");
    }

    #[test]
    fn a_date_of_another_day_is_not_followed() {
        let (clock, now) = (ClockOffset::default(), Instant::now());
        let token = clock.basis(issuer(), NOON, now);
        clock.refused(&token, Some(NOON + 2 * BELIEVED), NOON, now);
        assert_eq!(clock.basis(issuer(), NOON, now).made_for, NOON);
    }

    proptest! {
        /// However many tokens are under way and however the clocks jump: a token that was made for
        /// DPS's time is refused for its credential, one that was not for its clock.
        #[test]
        fn a_credential_is_blamed_only_for_tokens_made_in_time(
            jumps in proptest::collection::vec((-20_i64..20, 0_usize..4), 1..30),
        ) {
            let (clock, now) = (ClockOffset::default(), Instant::now());
            let mut tokens = Vec::new();
            let mut ahead = 0;
            for (hours, made) in jumps {
                ahead = (ahead + hours * HOUR).clamp(-BELIEVED, BELIEVED);
                tokens.extend((0..made).map(|_| clock.basis(issuer(), NOON, now)));
                if tokens.len() > 2 {
                    let token = tokens.remove(0);
                    let in_time = (NOON + ahead - token.made_for).abs() <= NOTICED;
                    let said = clock.refused(&token, Some(NOON + ahead), NOON, now);
                    prop_assert_eq!(said != TokenClock::Wrong, in_time);
                }
            }
        }
    }
}
