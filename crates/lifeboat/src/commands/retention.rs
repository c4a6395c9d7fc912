//! Which backups stay, why and until when; and letting go of the others.

use lifeboat_model::Request;

use super::{App, carry::carry_out, plans};
use crate::{cli::RetentionCommand, error::Done};

pub fn run(app: &App, command: &RetentionCommand) -> Done {
    let session = app.open(&[])?;
    match command {
        RetentionCommand::Plan => plans::make(app, &session, &Request::Retention),
        RetentionCommand::Apply(consent) => {
            let plan = session.engine.plan(&Request::Retention)?;
            carry_out(app, &session, &plan, consent.consent())
        }
    }
}
