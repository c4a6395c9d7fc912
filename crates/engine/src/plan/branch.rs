//! Planning to take exactly one commit back on the branch that a platform builds: not what happens to be newest, but the one
//! that did the harm. What others committed since stays.
//!
//! ```text
//!   preflight · revert (aside) · push · build (waits until it is served) · verify
//! ```
//!
//! Nothing is forced and the folder's own checkout is not touched. Until its build is served, what runs goes on running; a build
//! that does not come leaves the operation waiting: it waits again, or what was pushed is taken back by another commit.

use lifeboat_model::{
    Action, BranchAction, Failure, FailureKind, Lease, OnFailure, Operation, OperationState, Phase, Plan, PlatformAsk,
    Request, Step, StepClass, StepId, Target, TargetAction, Undo,
    message::{self, Notice},
};

use super::{
    level::{self, Acts, short},
    release::of,
    steps::{self, by, phase},
};
use crate::{Engine, facts::Common};

/// How long a build that an undo waits for may take, in milliseconds.
const UNDO_WAIT_MS: u64 = 900_000;

/// What is to be taken back.
struct Asked<'a> {
    target: &'a Target,
    commit: &'a str,
    branch: Option<&'a str>,
    wait_ms: u64,
    why: &'a str,
}

/// What is known of the branch and the commit.
struct Known {
    common: Common,
    target: Target,
    branch: String,
    tip: String,
    commit: String,
    subject: String,
    /// Who wrote it and when.
    written: String,
    parents: Vec<String>,
    /// How many commits came after it on the branch.
    since: usize,
    is_checked_out: bool,
}

/// Plans to take one commit back.
///
/// # Errors
/// It is not on the branch; the remote does not answer, or has commits that the folder does not know; nobody said how the app
/// tells its build.
pub(super) fn plan(engine: &Engine, request: &Request, ask: &PlatformAsk) -> Result<Plan, Failure> {
    let PlatformAsk::TakeOut { target, commit, branch, wait_ms, why } = ask else {
        return Err(steps::wrong_planner());
    };
    let target = engine.target(target.as_ref())?;
    let asked = Asked { target, commit, branch: branch.as_deref(), wait_ms: *wait_ms, why: why.trim() };
    let mut plan = planned(engine, request, &asked)?;
    tell(engine, &asked, &mut plan);
    Ok(plan)
}

/// Tells everybody that it begins, once it is known that it can, and that it is over, once its build was seen.
fn tell(engine: &Engine, asked: &Asked<'_>, plan: &mut Plan) {
    let channels = &engine.setup().channels;
    if channels.is_empty() {
        return;
    }
    let (scope, to) = (&engine.setup().scope, format!("a version without {}", asked.commit));
    let why = if asked.why.is_empty() { "a rollback" } else { asked.why };
    let step = |id: &str, title: &str, notice: Notice| {
        let action = Action::Notify { channels: channels.clone(), notice };
        steps::step(id, title, StepClass::Idempotent, action, Undo::Nothing)
    };
    let begun = step("notify", "tell that it begins", message::begun(scope, &to, why, None));
    let over = step("notify-over", "tell that it is over", message::over(scope, &to, true));
    let alone =
        |name: &str, step: Step| Phase { name: name.to_owned(), budget_ms: None, expected: None, steps: vec![step] };
    plan.phases.insert(1, alone("notify", begun));
    plan.phases.push(alone("report", over));
}

fn planned(engine: &Engine, request: &Request, asked: &Asked<'_>) -> Result<Plan, Failure> {
    if asked.target.tells.is_none() {
        let name = &asked.target.name;
        let failure = Failure::new(FailureKind::Usage, format!("nobody has said how {name} tells which build it is"));
        return Err(failure.hint(format!(
            "write tells = {{ path = \"/version.json\", version = \"/commit\" }} into [targets.{name}] of lifeboat.toml"
        )));
    }
    let known = look(engine, asked)?;
    let (common, target) = (&known.common, &known.target);
    let title = format!("take {} out of {}: {}", short(&known.commit), known.branch, known.subject);
    let title = if asked.why.is_empty() { title } else { format!("{title}: {}", asked.why) };
    let mut plan = steps::new_plan(common, request, title, Lease::Environment);
    let acts = Acts { target };
    let each = |steps: Vec<Step>| steps.into_iter().map(|step| of(step, target)).collect::<Vec<_>>();
    plan.phases = vec![
        phase(common, "preflight", vec![], each(known.preflight(&acts))),
        phase(common, "revert", vec![], each(vec![known.revert(&acts, asked.why)])),
        phase(common, "push", vec![], each(vec![known.push(&acts)])),
        phase(common, "build", vec![], each(vec![known.serves(&acts, asked.wait_ms)])),
        phase(common, "verify", vec![], each(acts.works(level::Log::default(), &target.probes))),
    ];
    plan.phases.retain(|phase| !phase.steps.is_empty());
    plan.notes = known.notes();
    Ok(plan)
}

