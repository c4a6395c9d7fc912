//! Restores that a provider carries out, and what can be done when there is no backup of ours.

use lifeboat_io::{
    Stop,
    database::postgres::{AuditScope, Session, kept_beside},
};
use lifeboat_model::{
    Action, Backup, BackupReason, Failure, FailureKind, OperationId, OperationState, ProviderRestore, Request,
    ResourceKind, ResourceName,
    provider::{Provider, provider_of, provider_restores},
    time::Duration,
};
use serde::Serialize;

use crate::{Engine, act::postgres_failure, scope::AuditAsk, strays::Stray};

/// The audit log is asked for so long a time back.
const AUDIT_SPAN: Duration = Duration::from_secs(24 * 3600);
/// Rows of it that are shown.
const AUDIT_ROWS_SHOWN: u32 = 100;

/// What there is besides good backups of ours: each looked up by itself, so that one that cannot be asked hides no other.
#[derive(Debug, Serialize)]
pub struct Routes {
    /// Which resource.
    pub resource: ResourceName,
    /// Host, port and database.
    pub place: String,
    /// Who runs it, where its host tells.
    pub provider: Option<&'static str>,
    /// Where that one's own backups are.
    pub way: Option<&'static str>,
    /// Databases on the same server that an earlier restore kept, or why they could not be asked for.
    pub kept: Result<Vec<String>, String>,
    /// Backups of ours that are never taken by themselves.
    pub doubtful: Vec<Backup>,
    /// Newest backups of the same resource in other environments of the app.
    pub elsewhere: Vec<Backup>,
    /// Dumps that lie about, and can be taken in.
    pub strays: Vec<Stray>,
    /// Second vaults.
    pub copies: Vec<String>,
    /// What the app's audit log tells of the last day; nothing when it has none, or why it could not be asked.
    pub audit: Result<Option<AuditScope>, String>,
}

impl Engine {
    /// What was asked of providers in this scope, oldest first.
    ///
    /// # Errors
    /// When a journal cannot be read: then nobody knows.
    pub fn provider_restores(&self) -> Result<Vec<ProviderRestore>, Failure> {
        let scope = self.setup.scope.to_string();
        let mut rows = self.look().operations(usize::MAX)?;
        rows.retain(|row| row.kind == "provider" && row.scope == scope && row.closed);
        let mut said = Vec::new();
        for row in rows.iter().rev() {
            let operation = self.look().operation(&row.id)?;
            if let (Request::Provider { about }, OperationState::Done) = (&operation.plan.request, &operation.state) {
                said.push((operation.started_at, operation.id.clone(), about.clone()));
            }
        }
        Ok(provider_restores(said))
    }

    /// One of them that is not over.
    ///
    /// # Errors
    /// [`FailureKind::Refused`] when there is none of that name, or its end is known.
    pub(crate) fn open_provider_restore(&self, id: &OperationId) -> Result<ProviderRestore, Failure> {
        let refused = |message: String| Failure::new(FailureKind::Refused, message).hint("lifeboat provider list");
        let found = self.provider_restores()?.into_iter().find(|one| &one.id == id);
        match found {
            None => Err(refused(format!("no restore {id} was asked of a provider"))),
            Some(one) if one.outcome.is_some() => Err(refused(format!("restore {id} is over: {}", one.state()))),
            Some(one) => Ok(one),
        }
    }

    /// The text of a request, as it was written.
    ///
    /// # Errors
    /// When its journal cannot be read.
    pub fn provider_request(&self, id: &OperationId) -> Result<String, Failure> {
        let operation = self.look().operation(id)?;
        let lines = operation.plan.steps().find_map(|step| match &step.action {
            Action::Say { lines } => Some(lines.iter().map(|line| format!("{line}\n")).collect()),
            _other => None,
        });
        lines.ok_or_else(|| Failure::new(FailureKind::Usage, format!("{id} asks no provider for anything")))
    }

    /// What can be done without a good backup of ours.
    ///
    /// # Errors
    /// When the resource is on no server, or the vault cannot be read.
    pub fn routes(&self, name: &ResourceName) -> Result<Routes, Failure> {
        let resource = self.setup.resource(name)?;
        let ResourceKind::Postgres { url, .. } = &resource.kind else {
            let message = format!("{name} is on no server; what lies about of it is told by: lifeboat backups list");
            return Err(Failure::new(FailureKind::Usage, message));
        };
        let address = self.vaults.database(url)?;
        let provider: Option<Provider> = provider_of(&address.host);
        let told = |failure: Failure| failure.to_string();
        let kept = Session::open(&address.with_database("postgres"), &Stop::default())
            .and_then(|mut session| kept_beside(&mut session, &address.database))
            .map_err(|error| told(postgres_failure(&error)));
        let mine = self.backups()?;
        let of_it = |backup: &&Backup| backup.resources.contains(name);
        let doubtful: Vec<Backup> = mine.iter().filter(of_it).filter(|one| is_doubtful(one)).cloned().collect();
        let mut elsewhere = self.backups_of_all()?;
        let (app, environment) = (&self.setup.scope.app, &self.setup.scope.environment);
        elsewhere.retain(|one| &one.scope.app == app && &one.scope.environment != environment);
        elsewhere.retain(|one| of_it(&one) && !is_doubtful(one));
        let since = self.common()?.now - AUDIT_SPAN;
        let ask = AuditAsk { table: None, since: Some(since), condition: None, newest_max: AUDIT_ROWS_SHOWN };
        let audit = self.audit_scope(name, &ask).map(|found| found.map(|(scope, _before)| scope)).map_err(told);
        Ok(Routes {
            resource: name.clone(),
            place: address.to_string(),
            provider: provider.map(|one| one.name),
            way: provider.map(|one| one.way),
            kept,
            doubtful,
            elsewhere: newest_of_each(elsewhere),
            strays: self
                .strays(&mine)?
                .into_iter()
                .filter(|stray| stray.kind == "sql" || stray.kind == "archive")
                .collect(),
            copies: self.setup.copies.iter().map(|copy| copy.name.to_string()).collect(),
            audit,
        })
    }
}

/// Whether a backup is taken only when a person names it.
fn is_doubtful(backup: &Backup) -> bool {
    backup.reason == BackupReason::Emergency || backup.suspect.is_some()
}

/// The newest backup of each environment.
fn newest_of_each(mut backups: Vec<Backup>) -> Vec<Backup> {
    backups.sort_by(|one, other| {
        (&one.scope.environment, other.recovery_point).cmp(&(&other.scope.environment, one.recovery_point))
    });
    backups.dedup_by(|one, other| one.scope.environment == other.scope.environment);
    backups
}
