//! The checklists as they stand: looked up in the journal of an operation and in the world, by a command that the settings name, or
//! attested by a person. State belongs to a rollback, a rehearsal, an incident, or to the app; nothing is ticked beforehand, and what nobody
//! knows has not passed.

mod looks;
mod practice;

use lifeboat_io::{Stop, exec::Invocation};
use lifeboat_model::{
    Failure, FailureKind, Incident, Operation, OperationId, OperationState, Request, Timestamp, Tri,
    checklist::{How, Item, LISTS, List, Look, Of, list},
    time::since,
};
use serde::Serialize;

use crate::{Engine, ready::COUNTS_FOR};

/// What a list belongs to.
#[derive(Clone, Debug)]
pub enum Subject {
    /// A rollback, or a rehearsal of one.
    Operation(Box<Operation>),
    /// An incident.
    Incident(Incident),
    /// The app in its environment.
    App,
}

impl Subject {
    fn operation(&self) -> Option<&Operation> {
        match self {
            Subject::Operation(operation) => Some(operation),
            Subject::Incident(_) | Subject::App => None,
        }
    }
}

/// A point as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ticked {
    /// Its key.
    pub key: &'static str,
    /// What it says.
    pub title: &'static str,
    /// Whether it stands.
    pub outcome: Tri,
    /// By what, or why not.
    pub detail: String,
    /// Who attested it, when somebody did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// A list as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Its key.
    pub key: &'static str,
    /// What it is called.
    pub title: &'static str,
    /// The operation it belongs to, or that opened the incident it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationId>,
    /// What it belongs to, in a word.
    pub of: String,
    /// Why somebody went on although not every point stood, and who.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overridden: Option<String>,
    /// Its points.
    pub items: Vec<Ticked>,
}

impl Checked {
    /// Whether the gate is open: every point stands.
    pub fn outcome(&self) -> Tri {
        Tri::worst(self.items.iter().map(|item| item.outcome))
    }

    /// For the incident, as Markdown.
    pub fn markdown(&self) -> String {
        let mut text = format!("## {} checklist of {}\n\n", self.title, self.of);
        for item in &self.items {
            let (box_, word) = match item.outcome {
                Tri::Pass => ("[x]", "yes"),
                Tri::Fail => ("[ ]", "NO"),
                Tri::Unknown => ("[ ]", "not known"),
            };
            let by = item.by.as_ref().map_or_else(String::new, |by| format!(", attested by {by}"));
            text += &format!("- {box_} {}: {word} ({}{by})\n", item.title, item.detail);
        }
        text += &self.overridden.as_ref().map_or_else(String::new, |why| format!("\nIt went on all the same: {why}\n"));
        text
    }
}

impl Engine {
    /// What a list belongs to: what is named, or the newest.
    ///
    /// # Errors
    /// There is no such list; there is nothing that it could belong to.
    pub fn subject(&self, key: &str, named: Option<&OperationId>) -> Result<Subject, Failure> {
        let list = known(key)?;
        let nothing = |message: &str, hint: &str| Failure::new(FailureKind::Refused, message).hint(hint);
        let scope = self.setup().scope.to_string();
        match list.of {
            Of::App => Ok(Subject::App),
            Of::Incident => {
                let all = self.incidents()?;
                let found = all.into_iter().rev().find(|one| named.is_none_or(|id| one.id == *id));
                found.map(Subject::Incident).ok_or_else(|| {
                    nothing("there is no such incident, so there is nothing to tick", "lifeboat incident list")
                })
            }
            Of::Rollback => {
                let rows = self.look().operations(usize::MAX)?;
                let newest = || rows.iter().find(|row| row.scope == scope && row.kind == "rollback");
                let id = named.or_else(|| newest().map(|row| &row.id)).ok_or_else(|| {
                    nothing(
                        "nothing was rolled back here yet, so there is nothing to tick",
                        "lifeboat rollback --dry-run; or name an operation: --operation ID",
                    )
                })?;
                Ok(Subject::Operation(Box::new(self.look().operation(id)?)))
            }
            Of::Rehearsal => {
                let all = self.rehearsals()?;
                let found = all.iter().find(|one| named.is_none_or(|id| one.operation == *id)).ok_or_else(|| {
                    nothing(
                        "no such rehearsal has come to its end, so there is nothing to tick",
                        "lifeboat rehearse rollback --env staging",
                    )
                })?;
                Ok(Subject::Operation(Box::new(self.look().operation(&found.operation)?)))
            }
        }
    }

