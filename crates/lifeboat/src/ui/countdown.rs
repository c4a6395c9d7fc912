//! The countdown of an operation on a terminal: which phase, how long it has taken of what it may, and when all of it will be over.
//!
//! ```text
//!   restore 1:12 of 4:00 | all 2:47 of 15:00 | over in about 4:51
//!   restore 5:02 of 4:00, OVER BUDGET | all 6:37 of 15:00 | over in 0:58 or later
//! ```

use lifeboat_model::{Operation, Plan, Profile, StepState};

/// What is known when a step begins; the rest is what the clock says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Countdown {
    /// Nothing where no phase has a budget.
    phase: Option<Phase>,
    /// What all of it should take, and what it may.
    limits_ms: Option<(u64, u64)>,
    /// What has been done so far took this long, steps that were taken up again included.
    before_ms: u64,
    /// What the phases behind this one are expected to take, as far as that is known.
    ahead_ms: u64,
    /// Whether it is known of this phase and of each behind it.
    is_known: bool,
    /// It is being taken back: there is no budget for that.
    is_back: bool,
}

/// The phase that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Phase {
    name: String,
    budget_ms: Option<u64>,
    expected_ms: Option<u64>,
    /// Its steps so far.
    before_ms: u64,
}

impl Countdown {
    /// Of an operation whose step number `index` begins.
    pub fn new(plan: &Plan, index: usize, times: &Times, is_back: bool) -> Countdown {
        let mut first = 0;
        let mut found =
            Countdown { limits_ms: limits_ms(plan), before_ms: times.all(), is_back, ..Countdown::default() };
        for phase in &plan.phases {
            let steps = first..first + phase.steps.len();
            first = steps.end;
            let expected_ms = phase.expected.map(|expected| expected.p50_ms);
            if steps.contains(&index) {
                let (name, budget_ms) = (phase.name.clone(), phase.budget_ms);
                let before_ms = times.of(steps);
                found.phase = Some(Phase { name, budget_ms, expected_ms, before_ms });
                found.is_known = expected_ms.is_some();
            } else if steps.start > index && !phase.steps.is_empty() {
                found.ahead_ms += expected_ms.unwrap_or(0);
                found.is_known &= expected_ms.is_some();
            }
        }
        found
    }

    /// What a person reads while its step has been running for so long.
    pub fn line(&self, step_ms: u64) -> String {
        let Some(phase) = &self.phase else { return String::new() };
        let (in_phase, in_all) = (phase.before_ms + step_ms, self.before_ms + step_ms);
        let name = if self.is_back { format!("{}, being taken back", phase.name) } else { phase.name.clone() };
        let mut parts = vec![match phase.budget_ms.filter(|_| !self.is_back) {
            Some(budget) if in_phase > budget => {
                format!("{name} {} of {}, OVER BUDGET", clock(in_phase), clock(budget))
            }
            Some(budget) => format!("{name} {} of {}", clock(in_phase), clock(budget)),
            None => format!("{name} {}", clock(in_phase)),
        }];
        parts.push(match self.limits_ms {
            Some((_, max)) if in_all > max => format!("all {} of {}, OVER BUDGET", clock(in_all), clock(max)),
            Some((target, max)) if in_all > target => format!("all {} of at most {}", clock(in_all), clock(max)),
            Some((target, _)) => format!("all {} of {}", clock(in_all), clock(target)),
            None => format!("all {}", clock(in_all)),
        });
        if !self.is_back {
            parts.push(self.end(phase, in_phase));
        }
        parts.join(" | ")
    }

    /// When it is over, by what was measured before.
    fn end(&self, phase: &Phase, in_phase: u64) -> String {
        let left = self.ahead_ms + phase.expected_ms.map_or(0, |expected| expected.saturating_sub(in_phase));
        let is_late = phase.expected_ms.is_some_and(|expected| in_phase > expected);
        match (left, self.is_known && !is_late) {
            (0, _) => "nobody knows how much longer".to_owned(),
            (left, true) => format!("over in about {}", clock(left)),
            (left, false) => format!("over in {} or later", clock(left)),
        }
    }
}

/// How long each step has taken so far.
#[derive(Clone, Debug, Default)]
pub struct Times {
    steps: Vec<u64>,
    /// What an operation that was taken up again had taken before, waiting included.
    former_ms: u64,
}

impl Times {
    /// Those of an operation as it stands.
    pub fn new(operation: &Operation) -> Times {
        let took = |state: &StepState| match state {
            StepState::Done { took_ms, .. } => *took_ms,
            StepState::Planned | StepState::Running | StepState::Failed { .. } => 0,
            StepState::Undoing | StepState::Undone | StepState::Stuck { .. } => 0,
        };
        let steps: Vec<u64> = operation.steps.iter().map(took).collect();
        let former_ms = operation.elapsed_ms.saturating_sub(steps.iter().sum());
        Times { steps, former_ms }
    }

    /// A step has taken so much longer.
    pub fn add(&mut self, index: usize, ms: u64) {
        if let Some(step) = self.steps.get_mut(index) {
            *step += ms;
        }
    }

    fn of(&self, steps: std::ops::Range<usize>) -> u64 {
        self.steps.get(steps).unwrap_or_default().iter().sum()
    }

    fn all(&self) -> u64 {
        self.former_ms + self.of(0..self.steps.len())
    }
}

