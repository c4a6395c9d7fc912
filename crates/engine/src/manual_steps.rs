//! A rollback step by step, as the document has it: seven steps, each of which a person confirms, and does by hand or leaves to
//! Lifeboat. They are the steps of the very plan, in its order: writes stop before the emergency backup, so that it holds all of them, and
//! what is brought back is compared before it is put in use.

use lifeboat_model::Plan;

/// What the seven steps are called.
pub const STEPS: [&str; 7] = [
    "verify backup and access",
    "stop the application",
    "create an emergency backup",
    "bring back and verify, beside",
    "execute: put it in use",
    "resume the application",
    "verify afterwards",
];

/// Which of the seven each step of a plan belongs to, from 1; they never go backwards.
pub fn numbers(plan: &Plan) -> Vec<usize> {
    let mut so_far = 1;
    let mut all = Vec::new();
    for phase in &plan.phases {
        for step in &phase.steps {
            let id = step.id.to_string();
            let head = id.split('.').next().unwrap_or_default();
            let number = match (phase.name.as_str(), head) {
                ("preflight" | "notify", _) => 1,
                ("app" | "fence", _) | (_, "instance" | "evidence" | "stop" | "quiet") => 2,
                ("emergency-backup", _) => 3,
                ("restore" | "verify", _) => 4,
                (_, "switch") => 5,
                ("restart", "start") => 6,
                ("restart" | "report", _) => 7,
                _in_between => 5,
            };
            so_far = so_far.max(number);
            all.push(so_far);
        }
    }
    all
}
