//! `lifeboat demo`: the main job on embedded defaults. It makes a small shop that another process sells in all the while,
//! protects it, proves the backup, wrecks the shop, brings it back, takes that back, and counts what was lost - with the
//! same engine, plans and journals as everything else.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use lifeboat_engine::{Engine, Unwatched};
use lifeboat_io::{Io, Stop};
use lifeboat_model::{
    BackupChoice, BackupReason, Duration, ExitCode, Failure, FailureKind, Operation, OperationState, Request,
    ResourceName, StepState,
    time::{show_bytes, show_duration},
};
use serde_json::json;

use super::App;
use crate::{cli::GlobalArgs, error::Done, settings, ui::words::quoted, wire};

/// How long the till sells before and after the first backup.
const SELLING: Duration = Duration::from_millis(1500);

/// Runs the demonstration in a new folder, which stays for a look.
pub fn run(app: &App, folder: Option<PathBuf>) -> Done {
    let folder = wire::shop::demo_folder(folder, &app.io)?;
    let shop = Shop::open(app, &folder)?;
    let told = tell_story(app, &shop);
    // Whatever happened, the till must not go on selling.
    let last = shop.close(&app.io);
    let (story, last) = (told?, last?);
    finish(app, &shop, &story, last)
}

/// What the hidden till does: it sells in a process of its own until the shop closes.
pub fn till(database: &Path, until: &Path) -> Done {
    wire::shop::sell_until(database, until)?;
    Ok(ExitCode::Ok)
}

struct Shop {
    folder: PathBuf,
    database: PathBuf,
    closing: PathBuf,
    engine: Engine,
    till: Option<std::thread::JoinHandle<Result<(), Failure>>>,
    closed: AtomicBool,
}

impl Shop {
    fn open(app: &App, folder: &Path) -> Result<Shop, Failure> {
        let database = folder.join("shop.db");
        wire::shop::demo_shop(folder, &database, &app.io)?;
        let global = GlobalArgs { config: Some(folder.join("lifeboat.toml")), ..GlobalArgs::default() };
        let resolved = settings::resolve(&global, &[], &app.io)?;
        let engine = wire::engine(&resolved, &app.io)?;
        let closing = folder.join("shop.closed");
        let till = wire::shop::start_till(&database, &closing, &app.io)?;
        let closed = AtomicBool::new(false);
        Ok(Shop { folder: folder.to_owned(), database, closing, engine, till: Some(till), closed })
    }

    /// Tells the till to stop; the caller waits for it in `close`.
    fn stop_selling(&self) -> Result<(), Failure> {
        if !self.closed.swap(true, Ordering::SeqCst) {
            wire::shop::close_shop(&self.closing)?;
        }
        Ok(())
    }

    fn close(&self, io: &Io) -> Result<u64, Failure> {
        self.stop_selling()?;
        wire::shop::last_sale(&self.closing, io)
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        // Best effort: the till also ends by itself.
        let _ = self.stop_selling();
        if let Some(till) = self.till.take() {
            let _ = till.join();
        }
    }
}

/// What happened, for the end.
struct Story {
    steps: Vec<(String, Operation)>,
    sold_at_close: u64,
    wrecked: u64,
    back: u64,
    lines: Vec<(String, u64)>,
}

fn tell_story(app: &App, shop: &Shop) -> Result<Story, Failure> {
    let say = |text: String| if app.ui.json.is_none() { app.ui.out(&text) } else { Ok(()) };
    let mut steps = Vec::new();
    say(format!(
        "A shop in {}: SQLite, WAL mode, and a till that sells in another process all the while.\n\n",
        shop.folder.display()
    ))?;
    app.io.clock.sleep(SELLING, &Stop::default()).map_err(interrupted)?;
    let before = orders(&shop.database)?;

    let backup = carry(shop, &backup_request(BackupReason::Manual, "first"))?;
    let during = orders(&shop.database)?;
    say(format!("1. Protected while it sold: {} orders before, {} after.  {}\n", before, during, summary_of(&backup)))?;
    steps.push(("backup".to_owned(), backup));

    let proof = carry(shop, &Request::Prove { backup: BackupChoice::Latest, resources: vec![] })?;
    say(format!(
        "2. Proven: restored into a sandbox, compared, written to; a copy damaged on purpose was noticed.  {}\n",
        summary_of(&proof)
    ))?;
    for line in proof_lines(&proof) {
        say(format!("     {line}\n"))?;
    }
    steps.push(("prove".to_owned(), proof));

    app.io.clock.sleep(SELLING, &Stop::default()).map_err(interrupted)?;
    let sold_at_close = shop.close(&app.io)?;
    let deploy = carry(shop, &backup_request(BackupReason::PreDeploy, "before the deploy"))?;
    say(format!(
        "3. The shop closes for a deploy after order {sold_at_close}; a backup before it.  {}\n",
        summary_of(&deploy)
    ))?;
    steps.push(("backup before the deploy".to_owned(), deploy));

    wire::shop::wreck_shop(&shop.database)?;
    let wrecked = orders(&shop.database)?;
    say(format!("4. The migration was bad: {wrecked} of {sold_at_close} orders are left, and a table is gone.\n"))?;

    let restore = carry(shop, &restore_request()?)?;
    let back = orders(&shop.database)?;
    say(format!("5. Brought back: {back} orders. What was there is kept.  {}\n", summary_of(&restore)))?;
    let undo = carry(shop, &Request::Undo { operation: restore.id.clone() })?;
    say(format!(
        "6. Undone, to show that it can be: {} orders, the wreck again.  {}\n",
        orders(&shop.database)?,
        summary_of(&undo)
    ))?;
    let redo = carry(shop, &Request::Undo { operation: undo.id.clone() })?;
    say(format!("7. And back: {} orders.  {}\n", orders(&shop.database)?, summary_of(&redo)))?;
    steps.extend([("restore".to_owned(), restore), ("undo".to_owned(), undo), ("undo of the undo".to_owned(), redo)]);
    let lines = wire::shop::rows(&shop.database)?.into_iter().collect();
    Ok(Story { steps, sold_at_close, wrecked, back: orders(&shop.database)?, lines })
}

