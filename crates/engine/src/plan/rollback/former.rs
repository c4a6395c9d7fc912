//! What former rollbacks took, and so what this one will.

use lifeboat_model::{Action, Failure, OperationState, Phase, Plan, Prediction, Profile};

use crate::{Engine, rehearsals::step_ms};

/// What a rollback of the same kind has taken, in milliseconds.
pub(super) struct Former {
    all_ms: u64,
    /// Its emergency backup: how much of the database that reads differs from one to the next.
    kept_ms: u64,
}

/// Rollbacks of this kind that came to their end.
pub(super) fn of(engine: &Engine, profile: Profile) -> Result<Vec<Former>, Failure> {
    let scope = engine.setup().scope.to_string();
    let rows = engine.look().operations(usize::MAX)?;
    let mut found = Vec::new();
    for row in rows.iter().filter(|row| row.closed && row.scope == scope && row.kind == "rollback") {
        let operation = engine.look().operation(&row.id)?;
        if operation.state == OperationState::Done && Profile::of(&operation.plan) == Some(profile) {
            let mut states = operation.steps.iter();
            let kept = operation.plan.phases.iter().map(|phase| {
                let took_ms = states.by_ref().take(phase.steps.len()).map(step_ms).sum::<u64>();
                if keeps(phase) { took_ms } else { 0 }
            });
            found.push(Former { kept_ms: kept.sum(), all_ms: operation.elapsed_ms });
        }
    }
    Ok(found)
}

fn keeps(phase: &Phase) -> bool {
    phase.steps.iter().any(|step| matches!(step.action, Action::StoreBackup { .. }))
}

/// What former ones would take now, shortest first: all but their emergency backups as it was, and the backup as it is predicted from
/// what it will read. Where that was never measured, as they were.
pub(super) fn expected_ms(plan: &Plan, former: &[Former]) -> Vec<u64> {
    let keeping = plan.phases.iter().find(|phase| keeps(phase)).and_then(|phase| phase.expected);
    with(keeping, former)
}

fn with(keeping: Option<Prediction>, former: &[Former]) -> Vec<u64> {
    let ms = |former: &Former| match keeping.filter(|keeping| keeping.samples > 0) {
        Some(keeping) => former.all_ms.saturating_sub(former.kept_ms) + keeping.p50_ms,
        None => former.all_ms,
    };
    let mut found: Vec<u64> = former.iter().map(ms).collect();
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn former(all_ms: u64, kept_ms: u64) -> Former {
        Former { all_ms, kept_ms }
    }

    fn expected(keeping: Option<(u64, u32)>, former: &[Former]) -> Vec<u64> {
        let prediction =
            keeping.map(|(p50_ms, samples)| Prediction { p50_ms, p95_ms: p50_ms, samples, back_test: None });
        with(prediction, former)
    }

    /// One that had to read everything took 6 s longer for it: the next, which takes it over, will not.
    #[test]
    fn of_former_ones_all_but_the_emergency_backup_counts() {
        let former = [former(10_100, 8_000), former(4_100, 1_900), former(4_300, 2_000)];
        assert_eq!(expected(Some((2_000, 5)), &former[..1]), [4_100]);
        assert_eq!(expected(Some((2_000, 5)), &former), [4_100, 4_200, 4_300]);
        assert_eq!(expected(Some((8_000, 5)), &former), [10_100, 10_200, 10_300], "it has to read everything again");
        assert_eq!(expected(Some((99_000, 0)), &former), [4_100, 4_300, 10_100], "a guess is not put in place of it");
        assert_eq!(expected(None, &former), [4_100, 4_300, 10_100]);
    }
}
