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
    /// That, and what was measured of the release when it was sealed is what it was again.
    Verified,
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
    /// This audience was told that it begins.
    Announced(Audience),
    /// This audience was told that it is over.
    AnnouncedOver(Audience),
    /// The wanted version was put in use.
    Switched,
    /// What a rehearsal is judged by, by its key.
    Rehearsal(&'static str),
    /// Each phase has its time.
    Timed,
    /// The next rehearsal is due later, and it is known when.
    NextDue,
    /// What `lifeboat ready` says of the point of the same name.
    Ready,
    /// The incident was reviewed.
    Reviewed,
    /// Going back was tried, and passed, since the incident was over.
    TriedSince,
    /// It was done here within a quarter of a year.
    Within(Practice),
}

/// Who is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Audience {
    /// The team, by its chat: a webhook.
    Chat,
    /// Those who hold a stake in it, by mail.
    Mail,
    /// Everybody, by the status page: a file.
    StatusPage,
    /// Who is on call: a channel whose name says so.
    OnCall,
}

/// What is practised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Practice {
    /// A backup was restored and found good.
    Restore,
    /// Former rows of a table, or of a document in it, were brought back.
    Rows,
    /// Everything was exported.
    Export,
    /// Functions at the edge went back to a former version.
    Functions,
    /// What serves the pages went back to a former version.
    Pages,
    /// A rollback was rehearsed, and passed.
    Rollback,
    /// A message of a test was delivered.
    Alert,
}

/// What a list belongs to: whose state it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Of {
    /// A rollback: the newest, when nobody says which.
    Rollback,
    /// A rehearsal of one: the newest.
    Rehearsal,
    /// An incident: the newest.
    Incident,
    /// The app in its environment; a person's word counts for a quarter of a year.
    App,
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
    /// What it belongs to.
    pub of: Of,
    /// Its points.
    pub items: &'static [Item],
}

const fn by(key: &'static str, title: &'static str, look: Look) -> Item {
    Item { key, title, how: How::Machine(look) }
}

const fn person(key: &'static str, title: &'static str) -> Item {
    Item { key, title, how: How::Person }
}

