//! Which backups stay, why and until when; and letting go of the others.

use lifeboat_model::Request;

use super::{App, carry::carry_out, plans, requests::dry};
use crate::{cli::RetentionCommand, error::Done};

pub fn run(app: &App, command: &RetentionCommand) -> Done {
    let session = app.open(&[])?;
    match command {
        RetentionCommand::Plan => plans::make(app, &session, &Request::Retention),
        RetentionCommand::Apply(consent) => {
            let plan = session.engine.plan(&Request::Retention)?;
            carry_out(app, &session, &plan, consent.consent())
        }
        RetentionCommand::Attest(args) => {
            // The report that was looked at is put on record with the word of who looked.
            let report = session.engine.plan(&Request::Retention)?.notes;
            report.iter().for_each(|line| app.ui.talk(&format!("{line}\n")));
            let request = Request::Attest { about: "retention".to_owned(), report, note: args.note.clone() };
            let plan = session.engine.plan(&request)?;
            carry_out(app, &session, &plan, dry(args.run.dry_run))
        }
    }
}
