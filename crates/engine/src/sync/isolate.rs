//! Finding the rows that the cloud refuses, so that the others need not wait for them.
//!
//! Everything is tried in one transaction that is rolled back: what works stays in it, so that a row finds its parents;
//! what does not is halved until single rows are left.

use lifeboat_io::database::postgres::{PgError, Session, TableDelivery, table_delivery_sql, trouble};
use lifeboat_model::{Failure, sync::Trouble};
use lifeboat_store::NewLetter;

use super::{
    Mirror,
    cloud::Mapped,
    deliver::{Load, PARENT, Prepared, letter},
};

/// `foreign_key_violation`: a row refers to one that is not there.
pub(super) const NO_PARENT: &str = "23503";

/// So many bad rows of a table are found one by one; then it is the table that is wrong, and all that is left of it is
/// set aside together.
const BAD_ROWS_MAX: usize = 200;

/// What was found out about a part of a batch.
struct Search<'a> {
    session: &'a mut Session,
    bad: Vec<Bad>,
}

/// A row that the cloud refuses.
struct Bad {
    at: usize,
    said: String,
    trouble: Trouble,
    /// What it refers to is not there.
    lacks_parent: bool,
}

impl Mirror {
    /// Takes out of a batch what the cloud refuses; it is told in letters.
    pub(super) fn set_aside_the_bad(&mut self, prepared: &mut Prepared) -> Result<(), Failure> {
        let source = self.source();
        let Some(cloud) = self.cloud.as_mut() else { return Ok(()) };
        let session = &mut cloud.session;
        let (tables, order) = (&cloud.tables, &cloud.order);
        let found = search(session, tables, order, prepared, &source);
        let rolled_back = session.run("ROLLBACK");
        match found.and_then(|letters| rolled_back.map(|()| letters)) {
            Ok(letters) => {
                prepared.letters.extend(letters);
                Ok(())
            }
            Err(error) => {
                self.cloud = None;
                Err(self.cloud_failure(&error))
            }
        }
    }
}

fn search(
    session: &mut Session,
    tables: &std::collections::BTreeMap<String, Mapped>,
    order: &[String],
    prepared: &mut Prepared,
    source: &str,
) -> Result<Vec<NewLetter>, PgError> {
    session.run("BEGIN")?;
    let mut letters = Vec::new();
    let known: Vec<&String> = order.iter().filter(|name| tables.contains_key(*name)).collect();
    for (names, deletes) in [(known.clone(), false), (known.into_iter().rev().collect(), true)] {
        for name in names {
            let (Some(mapped), Some(load)) = (tables.get(name), prepared.tables.get_mut(name)) else { continue };
            let count = if deletes { load.deletes.len() } else { load.upserts.len() };
            let mut search = Search { session: &mut *session, bad: Vec::new() };
            let all: Vec<usize> = (0..count).collect();
            search.part(mapped, load, deletes, &all, source)?;
            let bad = search.bad;
            let rows = if deletes { &mut load.deletes } else { &mut load.upserts };
            for Bad { at, said, trouble, lacks_parent } in &bad {
                let (class, hint) = match *lacks_parent && !deletes {
                    true => (PARENT, "it is tried again by itself once the row that it refers to has come".to_owned()),
                    false => (trouble.word(), hint(*trouble, mapped)),
                };
                letters.push(letter(mapped, &rows[*at].0, class, said.clone(), &hint));
            }
            let mut at = 0;
            rows.retain(|_| {
                at += 1;
                !bad.iter().any(|bad| bad.at == at - 1)
            });
        }
    }
    Ok(letters)
}

impl Search<'_> {
    fn part(
        &mut self,
        mapped: &Mapped,
        load: &Load,
        deletes: bool,
        rows: &[usize],
        source: &str,
    ) -> Result<(), PgError> {
        if rows.is_empty() {
            return Ok(());
        }
        let Some(error) = self.try_rows(mapped, load, deletes, rows, source)? else { return Ok(()) };
        let kind = trouble(&error);
        if rows.len() == 1 || self.bad.len() >= BAD_ROWS_MAX || kind == Trouble::Schema {
            let said = match &error {
                PgError::Refused { said, .. } => said.to_string(),
                other => other.to_string(),
            };
            let lacks_parent = matches!(&error, PgError::Refused { said, .. } if said.code == NO_PARENT);
            self.bad.extend(rows.iter().map(|at| Bad { at: *at, said: said.clone(), trouble: kind, lacks_parent }));
            return Ok(());
        }
        let (one, two) = rows.split_at(rows.len() / 2);
        self.part(mapped, load, deletes, one, source)?;
        self.part(mapped, load, deletes, two, source)
    }

    /// Tries some rows; what works stays in the transaction.
    fn try_rows(
        &mut self,
        mapped: &Mapped,
        load: &Load,
        deletes: bool,
        rows: &[usize],
        source: &str,
    ) -> Result<Option<PgError>, PgError> {
        let pick = |all: &[(_, Vec<Option<String>>)]| rows.iter().map(|at| all[*at].1.clone()).collect();
        let (upserts, gone) = match deletes {
            false => (pick(&load.upserts), Vec::new()),
            true => (Vec::new(), pick(&load.deletes)),
        };
        let delivery = TableDelivery {
            table: &mapped.cloud,
            columns: mapped.columns.clone(),
            key: mapped.key.clone(),
            upserts,
            deletes: gone,
        };
        self.session.run("SAVEPOINT part")?;
        match self.session.run(&table_delivery_sql(&delivery, source)) {
            Ok(()) => {
                self.session.run("RELEASE SAVEPOINT part")?;
                Ok(None)
            }
            Err(error @ PgError::Refused { .. }) => {
                let kind = trouble(&error);
                self.session.run("ROLLBACK TO SAVEPOINT part")?;
                match kind.is_about_rows() || kind == Trouble::Schema {
                    true => Ok(Some(error)),
                    false => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }
}

fn hint(trouble: Trouble, mapped: &Mapped) -> String {
    let table = mapped.cloud.sql_name();
    match trouble {
        Trouble::Policy => format!(
            "a policy or a missing grant on {table}: SELECT policyname FROM pg_policies WHERE tablename = '{}'; mirror with a role that bypasses RLS, such as service_role",
            mapped.cloud.name.replace('\'', "''")
        ),
        Trouble::Content => {
            format!(
                "change the row in the file, or what {table} demands, then lifeboat sync queue retry; when a column is too \
                 narrow: lifeboat sync widen"
            )
        }
        _ => format!("make {table} fit, then lifeboat sync queue retry"),
    }
}
