//! `messages`: what was told to whom, what is still to be delivered, and a try of every channel.

use lifeboat_io::Stop;
use lifeboat_model::{ExitCode, message::Message};
use serde_json::json;

use super::App;
use crate::{
    cli::records::MessagesCommand,
    error::Done,
    ui::{table::Table, words},
};

pub fn run(app: &App, command: &MessagesCommand) -> Done {
    let session = app.open(&[])?;
    let engine = &session.engine;
    let messages = match command {
        MessagesCommand::List => engine.messages()?,
        MessagesCommand::Retry => engine.send_messages(&Stop::default())?,
        MessagesCommand::Remind => engine.tend_messages(&Stop::default())?,
        MessagesCommand::Test { channel } => engine.try_channels(channel.as_deref(), &Stop::default())?,
    };
    let waits = messages.iter().any(|one| one.sent_at.is_none());
    let code = if waits { ExitCode::ActionAdvised } else { ExitCode::Ok };
    if app.ui.json.is_some() {
        app.ui.document("lifeboat/messages@1", json!({ "messages": messages, "exit_code": code as u8 }))?;
        return Ok(code);
    }
    if messages.is_empty() {
        app.ui.talk("There is no message.\n");
        return Ok(code);
    }
    let mut table = Table::new(&["WRITTEN (UTC)", "CHANNEL", "SUBJECT", "DELIVERED"]);
    for one in &messages {
        table.row([
            words::short_instant(one.made_at),
            one.channel.name.clone(),
            words::one_line(&one.notice.subject),
            delivered(one),
        ]);
    }
    app.ui.out(&table.render(""))?;
    if waits {
        app.ui.talk("Try again what was not delivered: lifeboat messages retry\n");
    }
    Ok(code)
}

fn delivered(message: &Message) -> String {
    match (message.sent_at, &message.why_not) {
        (Some(at), _) => words::short_instant(at),
        (None, Some(why)) => {
            format!("no, {} so far: {}", words::count(u64::from(message.tries), "try", "tries"), words::one_line(why))
        }
        (None, None) => "not tried yet".to_owned(),
    }
}
