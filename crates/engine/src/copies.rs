//! How far second vaults lag behind.

use lifeboat_model::{
    Backup, Duration, Failure, Timestamp, Tri,
    time::{show_age, since},
};
use serde::Serialize;

use crate::{Engine, plan, setup::Copy};

/// A copy may lag so far behind when no recovery point objective says otherwise.
const LAG_MAX: Duration = Duration::from_secs(24 * 3600);

/// Where a second vault stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CopyStatus {
    /// What the settings call it.
    pub name: String,
    /// Where it is.
    pub location: String,
    /// Backups in it.
    pub backups: usize,
    /// Backups that it lacks and would keep.
    pub lacks: usize,
    /// Up to when its newest backup is complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest: Option<Timestamp>,
    /// How much older its newest backup is than the newest one there is, in seconds.
    pub lag_s: u64,
    /// Whether it would do.
    pub good: Tri,
    /// Why not, in words.
    pub why: Vec<String>,
}

impl Engine {
    /// Where every second vault stands, compared with these backups.
    pub fn copies(&self, ours: &[Backup]) -> Vec<CopyStatus> {
        self.setup.copies.iter().map(|copy| self.copy_status(copy, ours)).collect()
    }

    fn copy_status(&self, copy: &Copy, ours: &[Backup]) -> CopyStatus {
        let mut status = CopyStatus {
            name: copy.name.to_string(),
            location: copy.location.clone(),
            backups: 0,
            lacks: 0,
            newest: None,
            lag_s: 0,
            good: Tri::Pass,
            why: Vec::new(),
        };
        if let Err(failure) = self.look_into_copy(copy, ours, &mut status) {
            status.good = Tri::Unknown;
            status.why.push(format!("it cannot be read: {failure}"));
        }
        status
    }

    fn look_into_copy(&self, copy: &Copy, ours: &[Backup], status: &mut CopyStatus) -> Result<(), Failure> {
        let is_there = self.vaults.exists(&copy.location)?;
        let theirs = if is_there { self.backups_in(&copy.location)? } else { Vec::new() };
        status.backups = theirs.len();
        status.newest = theirs.last().map(|backup| backup.recovery_point);
        let newest = ours.last().map(|backup| backup.recovery_point);
        let lag = status.newest.zip(newest).map_or(Duration::ZERO, |(theirs, ours)| since(theirs, ours));
        status.lag_s = lag.as_secs();
        status.lacks = plan::copy::lacking(ours.to_vec(), theirs, copy, &self.common()?).len();
        let next = format!("lifeboat vault copy --to {}", copy.name);
        match (status.newest, newest) {
            (None, Some(_)) => {
                status.good = Tri::Fail;
                status.why.push(format!("it holds no backup yet: {next}"));
            }
            (Some(_), Some(_)) if lag > self.setup.rpo.unwrap_or(LAG_MAX) => {
                status.good = Tri::Fail;
                status.why.push(format!("its newest backup is {} older: {next}", show_age(lag)));
            }
            (Some(_) | None, _) => {}
        }
        Ok(())
    }
}
