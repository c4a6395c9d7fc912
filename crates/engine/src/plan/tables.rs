//! Planning for one table of a backup: laid beside the live one, compared, and what is missing inserted when asked to.

use lifeboat_model::{
    Action, Content, Failure, FailureKind, Lease, Operation, OperationId, PgAction, Plan, PlanId, Request, Resource,
    ResourceKind, Step, StepClass, StoredPart, Undo,
};

use super::{
    restore, salvage,
    steps::{self, by, phase, read, step},
};
use crate::{
    Engine,
    act::{is_meant_table, postgres as hands},
    facts::Common,
};

/// Plans to bring rows of one table back.
pub(crate) fn plan(engine: &Engine, request: &Request) -> Result<Plan, Failure> {
    let Request::RestoreTable { resource, from, table: word, condition, insert, overwrite } = request else {
        return Err(steps::wrong_planner());
    };
    let common = engine.common()?;
    if !common.vault_exists {
        return Err(steps::no_vault(&common));
    }
    let resource = engine.setup().resource(resource)?.clone();
    let ResourceKind::Postgres { url, .. } = &resource.kind else {
        let message =
            format!("{} is on no server; single tables come back to PostgreSQL databases only", resource.name);
        return Err(Failure::new(FailureKind::Usage, message).hint("lifeboat export brings tables out as CSV"));
    };
    let url = url.clone();
    let backups = engine.backups()?;
    let (backup, part) = restore::choose(engine, &backups, &resource, from)?;
    let Content::Postgres(facts) = &part.content else { return Err(steps::wrong_planner()) };
    let table = one_table(facts.tables.keys(), word)?;
    if *insert && !hands::table_exists(&engine.vaults.database(&url)?, &table)? {
        let from = StoredPart { vault: common.vault.clone(), backup: backup.id.clone(), resource: part.name.clone() };
        return Ok(make_again(&common, request, (&resource, &url), &from, (&table, condition.as_ref())));
    }
    let schema = format!("lifeboat_restored_{}", tail(&common.ids.plan));
    let keep = insert.then(|| kept_under(&common.ids.plan)).transpose()?;
    let title = format!("lay {table} of {} beside {} of {}", backup.id, resource.name, common.scope);
    let mut plan = steps::new_plan(&common, request, title, Lease::Environment);
    let (vault, name) = (common.vault.clone(), part.name.clone());
    let lay = Action::Postgres(PgAction::LayBeside {
        url: url.clone(),
        vault: vault.clone(),
        backup: backup.id.clone(),
        resource: name.clone(),
        table: table.clone(),
        schema: schema.clone(),
        condition: condition.clone(),
    });
    let take_away = Action::Postgres(PgAction::DropBeside { url: url.clone(), schema: schema.clone() });
    let compare = Action::Postgres(PgAction::CompareBeside {
        url: url.clone(),
        vault: vault.clone(),
        backup: backup.id.clone(),
        resource: name,
        table: table.clone(),
        schema: schema.clone(),
        condition: condition.clone(),
        keep: keep.clone(),
    });
    let stored = Action::CheckBackup { vault, backup: backup.id.clone() };
    let check = read("check-backup", format!("{} is whole in the vault", backup.id), stored);
    plan.phases.push(phase(&common, "preflight", vec![], vec![check]));
    let beside = format!("lay its rows into schema {schema}");
    let lay_step = step("lay", beside, StepClass::Idempotent, lay.clone(), by(take_away.clone()));
    plan.phases.push(phase(&common, "restore", vec![], vec![lay_step]));
    let forget = keep.clone().map(|of| by(Action::Postgres(PgAction::ForgetSalvage { of: Some(of), watched: None })));
    let titled = "compare them with the live table, row by row";
    let compare = step("compare", titled, StepClass::Idempotent, compare, forget.unwrap_or(Undo::Nothing));
    plan.phases.push(phase(&common, "verify", vec![], vec![compare]));
    plan.notes =
        vec![match overwrite {
            false => "The live table is only read until rows are inserted; no row that is there is written over.".to_owned(),
            true => "The live table is only read until rows are inserted; a row with other values gets those of the backup, unless \
                     somebody writes it meanwhile. Both versions are kept, and an undo brings the former one back."
                .to_owned(),
        }];
    if let Some(from) = keep {
        let what = salvage::Brought {
            url,
            from: from.clone(),
            resource: Box::new(resource),
            tables: vec![table],
            overwrite: *overwrite,
            deletes: false,
        };
        let gone = format!("drop schema {schema}");
        let drop = step("drop-beside", gone, StepClass::Idempotent, take_away, by(lay));
        plan.phases.push(phase(&common, "insert", vec![], vec![what.bring_back(), drop]));
        plan.notes.push(format!("The rows that are inserted are listed by: lifeboat salvage show {from}"));
    } else {
        plan.notes
            .push(format!("To look: SELECT ... FROM {schema}....; to let it go: lifeboat undo. Backups leave it out."));
        plan.notes.push("To insert what is missing: the same with --apply.".to_owned());
    }
    Ok(plan)
}

