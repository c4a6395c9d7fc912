//! Sequences after a rollback: a number that was given out is not given out again.

use std::collections::BTreeSet;

use super::super::{PgError, Selection, Session, catalog, sql::literal};

/// Raises sequences of a database to where those of the same name stand in another: a number that was given out is not
/// given out again. Says how many were raised.
///
/// # Errors
/// As [`Session::run`].
pub fn raise_sequences(from: &mut Session, to: &mut Session) -> Result<u64, PgError> {
    let everything = Selection::default();
    let stood = catalog::sequences(from, &everything)?;
    let stand = catalog::sequences(to, &everything)?;
    let descending: BTreeSet<String> = to
        .ask(
            "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_sequence s
               JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
              WHERE s.seqincrement < 0",
        )?
        .iter()
        .map(|row| row.text(0).to_owned())
        .collect();
    let mut raised = 0;
    for (name, was) in &stood {
        let Some(is) = stand.get(name) else { continue };
        // A name in quotes is written another way by the server only where it needs none.
        let down = descending.contains(name) || descending.contains(&name.replace('"', ""));
        let (was_at, is_at) = ((was.last_value, was.is_called), (is.last_value, is.is_called));
        let further = if down { (-was_at.0, was_at.1) > (-is_at.0, is_at.1) } else { was_at > is_at };
        if further {
            to.run(&format!("SELECT pg_catalog.setval({}, {}, {})", literal(name), was.last_value, was.is_called))?;
            raised += 1;
        }
    }
    Ok(raised)
}