fn interrupted(error: lifeboat_io::Stopped) -> Failure {
    Failure::from_error(FailureKind::Interrupted, &error)
}

fn backup_request(reason: BackupReason, label: &str) -> Request {
    Request::Backup { resources: vec![], reason, label: Some(label.to_owned()) }
}

fn restore_request() -> Result<Request, Failure> {
    let resource = ResourceName::new("db").map_err(|error| Failure::from_error(FailureKind::Bug, &error))?;
    Ok(Request::Restore {
        resource,
        from: BackupChoice::Latest,
        into: None,
        tablespaces: std::collections::BTreeMap::new(),
        without_emergency_backup: None,
        accept_loss: lifeboat_model::AcceptLoss::Shown,
        urgent: None,
        ack: None,
    })
}

fn carry(shop: &Shop, request: &Request) -> Result<Operation, Failure> {
    let plan = shop.engine.plan(request)?;
    let operation = shop.engine.run(&plan, "demo", &Unwatched, &Stop::default()).map_err(|error| error.failure)?;
    match &operation.state {
        OperationState::Done => Ok(operation),
        OperationState::PutBack { why: Some(why) }
        | OperationState::Paused { why }
        | OperationState::HandedOver { why }
        | OperationState::TurningBack { why } => Err(why.clone()),
        OperationState::PutBack { why: None } | OperationState::Running => {
            Err(Failure::new(FailureKind::Bug, format!("{} did not end", operation.id)))
        }
    }
}

fn orders(database: &Path) -> Result<u64, Failure> {
    Ok(wire::shop::rows(database)?.get("orders").copied().unwrap_or(0))
}

/// The longest steps of an operation with their times, and the whole.
fn summary_of(operation: &Operation) -> String {
    let mut times: Vec<(u64, String)> = Vec::new();
    for (step, state) in operation.plan.steps().zip(&operation.steps) {
        if let StepState::Done { took_ms, .. } = state {
            let name = step.id.0.trim_start_matches("keep.");
            let verb = name.split_once('.').map_or(name, |(verb, _resource)| verb);
            times.push((*took_ms, verb.to_owned()));
        }
    }
    let whole: u64 = times.iter().map(|(ms, _)| ms).sum();
    times.sort();
    let longest = times.iter().rev().take(3).filter(|(ms, _)| *ms > 0);
    let longest: Vec<String> = longest.map(|(ms, verb)| format!("{verb} {ms} ms")).collect();
    format!("[{} in {whole} ms: {}]", operation.id, longest.join(", "))
}

fn proof_lines(operation: &Operation) -> Vec<String> {
    let mut lines = Vec::new();
    for (step, state) in operation.plan.steps().zip(&operation.steps) {
        if let (lifeboat_model::Action::RecordProof { .. }, StepState::Done { output, .. }) = (&step.action, state)
            && let Ok(proof) = serde_json::from_value::<lifeboat_model::Proof>(output.clone())
        {
            let level = proof.level.map_or("nothing", lifeboat_model::ProofLevel::word);
            lines.push(format!(
                "level reached: {level}; {} checks, {} restored in {}",
                proof.checks.len(),
                show_bytes(proof.bytes),
                show_duration(Duration::from_millis(proof.restore_ms)),
            ));
        }
    }
    lines
}

fn finish(app: &App, shop: &Shop, story: &Story, last: u64) -> Done {
    let lost = last.saturating_sub(story.back);
    if app.ui.json.is_some() {
        let operations: Vec<_> =
            story.steps.iter().map(|(name, operation)| json!({ "step": name, "operation": operation.id })).collect();
        let fields = json!({
            "folder": shop.folder, "sold": last, "left_by_the_wreck": story.wrecked, "back": story.back, "lost": lost,
            "operations": operations,
        });
        app.ui.document("lifeboat/demo@1", fields)?;
        return Ok(if lost == 0 { ExitCode::Ok } else { ExitCode::Damaged });
    }
    let mut text = format!(
        "\nThe till says it committed {last} orders; the shop has {}. Lost: {}.\n",
        story.back,
        if lost == 0 { "nothing".to_owned() } else { format!("{lost} ORDERS") }
    );
    let tables: Vec<String> = story.lines.iter().map(|(table, rows)| format!("{table} {rows}")).collect();
    let folder = quoted(&shop.folder.display().to_string());
    // Writing into a String cannot fail.
    let _ = write!(
        text,
        "Rows now: {}.\n\nTry next:\n  cd {folder}\n  lifeboat status\n  lifeboat backups list\n  lifeboat history\n  \
         lifeboat restore db --dry-run\n  RESTIC_PASSWORD_FILE=vault-password restic -r vault snapshots   # the way out\n\n\
         To protect something of your own, here or in its folder:\n  lifeboat init\n\nThe folder may be deleted: rm -r {folder}\n",
        tables.join(", ")
    );
    app.ui.out(&text)?;
    let _ = story.sold_at_close;
    Ok(if lost == 0 { ExitCode::Ok } else { ExitCode::Damaged })
}