/// A table that is gone is made again with all that belongs to it.
fn make_again(
    common: &Common,
    request: &Request,
    (resource, url): (&Resource, &str),
    from: &StoredPart,
    (table, condition): (&str, Option<&String>),
) -> Plan {
    let StoredPart { vault, backup, .. } = from;
    let title = format!("make {table} of {} of {} again, out of {backup}", resource.name, common.scope);
    let mut plan = steps::new_plan(common, request, title, Lease::Environment);
    let stored = Action::CheckBackup { vault: vault.clone(), backup: backup.clone() };
    let check = read("check-backup", format!("{backup} is whole in the vault"), stored);
    plan.phases.push(phase(common, "preflight", vec![], vec![check]));
    let forth = PgAction::MakeTable {
        url: url.to_owned(),
        vault: vault.clone(),
        backup: backup.clone(),
        resource: from.resource.clone(),
        table: table.to_owned(),
        condition: condition.cloned(),
        unless_there: false,
    };
    let back = unmade(&forth, None);
    let made =
        "make it with its sequences, indexes, keys, triggers, policies and grants, and fill it, in one transaction";
    let step = step("make", made, StepClass::Idempotent, Action::Postgres(forth), back.map_or(Undo::Nothing, by));
    plan.phases.push(phase(common, "restore", vec![], vec![step]));
    plan.notes = vec![
        format!("{} has no table {table} any more: it is made as it was.", resource.name),
        "Views and keys of other tables that pointed to it are told, and not made again.".to_owned(),
        "To take it back, while nobody has written to it: lifeboat undo.".to_owned(),
    ];
    plan
}

/// What takes such a table away again.
fn unmade(forth: &PgAction, made: Option<(u64, String)>) -> Option<Action> {
    let PgAction::MakeTable { url, vault, backup, resource, table, .. } = forth else { return None };
    let (url, vault, backup) = (url.clone(), vault.clone(), backup.clone());
    let (resource, table) = (resource.clone(), table.clone());
    Some(Action::Postgres(PgAction::DropTable { url, vault, backup, resource, table, made }))
}

/// The table that an operation has made again, or taken away again: how, and the other way round.
pub(crate) fn made(operation: &Operation) -> Option<(Action, Action)> {
    operation.plan.steps().find_map(|step| match (&step.action, &step.undo) {
        (Action::Postgres(forth @ PgAction::MakeTable { .. }), _) => {
            let output = operation.output(&step.id)?;
            let state = (output.get("rows")?.as_u64()?, output.get("digest")?.as_str()?.to_owned());
            let mut again = forth.clone();
            if let PgAction::MakeTable { unless_there, .. } = &mut again {
                *unless_there = true;
            }
            Some((Action::Postgres(again), unmade(forth, Some(state))?))
        }
        (Action::Postgres(PgAction::DropTable { .. }), Undo::By(back)) => Some((step.action.clone(), (**back).clone())),
        _other => None,
    })
}