/// The lists of the documents, with as many points as there.
pub const LISTS: [List; 17] = [
    List {
        key: "pre-rollback",
        title: "Pre-rollback",
        of: Of::Rollback,
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
        of: Of::Rollback,
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
        of: Of::Rollback,
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
        of: Of::Rollback,
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
        of: Of::Rollback,
        items: &[
            by("done", "the rollback is done", Look::Done),
            by("verified", "verification passed", Look::Verified),
            by("health", "the health check passes", Look::Probes),
            person("smoke", "smoke tests passed"),
            by("told", "stakeholders were told that it is over", Look::ToldOver),
            by("log", "the incident log has it", Look::IncidentLog),
            person("review", "the post-mortem is scheduled"),
            person("retention", "retention of backups was looked at"),
        ],
    },
    List {
        key: "pre-production",
        title: "Pre-production",
        of: Of::App,
        items: &[
            by("backups", "backups automated: the database daily, the cloud weekly", Look::Ready),
            by("alerts", "monitoring alerts configured", Look::Ready),
            by("procedures", "recovery procedures tested in staging", Look::Ready),
            by("training", "team trained on level 1 and 2", Look::Ready),
            by("rotation", "on-call rotation established", Look::Ready),
            by("contacts", "escalation contacts documented", Look::Ready),
            by("rollback", "rollback tested successfully", Look::Ready),
            by("resync", "re-sync tested successfully", Look::Ready),
            by("billing", "billing alerts of the cloud set up", Look::Ready),
            by("review", "disaster recovery plan reviewed", Look::Ready),
        ],
    },
    List {
        key: "notification",
        title: "Notification",
        of: Of::Rollback,
        items: &[
            by("chat", "the team was told in its chat", Look::Announced(Audience::Chat)),
            by("mail", "stakeholders were told by mail", Look::Announced(Audience::Mail)),
            by("status-page", "the status page says so", Look::Announced(Audience::StatusPage)),
            by("on-call", "who is on call was told", Look::Announced(Audience::OnCall)),
        ],
    },
    List {
        key: "app",
        title: "Application rollback verification",
        of: Of::Rollback,
        items: &[
            by("deployed", "the former version is in use", Look::Switched),
            by("accessible", "the application is accessible", Look::Version),
            by("health", "the health check answers with 200", Look::Path("health")),
            by("login", "the login page loads", Look::Path("login")),
            by("dashboard", "the dashboard is accessible", Look::Path("dashboard")),
        ],
    },
    List {
        key: "integrity",
        title: "Data integrity",
        of: Of::Rollback,
        items: &[
            by("tables", "critical tables of before exist", Look::Compared),
            by("newer-gone", "tables of the newer version are gone", Look::Migrations),
            by("policies", "row level security is as it was", Look::Compared),
            by("triggers", "triggers are as they were", Look::Compared),
            by("orphans", "no row refers to one that is not there", Look::Compared),
        ],
    },
    List {
        key: "communication",
        title: "Communication",
        of: Of::Rollback,
        items: &[
            by("team", "the team was told that it is over", Look::AnnouncedOver(Audience::Chat)),
            by("stakeholders", "stakeholders were informed", Look::AnnouncedOver(Audience::Mail)),
            by("status-page", "the status page says that all works", Look::AnnouncedOver(Audience::StatusPage)),
            person("post-mortem", "the post-mortem meeting is scheduled"),
        ],
    },
    List {
        key: "verification",
        title: "Verification",
        of: Of::Rollback,
        items: &[
            by("counts", "record counts are those of the backup", Look::Compared),
            by("migration", "the migration version is the expected one", Look::Migrations),
            by("timestamps", "nothing is newer than the backup", Look::Compared),
            by("critical", "critical records exist", Look::Compared),
            by("corruption", "no data is corrupt", Look::Compared),
            by("foreign-keys", "foreign keys are intact", Look::Compared),
        ],
    },
    List {
        key: "rehearsal",
        title: "Rehearsal",
        of: Of::Rehearsal,
        items: &[
            by("followed", "rollback procedure followed successfully", Look::Rehearsal("followed")),
            by("errors", "all commands executed without errors", Look::Rehearsal("errors")),
            by("time", "rollback completed within 15 minutes", Look::Rehearsal("time")),
            by("stable", "system stable after the rollback", Look::Rehearsal("stable")),
            by("roles", "team members know their roles", Look::Rehearsal("roles")),
            by("documents", "documentation accurate and complete", Look::Rehearsal("documents")),
        ],
    },
    List {
        key: "drill",
        title: "Drill",
        of: Of::Rehearsal,
        items: &[
            by("announced", "it was scheduled for a time of low traffic, and announced", Look::Told),
            person("participants", "all members of the team took part"),
            by("timed", "each phase was timed", Look::Timed),
            person("issues", "issues are documented"),
            person("procedures", "procedures are updated"),
            by("next", "the next drill is scheduled", Look::NextDue),
        ],
    },
    List {
        key: "post-incident",
        title: "Post-incident",
        of: Of::Incident,
        items: &[
            person("root-cause", "the root cause is documented"),
            person("runbooks", "runbooks are updated"),
            person("alerts", "monitoring was added that prevents it from coming back"),
            by("meeting", "the post-mortem meeting was held", Look::Reviewed),
            person("procedures", "procedures of recovery are updated where needed"),
            by("tested", "the procedure of recovery was tested in staging", Look::TriedSince),
        ],
    },
    List {
        key: "quarterly-drill",
        title: "Quarterly drill",
        of: Of::App,
        items: &[
            by("database", "the database was restored from a backup", Look::Within(Practice::Restore)),
            by("rows", "a document was restored from a former version", Look::Within(Practice::Rows)),
            by("export", "all data was exported", Look::Within(Practice::Export)),
            by("functions", "edge functions went back to a former version", Look::Within(Practice::Functions)),
            by("pages", "the front end went back to a former version", Look::Within(Practice::Pages)),
            by("alerts", "alerts are delivered", Look::Within(Practice::Alert)),
            person("lessons", "lessons are documented"),
        ],
    },
    List {
        key: "quarterly-tests",
        title: "Quarterly tests",
        of: Of::App,
        items: &[
            by("restore", "staging was restored from a backup, verified and timed", Look::Within(Practice::Restore)),
            by(
                "rollback",
                "a version was deployed to staging, rolled back and verified",
                Look::Within(Practice::Rollback),
            ),
            person("simulation", "an incident was simulated by its runbook, and gaps documented"),
        ],
    },
    List {
        key: "incident-review",
        title: "Post-incident review",
        of: Of::Incident,
        items: &[
            person("report", "the incident report: timeline, root cause, actions, lessons"),
            person("runbooks", "runbooks tell of new procedures, steps of recovery, known issues"),
            person("prevention", "measures of prevention: alerts, procedures of deploys, tests"),
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

    /// CHK-01: as many points as in the documents, 99 in 17 lists, each with a key of its own.
    #[test]
    fn chk_01_seventeen_lists() {
        let counts: Vec<(&str, usize)> = LISTS.iter().map(|list| (list.key, list.items.len())).collect();
        let wanted = [
            ("pre-rollback", 8),
            ("database", 6),
            ("environment", 4),
            ("smoke", 8),
            ("post-rollback", 8),
            ("pre-production", 10),
            ("notification", 4),
            ("app", 5),
            ("integrity", 5),
            ("communication", 4),
            ("verification", 6),
            ("rehearsal", 6),
            ("drill", 6),
            ("post-incident", 6),
            ("quarterly-drill", 7),
            ("quarterly-tests", 3),
            ("incident-review", 3),
        ];
        assert_eq!(counts, wanted);
        assert_eq!(counts.iter().map(|(_, items)| items).sum::<usize>(), 99);
        for list in &LISTS {
            let mut keys: Vec<&str> = list.items.iter().map(|item| item.key).collect();
            keys.sort_unstable();
            keys.dedup();
            assert_eq!(keys.len(), list.items.len(), "{}", list.key);
        }
    }
}
