//! The vault itself: checked, pruned, read back from, explained.

use lifeboat_model::Request;

use super::{App, carry::carry_out, missing};
use crate::{cli::VaultCommand, error::Done};

pub fn run(app: &App, command: &VaultCommand) -> Done {
    match command {
        VaultCommand::Check { .. } => Err(missing("vault check")),
        VaultCommand::Recover { .. } => Err(missing("vault recover")),
        VaultCommand::Kit { .. } => Err(missing("vault kit")),
        VaultCommand::Prune(consent) => {
            let session = app.open(&[])?;
            let plan = session.engine.plan(&Request::Prune)?;
            carry_out(app, &session, &plan, consent.consent())
        }
    }
}
