//! The sheet of a rollback: the very plan, as commands with real values, for the day on which Lifeboat itself cannot be used. It is
//! printed beforehand. No secret is in it; where secrets are is.

use std::fmt::Write;

use lifeboat_model::{
    Action, Duration, Failure, PgAction, Plan, Profile, Request, StepClass, Timestamp, Undo, VersionAsk,
    time::show_duration,
};
use serde::Serialize;

use crate::{
    Engine,
    by_hand::{Around, ByHand, WORK, by_hand},
    kit::{page, quote, restic_location},
};

/// A step on the sheet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SheetStep {
    /// Its name in the plan.
    pub id: String,
    /// What is done.
    pub title: String,
    /// What is typed.
    pub commands: Vec<String>,
    /// Why nothing is typed, or what to do instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instead: Option<String>,
    /// What takes it back; nothing when nothing has to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub back: Vec<String>,
    /// Whether there is no way back behind it.
    pub no_return: bool,
}

/// A part of the procedure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SheetPhase {
    /// Its name.
    pub name: String,
    /// How long it may take, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_ms: Option<u64>,
    /// Its steps.
    pub steps: Vec<SheetStep>,
}

/// The whole procedure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sheet {
    /// What it leads to.
    pub title: String,
    /// App and environment.
    pub scope: String,
    /// By which way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// When it was made: values are those of that moment.
    pub made_at: Timestamp,
    /// What is typed before anything else.
    pub first: Vec<String>,
    /// What a person has to have at hand.
    pub needs: Vec<String>,
    /// What a person should know.
    pub notes: Vec<String>,
    /// What leaves.
    pub leaves: Vec<String>,
    /// The parts, in order.
    pub phases: Vec<SheetPhase>,
    /// Whether a step is among them that nobody should do by hand.
    pub has_gaps: bool,
}

impl Engine {
    /// The sheet of a plan. Nothing is written anywhere.
    ///
    /// # Errors
    /// The backup that it restores cannot be read.
    pub fn sheet(&self, plan: &Plan) -> Result<Sheet, Failure> {
        let restored = plan.steps().find_map(|step| match &step.action {
            Action::Postgres(PgAction::Fill { backup, .. }) => Some(backup.clone()),
            _other => None,
        });
        let manifest = restored.as_ref().map(|backup| self.manifest(backup)).transpose()?;
        let around = Around { env: &*self.io.env, manifest: manifest.as_ref() };
        let folder = self.setup.settings_file.as_deref().map(lifeboat_io::files::parent);
        let folder = folder.map_or_else(|| ".".to_owned(), |folder| folder.display().to_string());
        let mut first = vec![format!("cd {}", quote(&folder)), "umask 077".to_owned(), format!("mkdir -p {WORK}")];
        let mut needs = programs(plan);
        if restored.is_some() {
            first.push(format!("export RESTIC_REPOSITORY={}", quote(&restic_location(&self.setup.vault))));
            needs.push(format!("the vault's password: {}", self.vaults.password_place(&self.setup.vault)));
            if self.setup.vault.starts_with("s3:") {
                needs.push("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of the vault's bucket".to_owned());
            }
        }
        Ok(make(plan, first, needs, &around, self.io.clock.now()))
    }
}

/// What has to be there, from what is typed.
fn programs(plan: &Plan) -> Vec<String> {
    let mut needs = vec!["a shell on this host, as the user whom the app belongs to".to_owned()];
    if plan.steps().any(|step| matches!(step.action, Action::Postgres(_))) {
        needs.push("psql and pg_dump; the database's password in PGPASSWORD or ~/.pgpass".to_owned());
    }
    if plan.steps().any(|step| matches!(step.action, Action::Postgres(PgAction::Fill { .. }))) {
        needs.push("restic 0.14 or newer".to_owned());
    }
    for step in plan.steps() {
        let Action::Target { target, .. } = &step.action else { continue };
        for name in target.passes() {
            let line = format!("{name}, where its platform asks for it");
            if !needs.contains(&line) {
                needs.push(line);
            }
        }
    }
    needs
}

