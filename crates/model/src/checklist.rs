//! The checklists of the documents, as data. A machine looks where it can; the rest a named person attests. What nobody knows has
//! not passed.

use serde::Serialize;

/// How a point becomes true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// By what an operation's journal and the world show.
    Machine(Look),
    /// By the word of a person.
    Person,
}

/// What a machine looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Look {
    /// The backup that it goes back to is whole.
    BackupIsWhole,
    /// What was there was backed up before anything was replaced.
    EmergencyBackup,
    /// The app was stopped, or nobody could write.
    Stopped,
    /// Everybody was told that it begins.
    Told,
    /// The backup was restored in a rehearsal.
    Rehearsed,
    /// The database could be asked, and captured.
    Access,
    /// There is room for two more copies of the data.
    Room,
    /// It is on record when it began and how long it should take.
    Timeline,
    /// The database was brought back.
    Restored,
    /// Every migration since is gone from the ledger.
    Migrations,
    /// What was brought back is what the backup or the release had: tables, rows, policies, triggers.
    Compared,
    /// The log tells of no errors since.
    Log,
    /// The database that is in use is the one of the settings.
    Connection,
    /// What answers is a new instance of the version that was wanted.
    Version,
    /// The path answers.
    Path(&'static str),
    /// Every probe answers.
    Probes,
    /// The operation is done.
    Done,
    /// Everybody was told that it is over.
    ToldOver,
    /// The incident log has it.
    IncidentLog,
}

/// A point of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    /// Its key, for attesting.
    pub key: &'static str,
    /// What it says.
    pub title: &'static str,
    /// How it becomes true.
    pub how: How,
}

/// A list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct List {
    /// Its key.
    pub key: &'static str,
    /// What it is called.
    pub title: &'static str,
    /// Its points.
    pub items: &'static [Item],
}

const fn by(key: &'static str, title: &'static str, look: Look) -> Item {
    Item { key, title, how: How::Machine(look) }
}

const fn person(key: &'static str, title: &'static str) -> Item {
    Item { key, title, how: How::Person }
}

/// The lists that go with a rollback.
pub const LISTS: [List; 5] = [
    List {
        key: "pre-rollback",
        title: "Pre-rollback",
        items: &[
            by("backup", "the backup exists and is whole", Look::BackupIsWhole),
            by("emergency", "an emergency backup was made", Look::EmergencyBackup),
            by("stopped", "the application is stopped", Look::Stopped),
            by("notified", "stakeholders were told", Look::Told),
            by("tested", "it was tested elsewhere first", Look::Rehearsed),
            by("access", "access to the database was verified", Look::Access),
            by("space", "there is room on the disk", Look::Room),
            by("timeline", "begin and expected duration are on record", Look::Timeline),
        ],
    },
    List {
        key: "database",
        title: "Database rollback verification",
        items: &[
            by("restored", "the database was brought back", Look::Restored),
            by("new-gone", "what came since is gone", Look::Migrations),
            by("former-there", "what was there before is there", Look::Compared),
            by("errors", "no errors in the log", Look::Log),
            by("views", "materialized views are as they were", Look::Compared),
            by("policies", "row level security is as it was", Look::Compared),
        ],
    },
    List {
        key: "environment",
        title: "Environment",
        items: &[
            person("variables", "variables are those of that version"),
            by("connection", "the database connection is right", Look::Connection),
            person("keys", "keys of other services are valid"),
            person("flags", "no flag of the newer version is on"),
        ],
    },
    List {
        key: "smoke",
        title: "Smoke tests",
        items: &[
            by("accessible", "the application is accessible", Look::Version),
            by("health", "the health check passes", Look::Path("health")),
            by("login", "the login page loads", Look::Path("login")),
            by("dashboard", "the dashboard loads", Look::Path("dashboard")),
            by("list", "the main list loads", Look::Probes),
            person("create", "a record can be made"),
            person("view", "a record can be looked at"),
            person("no-new", "nothing of the newer version is to be seen"),
        ],
    },
    List {
        key: "post-rollback",
        title: "Post-rollback",
        items: &[
            by("done", "the rollback is done", Look::Done),
            by("verified", "verification passed", Look::Compared),
            by("health", "the health check passes", Look::Probes),
            person("smoke", "smoke tests passed"),
            by("told", "stakeholders were told that it is over", Look::ToldOver),
            by("log", "the incident log has it", Look::IncidentLog),
            person("review", "the post-mortem is scheduled"),
            person("retention", "retention of backups was looked at"),
        ],
    },
];

/// A list by its key.
pub fn list(key: &str) -> Option<&'static List> {
    LISTS.iter().find(|list| list.key == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CHK-01: as many points as in the documents, each with a key of its own; a part of them a person has to stand for.
    #[test]
    fn chk_01_five_lists() {
        let counts: Vec<(&str, usize)> = LISTS.iter().map(|list| (list.key, list.items.len())).collect();
        let wanted = [("pre-rollback", 8), ("database", 6), ("environment", 4), ("smoke", 8), ("post-rollback", 8)];
        assert_eq!(counts, wanted);
        for list in &LISTS {
            let mut keys: Vec<&str> = list.items.iter().map(|item| item.key).collect();
            keys.sort_unstable();
            keys.dedup();
            assert_eq!(keys.len(), list.items.len(), "{}", list.key);
        }
    }
}
