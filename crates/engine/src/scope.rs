//! What an app's audit log says was done in a span of time, and the backup from before it.

pub use lifeboat_io::database::postgres::{AuditAsk, AuditGroup, AuditScope};
use lifeboat_io::{
    Stop,
    database::postgres::{Session, audit_scope},
};
use lifeboat_model::{Backup, BackupChoice, Failure, FailureKind, ResourceKind, ResourceName, choose_backup};

use crate::{Engine, act::postgres_failure};

impl Engine {
    /// Asks the audit log in a database on a server; nothing when there is none. With it the newest good backup that is complete
    /// before the first row of what was found.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub fn audit_scope(
        &self,
        name: &ResourceName,
        ask: &AuditAsk<'_>,
    ) -> Result<Option<(AuditScope, Option<Backup>)>, Failure> {
        let resource = self.setup.resource(name)?;
        let ResourceKind::Postgres { url, .. } = &resource.kind else {
            let message = format!("{name} is on no server; only PostgreSQL databases are asked for an audit log");
            return Err(Failure::new(FailureKind::Usage, message));
        };
        let stop = Stop::default();
        let asked =
            Session::open(&self.vaults.database(url)?, &stop).and_then(|mut session| audit_scope(&mut session, ask));
        let Some(found) = asked.map_err(|error| postgres_failure(&error))? else { return Ok(None) };
        let backups = if self.common()?.vault_exists { self.backups()? } else { Vec::new() };
        let before = found.first.and_then(|first| {
            choose_backup(&backups, &self.setup.scope, name, &BackupChoice::Before(first)).ok().cloned()
        });
        Ok(Some((found, before)))
    }
}