fn make(plan: &Plan, first: Vec<String>, needs: Vec<String>, around: &Around<'_>, made_at: Timestamp) -> Sheet {
    let mut has_gaps = false;
    let mut step_of = |step: &lifeboat_model::Step| {
        let (commands, instead) = match by_hand(&step.action, around) {
            ByHand::Type(commands) => (commands, None),
            ByHand::Covered(why) => (Vec::new(), Some(format!("Nothing is typed: {why}."))),
            ByHand::Not(what) => {
                has_gaps = true;
                (Vec::new(), Some(format!("{}{}.", what[..1].to_uppercase(), &what[1..])))
            }
        };
        let back = match &step.undo {
            Undo::By(action) => match by_hand(action, around) {
                ByHand::Type(back) => back,
                ByHand::Covered(_) | ByHand::Not(_) => Vec::new(),
            },
            Undo::Nothing | Undo::Impossible { .. } => Vec::new(),
        };
        let no_return = step.class == StepClass::Pivot;
        SheetStep { id: step.id.to_string(), title: step.title.clone(), commands, instead, back, no_return }
    };
    let phases = plan
        .phases
        .iter()
        .map(|phase| SheetPhase {
            name: phase.name.clone(),
            budget_ms: phase.budget_ms,
            steps: phase.steps.iter().map(&mut step_of).collect(),
        })
        .collect();
    let leaves = plan.losses.iter().flat_map(|loss| {
        let lines = loss.what.iter().filter(|line| line.rows_lost() > 0);
        lines.map(|line| {
            format!("{} rows of {} in {}; kept in: {}", line.rows_lost(), line.table, loss.resource, loss.kept)
        })
    });
    // What Lifeboat would say to somebody who has it.
    let notes = plan.notes.iter().filter(|note| !note.contains("lifeboat ") && !note.starts_with("Way "));
    Sheet {
        title: plan.title.clone(),
        scope: plan.scope.to_string(),
        profile: match &plan.request {
            Request::Version { about: VersionAsk::RollBack { .. } } => Profile::of(plan),
            _other => None,
        },
        made_at,
        first,
        needs,
        notes: notes.cloned().collect(),
        leaves: leaves.collect(),
        phases,
        has_gaps,
    }
}

impl Sheet {
    /// As Markdown, to be read as it is or printed.
    pub fn markdown(&self) -> String {
        let mut text = format!("# {}\n\n", capital(&self.title));
        let made = self.made_at.strftime("%Y-%m-%d %H:%M UTC");
        let way = self.profile.map_or_else(String::new, |profile| format!(" by the way `{}`", profile.word()));
        // Writing into a String cannot fail.
        let _ = write!(
            text,
            "For the day on which Lifeboat itself cannot be used. Made {made} for {}{way}: values are those of that moment, so make it anew \
             after each release.\n\nWho does it: ______________________  Begun: __________  Over: __________\n",
            self.scope
        );
        text += "\n## What has to be at hand\n\n";
        self.needs.iter().for_each(|need| text += &format!("- {need}\n"));
        if self.has_gaps {
            text += "\nNot every step can be typed: read the whole before you begin.\n";
        }
        if !self.leaves.is_empty() {
            text += "\n## What leaves\n\n";
            self.leaves.iter().for_each(|line| text += &format!("- {line}\n"));
        }
        if !self.notes.is_empty() {
            text += "\n## What to know\n\n";
            self.notes.iter().for_each(|note| text += &format!("- {note}\n"));
        }
        text += "\n## Begin\n\nEverything in one shell, in this order. Stop at the first command that fails; what takes a step back \
                 stands below it, and is typed from the last step to the first. Behind the point of no return go on to the end.\n";
        text += &block(&self.first);
        let mut number = 0;
        for (at, phase) in self.phases.iter().enumerate() {
            let budget = phase
                .budget_ms
                .map_or_else(String::new, |ms| format!(" (within {})", show_duration(Duration::from_millis(ms))));
            let _ =
                write!(text, "\n## Phase {}: {}{budget}\n\nBegun: __________  Over: __________\n", at + 1, phase.name);
            for step in &phase.steps {
                number += 1;
                let _ = write!(text, "\n### {number}. {}\n", capital(&step.title));
                if step.no_return {
                    text +=
                        "\nTHE POINT OF NO RETURN: from here on only forward. Is everything above as it should be?\n";
                }
                if let Some(instead) = &step.instead {
                    let _ = write!(text, "\n{instead}\n");
                }
                if !step.commands.is_empty() {
                    text += &block(&step.commands);
                }
                if !step.back.is_empty() {
                    text += "\nTo take it back:\n";
                    text += &back(&step.back);
                }
            }
        }
        text += "\n## Afterwards\n\n- Watch the log and the errors for a quarter of an hour.\n- Keep the folder ";
        let _ = writeln!(text, "`{WORK}` until the incident is closed: what was there before is in it.");
        text += "- Tell everybody who was told that it began. Write down when each phase began and was over.\n\
                 - When Lifeboat works again, tell it: `lifeboat releases mark RELEASE bad --reason WHY`.\n";
        text
    }

    /// As a page that needs nothing else.
    pub fn html(&self) -> String {
        page(&format!("{}: {}", self.scope, self.title), &self.markdown())
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn block(lines: &[String]) -> String {
    format!("\n```sh\n{}\n```\n", lines.join("\n"))
}

/// What is only typed when something went wrong is told from what is typed in order.
fn back(lines: &[String]) -> String {
    format!("\n```text\n{}\n```\n", lines.join("\n"))
}