/// Plans to take such a table away, or to make it once more.
pub(crate) fn undo_made(engine: &Engine, operation: &Operation, request: &Request) -> Result<Plan, Failure> {
    let common = engine.common()?;
    super::undo::may_be_taken_back(operation, &common, request)?;
    let Some((forth, back)) = made(operation) else { return Err(steps::wrong_planner()) };
    let title = format!("undo {}: {}", operation.id, operation.plan.title);
    let mut plan = steps::new_plan(&common, request, title, Lease::Environment);
    let (id, what) = match &back {
        Action::Postgres(PgAction::DropTable { table, .. }) => {
            ("drop", format!("drop {table}, while it holds what it was made with"))
        }
        _make => ("make", "make it again".to_owned()),
    };
    let step = step(id, what, StepClass::Idempotent, back, by(forth));
    plan.phases = vec![phase(&common, "table", vec![], vec![step])];
    Ok(plan)
}

/// The table that a word means.
fn one_table<'a>(tables: impl Iterator<Item = &'a String>, word: &str) -> Result<String, Failure> {
    let meant: Vec<&String> = tables.filter(|table| is_meant_table(table, word)).collect();
    match meant.as_slice() {
        [one] => Ok((*one).clone()),
        [] => Err(Failure::new(FailureKind::Usage, format!("the backup has no table {word}"))
            .hint("lifeboat backups show names its tables")),
        many => {
            let names: Vec<&str> = many.iter().map(|name| name.as_str()).collect();
            let failure = Failure::new(FailureKind::Usage, format!("{word} may be any of {}", names.join(", ")));
            Err(failure.hint("name it with its schema"))
        }
    }
}

fn tail(plan: &PlanId) -> String {
    plan.to_string().trim_start_matches("p-").replace('-', "")
}

/// Rows to insert are kept as those of an operation are; its number is not known yet, the plan's is.
fn kept_under(plan: &PlanId) -> Result<OperationId, Failure> {
    let name = plan.to_string().replacen("p-", "o-", 1);
    OperationId::parse(&name).map_err(|error| Failure::from_error(FailureKind::Bug, &error))
}

/// The steps of an operation that laid a table beside: its schema, and whether it is there now.
pub(crate) fn laid_beside(operation: &Operation) -> Option<(Action, Action)> {
    if !matches!(operation.plan.request, Request::RestoreTable { insert: false, .. } | Request::Undo { .. }) {
        return None;
    }
    operation.plan.steps().find_map(|step| match (&step.action, &step.undo) {
        (Action::Postgres(PgAction::LayBeside { .. } | PgAction::DropBeside { .. }), Undo::By(back)) => {
            Some((step.action.clone(), (**back).clone()))
        }
        _other => None,
    })
}

/// Plans to let such a schema go, or to lay it there again.
pub(crate) fn undo(engine: &Engine, operation: &Operation, request: &Request) -> Result<Plan, Failure> {
    let common = engine.common()?;
    super::undo::may_be_taken_back(operation, &common, request)?;
    let Some((forth, back)) = laid_beside(operation) else { return Err(steps::wrong_planner()) };
    let title = format!("undo {}: {}", operation.id, operation.plan.title);
    let mut plan = steps::new_plan(&common, request, title, Lease::Environment);
    let step: Step = match &back {
        Action::Postgres(PgAction::DropBeside { schema, .. }) => {
            step("drop-beside", format!("drop schema {schema}"), StepClass::Idempotent, back.clone(), by(forth))
        }
        _lay => step("lay", "lay its rows beside again", StepClass::Idempotent, back, by(forth)),
    };
    plan.phases = vec![phase(&common, "beside", vec![], vec![step])];
    Ok(plan)
}
