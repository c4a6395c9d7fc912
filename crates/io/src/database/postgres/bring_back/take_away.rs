//! What was brought in, taken back: only where nobody has touched it since.

use std::collections::{BTreeMap, BTreeSet};

use lifeboat_model::salvage::BroughtBack;

use super::{
    super::{PgError, Session, sql::literal},
    BringBack, BroughtIn, Target, in_order, is_about_a_row, overwrite, reason, references, silence, sum_up, targets,
    within,
};

/// Takes back what was brought in, as long as nobody has changed it since: rows that were taken away are put in again,
/// those that were written over get their former values, those that were inserted go. Says how many of each, and which
/// stay with what reason.
///
/// # Errors
/// As [`bring_back`].
pub fn take_away(session: &mut Session, what: &BringBack<'_>, rows: &BroughtIn) -> Result<BroughtBack, PgError> {
    session.transaction("BEGIN", |session| {
        let mut done = BroughtBack::default();
        let mut targets = targets(session, what, &mut done)?;
        let edges = references(session, &targets)?;
        let groups = in_order(targets.len(), &edges.iter().map(|edge| (edge.child, edge.parent)).collect::<Vec<_>>());
        let triggers = silence(session, &targets, &mut done.notes)?;
        done.tables.clear();
        let of = |list: &BTreeMap<String, BTreeSet<u64>>, title: &str| list.get(title).cloned().unwrap_or_default();
        for place in groups.iter().flatten() {
            let target = &mut targets[*place];
            overwrite::put_in_again(session, target, &of(&rows.removed, &target.about.table))?;
        }
        for target in &mut targets {
            overwrite::write_back(session, target, &of(&rows.overwritten, &target.about.table))?;
        }
        for group in groups.iter().rev() {
            let order = within(session, &mut targets, group, &edges)?;
            take_group(session, &mut targets, &order, &rows.inserted)?;
            for &place in &order {
                sum_up(session, &mut targets[place])?;
                done.tables.push(std::mem::take(&mut targets[place].done));
            }
        }
        for (table, trigger, how) in triggers {
            session.run(&format!("ALTER TABLE {table} {how} TRIGGER {trigger}"))?;
        }
        Ok(done)
    })
}

/// Rows of tables that refer to each other: references that may be null let go first, so that a circle is none; those of
/// rows that stay are set again.
fn take_group(
    session: &mut Session,
    targets: &mut [Target<'_>],
    order: &[usize],
    rows: &BTreeMap<String, BTreeSet<u64>>,
) -> Result<(), PgError> {
    let numbers = |target: &Target<'_>| rows.get(target.title()).cloned().unwrap_or_default();
    for &place in order {
        let (target, numbers) = (&targets[place], numbers(&targets[place]));
        if target.late.is_empty() || numbers.is_empty() {
            continue;
        }
        let list: Vec<String> = numbers.iter().map(u64::to_string).collect();
        let (title, table, matches, same) = (target.title(), &target.rows, target.matches(), target.is_same());
        let nothing: Vec<String> =
            target.late.iter().map(|place| format!("{} = NULL", target.pairs[*place].to)).collect();
        session.run(&format!(
            "UPDATE {table} s SET state = CASE WHEN EXISTS (SELECT 1 FROM ONLY {title} t WHERE {matches} AND {same})
                    THEN 'loose' ELSE 'refused' END, why = 'it was changed or taken away since' WHERE s.n IN ({});
             UPDATE ONLY {title} t SET {} FROM {table} s WHERE s.state = 'loose' AND {matches}",
            list.join(", "),
            nothing.join(", ")
        ))?;
    }
    for &place in order.iter().rev() {
        let target = &targets[place];
        for number in numbers(target) {
            take_one(session, target, number)?;
        }
    }
    for &place in order {
        let target = &targets[place];
        if !target.late.is_empty() {
            let (title, table, matches) = (target.title(), &target.rows, target.matches());
            let value = |place: &usize| format!("{} = {}", target.pairs[*place].to, target.pairs[*place].value());
            let values: Vec<String> = target.late.iter().map(value).collect();
            session.run(&format!(
                "UPDATE ONLY {title} t SET {} FROM {table} s WHERE s.state = 'stays' AND {matches};
                 UPDATE {table} SET state = 'refused' WHERE state = 'stays'",
                values.join(", ")
            ))?;
        }
    }
    Ok(())
}

/// One row; of equal ones without a key, one of them.
fn take_one(session: &mut Session, target: &Target<'_>, number: u64) -> Result<(), PgError> {
    let (title, rows, matches) = (target.title(), &target.rows, target.matches());
    // A row whose references were let go has been looked at before.
    let (which, refused) = match target.late.is_empty() {
        true => (format!("{matches} AND {}", target.is_same()), "refused"),
        false => (format!("s.state = 'loose' AND {matches}"), "stays"),
    };
    session.run("SAVEPOINT lifeboat")?;
    let taken = session.run(&format!(
        "WITH gone AS (DELETE FROM ONLY {title} WHERE ctid =
             (SELECT t.ctid FROM ONLY {title} t, {rows} s WHERE s.n = {number} AND {which} LIMIT 1) RETURNING 1)
         UPDATE {rows} s SET state = CASE WHEN EXISTS (SELECT 1 FROM gone) THEN 'inserted' ELSE 'refused' END,
                why = 'it was changed or taken away since' WHERE s.n = {number}"
    ));
    match taken {
        Ok(()) => session.run("RELEASE SAVEPOINT lifeboat"),
        Err(error) if is_about_a_row(&error) => {
            session.run("ROLLBACK TO SAVEPOINT lifeboat")?;
            let why = literal(&reason(&error));
            session.run(&format!("UPDATE {rows} s SET state = '{refused}', why = {why} WHERE s.n = {number}"))
        }
        Err(error) => Err(error),
    }
}
