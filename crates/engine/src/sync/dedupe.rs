//! Rows that the cloud has more than once, in tables that others have made without a key: the newest of each stays, the
//! others are kept in `lifeboat.deleted`, and a unique constraint sees to it that there are never two again.

use std::collections::BTreeMap;

use lifeboat_io::{
    Stop,
    database::postgres::{CloudTable, Session, cloud_tables, doubled_sql, prepare_mirror, single_sql},
};
use lifeboat_model::Failure;

use super::Mirror;

impl Mirror {
    /// Tables in the cloud that have no key, with how many rows of each are there again.
    ///
    /// # Errors
    /// When the cloud cannot be asked.
    pub(crate) fn doubled(&mut self, stop: &Stop) -> Result<BTreeMap<String, u64>, Failure> {
        let mut session = self.session(stop)?;
        let mut found = BTreeMap::new();
        for (table, key) in self.without_key(&mut session)? {
            let counted = session.one(&doubled_sql(&table, &key));
            found.insert(table.name, counted.map_err(|error| self.cloud_failure(&error))?.count(0));
        }
        Ok(found)
    }

    /// Leaves one of each in these tables, all that have no key when none is named; says how many rows went, by table.
    pub(crate) fn dedupe(&mut self, tables: &[String], stop: &Stop) -> Result<BTreeMap<String, u64>, Failure> {
        let mut session = self.session(stop)?;
        prepare_mirror(&mut session, &self.link.schema).map_err(|error| self.cloud_failure(&error))?;
        let mut removed = BTreeMap::new();
        for (table, key) in self.without_key(&mut session)? {
            if !tables.is_empty() && !tables.contains(&table.name) {
                continue;
            }
            let counted = session.one(&doubled_sql(&table, &key)).map_err(|error| self.cloud_failure(&error))?;
            // One message is one transaction: removed, kept and made unique, or nothing at all.
            let done = session.run(&single_sql(&table, &key, &self.source()));
            done.map_err(|error| self.cloud_failure(&error).while_doing(format!("{} cannot be repaired", table.name)))?;
            removed.insert(table.name, counted.count(0));
        }
        Ok(removed)
    }

    fn without_key(&mut self, session: &mut Session) -> Result<Vec<(CloudTable, Vec<String>)>, Failure> {
        let tables = cloud_tables(session, &self.link.schema).map_err(|error| self.cloud_failure(&error))?;
        let wanted = self.link.tables.clone();
        let shapes = self.shapes()?;
        let found = tables.into_iter().filter_map(|cloud| {
            let shape = shapes.table(&cloud.name).filter(|shape| wanted.is_empty() || wanted.contains(&shape.name))?;
            let names = shape.key_names();
            let is_there = names.iter().all(|name| cloud.column(name).is_some());
            let key = names.iter().map(|name| (*name).to_owned()).collect();
            (is_there && !cloud.is_unique_over(&names)).then_some((cloud, key))
        });
        Ok(found.collect())
    }
}
