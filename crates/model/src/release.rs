//! Releases: sealed versions of an app, what is said about them, and which one a rollback goes to.
//!
//! A release is not kept in a table of its own. It stands in the journal of the operation that sealed it; which release is
//! live, good or bad follows from the journals, oldest first ([`releases`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    backup::BackupChoice,
    baseline::Baseline,
    failure::{Failure, FailureKind},
    id::{BackupId, ReleaseId, StepId, find_by_start},
    manifest::EnvFacts,
    migration::{Migration, Reversibility, SchemaState},
    plan::{Action, PgAction, Plan},
    platform::PlatformAsk,
    request::Request,
    resource::ResourceName,
    time::Timestamp,
    variables::EnvAsk,
};

/// The schema tag of a sealed release. Fields are only added within one number.
pub const RELEASE_SCHEMA: &str = "lifeboat/release@1";

/// A sealed version of the app: all that is needed to run it again, and to know that it is it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// [`RELEASE_SCHEMA`].
    pub schema: String,
    /// Its name.
    pub id: ReleaseId,
    /// What people call it: a tag, a branch, "before phase 2".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// When it was sealed.
    pub sealed_at: Timestamp,
    /// What each target runs.
    pub artifacts: Vec<Artifact>,
    /// Env files: names and fingerprints, never values; as the manifest of its backup tells them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<ResourceName, EnvFacts>,
    /// Databases with migrations: what had been applied, and the scripts that lead there and back.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub databases: BTreeMap<ResourceName, SchemaState>,
    /// The backup of its data from when it was sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupId>,
    /// What was measured of it when it was sealed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub baseline: Baseline,
}

impl Release {
    /// What it is called in a sentence: its id, and what people call it.
    pub fn shown(&self) -> String {
        match &self.label {
            Some(label) => format!("{} ({label})", self.id),
            None => self.id.to_string(),
        }
    }

    /// What a target runs in it.
    pub fn artifact(&self, target: &ResourceName) -> Option<&Artifact> {
        self.artifacts.iter().find(|artifact| artifact.target == *target)
    }
}

/// What one target runs in a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// The target.
    pub target: ResourceName,
    /// The version by a name that nothing else can take: a commit, a folder of its own, a digest. Never `latest`.
    pub version: String,
    /// The version the running app told when it was sealed; a new instance has to tell the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served: Option<String>,
    /// Where that version is to be had when it is gone from where it runs: an image by its digest in a registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
}

/// What is known about how well a release does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseState {
    /// Sealed, and not live yet.
    Candidate,
    /// It is or was live, and nobody has said that it is good.
    Live,
    /// It lived through its watch time, or somebody stands for it.
    Good,
    /// It was rolled back, or somebody has said so. It is held: nothing puts it back by itself.
    Bad,
    /// Nobody goes back to it any more.
    Retired,
}

impl ReleaseState {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            ReleaseState::Candidate => "candidate",
            ReleaseState::Live => "live",
            ReleaseState::Good => "good",
            ReleaseState::Bad => "bad",
            ReleaseState::Retired => "retired",
        }
    }
}

/// What goes on record about a release. The journal is the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
pub enum ReleaseRecord {
    /// It is sealed.
    Seal {
        /// The release.
        release: Box<Release>,
        /// Whether it is what runs.
        live: bool,
        /// Whether it was seen to work: its probes answered.
        good: bool,
    },
    /// It was deployed: the last step of a deploy. What came of it is said by the journal.
    Deploy {
        /// The release.
        release: Box<Release>,
        /// Whether there was somebody to ask how it does.
        witnessed: bool,
        /// The steps that looked.
        checked_by: Vec<StepId>,
    },
    /// A release is live now; what was live before may be bad.
    Live {
        /// Which; nothing when what runs was never sealed.
        release: Option<ReleaseId>,
        /// The one that was rolled back, and is held from now on.
        bad: Option<ReleaseId>,
        /// The one that is not held any more, because its rollback was taken back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        not_bad: Option<ReleaseId>,
    },
    /// Somebody says how well one does.
    Mark {
        /// Which.
        release: ReleaseId,
        /// What.
        state: ReleaseState,
        /// Why.
        why: String,
    },
}

/// A release as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownRelease {
    /// What was sealed.
    pub release: Release,
    /// How well it does.
    pub state: ReleaseState,
    /// Whether it is what runs, as far as the journals know.
    pub is_live: bool,
    /// Why somebody said so, when somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Puts together what was recorded, oldest first. Releases come oldest first.