/// What all of it should take, and what it may: those of a rollback, else the sum of its phases where each has a budget.
fn limits_ms(plan: &Plan) -> Option<(u64, u64)> {
    match Profile::of(plan).map(Profile::limits_s) {
        Some((target, max)) => Some((target * 1_000, max * 1_000)),
        None => plan.phases.iter().map(|phase| phase.budget_ms).sum::<Option<u64>>().map(|sum| (sum, sum)),
    }
}

/// Minutes and seconds, as a clock shows them: a figure that changes each second does not change its width.
fn clock(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds / 3_600 {
        0 => format!("{}:{:02}", seconds / 60, seconds % 60),
        hours => format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use lifeboat_model::{Prediction, Request, VersionAsk};

    use super::*;

    /// A rollback with the document's budgets: preflight 0:30, restore 5:00, swap 3:00; what is expected is known of some.
    fn plan(expected_s: [Option<u64>; 3]) -> Plan {
        let about = VersionAsk::RollBack { to: None, profile: Some(Profile::Full), why: String::new(), backup: None };
        let step = |id: &str| {
            serde_json::json!({
                "id": id, "title": id, "class": "read", "action": { "do": "say", "lines": [] }, "undo": "nothing",
                "on_failure": "unwind",
            })
        };
        let phases =
            [("preflight", 30_000, vec!["a"]), ("restore", 300_000, vec!["b", "c"]), ("swap", 180_000, vec!["d"])];
        let phases: Vec<_> = phases
            .into_iter()
            .zip(expected_s)
            .map(|((name, budget_ms, steps), expected_s)| {
                let expected = expected_s.map(|s| Prediction {
                    p50_ms: s * 1_000,
                    p95_ms: s * 2_000,
                    samples: 3,
                    back_test: None,
                });
                let steps: Vec<_> = steps.into_iter().map(step).collect();
                serde_json::json!({ "name": name, "budget_ms": budget_ms, "expected": expected, "steps": steps })
            })
            .collect();
        serde_json::from_value(serde_json::json!({
            "schema": lifeboat_model::plan::PLAN_SCHEMA, "id": "p-00000000a1", "scope": { "app": "shop", "environment": "production" },
            "request": Request::Version { about }, "lease": "environment", "title": "roll back",
            "made_at": "2026-01-01T00:00:00Z", "facts": [], "phases": phases, "losses": [], "notes": [],
        }))
        .unwrap()
    }

    fn times(steps: [u64; 4]) -> Times {
        Times { steps: steps.map(|seconds| seconds * 1_000).to_vec(), former_ms: 0 }
    }

    fn line(plan: &Plan, index: usize, steps: [u64; 4], step_s: u64) -> String {
        Countdown::new(plan, index, &times(steps), false).line(step_s * 1_000)
    }

    /// PHS-02, PHS-19: phase against its budget, the whole against its own, and the end by what was measured.
    #[test]
    fn phs_19_the_countdown_says_phase_budget_and_end() {
        let known = plan([Some(5), Some(200), Some(40)]);
        assert_eq!(line(&known, 0, [0; 4], 2), "preflight 0:02 of 0:30 | all 0:02 of 15:00 | over in about 4:03");
        assert_eq!(line(&known, 2, [5, 60, 0, 0], 12), "restore 1:12 of 5:00 | all 1:17 of 15:00 | over in about 2:48");
        // Longer than was expected: nobody knows how much longer, and what comes behind it is still known.
        assert_eq!(
            line(&known, 2, [5, 60, 0, 0], 160),
            "restore 3:40 of 5:00 | all 3:45 of 15:00 | over in 0:40 or later"
        );
        let late = line(&known, 2, [5, 60, 0, 0], 300);
        assert!(late.starts_with("restore 6:00 of 5:00, OVER BUDGET | all 6:05 of 15:00 |"), "{late}");
        assert_eq!(
            line(&known, 3, [5, 60, 140, 0], 50),
            "swap 0:50 of 3:00 | all 4:15 of 15:00 | nobody knows how much longer"
        );
    }

    #[test]
    fn what_was_never_measured_is_not_promised() {
        let some = plan([None, Some(200), None]);
        assert_eq!(line(&some, 0, [0; 4], 1), "preflight 0:01 of 0:30 | all 0:01 of 15:00 | over in 3:20 or later");
        let none = plan([None; 3]);
        assert_eq!(
            line(&none, 1, [1, 0, 0, 0], 1),
            "restore 0:01 of 5:00 | all 0:02 of 15:00 | nobody knows how much longer"
        );
    }

    #[test]
    fn the_whole_has_a_target_and_a_maximum() {
        let known = plan([Some(5), Some(200), Some(40)]);
        let all = |seconds| line(&known, 3, [0, 0, seconds, 0], 0);
        assert!(all(900).contains("all 15:00 of 15:00"), "{}", all(900));
        assert!(all(901).contains("all 15:01 of at most 21:00"), "{}", all(901));
        assert!(all(3_700).contains("all 1:01:40 of 21:00, OVER BUDGET"), "{}", all(3_700));
    }

    /// What is taken back has no budget, and what was waited before it was taken up again counts.
    #[test]
    fn taking_back_counts_and_promises_nothing() {
        let known = plan([Some(5), Some(200), Some(40)]);
        let mut times = times([5, 60, 0, 0]);
        times.former_ms = 100_000;
        times.add(2, 10_000);
        let back = Countdown::new(&known, 1, &times, true).line(3_000);
        assert_eq!(back, "restore, being taken back 1:13 | all 2:58 of 15:00");
    }
}
