//! Making columns of the cloud wider that cannot hold what the file has: looked for over all rows, a page at a time.

use std::collections::BTreeMap;

use lifeboat_io::{
    Stop,
    database::{postgres::widen_sql, sqlite::Key},
};
use lifeboat_model::{
    Failure,
    sync::{LetterChoice, Trouble, Widening, wider, widest},
};

use super::{Mirror, memory_failure, stopped};
use crate::act::sqlite_failure;

/// Rows that are looked at under one lock of the file.
const PAGE_ROWS: u32 = 2_000;

impl Mirror {
    /// Columns that are too narrow, of these tables; of those with rows set aside for it when none is named.
    ///
    /// # Errors
    /// When either side cannot be asked; a table that is not mirrored.
    pub(crate) fn too_narrow(&mut self, tables: &[String], stop: &Stop) -> Result<Vec<Widening>, Failure> {
        let mut session = self.session(stop)?;
        let (mapped, _) = self.mapped(&mut session)?;
        drop(session);
        let named = match tables {
            [] => {
                let letters = self.memory.letters().map_err(|error| memory_failure(&error))?;
                let meant = letters.into_iter().filter(|letter| letter.class == Trouble::Content.word());
                meant.map(|letter| letter.table).collect()
            }
            named => named.to_vec(),
        };
        if let Some(unknown) = tables.iter().find(|name| !mapped.contains_key(*name)) {
            let failure = Failure::new(lifeboat_model::FailureKind::Usage, format!("{unknown} is not mirrored"));
            return Err(
                failure.hint(format!("mirrored are: {}", mapped.keys().cloned().collect::<Vec<_>>().join(", ")))
            );
        }
        let mut all = Vec::new();
        for table in mapped.values().filter(|mapped| named.contains(&mapped.shape.name)) {
            let mut found: BTreeMap<usize, (&'static str, u64)> = BTreeMap::new();
            let mut after: Option<Key> = None;
            loop {
                stopped(stop)?;
                let rows = self.outbox()?.page(&table.shape, after.as_ref(), PAGE_ROWS);
                let rows = rows.map_err(|error| sqlite_failure(&error))?;
                for row in &rows {
                    for (local, there) in table.local.iter().zip(&table.columns) {
                        let Some(to) = wider(&table.cloud.columns[*there].type_name, &row[*local]) else { continue };
                        let known = found.entry(*there).or_insert((to, 0));
                        *known = (widest(known.0, to), known.1 + 1);
                    }
                }
                let last = rows.last().filter(|_| rows.len() == PAGE_ROWS as usize);
                let Some(last) = last else { break };
                after = Some(table.shape.key.iter().map(|at| last[*at].clone()).collect());
            }
            all.extend(found.into_iter().map(|(there, (to, rows))| Widening {
                table: table.shape.name.clone(),
                column: table.cloud.columns[there].name.clone(),
                from: table.cloud.columns[there].type_name.clone(),
                to: to.to_owned(),
                rows,
            }));
        }
        Ok(all)
    }

    /// Makes columns wider, all or none, and has rows tried again that were set aside in their tables; says how many.
    pub(crate) fn widen(&mut self, columns: &[Widening], stop: &Stop) -> Result<u64, Failure> {
        let failed = |error| memory_failure(&error);
        let mut session = self.session(stop)?;
        let schema = self.link.schema.clone();
        let statements: Vec<String> = columns.iter().map(|one| widen_sql(&schema, one)).collect();
        let done = session.run(&statements.join(";\n"));
        done.map_err(|error| self.cloud_failure(&error).while_doing("columns of the cloud cannot be made wider"))?;
        // What they held is written otherwise now, perhaps.
        let tables: Vec<String> = columns.iter().map(|one| one.table.clone()).collect();
        self.memory.set_verified(&tables, false).map_err(failed)?;
        self.cloud = None;
        let letters = self.memory.letters().map_err(failed)?;
        let again: Vec<i64> = letters.iter().filter(|one| tables.contains(&one.table)).map(|one| one.id).collect();
        match again.as_slice() {
            [] => Ok(0),
            again => self.letters(LetterChoice::Retry, again),
        }
    }
}