pub fn releases(records: impl IntoIterator<Item = ReleaseRecord>) -> Vec<KnownRelease> {
    let mut known: Vec<KnownRelease> = Vec::new();
    for record in records {
        match record {
            ReleaseRecord::Seal { release, live, good } => {
                let state = match (live, good) {
                    (true, true) => ReleaseState::Good,
                    (true, false) => ReleaseState::Live,
                    (false, _) => ReleaseState::Candidate,
                };
                if live {
                    known.iter_mut().for_each(|one| one.is_live = false);
                }
                known.push(KnownRelease { release: *release, state, is_live: live, why: None });
            }
            ReleaseRecord::Deploy { release, witnessed, .. } => {
                let state = if witnessed { ReleaseState::Good } else { ReleaseState::Live };
                known.iter_mut().for_each(|one| one.is_live = false);
                known.push(KnownRelease { release: *release, state, is_live: true, why: None });
            }
            ReleaseRecord::Live { release, bad, not_bad } => {
                for one in &mut known {
                    let is = |id: &Option<ReleaseId>| id.as_ref() == Some(&one.release.id);
                    one.is_live = is(&release);
                    if is(&bad) {
                        (one.state, one.why) = (ReleaseState::Bad, Some("it was rolled back".to_owned()));
                    } else if is(&not_bad) {
                        (one.state, one.why) = (ReleaseState::Live, None);
                    } else if one.is_live && one.state == ReleaseState::Candidate {
                        one.state = ReleaseState::Live;
                    }
                }
            }
            ReleaseRecord::Mark { release, state, why } => {
                for one in known.iter_mut().filter(|one| one.release.id == release) {
                    (one.state, one.why) = (state, (!why.trim().is_empty()).then(|| why.clone()));
                }
            }
        }
    }
    known
}

/// The release that somebody means: by its id, the beginning of it, or what people call it; of several with one label the
/// newest. Nobody named one: the newest good one that runs other code than is running, which is what "last known good"
/// means. `runs` tells what each target runs at this moment.
///
/// # Errors
/// There is none, or several could be meant; what to type instead.
pub fn choose<'a>(
    all: &'a [KnownRelease],
    wanted: Option<&str>,
    runs: &[(ResourceName, String)],
) -> Result<&'a KnownRelease, Failure> {
    let refused = |message: String| Failure::new(FailureKind::Refused, message);
    let Some(wanted) = wanted else {
        let differs = |one: &&KnownRelease| {
            one.release.artifacts.iter().any(|artifact| {
                runs.iter().any(|(target, version)| *target == artifact.target && *version != artifact.version)
            })
        };
        let good = all.iter().rev().filter(|one| one.state == ReleaseState::Good).find(differs);
        return good.ok_or_else(|| match all.is_empty() {
            true => refused("no release was ever sealed here, so there is none to go back to".to_owned())
                .hint("lifeboat checkpoint seals what runs now; without one: lifeboat restore, lifeboat level 3"),
            false => refused("no release but what runs is known to be good".to_owned())
                .hint("name one: lifeboat releases list, then lifeboat rollback RELEASE"),
        });
    };
    if let Some(found) = all.iter().rev().find(|one| one.release.label.as_deref() == Some(wanted)) {
        return Ok(found);
    }
    let ids: Vec<&str> = all.iter().map(|one| one.release.id.as_str()).collect();
    let found = find_by_start(&ids, wanted, ReleaseId::PREFIX).map_err(|error| {
        Failure::from_error(FailureKind::Usage, &error).hint("lifeboat releases list shows all of them")
    })?;
    let found = all.iter().find(|one| one.release.id.as_str() == *found);
    found.ok_or_else(|| refused(format!("there is no release {wanted}")).hint("lifeboat releases list"))
}

/// How a rollback goes back, the shortest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// The env files alone.
    EnvOnly,
    /// The application alone; no database is touched, and none is connected to.
    AppOnly,
    /// The application, and the database by its DOWN scripts.
    AppAndDown,
    /// The application, and the database from the backup of that release.
    Full,
}

impl Profile {
    /// All of them, the shortest first.
    pub const ALL: [Profile; 4] = [Profile::EnvOnly, Profile::AppOnly, Profile::AppAndDown, Profile::Full];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Profile::EnvOnly => "env-only",
            Profile::AppOnly => "app-only",
            Profile::AppAndDown => "app-and-down",
            Profile::Full => "full",
        }
    }
}