    /// A list as it stands.
    ///
    /// # Errors
    /// There is no such list; the journals cannot be read.
    pub fn checklist(&self, key: &str, subject: &Subject) -> Result<Checked, Failure> {
        let list = known(key)?;
        let items = list.items.iter().map(|item| self.ticked(list, item, subject)).collect::<Result<_, Failure>>()?;
        let (operation, of) = match subject {
            Subject::Operation(operation) => (Some(operation.id.clone()), operation.id.to_string()),
            Subject::Incident(incident) => (Some(incident.id.clone()), incident.id.to_string()),
            Subject::App => (None, self.setup().scope.to_string()),
        };
        let word = self.word_for(&override_about(list.key, subject))?;
        let overridden = word.map(|word| format!("{}: {}", word.by, word.note));
        Ok(Checked { key: list.key, title: list.title, operation, of, overridden, items })
    }

    /// Under which name a person's word for a point goes on record.
    ///
    /// # Errors
    /// There is no such list or point; a machine has seen that it does not stand, and no word makes it stand.
    pub fn checklist_about(&self, key: &str, point: &str, subject: &Subject) -> Result<String, Failure> {
        let list = known(key)?;
        let Some(item) = list.items.iter().find(|item| item.key == point) else {
            let keys: Vec<&str> = list.items.iter().map(|item| item.key).collect();
            let failure = Failure::new(FailureKind::Usage, format!("{key} has no point {point}"));
            return Err(failure.hint(format!("it has: {}", keys.join(", "))));
        };
        // These two have a record of their own, and a rule about what can be attested.
        match (item.how, subject) {
            (How::Machine(Look::Ready), _) => return self.ready_about(point),
            (How::Machine(Look::Rehearsal(key)), Subject::Operation(operation)) => {
                return self.rehearsal_about(operation.id.as_str(), key);
            }
            _other => {}
        }
        if let Some((Tri::Fail, why)) = self.seen_of(list, item, subject)? {
            let message = format!("{point} was looked at and does not stand; nobody's word makes it stand");
            return Err(Failure::new(FailureKind::Refused, message).because(why));
        }
        Ok(about(list, item, subject))
    }

    /// What a machine sees of a point: by the command that the settings name, else by what is built in.
    fn seen_of(&self, list: &List, item: &Item, subject: &Subject) -> Result<Option<(Tri, String)>, Failure> {
        if let Some(words) = self.setup().checks.get(&format!("{}.{}", list.key, item.key)) {
            return Ok(Some(self.commanded(words)));
        }
        let How::Machine(look) = item.how else { return Ok(None) };
        match subject.operation() {
            Some(operation) if !matches!(look, Look::Rehearsal(_) | Look::NextDue) => Ok(self.seen(look, operation)),
            _elsewhere => self.practised(look, item.key, subject),
        }
    }

