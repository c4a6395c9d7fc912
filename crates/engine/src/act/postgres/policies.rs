//! Row-level security of tables: looked at, changed, tried as somebody else.

use lifeboat_io::{
    Stop,
    database::postgres::{self, PgError, Session},
};
use lifeboat_model::{
    Failure, FailureKind, PgAction,
    policy::{Guarded, Seen},
};
use serde_json::{Map, Value, json};

use super::super::{Hands, captures::output, errors::postgres_failure};
use crate::{Engine, perform::Context};

/// Carries out one action.
pub(super) fn perform(hands: &Hands, action: &PgAction, context: &Context<'_>) -> Result<Value, Failure> {
    let session = |url: &str| Session::open(&hands.vaults.database(url)?, context.stop).map_err(|error| told(&error));
    let failed = |error: PgError| told(&error);
    match action {
        PgAction::ReplacePolicy { url, table, name, wanted, before, or_leave } => {
            let (wanted, before) = (wanted.as_ref(), before.as_ref());
            match postgres::replace_policy(&mut session(url)?, table, name, wanted, before) {
                Ok(there) => output(&there),
                Err(PgError::Preflight { found, .. }) if *or_leave => {
                    context.watch.note(&format!("{found}: it is left as it is"));
                    Ok(json!({ "left": found }))
                }
                Err(error) => Err(failed(error)),
            }
        }
        PgAction::OpenTable { url, table, roles, for_ms: Some(for_ms) } => {
            let until = postgres::open_for(&mut session(url)?, table, roles, *for_ms).map_err(failed)?;
            context.watch.note(&format!("{table} is open until {until}"));
            Ok(json!({ "until": until }))
        }
        PgAction::OpenTable { url, table, for_ms: None, .. } => {
            Ok(json!({ "taken_away": postgres::close(&mut session(url)?, table).map_err(failed)? }))
        }
        PgAction::CheckPolicies { url, table } => match postgres::guarded(&mut session(url)?, table).map_err(failed)? {
            Some(there) if there.is_on => output(&there),
            _off => {
                let message = format!("row-level security of {table} is off");
                Err(Failure::new(FailureKind::Damaged, message).hint(format!("lifeboat policy close {table}")))
            }
        },
        _other => Err(Failure::new(FailureKind::Bug, "this is about no policy")),
    }
}

fn told(error: &PgError) -> Failure {
    postgres_failure(error)
}

impl Engine {
    /// Row-level security of a table, and its policies.
    ///
    /// # Errors
    /// There is no such table, or it cannot be asked.
    pub fn policies(&self, url: &str, table: &str) -> Result<Guarded, Failure> {
        let mut session = self.guarded_session(url)?;
        postgres::guarded(&mut session, table).map_err(|error| told(&error))?.ok_or_else(|| {
            Failure::new(FailureKind::Usage, format!("there is no table {table}"))
                .hint("write it as SCHEMA.TABLE, in double quotes where it has capital letters")
        })
    }

    /// What a role with these claims of a token sees of a table: rows for which `own` is true, and others. Changes nothing.
    ///
    /// # Errors
    /// `own` is no expression; the role cannot be taken on; rows are hidden from ourselves, so that nothing would be shown.
    pub fn policy_seen(
        &self,
        url: &str,
        table: &str,
        role: &str,
        claims: &Map<String, Value>,
        own: &str,
    ) -> Result<Seen, Failure> {
        let mut session = self.guarded_session(url)?;
        let now = self.io().clock.now();
        postgres::seen_as(&mut session, table, role, claims, own, now).map_err(|error| told(&error))
    }

    fn guarded_session(&self, url: &str) -> Result<Session, Failure> {
        Session::open(&self.vaults.database(url)?, &Stop::default()).map_err(|error| told(&error))
    }
}