/// Asks the remote where its branch is, and the folder's own repository what the commit is; nothing is fetched.
fn look(engine: &Engine, asked: &Asked<'_>) -> Result<Known, Failure> {
    let target = asked.target;
    let refused = |message: String| Failure::new(FailureKind::Refused, message);
    let (branch, tip) = tip(engine, target, asked.branch)?;
    let tip = tip.as_str();
    let folder = target.folder.display();
    if engine.git(target, &["cat-file", "-e", &format!("{tip}^{{commit}}")]).is_err() {
        let failure =
            refused(format!("{} has commits on {branch} that {folder} does not know: {}", target.remote, short(tip)));
        return Err(failure.hint(format!("git -C {folder} fetch {}; then this again", target.remote)));
    }
    let commit = engine.folder(target, asked.commit)?.commit;
    if engine.git(target, &["merge-base", "--is-ancestor", &commit, tip]).is_err() {
        let failure = refused(format!("{} is not on {branch} of {}", short(&commit), target.remote));
        return Err(failure.hint(format!("git -C {folder} log --oneline -10 {tip} shows what is")));
    }
    let parents = engine.git(target, &["rev-list", "--parents", "--max-count=1", &commit])?;
    let parents: Vec<String> = parents.split_whitespace().skip(1).map(str::to_owned).collect();
    if parents.is_empty() {
        let failure = refused(format!("{} is the first commit of all; nothing was before it", short(&commit)));
        return Err(failure.hint("lifeboat rollback goes back to another version"));
    }
    let since = engine.git(target, &["rev-list", "--count", &format!("{commit}..{tip}")])?;
    let head = lifeboat_io::git::head(&target.folder).map(|head| head.commit);
    Ok(Known {
        common: engine.common()?,
        target: target.clone(),
        subject: engine.git(target, &["log", "--max-count=1", "--format=%s", &commit])?,
        written: engine.git(target, &["log", "--max-count=1", "--format=%an, %cI", &commit])?,
        is_checked_out: head.as_deref() == Some(tip),
        since: since.parse().unwrap_or_default(),
        tip: tip.to_owned(),
        branch,
        commit,
        parents,
    })
}

/// The branch of a target that is deployed, and where the remote has it.
///
/// # Errors
/// The remote does not answer, or has no such branch.
pub(super) fn tip(engine: &Engine, target: &Target, branch: Option<&str>) -> Result<(String, String), Failure> {
    let branch = match branch.or(target.branch.as_deref()) {
        Some(branch) => branch.to_owned(),
        None => own_branch(engine, target)?,
    };
    let reference = format!("refs/heads/{branch}");
    let listed = engine.git(target, &["ls-remote", "--quiet", "--", &target.remote, &reference])?;
    let found = listed.lines().find_map(|line| line.split_once('\t')).map(|(tip, _)| tip.to_owned());
    match found {
        Some(tip) => Ok((branch, tip)),
        None => {
            let message = format!("{} has no branch {branch}", target.remote);
            let hint = format!("git ls-remote --heads {} shows what it has", target.remote);
            Err(Failure::new(FailureKind::Refused, message).hint(hint))
        }
    }
}

/// The branch that the remote calls its own.
fn own_branch(engine: &Engine, target: &Target) -> Result<String, Failure> {
    let said = engine.git(target, &["ls-remote", "--quiet", "--symref", "--", &target.remote, "HEAD"])?;
    let name = said.lines().find_map(|line| line.strip_prefix("ref: refs/heads/")?.split_once('\t'));
    name.map(|(name, _)| name.to_owned()).ok_or_else(|| {
        let message = format!("{} does not say which branch is its own", target.remote);
        let hint = format!("say --branch main, or write branch = \"main\" into [targets.{}]", target.name);
        Failure::new(FailureKind::Usage, message).hint(hint)
    })
}

impl Known {
    fn branch_step(&self, acts: &Acts<'_>, id: &str, title: String, action: BranchAction, undo: Undo) -> Step {
        acts.step(id, title, TargetAction::Branch(action), undo)
    }

    fn made_by(&self) -> StepId {
        format!("revert.{}", self.target.name).as_str().into()
    }

    fn preflight(&self, acts: &Acts<'_>) -> Vec<Step> {
        let title = format!("{} of {} is at {}", self.branch, self.target.remote, short(&self.tip));
        let tip = BranchAction::CheckTip { branch: self.branch.clone(), tip: self.tip.clone() };
        vec![
            acts.read("tip", &title, TargetAction::Branch(tip)),
            acts.read("instance", "note which build answers", TargetAction::NoteInstance),
        ]
    }