impl Profile {
    /// How a plan goes back, when it is a rollback: by what it does to a database.
    pub fn of(plan: &Plan) -> Option<Profile> {
        let Request::Version { about: VersionAsk::RollBack { profile, .. } } = &plan.request else { return None };
        if *profile == Some(Profile::EnvOnly) {
            return Some(Profile::EnvOnly);
        }
        let reverts = |action: &Action| matches!(action, Action::Postgres(PgAction::Revert { .. }));
        let is_full = plan.phases.iter().any(|phase| phase.name == "swap");
        Some(match (plan.steps().any(|step| reverts(&step.action)), is_full) {
            (true, _) => Profile::AppAndDown,
            (false, true) => Profile::Full,
            (false, false) => Profile::AppOnly,
        })
    }

    /// How long the whole should take, and how long it may, in seconds: 5 minutes for the application alone (an app-only rollback), 15 and
    /// 21 with the database.
    pub fn limits_s(self) -> (u64, u64) {
        match self {
            Profile::EnvOnly | Profile::AppOnly => (300, 300),
            Profile::AppAndDown | Profile::Full => (900, 1_260),
        }
    }

    /// What a whole that took so long was: `within-target`, `within-max` or `over-max`.
    pub fn judge(self, elapsed_ms: u64) -> &'static str {
        let (target, max) = self.limits_s();
        match elapsed_ms {
            ms if ms <= target * 1_000 => "within-target",
            ms if ms <= max * 1_000 => "within-max",
            _longer => "over-max",
        }
    }
}

/// How the reason of a rollback begins that is only a rehearsal: it stands in its title, its journal, and every message of it.
pub const DRILL: &str = "[DRILL]";

/// Whether a plan is the rehearsal of a rollback: what it leaves is not bad, and goes on being known as what it was.
pub fn is_rehearsal(plan: &Plan) -> bool {
    matches!(&plan.request, Request::Version { about: VersionAsk::RollBack { why, .. } } if why.starts_with(DRILL))
}

/// What somebody asks for that is about releases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum VersionAsk {
    /// Seal what runs now.
    Seal {
        /// What to call it.
        label: Option<String>,
        /// The backup of its data; nothing when its data is not in any.
        backup: Option<BackupId>,
    },
    /// Say how well a release does.
    Mark {
        /// Which: an id, the beginning of one, or a label.
        release: String,
        /// What.
        state: ReleaseState,
        /// Why.
        why: String,
    },
    /// Bring a version, and go back by itself when it does not do.
    Deploy(Box<DeployAsk>),
    /// Bring former values of variables back.
    Env(Box<EnvAsk>),
    /// What goes by way of somebody else's platform.
    Platform(Box<PlatformAsk>),
    /// Go back.
    RollBack {
        /// To which release; the last known good one when nobody says.
        to: Option<String>,
        /// How; the shortest way that works when nobody says.
        profile: Option<Profile>,
        /// Why.
        why: String,
        /// With the data of this backup instead of the release's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        backup: Option<BackupId>,
    },
    /// Try what is about to be applied on a copy: up, down, up.
    Rehearse {
        /// Which database.
        resource: ResourceName,
        /// On a copy of which backup.
        from: BackupChoice,
    },
    /// Take migrations of a database back by their DOWN scripts, newest first.
    Revert {
        /// Which database.
        resource: ResourceName,
        /// All that were applied after this one.
        to: RevertTo,
        /// Why.
        why: String,
    },
}

/// What somebody asks for who deploys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployAsk {
    /// Which version, in the words of the driver; what is checked out when nobody says.
    pub version: Option<String>,
    /// What to call the release.
    pub label: Option<String>,
    /// The backup that was made for it; nothing while it is only looked at.
    pub backup: Option<BackupId>,
    /// How far its migrations have to lead back, by a rehearsal.
    pub at_least: Reversibility,
    /// When it does not do, it stays, held, and a person decides.
    pub hold: bool,
    /// Why a version that is held for bad is deployed all the same.
    pub although_bad: Option<String>,
    /// How long it is watched, in milliseconds.
    pub watch_ms: u64,
    /// The version that the running app has to tell.
    pub tells: Option<String>,
    /// Why.
    pub why: String,
}

/// How far migrations are taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevertTo {
    /// This version stays, and all before it.
    Version(String),
    /// So many go.
    Steps(u32),
    /// What this release had stays.
    Release(String),
}

