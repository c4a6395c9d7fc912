//! `ready`: what has to stand before an app goes to production, and a person's word for what nobody can measure.

use lifeboat_model::{ExitCode, Request, Tri};
use serde_json::json;

use super::{App, carry::carry_out, requests::dry};
use crate::{
    cli::records::{ReadyArgs, ReadyCommand},
    error::Done,
    ui::{table::Table, words},
};

pub fn run(app: &App, args: &ReadyArgs) -> Done {
    let session = app.open(&[])?;
    if let Some(ReadyCommand::Attest { point, word }) = &args.command {
        let request =
            Request::Attest { about: session.engine.ready_about(point)?, report: Vec::new(), note: word.note.clone() };
        let plan = session.engine.plan(&request)?;
        return carry_out(app, &session, &plan, dry(word.run.dry_run));
    }
    let points = session.engine.ready()?;
    let standing = points.iter().filter(|point| point.outcome == Tri::Pass).count();
    let worst = Tri::worst(points.iter().map(|point| point.outcome));
    let code = match worst {
        Tri::Pass => ExitCode::Ok,
        Tri::Unknown => ExitCode::Unknown,
        Tri::Fail => ExitCode::ActionAdvised,
    };
    if app.ui.json.is_some() {
        let fields =
            json!({ "points": points, "standing": standing, "ready": code == ExitCode::Ok, "exit_code": code as u8 });
        app.ui.document("lifeboat/ready@1", fields)?;
        return Ok(code);
    }
    let mut table = Table::new(&["POINT", "STANDS", "WHAT", "WHY"]);
    for point in &points {
        let stands = match point.outcome {
            Tri::Pass => "yes",
            Tri::Unknown => "not known",
            Tri::Fail => "no",
        };
        let why = words::one_line(&point.detail);
        table.row([point.key.to_owned(), stands.to_owned(), point.title.to_owned(), why]);
    }
    app.ui.out(&table.render(""))?;
    let of = points.len();
    match code {
        ExitCode::Ok => app.ui.out(&format!("GO: all {of} stand.\n"))?,
        _ => app.ui.out(&format!("NO GO: {standing} of {of} stand.\n"))?,
    }
    Ok(code)
}