    fn revert(&self, acts: &Acts<'_>, why: &str) -> Step {
        let into = self.common.staging.join("revert");
        let mainline = (self.parents.len() > 1).then_some(1);
        let side = match mainline {
            Some(_) => format!(", reversing\nchanges made to {}", self.parents[0]),
            None => String::new(),
        };
        let why = if why.is_empty() { String::new() } else { format!("\n\n{why}") };
        let message = format!("Revert \"{}\"\n\nThis reverts commit {}{side}.{why}", self.subject, self.commit);
        let action = BranchAction::Revert {
            commit: self.commit.clone(),
            mainline,
            tip: self.tip.clone(),
            at: self.common.now,
            message,
            into: into.clone(),
        };
        let title = match mainline {
            Some(_) => format!("make a commit that takes the merge {} back, aside", short(&self.commit)),
            None => format!("make a commit that takes {} back, aside", short(&self.commit)),
        };
        let undo = by(acts.action(TargetAction::Branch(BranchAction::Clear { folder: into })));
        self.branch_step(acts, "revert", title, action, undo)
    }

    fn push(&self, acts: &Acts<'_>) -> Step {
        let (branch, made_by) = (self.branch.clone(), self.made_by());
        let back = BranchAction::PushBack {
            branch: branch.clone(),
            made_by: made_by.clone(),
            at: self.common.now,
            into: self.common.staging.join("revert"),
        };
        let title = format!("push it to {branch} of {}, without force", self.target.remote);
        let undo = by(acts.action(TargetAction::Branch(back)));
        self.branch_step(acts, "push", title, BranchAction::Push { branch, made_by }, undo)
    }

    fn serves(&self, acts: &Acts<'_>, limit_ms: u64) -> Step {
        let action = BranchAction::Serves {
            branch: self.branch.clone(),
            made_by: self.made_by(),
            before: format!("instance.{}", self.target.name).as_str().into(),
            limit_ms,
        };
        let step = acts.read("serves", "what answers is the build of that commit", TargetAction::Branch(action));
        // A build that takes longer than expected is no reason to bring the bad commit back.
        Step { on_failure: OnFailure::Hold, ..step }
    }

    fn notes(&self) -> Vec<String> {
        let commits = match self.since {
            0 => "it is the newest one".to_owned(),
            1 => "the one commit since stays".to_owned(),
            since => format!("the {since} commits since stay"),
        };
        let mut notes = vec![
            format!("{} is \"{}\" ({}); {commits}.", short(&self.commit), self.subject, self.written),
            format!("What runs goes on running until the build of {} is served.", self.branch),
        ];
        if self.parents.len() > 1 {
            notes.push(format!("It is a merge: what it brought to {} goes.", short(&self.parents[0])));
        }
        if !self.is_checked_out {
            notes.push(format!(
                "What is checked out in {} is not the newest of {}; it is not touched.",
                self.target.folder.display(),
                self.branch
            ));
        }
        notes
    }
}

/// What an operation pushed.
pub(super) struct Pushed {
    target: Target,
    branch: String,
    commit: String,
}

/// The commit that an operation gave to a branch, when it did.
pub(super) fn pushed(operation: &Operation) -> Option<Pushed> {
    operation.plan.steps().find_map(|step| match &step.action {
        Action::Target { target, action: TargetAction::Branch(BranchAction::Push { branch, made_by }) } => {
            let commit = operation.output(made_by)?["commit"].as_str()?.to_owned();
            operation.output(&step.id)?;
            Some(Pushed { target: (**target).clone(), branch: branch.clone(), commit })
        }
        _other => None,
    })
}

/// Plans to take such an operation back: the commit that it made is taken out in turn, built and served.
///
/// # Errors
/// It is not over, or set nothing aside; and as [`plan`].
pub(super) fn undo(
    engine: &Engine,
    operation: &Operation,
    pushed: &Pushed,
    request: &Request,
) -> Result<Plan, Failure> {
    let refused = |message: String| Failure::new(FailureKind::Refused, message);
    if operation.state != OperationState::Done {
        let failure = refused(format!("{} is not done; there is nothing to take back", operation.id));
        return Err(failure.hint(format!("lifeboat resume {0}, or lifeboat abort {0}", operation.id)));
    }
    if !matches!(request, Request::Undo { .. }) {
        return Err(refused(format!("{} set nothing aside", operation.id)));
    }
    let branch = Some(pushed.branch.as_str());
    let asked = Asked { target: &pushed.target, commit: &pushed.commit, branch, wait_ms: UNDO_WAIT_MS, why: "" };
    let mut plan = planned(engine, request, &asked)?;
    plan.title = format!("take back {}", operation.plan.title);
    Ok(plan)
}
