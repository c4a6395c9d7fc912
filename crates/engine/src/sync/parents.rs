//! Rows that rows of a batch refer to, where the cloud's own tables have foreign keys: what comes later in the queue, or
//! came before the cloud forgot it, goes with the batch, so that nothing has to be set aside for it.

use std::collections::{BTreeMap, BTreeSet};

use lifeboat_io::database::{
    postgres::{Change, PgError, Reference, lacking_sql},
    sqlite::Key,
};
use lifeboat_model::{Failure, sync::Value};

use super::{
    Mirror,
    cloud::Mapped,
    deliver::{Prepared, written_key, written_row},
    isolate::NO_PARENT,
};
use crate::act::sqlite_failure;

/// How many generations are followed; longer chains are set aside and tried again.
const GENERATIONS_MAX: usize = 16;

/// Whether the cloud refused rows because what they refer to is not there.
pub(super) fn lacks_parent(error: &PgError) -> bool {
    matches!(error, PgError::Refused { said, .. } if said.code == NO_PARENT)
}

impl Mirror {
    /// Adds the rows that rows of a batch refer to, as the file has them, and those that these refer to. `false` when there
    /// is none to add: what is not in the file cannot be sent.
    pub(super) fn pull_parents(&mut self, prepared: &mut Prepared) -> Result<bool, Failure> {
        let mut pulled = false;
        for _ in 0..GENERATIONS_MAX {
            let Some(cloud) = &self.cloud else { return Ok(pulled) };
            let wanted = referred_to(&cloud.tables, prepared);
            let mut added = false;
            for (table, keys) in wanted {
                let keys = self.not_there(&table, keys.into_iter().collect())?;
                let Some(mapped) = self.cloud.as_ref().and_then(|cloud| cloud.tables.get(&table)) else { continue };
                let candidates: Vec<Key> = keys.iter().flat_map(file_keys).collect();
                let found = self.outbox()?.rows(&mapped.shape, &candidates);
                let found = found.map_err(|error| sqlite_failure(&error))?;
                let rows = found.into_iter().filter_map(|change| {
                    // One that its table cannot hold is told when its own turn comes.
                    let row = written_row(mapped, &change.row?).ok()?;
                    Some((change.key, row))
                });
                let load = prepared.tables.entry(table).or_default();
                let before = load.upserts.len();
                load.upserts.extend(rows);
                load.upserts.sort_by(|one, two| one.1.cmp(&two.1));
                load.upserts.dedup_by(|one, two| one.1 == two.1);
                added |= load.upserts.len() > before;
            }
            if !added {
                break;
            }
            pulled = true;
        }
        Ok(pulled)
    }
}

impl Mirror {
    /// Of keys of a table, those that the cloud lacks.
    fn not_there(&mut self, table: &str, keys: Vec<Change>) -> Result<Vec<Change>, Failure> {
        let Some(cloud) = self.cloud.as_mut() else { return Ok(Vec::new()) };
        let Some(mapped) = cloud.tables.get(table).filter(|_| !keys.is_empty()) else { return Ok(Vec::new()) };
        let asked = cloud.session.ask(&lacking_sql(&mapped.cloud, &mapped.key, &keys));
        let places = asked.map_err(|error| self.cloud_failure(&error))?;
        let lacking = places.iter().filter_map(|row| keys.get(usize::try_from(row.count(0)).ok()?.checked_sub(1)?));
        Ok(lacking.cloned().collect())
    }
}

/// Keys that rows of a batch refer to and that are not in it, by table, as the cloud reads them.
fn referred_to(tables: &BTreeMap<String, Mapped>, prepared: &Prepared) -> BTreeMap<String, BTreeSet<Change>> {
    let mut wanted: BTreeMap<String, BTreeSet<Change>> = BTreeMap::new();
    for (name, load) in &prepared.tables {
        let Some(mapped) = tables.get(name) else { continue };
        for reference in &mapped.cloud.references {
            let Some(parent) = tables.get(&reference.table) else { continue };
            let Some(places) = places(mapped, parent, reference) else { continue };
            let keys = load.upserts.iter().filter_map(|(_, row)| {
                let key: Change = places.iter().map(|at| row[*at].clone()).collect();
                key.iter().all(Option::is_some).then_some(key)
            });
            wanted.entry(reference.table.clone()).or_default().extend(keys);
        }
    }
    for (name, keys) in &mut wanted {
        let (Some(mapped), Some(load)) = (tables.get(name), prepared.tables.get(name)) else { continue };
        for (key, _) in &load.upserts {
            if let Ok(key) = written_key(mapped, key) {
                keys.remove(&key);
            }
        }
    }
    wanted
}

/// Where the parent's key stands in a row that is written, in the order of that key; nothing when what is referred to is no
/// key of the file.
fn places(child: &Mapped, parent: &Mapped, reference: &Reference) -> Option<Vec<usize>> {
    let names = parent.shape.key_names();
    if names.len() != reference.parent_columns.len() {
        return None;
    }
    let place = |name: &&str| {
        let at = reference.parent_columns.iter().position(|column| column == name)?;
        let there = child.cloud.columns.iter().position(|column| column.name == reference.columns[at])?;
        child.columns.iter().position(|column| *column == there)
    };
    names.iter().map(place).collect()
}

/// A key as the file may hold it: the same number may be an integer or a text there.
fn file_keys(key: &Change) -> Vec<Key> {
    let text: Key = key.iter().map(|part| part.clone().map_or(Value::Null, Value::Text)).collect();
    let number = |part: &Option<String>| part.as_deref().and_then(|part| part.parse::<i64>().ok()).map(Value::Integer);
    let numbers: Key = key.iter().zip(&text).map(|(part, text)| number(part).unwrap_or_else(|| text.clone())).collect();
    if numbers == text { vec![text] } else { vec![numbers, text] }
}
