//! Writes that are held for a moment within a plan: by a fence that ends by itself when nothing is heard of us, and whose end is
//! put off as long as we work.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use lifeboat_io::{
    Clock, Stop,
    database::postgres::{self, Address, HOLD_MS, PgError, Session},
};
use lifeboat_model::{Action, Failure, FailureKind, PgAction};

use super::{Hands, postgres_failure};
use crate::perform::Context;

/// How often its end is put off.
const PUT_OFF_EVERY: Duration = Duration::from_secs(5);

/// The reason for which a plan holds writes, when it does.
fn is_held<'a>(context: &Context<'a>) -> Option<&'a str> {
    context.operation.plan.steps().find_map(|step| match &step.action {
        Action::Postgres(PgAction::Fence { on: true, brief: true, why, .. }) => Some(why.as_str()),
        _other => None,
    })
}

/// Works while writes are held. Where the fence has ended meanwhile - we had died - it is put up again first: what is looked at
/// is looked at behind it.
pub(super) fn while_held<T>(
    hands: &Hands,
    address: &Address,
    context: &Context<'_>,
    work: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let Some(why) = is_held(context) else { return work() };
    let failed = |error: PgError| postgres_failure(&error);
    let mut session = Session::open(address, context.stop).map_err(failed)?;
    if postgres::keep_holding(&mut session, HOLD_MS).map_err(failed)?.is_none() {
        super::fence(hands, address, (true, true), why, context)?;
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let keeping = scope.spawn(|| keep_on(&mut session, &over, &*hands.io.clock));
        let done = work();
        over.store(true, Ordering::SeqCst);
        match keeping.join() {
            Ok(true) => done,
            Ok(false) | Err(_) => done.and_then(|_| Err(ended())),
        }
    })
}

/// Puts the end off until it is over; whether the fence held all the time.
fn keep_on(session: &mut Session, over: &AtomicBool, clock: &dyn Clock) -> bool {
    const LOOK_EVERY: Duration = Duration::from_millis(10);
    let mut next = clock.elapsed() + PUT_OFF_EVERY;
    while !over.load(Ordering::SeqCst) {
        if clock.elapsed() >= next {
            match postgres::keep_holding(session, HOLD_MS) {
                Ok(Some(_)) => next = clock.elapsed() + PUT_OFF_EVERY,
                Ok(None) | Err(_) => return false,
            }
        }
        if clock.sleep(LOOK_EVERY, &Stop::default()).is_err() {
            break;
        }
    }
    matches!(postgres::keep_holding(session, HOLD_MS), Ok(Some(_)))
}

/// Until when writes are held, for the rename; nothing where this plan does not hold them. A fence that has ended since the rows
/// were found is a failure: somebody may have written.
pub(super) fn until(address: &Address, context: &Context<'_>) -> Result<Option<i64>, Failure> {
    if is_held(context).is_none() {
        return Ok(None);
    }
    let mut session = Session::open(address, context.stop).map_err(|error| postgres_failure(&error))?;
    match postgres::keep_holding(&mut session, HOLD_MS).map_err(|error| postgres_failure(&error))? {
        Some(until) => Ok(Some(until)),
        None => Err(ended()),
    }
}

fn ended() -> Failure {
    let message = "writes were let in again before the swap, since nothing was heard of this program for too long";
    Failure::new(FailureKind::Stale, message).hint("nothing was changed: run it again")
}
