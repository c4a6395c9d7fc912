//! What is done to a mirror.

use lifeboat_model::{
    Failure, FailureKind,
    sync::{Link, Switch, SyncAction},
};
use serde_json::{Value, json};

use super::{Hands, captures::output, sqlite_failure};
use crate::{
    perform::Context,
    sync::{Mirror, said},
};

/// Carries out one action.
pub fn perform(hands: &Hands, link: &Link, action: &SyncAction, context: &Context<'_>) -> Result<Value, Failure> {
    let scope = &context.operation.plan.scope;
    if let (SyncAction::CheckHeld, Some(setting)) = (action, said(link, &hands.io).refusal()) {
        // That wins over every switch, also over one that cannot be read.
        return Ok(json!({ "enabled": false, "because": setting }));
    }
    let mut mirror = Mirror::open(link, scope, &hands.io, &hands.state, &hands.vaults)?;
    match action {
        SyncAction::Switch { on, why } => {
            let switch = Switch {
                enabled: *on,
                since: hands.io.clock.now(),
                by: context.operation.by.clone(),
                why: why.clone(),
            };
            mirror.set_switch(Some(&switch))?;
            output(&switch)
        }
        SyncAction::Clear { saved } => {
            let cleared = mirror.clear_into(saved)?;
            Ok(json!({ "saved": saved, "count": cleared.changes(), "dropped": cleared.tables }))
        }
        SyncAction::Import { file } => {
            let imported = mirror.import(file)?;
            for (table, count) in &imported.left_out {
                context.watch.note(&format!(
                    "{count} changes of {table} were left out: it is not mirrored, or its key is another by now."
                ));
            }
            output(&imported)
        }
        SyncAction::Merge { file } => {
            let merged = mirror.merge(file)?;
            merged.iter().for_each(|table| context.watch.note(&table.sentence()));
            Ok(json!({ "tables": merged }))
        }
        SyncAction::CheckLocal { emptied } => {
            let doubts = mirror.check_local(emptied, context.stop)?;
            doubts.iter().for_each(|doubt| context.watch.note(&format!("{doubt}; it is copied as it is")));
            Ok(if doubts.is_empty() { Value::Null } else { json!({ "doubts": doubts }) })
        }
        SyncAction::Attach => mirror.attach().and_then(|tables| output(&tables)),
        SyncAction::Detach => mirror.detach().map(|()| Value::Null),
        SyncAction::PrepareCloud => mirror.prepare_cloud(context.stop).map(|()| Value::Null),
        SyncAction::Resync { tables, keep_orphans } => {
            let compared = mirror.resync(tables, *keep_orphans, context.watch, context.stop)?;
            output(&compared)
        }
        SyncAction::Compare { tables } => {
            let compared = mirror.compare(tables, context.watch, context.stop)?;
            match compared.is_equal() {
                true => output(&compared),
                false => {
                    let differ = compared.tables.iter().filter(|table| !table.is_equal());
                    let failure = Failure::new(FailureKind::Damaged, "the cloud does not hold what the file holds");
                    let failure = differ.fold(failure, |failure, table| failure.because(table.sentence()));
                    Err(failure.hint("lifeboat sync check says what differs"))
                }
            }
        }
        SyncAction::Dedupe { tables } => Ok(json!({ "removed": mirror.dedupe(tables, context.stop)? })),
        SyncAction::Widen { columns } => Ok(json!({ "rows": mirror.widen(columns, context.stop)? })),
        SyncAction::TryChanges { tables_max } => mirror.try_changes(*tables_max),
        SyncAction::CheckCleared { saved } => mirror.check_cleared(saved),
        SyncAction::CheckDelivers { limit_ms } => mirror.check_delivers(*limit_ms, context.stop),
        SyncAction::CheckLocalOnly => match mirror.said().local_only {
            true => Ok(json!({ "mode": "local-only" })),
            false => {
                let message = format!("the mirror {} is not seen to be local-only", link.name);
                Err(Failure::new(FailureKind::Refused, message).hint("is env_file of the link the file of the target?"))
            }
        },
        SyncAction::CheckHeld => match mirror.is_enabled()? {
            false => Ok(json!({ "enabled": false })),
            true => {
                let message = format!("the mirror {} still delivers", link.name);
                Err(Failure::new(FailureKind::Refused, message).hint("lifeboat sync status says who switched it"))
            }
        },
        SyncAction::Salvage { into } => mirror.salvage(into, context.watch, context.stop),
        SyncAction::Watch { for_ms } => mirror.watch_queue(*for_ms, context.watch, context.stop),
        SyncAction::ConfirmDeletes { tables } => Ok(json!({ "confirmed": mirror.confirm_deletes(tables)? })),
        SyncAction::Letters { choice, ids } => Ok(json!({ "rows": mirror.letters(*choice, ids)? })),
    }
}

impl Mirror {
    /// Puts triggers into the file; says which tables are mirrored.
    fn attach(&mut self) -> Result<Vec<String>, Failure> {
        let fresh = self.fresh_identity();
        let wanted = self.link().tables.clone();
        let done = self.outbox()?.attach(&wanted, &fresh).map_err(|error| sqlite_failure(&error))?;
        Ok(done.tables)
    }

    fn detach(&mut self) -> Result<(), Failure> {
        self.outbox()?.detach().map_err(|error| sqlite_failure(&error))
    }
}
