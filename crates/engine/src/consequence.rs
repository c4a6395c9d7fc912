//! What a plan would mean for what is there now: the same for a person at a terminal, for the API and for a page. It decides
//! who may have it carried out, and what has to be said first.

use lifeboat_model::{LevelAsk, LossLine, Plan, Request, VersionAsk, policy::PolicyAsk, sync::SyncAsk};

/// What carrying out a plan means for what is there now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consequence {
    /// It adds something, or touches nothing of the app.
    Harmless,
    /// It changes what is live or listed, and can be taken back.
    Reversible,
    /// Rows leave the live data. They are kept, and somebody has to know.
    RowsLeave,
    /// Something is deleted for good.
    ForGood,
}

/// What a plan would mean.
pub fn consequence(plan: &Plan) -> Consequence {
    if plan.steps().next().is_none() {
        return Consequence::Harmless;
    }
    match &plan.request {
        Request::Backup { .. } | Request::Prove { .. } | Request::Mark { .. } => Consequence::Harmless,
        // What is dropped is a copy of what is in the vault.
        Request::Shadow { .. } | Request::Send { .. } => Consequence::Harmless,
        Request::Restore { into: Some(_), .. } | Request::Export { .. } => Consequence::Harmless,
        Request::Adopt { .. } | Request::Copy { .. } => Consequence::Harmless,
        Request::Compromise { .. } | Request::Attest { .. } | Request::Incident { .. } => Consequence::Harmless,
        Request::Decide { .. } => Consequence::Harmless,
        Request::Provider { .. } => Consequence::Harmless,
        Request::Sync { about, .. } => match about {
            SyncAsk::Enable | SyncAsk::Disable { .. } | SyncAsk::Import { .. } | SyncAsk::Letters { .. } => {
                Consequence::Harmless
            }
            SyncAsk::Clear { .. } | SyncAsk::Merge { .. } => Consequence::Reversible,
            SyncAsk::Attach | SyncAsk::Detach => Consequence::Reversible,
            SyncAsk::Resync { .. }
            | SyncAsk::Repair { .. }
            | SyncAsk::Widen { .. }
            | SyncAsk::StartOver { .. }
            | SyncAsk::ConfirmDeletes { .. } => Consequence::Reversible,
        },
        Request::Level { about: LevelAsk::Recover { .. }, .. } => {
            if rows_leaving(plan) > 0 {
                Consequence::RowsLeave
            } else {
                Consequence::Reversible
            }
        }
        Request::Policy { about: PolicyAsk::Close, .. } => Consequence::Harmless,
        Request::Level { .. } | Request::Drill { .. } | Request::Policy { .. } => Consequence::Reversible,
        Request::Feature { .. } => Consequence::Reversible,
        Request::BringBack { .. } | Request::RestoreTable { insert: true, .. } => Consequence::Reversible,
        Request::RestoreTable { insert: false, .. } => Consequence::Harmless,
        Request::Fence { on, .. } | Request::Maintenance { on, .. } => {
            if *on {
                Consequence::Reversible
            } else {
                Consequence::Harmless
            }
        }
        Request::Version { about: VersionAsk::Seal { .. } | VersionAsk::Mark { .. } | VersionAsk::Rehearse { .. } } => {
            Consequence::Harmless
        }
        // Past a point of no return a person has to know what they do.
        Request::Version { about: VersionAsk::Deploy(_) } if plan.pivot().is_some() => Consequence::RowsLeave,
        Request::Version { about: VersionAsk::Deploy(_) | VersionAsk::Env(_) | VersionAsk::Platform(_) } => {
            Consequence::Reversible
        }
        Request::Version { about: VersionAsk::RollBack { .. } | VersionAsk::Revert { .. } }
        | Request::Restore { .. }
        | Request::Undo { .. }
        | Request::Retention => {
            let leaves = rows_leaving(plan) + tables_leaving(plan) + tables_changed(plan) > 0;
            if leaves { Consequence::RowsLeave } else { Consequence::Reversible }
        }
        Request::Prune | Request::Release { .. } => Consequence::ForGood,
    }
}

/// Rows whose content would leave the live data, over all tables: those that came and those that changed.
pub fn rows_leaving(plan: &Plan) -> u64 {
    plan.losses.iter().flat_map(|loss| &loss.what).map(LossLine::rows_lost).sum()
}

/// Tables in which values would leave, in rows that nobody can count before the backup is at hand.
pub fn tables_changed(plan: &Plan) -> u64 {
    plan.losses.iter().flat_map(|loss| &loss.what).filter(|line| line.is_uncounted()).count() as u64
}

/// Tables that would leave the live data, empty ones too.
pub fn tables_leaving(plan: &Plan) -> u64 {
    let lines = plan.losses.iter().flat_map(|loss| &loss.what);
    lines.filter(|line| line.rows_backup.is_none() && line.rows_now.is_some()).count() as u64
}
