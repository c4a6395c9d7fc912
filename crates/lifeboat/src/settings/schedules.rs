//! What the daemon does by itself, and when: general times, an environment's own, a resource's own. And the app that it
//! stands in front of.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use lifeboat_model::{
    Failure, FailureKind, ResourceName,
    schedule::{Cron, Job, Schedule, Task},
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{EnvironmentSettings, Settings, Span};

/// What stands for no time at all, where a general time does not hold.
pub const NEVER: &str = "never";

/// When `lifeboat serve` does what, as cron writes it: minute, hour, day of the month, month, day of the week. What is not
/// said does not happen by itself.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleSettings {
    /// The zone that these times are meant in. Default: UTC.
    #[schemars(extend("x-kind" = "timezone"))]
    pub timezone: Option<String>,
    /// A backup of every resource that has no times of its own.
    #[schemars(extend("x-kind" = "cron"))]
    pub backup: Option<String>,
    /// The newest backup is restored aside and looked at.
    #[schemars(extend("x-kind" = "cron"))]
    pub prove: Option<String>,
    /// Backups that no rule keeps go off the list.
    #[schemars(extend("x-kind" = "cron"))]
    pub retention: Option<String>,
    /// Second vaults are brought up to date, and plain files sent where the settings say.
    #[schemars(extend("x-kind" = "cron"))]
    pub copy: Option<String>,
    /// Space is freed that no backup needs, after `vault.prune_grace`.
    #[schemars(extend("x-kind" = "cron"))]
    pub prune: Option<String>,
}

/// The app that `lifeboat serve` stands in front of: every path that is not Lifeboat's own goes there.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GatewaySettings {
    /// Where it listens: `http://127.0.0.1:3000`.
    #[schemars(extend("x-kind" = "upstream"))]
    pub upstream: Option<String>,
    /// Within which time it has to begin to answer. Default: `60s`.
    pub timeout: Option<Span>,
}

/// A resource's own times.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnScheduleSettings {
    /// Its backups.
    #[schemars(extend("x-kind" = "cron"))]
    pub backup: Option<String>,
    /// Its proofs.
    #[schemars(extend("x-kind" = "cron"))]
    pub prove: Option<String>,
}

/// The schedule of an environment, and each of its times with the keys in the file that it may come from, most special first.
///
/// # Errors
/// A time or a zone that cannot be read.
pub fn of(settings: &Settings, own: &EnvironmentSettings) -> Result<(Schedule, BTreeMap<String, String>), Failure> {
    let usage = |text: String| Failure::new(FailureKind::Usage, text);
    let (general, special) = (&settings.schedule, &own.schedule);
    let mut shown = BTreeMap::new();
    let zone = match special.timezone.as_ref().or(general.timezone.as_ref()) {
        None => TimeZone::UTC,
        Some(name) => {
            shown.insert("timezone".to_owned(), name.clone());
            TimeZone::get(name).map_err(|error| usage(format!("the time zone {name:?} is not known: {error}")))?
        }
    };
    let mut jobs = Vec::new();
    let mut add = |name: String, task: Task, said: Option<&String>| -> Result<(), Failure> {
        let Some(said) = said.filter(|said| said.as_str() != NEVER) else { return Ok(()) };
        let at = Cron::parse(said).map_err(|error| usage(format!("schedule.{name}: {error}")))?;
        shown.insert(name.clone(), said.clone());
        jobs.push(Job { name, task, at });
        Ok(())
    };
    let (mut backed_up, mut proven) = (Vec::new(), Vec::new());
    for (name, what) in &own.resources {
        let resource = ResourceName::new(name.as_str()).map_err(|error| usage(error.to_string()))?;
        let (backup, prove) = (&what.schedule.backup, &what.schedule.prove);
        match backup {
            None => backed_up.push(resource.clone()),
            some => add(format!("backup.{name}"), Task::Backup { resources: vec![resource.clone()] }, some.as_ref())?,
        }
        match prove {
            None => proven.push(resource),
            some => add(format!("prove.{name}"), Task::Prove { resources: vec![resource] }, some.as_ref())?,
        }
    }
    // Nobody is left out silently: all means all, also those that come later.
    let rest = |left: Vec<ResourceName>| if left.len() == own.resources.len() { Vec::new() } else { left };
    if !backed_up.is_empty() {
        let said = special.backup.as_ref().or(general.backup.as_ref());
        add("backup".to_owned(), Task::Backup { resources: rest(backed_up) }, said)?;
    }
    if !proven.is_empty() {
        let said = special.prove.as_ref().or(general.prove.as_ref());
        add("prove".to_owned(), Task::Prove { resources: rest(proven) }, said)?;
    }
    add("retention".to_owned(), Task::Retention, special.retention.as_ref().or(general.retention.as_ref()))?;
    add("copy".to_owned(), Task::Copy, special.copy.as_ref().or(general.copy.as_ref()))?;
    add("prune".to_owned(), Task::Prune, special.prune.as_ref().or(general.prune.as_ref()))?;
    Ok((Schedule { jobs, zone }, shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_special_goes_before_the_general_and_never_is_nothing() {
        let text = "version = 1\n[app]\nname = \"shop\"\n[schedule]\nbackup = \"0 2 * * *\"\nprove = \"0 4 * * *\"\n\
                    [environments.a.schedule]\nprove = \"never\"\nretention = \"0 3 * * *\"\n\
                    [environments.a.resources.db]\nkind = \"sqlite\"\npath = \"x\"\nschedule = { backup = \"@hourly\" }\n\
                    [environments.a.resources.env]\nkind = \"env\"\npath = \"y\"\n\
                    [environments.b.resources.db]\nkind = \"sqlite\"\npath = \"z\"\n";
        let settings: Settings = toml::from_str(text).unwrap();
        let jobs = |environment: &str| -> Vec<String> {
            let schedule = of(&settings, &settings.environments[environment]).unwrap().0;
            schedule.jobs.iter().map(|job| format!("{} {:?} {}", job.name, job.task, job.at)).collect()
        };
        assert_eq!(
            jobs("a"),
            [
                "backup.db Backup { resources: [ResourceName(\"db\")] } @hourly",
                "backup Backup { resources: [ResourceName(\"env\")] } 0 2 * * *",
                "retention Retention 0 3 * * *",
            ]
        );
        let all = ["backup Backup { resources: [] } 0 2 * * *", "prove Prove { resources: [] } 0 4 * * *"];
        assert_eq!(jobs("b"), all);
    }
}