    /// What a command says of a point. One that cannot be run, or does not end, has said nothing: that is not known, and has not passed.
    fn commanded(&self, words: &[String]) -> (Tri, String) {
        let Some((program, args)) = words.split_first() else {
            return (Tri::Unknown, "its command has no words".to_owned());
        };
        let folder = self.setup().settings_file.as_deref().map(lifeboat_io::files::parent);
        let mut invocation = Invocation::new(program, self.setup().command_limit).args(args);
        if let Some(folder) = folder {
            invocation = invocation.folder(folder);
        }
        let shown = invocation.to_string();
        match self.io.exec.run(&invocation, None, &Stop::default()) {
            Err(error) => (Tri::Unknown, format!("{shown} cannot be run: {error}")),
            Ok(exit) => {
                let out = String::from_utf8_lossy(&exit.stdout_tail).into_owned();
                let line = out.lines().next().map(|line| format!(": {}", line.trim())).unwrap_or_default();
                match exit.code {
                    0 => (Tri::Pass, format!("{shown}{line}")),
                    // What a shell answers when there is no such program, or none that can be run.
                    126 | 127 => (Tri::Unknown, format!("{shown} cannot be run (exit code {}){line}", exit.code)),
                    code => (Tri::Fail, format!("{shown} ends with {code}{line}")),
                }
            }
        }
    }

    fn ticked(&self, list: &List, item: &Item, subject: &Subject) -> Result<Ticked, Failure> {
        let (outcome, detail, by) = match self.seen_of(list, item, subject)? {
            Some((outcome @ (Tri::Pass | Tri::Fail), detail)) => (outcome, detail, None),
            not_known => {
                // A word about the app counts for a quarter; one about something that happened stays true.
                let now = self.io.clock.now();
                let counts = |at: Timestamp| !matches!(subject, Subject::App) || since(at, now) <= COUNTS_FOR;
                match self.word_for(&about(list, item, subject))?.filter(|word| counts(word.at)) {
                    Some(word) => (Tri::Pass, word.note, Some(word.by)),
                    None => {
                        let attest =
                            format!("lifeboat checklist attest {} {} --note 'WHAT YOU SAW'", list.key, item.key);
                        let why = not_known.map(|(_, why)| format!("{why}; ")).unwrap_or_default();
                        (Tri::Unknown, format!("{why}{attest}"), None)
                    }
                }
            }
        };
        Ok(Ticked { key: item.key, title: item.title, outcome, detail, by })
    }

    /// Who attested something, and what they said.
    fn word_for(&self, about: &str) -> Result<Option<Word>, Failure> {
        let scope = self.setup().scope.to_string();
        for row in self.look().operations(usize::MAX)? {
            if row.kind != "attest" || row.scope != scope || !row.closed {
                continue;
            }
            let operation = self.look().operation(&row.id)?;
            if let (Request::Attest { about: said, note, .. }, OperationState::Done) =
                (&operation.plan.request, &operation.state)
                && said == about
            {
                let (by, at) = (operation.by.clone(), operation.started_at);
                return Ok(Some(Word { by, note: format!("{note}, {}", at.strftime("%Y-%m-%d %H:%M UTC")), at }));
            }
        }
        Ok(None)
    }
}

fn known(key: &str) -> Result<&'static List, Failure> {
    list(key).ok_or_else(|| {
        let keys: Vec<&str> = LISTS.iter().map(|list| list.key).collect();
        let failure = Failure::new(FailureKind::Usage, format!("there is no checklist {key}"));
        failure.hint(format!("there are: {}", keys.join(", ")))
    })
}

/// What somebody has said, and when.
struct Word {
    by: String,
    note: String,
    at: Timestamp,
}

fn about(list: &List, item: &Item, subject: &Subject) -> String {
    match subject {
        Subject::Operation(operation) => format!("checklist.{}.{}.{}", list.key, item.key, operation.id),
        Subject::Incident(incident) => format!("checklist.{}.{}.{}", list.key, item.key, incident.id),
        Subject::App => format!("checklist.{}.{}", list.key, item.key),
    }
}

/// Under which name it goes on record that somebody went on although not every point of a list stood.
pub fn override_about(key: &str, subject: &Subject) -> String {
    let id = match subject {
        Subject::Operation(operation) => operation.id.as_str(),
        Subject::Incident(incident) => incident.id.as_str(),
        Subject::App => "app",
    };
    format!("checklist.{key}.override.{id}")
}