/// The DOWN script of each of these versions: of the newest release that sealed one, else of the folder as it is now. What
/// was sealed comes first: it is what belonged to the UP that ran.
pub fn scripts_of<'a>(
    versions: &[String],
    all: &'a [KnownRelease],
    resource: &ResourceName,
    folder: &'a [Migration],
) -> Vec<Option<&'a Migration>> {
    let sealed = |version: &String| {
        let states = all.iter().rev().filter_map(|one| one.release.databases.get(resource));
        states.flat_map(|state| &state.migrations).find(|one| one.version == *version && one.down.is_some())
    };
    let beside = |version: &String| folder.iter().find(|one| one.version == *version);
    versions.iter().map(|version| sealed(version).or_else(|| beside(version))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(number: u64, version: &str) -> Release {
        let target = ResourceName::new("web").unwrap();
        Release {
            schema: RELEASE_SCHEMA.into(),
            id: ReleaseId::from_random(number),
            label: Some(format!("v{number}")),
            sealed_at: Timestamp::UNIX_EPOCH,
            artifacts: vec![Artifact { target, version: version.into(), served: None, origin: None }],
            env: BTreeMap::new(),
            databases: BTreeMap::new(),
            backup: None,
            baseline: Baseline::new(),
        }
    }

    fn sealed(number: u64, version: &str, good: bool) -> ReleaseRecord {
        ReleaseRecord::Seal { release: Box::new(release(number, version)), live: true, good }
    }

    fn runs(version: &str) -> Vec<(ResourceName, String)> {
        vec![(ResourceName::new("web").unwrap(), version.into())]
    }

    #[test]
    fn what_is_live_good_and_bad_follows_from_the_records() {
        let id = ReleaseId::from_random;
        let back = ReleaseRecord::Live { release: Some(id(1)), bad: Some(id(2)), not_bad: None };
        let undone = ReleaseRecord::Live { release: Some(id(2)), bad: None, not_bad: Some(id(2)) };
        let word = |known: &[KnownRelease]| -> Vec<String> {
            known.iter().map(|one| format!("{}{}", one.state.word(), if one.is_live { "*" } else { "" })).collect()
        };
        let mut records = vec![sealed(1, "a", true), sealed(2, "b", false)];
        assert_eq!(word(&releases(records.clone())), ["good", "live*"]);
        records.push(back);
        assert_eq!(word(&releases(records.clone())), ["good*", "bad"]);
        records.push(undone);
        assert_eq!(word(&releases(records.clone())), ["good", "live*"]);
        records.push(ReleaseRecord::Mark { release: id(2), state: ReleaseState::Good, why: " ".into() });
        assert_eq!(word(&releases(records)), ["good", "good*"]);
    }

    #[test]
    fn the_whole_is_judged_by_two_limits() {
        let judged = |profile: Profile| [300_000, 300_001, 900_001, 1_260_001].map(|ms| profile.judge(ms));
        assert_eq!(judged(Profile::AppOnly), ["within-target", "over-max", "over-max", "over-max"]);
        assert_eq!(judged(Profile::Full), ["within-target", "within-target", "within-max", "over-max"]);
    }

    #[test]
    fn the_last_known_good_runs_something_else_than_what_runs() {
        let known = releases([sealed(1, "a", true), sealed(2, "b", true), sealed(3, "c", false)]);
        let chosen = |wanted: Option<&str>, version: &str| {
            choose(&known, wanted, &runs(version)).map(|one| one.release.label.clone().unwrap())
        };
        assert_eq!(chosen(None, "c").unwrap(), "v2");
        assert_eq!(chosen(None, "b").unwrap(), "v1", "going back to what runs is no rollback");
        assert_eq!(chosen(Some("v3"), "c").unwrap(), "v3");
        assert_eq!(chosen(Some(&ReleaseId::from_random(1).to_string()[..12]), "c").unwrap(), "v1");
        assert_eq!(chosen(Some("v9"), "c").unwrap_err().kind, FailureKind::Usage);
        let none = choose(&[], None, &runs("c")).unwrap_err();
        assert!(none.hint.unwrap().contains("lifeboat checkpoint"));
        let not_good = releases([sealed(3, "c", false)]);
        assert_eq!(choose(&not_good, None, &runs("d")).unwrap_err().kind, FailureKind::Refused);
    }
}
