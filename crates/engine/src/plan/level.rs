//! Planning level 3 of the emergency levels: the application goes back to what worked, by a variable, by a commit that
//! takes others back, or to the stable version. The app stands still meanwhile; if it does not work afterwards, everything
//! is as before.

use std::{collections::BTreeMap, time::Duration};

use lifeboat_io::{Stop, files, git};
use lifeboat_model::{
    Action, EnvBinding, Failure, FailureKind, LevelAsk, OnFailure, Operation, OperationState, PgAction, Plan, Request,
    ResourceName, Step, StepClass, StepState, Target, TargetAction, Undo, VersionAsk, advice,
    sync::{Link, SyncAction},
};

use super::{
    steps::{self, by, phase, read, step},
    sync,
};
use crate::{
    Engine,
    facts::{self, Common},
    targets,
};

/// How long the app may take to answer after its start.
const ANSWER_LIMIT_MS: u64 = 60_000;

/// What is known of the folder.
pub(super) struct Folder {
    /// The commit that is checked out.
    pub head: git::Head,
    /// The commit that is wanted.
    pub commit: String,
    /// Its branch, when what is wanted is one.
    pub branch: Option<String>,
    /// Whether there is a repository that others take the code from.
    pub has_remote: bool,
    /// Whether that one alone has the commit, as far as the folder's own repository knows.
    pub is_elsewhere: bool,
}

/// What is known when level 3 is planned.
pub(super) struct Known {
    pub common: Common,
    pub target: Target,
    pub folder: Option<Folder>,
    pub log: Log,
    /// A branch name that is free.
    pub backup_branch: String,
    /// The mirror, when there is one that follows a file of variables.
    pub link: Option<Link>,
}

impl Engine {
    /// The target of that name; the only one when none is named.
    ///
    /// # Errors
    /// There is none, or there are several and none is named.
    pub fn target(&self, name: Option<&ResourceName>) -> Result<&Target, Failure> {
        let targets = &self.setup().targets;
        let known: Vec<&str> = targets.iter().map(|target| target.name.as_str()).collect();
        let found = match (name, targets.as_slice()) {
            (None, [only]) => Some(only),
            (None, _) => None,
            (Some(name), _) => targets.iter().find(|target| target.name == *name),
        };
        found.ok_or_else(|| {
            let scope = &self.setup().scope;
            let (message, hint) = match (known.as_slice(), name) {
                ([], _) => (
                    format!("nobody has said what runs the code of {scope}"),
                    format!(
                        "write [environments.{}.targets.app] with stop and start into lifeboat.toml",
                        scope.environment
                    ),
                ),
                (known, None) => (format!("{scope} has several targets"), format!("say which: {}", known.join(", "))),
                (known, Some(name)) => {
                    (format!("{scope} has no target {name}"), format!("it has: {}", known.join(", ")))
                }
            };
            Failure::new(FailureKind::Usage, message).hint(hint)
        })
    }

    /// What git answers in the folder of a target.
    pub(crate) fn git(&self, target: &Target, words: &[&str]) -> Result<String, Failure> {
        self.git_as_it_is(target, words).map(|said| said.trim().to_owned())
    }

    /// The same, byte by byte: a file.
    pub(crate) fn git_as_it_is(&self, target: &Target, words: &[&str]) -> Result<String, Failure> {
        let call = git::call(&target.folder, words, Duration::from_secs(30));
        let call = targets::with_passed(self.io(), target, call);
        let exit = self.io().exec.run(&call, None, &Stop::default()).map_err(|error| self.failure(&error))?;
        match exit.ok() {
            true if exit.stdout_cut => {
                Err(Failure::new(FailureKind::Outside, format!("`{call}` says more than can be held")))
            }
            true => Ok(String::from_utf8_lossy(&exit.stdout_tail).into_owned()),
            false => Err(Failure::new(FailureKind::Refused, format!("`{call}` failed")).because(exit.stderr_text())),
        }
    }

    /// As [`Engine::folder`]; a version that the folder's own repository does not know is looked up where others take the code
    /// from, which changes nothing here.
    pub(super) fn folder_or_remote(&self, target: &Target, wanted: &str) -> Result<Folder, Failure> {
        let unknown = match self.folder(target, wanted) {
            Ok(folder) => return Ok(folder),
            Err(failure) => failure,
        };
        let Some(head) = git::head(&target.folder) else { return Err(unknown) };
        let words = ["ls-remote", "--quiet", "--", &target.remote, wanted, &format!("{wanted}^{{}}")];
        let listed = match self.git(target, &words) {
            Ok(listed) => listed,
            Err(failure) => {
                return Err(unknown.because(format!("{} could not be asked: {failure}", target.remote)));
            }
        };
        let refs: Vec<(&str, &str)> = listed.lines().filter_map(|line| line.split_once('\t')).collect();
        // An annotated tag is named twice: by itself, and by the commit that it means.
        let named =
            |name: String| refs.iter().find(|(_, known)| *known == name).map(|(commit, _)| (*commit).to_owned());
        let ways = [format!("refs/tags/{wanted}^{{}}"), format!("refs/tags/{wanted}"), format!("refs/heads/{wanted}")];
        let Some(commit) = ways.into_iter().find_map(named) else { return Err(unknown) };
        Ok(Folder { head, commit, branch: None, has_remote: true, is_elsewhere: true })
    }

    /// What is checked out, and what a word means as a version.
    pub(super) fn folder(&self, target: &Target, wanted: &str) -> Result<Folder, Failure> {
        let head = git::head(&target.folder).ok_or_else(|| {
            let message = format!("{} is not under git, or nothing is checked out there", target.folder.display());
            Failure::new(FailureKind::Refused, message).hint("say --local-only, or bring the code back by hand")
        })?;
        let commit = self
            .git(target, &["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{wanted}^{{commit}}")]);
        let commit = commit.map_err(|_| {
            let message = format!("{} knows no version {wanted}", target.folder.display());
            Failure::new(FailureKind::Usage, message).hint("git log --oneline -10 shows what there is")
        })?;
        let heads =
            self.git(target, &["for-each-ref", "--format=%(refname:lstrip=2)", &format!("refs/heads/{wanted}")])?;
        let branch = heads.lines().find(|name| *name == wanted).map(str::to_owned);
        let has_remote = self.git(target, &["remote"])?.lines().any(|name| name == target.remote);
        Ok(Folder { head, commit, branch, has_remote, is_elsewhere: false })
    }
}

pub(super) fn gather(engine: &Engine, request: &Request) -> Result<Known, Failure> {
    let Request::Level { target, about, .. } = request else { return Err(steps::wrong_planner()) };
    let target = engine.target(target.as_ref())?.clone();
    let common = engine.common()?;
    let folder = match about {
        LevelAsk::Hold { .. } | LevelAsk::Memory { .. } => None,
        LevelAsk::LocalOnly { .. } | LevelAsk::Recover { .. } => None,
        LevelAsk::RollBack { to, .. } => Some(engine.folder(&target, to)?),
        LevelAsk::Stable { to, .. } => {
            let Some(stable) = to.as_ref().or(target.stable.as_ref()) else {
                let message = format!("nobody has said which version of {} is the stable one", target.name);
                return Err(Failure::new(FailureKind::Usage, message)
                    .hint("say --stable VERSION, or write stable = \"v1.4\" into its table in lifeboat.toml"));
            };
            Some(engine.folder(&target, stable)?)
        }
    };
    let mut backup_branch = String::new();
    if let Some(folder) = &folder {
        if let LevelAsk::RollBack { .. } = about {
            must_be_before(engine, &target, folder)?;
        }
        let first = format!("backup-{}", common.now.strftime("%Y%m%d"));
        let taken =
            engine.git(&target, &["for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads", "refs/remotes"])?;
        let is_taken = |name: &str| taken.lines().any(|one| one == name || one == format!("{}/{name}", target.remote));
        let names = std::iter::once(first.clone()).chain((2..).map(|number| format!("{first}-{number}")));
        backup_branch = names.into_iter().find(|name| !is_taken(name)).unwrap_or(first);
    }
    if let (LevelAsk::Memory { .. }, true) = (about, target.start.is_empty()) {
        let message = format!("nobody has said by which command {} is started with other variables", target.name);
        return Err(Failure::new(FailureKind::Usage, message)
            .hint("write start = [\"PROGRAM\", \"ARGUMENT\"] into its table in lifeboat.toml"));
    }
    let log = Log::of(&target);
    let link = engine.setup().links.iter().find(|link| link.env_file.is_some() && link.env_file == target.env_file);
    Ok(Known { common, target, folder, log, backup_branch, link: link.cloned() })
}

/// The app's log before anything is done.
#[derive(Clone, Copy, Default)]
pub(super) struct Log {
    bytes: u64,
    /// Nothing when it is not there.
    identity: Option<(u64, u64)>,
}

impl Log {
    pub fn of(target: &Target) -> Log {
        let Some(log) = target.log.as_ref().filter(|log| files::is_file(log)) else { return Log::default() };
        Log { bytes: files::size(log).unwrap_or(0), identity: files::identity(log).ok().flatten() }
    }

    /// What a person should know before it fails.
    pub fn note(&self, target: &Target) -> Option<String> {
        let log = target.log.as_ref().filter(|_| self.identity.is_none())?;
        let log = log.display();
        Some(format!("{log} is not there. If the app does not begin it when it starts, this fails and is put back."))
    }
}

fn must_be_before(engine: &Engine, target: &Target, folder: &Folder) -> Result<(), Failure> {
    if folder.commit == folder.head.commit {
        let failure = Failure::new(FailureKind::Refused, format!("{} is what is checked out already", folder.commit));
        return Err(failure.hint("git log --oneline -10 shows what came before it"));
    }
    engine.git(target, &["merge-base", "--is-ancestor", &folder.commit, &folder.head.commit]).map(drop).map_err(|_| {
        let message = format!("{} is no commit of what is checked out", folder.commit);
        Failure::new(FailureKind::Refused, message)
            .hint("lifeboat level 3 --stable VERSION goes to another line of versions")
    })
}

/// Plans level 3.
///
/// # Errors
/// What was asked for makes no sense as things are.
pub(super) fn plan(known: &Known, request: &Request) -> Result<Plan, Failure> {
    let Request::Level { about, .. } = request else { return Err(steps::wrong_planner()) };
    let acts = Acts { target: &known.target };
    let mut notes =
        vec!["The app stands still until it is started again; if it does not work then, all is put back.".to_owned()];
    let (title, change, publish) = match about {
        LevelAsk::Hold { why } => {
            let change = variable(known, &acts, "SYNC_ENABLED")?;
            notes.push("Changes are held and none is lost; what delivered them reads the variable.".to_owned());
            (said(&format!("hold changes of {} by a variable", known.target.name), why), change, Vec::new())
        }
        LevelAsk::Memory { mib, why } => {
            notes.push(
                "It is meant for a while: once the cause is mended, lifeboat undo starts it as before.".to_owned(),
            );
            (said(&format!("start {} with {mib} MiB for Node", known.target.name), why), Vec::new(), Vec::new())
        }
        LevelAsk::LocalOnly { why } => {
            let change = variable(known, &acts, "ENABLE_SUPABASE")?;
            notes.push("No connection to the cloud is opened any more; changes are held and none is lost.".to_owned());
            (said(&format!("run {} on this host alone", known.target.name), why), change, Vec::new())
        }
        LevelAsk::RollBack { hard, why, .. } => {
            let folder = known.folder.as_ref().ok_or_else(steps::wrong_planner)?;
            let (change, publish) = roll_back(known, folder, *hard, &acts)?;
            if *hard {
                notes.push(format!("Commits since stay in the branch {}; nothing is pushed.", known.backup_branch));
            }
            (said(&format!("roll {} back to {}", known.target.name, short(&folder.commit)), why), change, publish)
        }
        LevelAsk::Stable { why, .. } => {
            let folder = known.folder.as_ref().ok_or_else(steps::wrong_planner)?;
            let (change, publish) = stable(known, folder, &acts);
            notes.push(format!("What is checked out now stays in the branch {}.", known.backup_branch));
            (said(&format!("run version {} of {}", short(&folder.commit), known.target.name), why), change, publish)
        }
        LevelAsk::Recover { .. } => return Err(steps::wrong_planner()),
    };
    let mut all = Vec::new();
    if known.folder.is_some() {
        all.push(acts.read("clean", "nothing under git was changed by hand", TargetAction::CheckClean));
    }
    all.push(acts.stop());
    all.extend(acts.port_is_free());
    all.extend(change);
    all.push(match about {
        LevelAsk::Memory { mib, .. } => acts.start_with_memory(*mib),
        _as_always => acts.start(),
    });
    all.extend(acts.works(known.log, &known.target.probes));
    let looks = known.link.as_ref().map(|link| sync::Acts { link });
    all.extend(looks.and_then(|looks| match about {
        LevelAsk::LocalOnly { .. } => {
            Some(looks.read("mode", "the mirror says that it is local-only", SyncAction::CheckLocalOnly))
        }
        LevelAsk::Hold { .. } => {
            Some(looks.read("held", "the mirror says that it holds changes", SyncAction::CheckHeld))
        }
        LevelAsk::Memory { .. } | LevelAsk::RollBack { .. } | LevelAsk::Stable { .. } | LevelAsk::Recover { .. } => {
            None
        }
    }));
    all.extend(publish);
    let mut plan = steps::new_plan(&known.common, request, title, lifeboat_model::Lease::Environment);
    plan.phases = vec![phase(&known.common, "rollback", vec![], all)];
    plan.phases.iter_mut().for_each(|phase| phase.budget_ms = phase.budget_ms.or(about.level().map(advice::budget_ms)));
    notes.extend(known.log.note(&known.target));
    plan.notes = notes;
    Ok(plan)
}

fn said(what: &str, why: &str) -> String {
    if why.trim().is_empty() { what.to_owned() } else { format!("{what}: {}", why.trim()) }
}

/// The first letters of a commit's name, as git shows them.
pub(super) fn short(commit: &str) -> &str {
    commit.get(..10).unwrap_or(commit)
}

/// Sets a switch of the app to `false`, once, and keeps the former file.
fn variable(known: &Known, acts: &Acts<'_>, name: &str) -> Result<Vec<Step>, Failure> {
    if known.target.env_binding() == EnvBinding::Build {
        let message =
            format!("{} has its variables from when it was built: a restart does not change them", known.target.name);
        return Err(Failure::new(FailureKind::Refused, message).hint(format!(
            "set {name}=false where it is built and deploy it, or go back to another version: lifeboat rollback"
        )));
    }
    let Some(file) = known.target.env_file.clone() else {
        let failure = Failure::new(
            FailureKind::Usage,
            format!("nobody has said where the variables of {} are", known.target.name),
        );
        return Err(failure.hint("write env_file = \"./.env\" into its table in lifeboat.toml"));
    };
    let kept = facts::free_beside(&file, "REPLACED", known.common.now);
    let (name, value) = (name.to_owned(), "false".to_owned());
    let title =
        format!("set {name}={value} in {}, once; the former file is kept as {}", file.display(), kept.display());
    let undo = by(acts.action(TargetAction::PutFileBack { file: file.clone(), kept: kept.clone() }));
    Ok(vec![acts.step("variable", title, TargetAction::SetVariable { file, kept, name, value }, undo)])
}

pub(super) fn roll_back(
    known: &Known,
    folder: &Folder,
    hard: bool,
    acts: &Acts<'_>,
) -> Result<(Vec<Step>, Vec<Step>), Failure> {
    let Some(branch) = folder.head.branch.clone() else {
        let message = format!("no branch is checked out in {}", known.target.folder.display());
        return Err(Failure::new(FailureKind::Refused, message).hint("lifeboat level 3 --stable VERSION"));
    };
    let (from, to) = (folder.head.commit.clone(), folder.commit.clone());
    let mut change = acts.installs_again().into_iter().collect::<Vec<_>>();
    let back = by(acts.action(TargetAction::MoveBranch { to: from.clone() }));
    let mut publish = Vec::new();
    if hard {
        change.push(acts.keep_branch(&known.backup_branch, &from));
        let title = format!("move {branch} from {} back to {}", short(&from), short(&to));
        change.push(acts.step("version", title, TargetAction::MoveBranch { to }, back));
    } else {
        let title = format!("add a commit to {branch} with the content of {}", short(&to));
        let message = format!(
            "Roll back to {}\n\nIt has the content of that commit again; {} is before it.",
            short(&to),
            short(&from)
        );
        change.push(acts.step(
            "version",
            title,
            TargetAction::RollBack { from, to, at: known.common.now, message },
            back,
        ));
        if folder.has_remote {
            publish.push(acts.push(&branch, StepClass::Pivot));
        }
    }
    change.extend(acts.install());
    Ok((change, publish))
}

fn stable(known: &Known, folder: &Folder, acts: &Acts<'_>) -> (Vec<Step>, Vec<Step>) {
    let mut change = acts.installs_again().into_iter().collect::<Vec<_>>();
    change.push(acts.keep_branch(&known.backup_branch, &folder.head.commit));
    change.push(acts.check_out(folder));
    change.extend(acts.install());
    let publish = folder.has_remote.then(|| acts.push(&known.backup_branch, StepClass::Idempotent));
    (change, publish.into_iter().collect())
}

/// Steps about a target.
pub(super) struct Acts<'a> {
    pub target: &'a Target,
}

impl Acts<'_> {
    pub fn action(&self, action: TargetAction) -> Action {
        Action::Target { target: Box::new(self.target.clone()), action }
    }

    pub fn step(&self, id: &str, title: String, action: TargetAction, undo: Undo) -> Step {
        step(id, title, StepClass::Idempotent, self.action(action), undo)
    }

    pub fn read(&self, id: &str, title: &str, action: TargetAction) -> Step {
        read(id, title, self.action(action))
    }

    fn command(&self, argv: &[String], after: Option<&str>) -> TargetAction {
        let after = after.map(|id| lifeboat_model::StepId(id.to_owned()));
        TargetAction::Run { folder: self.target.folder.clone(), argv: argv.to_vec(), env: BTreeMap::new(), after }
    }

    /// What stops it: somebody's command, else its driver.
    fn stopping(&self) -> TargetAction {
        match self.target.stop.is_empty() {
            false => self.command(&self.target.stop, None),
            true => TargetAction::Stop,
        }
    }

    /// What starts it, likewise.
    fn starting(&self) -> TargetAction {
        match self.target.start.is_empty() {
            false => self.command(&self.target.start, None),
            true => TargetAction::Start,
        }
    }

    pub fn stop(&self) -> Step {
        let title = format!("stop it: {}", self.target.stop_call().unwrap_or_default().join(" "));
        self.step("stop", title, self.stopping(), by(self.action(self.starting())))
    }

    /// Sees that nobody else is where it answers; only on this host can that be seen.
    pub fn port_is_free(&self) -> Option<Step> {
        let port = targets::local_port(self.target.url.as_deref()?)?;
        let title = format!("nobody else has its port {port}");
        Some(self.read("port", &title, TargetAction::CheckPort { port }))
    }

    pub fn start(&self) -> Step {
        let title = format!("start it: {}", self.target.start_call().unwrap_or_default().join(" "));
        self.step("start", title, self.starting(), by(self.action(self.stopping())))
    }

    /// Starts it with more memory for Node's old generation; another start takes that back.
    fn start_with_memory(&self, mib: u32) -> Step {
        let options = format!("--max-old-space-size={mib}");
        let title = format!("start it with NODE_OPTIONS={options}: {}", self.target.start.join(" "));
        let undo = by(self.action(self.stopping()));
        let (folder, argv) = (self.target.folder.clone(), self.target.start.clone());
        let env = BTreeMap::from([("NODE_OPTIONS".to_owned(), options)]);
        self.step("start", title, TargetAction::Run { folder, argv, env, after: None }, undo)
    }

    /// Brings what the code needs.
    pub fn install(&self) -> Option<Step> {
        let argv = self.target.install.as_ref()?;
        Some(self.step(
            "install",
            format!("bring what it needs: {}", argv.join(" ")),
            self.command(argv, None),
            Undo::Nothing,
        ))
    }

    /// Its undo brings what the former version needs, once that is there again.
    pub fn installs_again(&self) -> Option<Step> {
        let argv = self.target.install.as_ref()?;
        let undo = by(self.action(self.command(argv, Some("install"))));
        let lines = vec![format!("When it is taken back, `{}` runs again.", argv.join(" "))];
        Some(step(
            "installs-again",
            "what the former version needs comes back with it",
            StepClass::Read,
            Action::Say { lines },
            undo,
        ))
    }

    pub fn migrate(&self) -> Option<Step> {
        let argv = self.target.migrate.as_ref()?;
        Some(self.step(
            "migrate",
            format!("bring the database to its schema: {}", argv.join(" ")),
            self.command(argv, None),
            Undo::Nothing,
        ))
    }

    pub fn keep_branch(&self, branch: &str, commit: &str) -> Step {
        let (branch, commit) = (branch.to_owned(), commit.to_owned());
        let title = format!("keep {} as the branch {branch}", short(&commit));
        let undo = by(self.action(TargetAction::DropBranch { branch: branch.clone(), commit: commit.clone() }));
        self.step("keep-branch", title, TargetAction::KeepBranch { branch, commit }, undo)
    }

    pub fn check_out(&self, folder: &Folder) -> Step {
        let (commit, branch) = (folder.head.commit.clone(), folder.head.branch.clone());
        let undo = by(self.action(TargetAction::CheckOut { commit, branch }));
        let action = TargetAction::CheckOut { commit: folder.commit.clone(), branch: folder.branch.clone() };
        let name = folder.branch.as_deref().unwrap_or(short(&folder.commit));
        self.step("version", format!("check {name} out"), action, undo)
    }

    /// Nothing waits for a network in an emergency: what cannot be pushed is told.
    fn push(&self, branch: &str, class: StepClass) -> Step {
        let undo = match class {
            StepClass::Pivot => Undo::Impossible { because: "others may have taken it from there".to_owned() },
            StepClass::Read | StepClass::Idempotent | StepClass::ProbeFirst => Undo::Nothing,
        };
        let action = self.action(TargetAction::Push { branch: branch.to_owned() });
        let title = format!("push {branch} to {}", self.target.remote);
        Step { on_failure: OnFailure::Note, ..step("push", title, class, action, undo) }
    }

    /// How long it may take to answer after a start.
    pub fn answer_ms(&self) -> u64 {
        self.target.answer_ms.unwrap_or(ANSWER_LIMIT_MS)
    }

    /// Looks whether it works.
    pub fn works(&self, log: Log, paths: &[String]) -> Vec<Step> {
        let mut looks = Vec::new();
        if self.target.has_probes() {
            let paths = if self.target.url.is_some() { paths.to_vec() } else { Vec::new() };
            let probe = TargetAction::Probe { paths, limit_ms: self.answer_ms() };
            looks.push(self.read("probe", &format!("{} answer", self.target.shown_probes()), probe));
        }
        looks.extend(self.target.log.clone().map(|file| {
            let title = format!("new lines of {} tell of no errors", file.display());
            self.read("log", &title, TargetAction::ScanLog { file, from: log.bytes, identity: log.identity })
        }));
        looks
    }
}

/// Whether an operation was level 3, and is to be taken back step by step.
pub(super) fn is_meant(operation: &Operation) -> bool {
    match &operation.plan.request {
        Request::Level { about: LevelAsk::Recover { .. }, .. } => false,
        Request::Level { .. } | Request::Policy { .. } => true,
        Request::Version { about: VersionAsk::RollBack { .. } | VersionAsk::Env(_) } => true,
        // What was taken back in this way is done again in the same.
        Request::Undo { .. } => {
            let is_ours = |step: &Step| [BACK, AGAIN].iter().any(|word| step.id.0.starts_with(word));
            operation.plan.steps().next().is_some() && operation.plan.steps().all(is_ours)
        }
        _other => false,
    }
}

/// How steps begin that take others back, and those that take these back.
const BACK: &str = "back.";
const AGAIN: &str = "again.";

/// The words for taking something back, or for doing it again when it was taken back.
fn turned(text: &str, back: &str, again: &str) -> String {
    match (text.strip_prefix(back), text.strip_prefix(again)) {
        (Some(first), _) => format!("{again}{first}"),
        (None, Some(first)) => format!("{back}{first}"),
        (None, None) => format!("{back}{text}"),
    }
}

/// Plans to take level 3 back: its own undos, last first, each with what it did as its undo.
///
/// # Errors
/// It is not over, or was pushed, where others may have taken it from.
pub(super) fn undo(engine: &Engine, operation: &Operation, request: &Request) -> Result<Plan, Failure> {
    if operation.state != OperationState::Done {
        let message = format!("{} is not done; there is nothing to take back", operation.id);
        return Err(Failure::new(FailureKind::Refused, message)
            .hint(format!("lifeboat resume {0}, or lifeboat abort {0}", operation.id)));
    }
    if !matches!(request, Request::Undo { .. }) {
        let message = format!("{} set nothing aside", operation.id);
        return Err(Failure::new(FailureKind::Refused, message));
    }
    let pushed = operation
        .plan
        .steps()
        .zip(&operation.steps)
        .any(|(step, state)| step.class == StepClass::Pivot && matches!(state, StepState::Done { .. }));
    if pushed && let Request::Version { .. } = operation.plan.request {
        let message = format!("{} took the database back as well, and it was written to since", operation.id);
        let hint = format!(
            "lifeboat deploy VERSION --although-bad WHY brings the newer one again, lifeboat salvage apply {} the rows that left",
            operation.id
        );
        return Err(Failure::new(FailureKind::Refused, message).hint(hint));
    }
    if pushed {
        let failure =
            Failure::new(FailureKind::Refused, format!("{} was pushed, and others may have taken it", operation.id));
        return Err(
            failure.hint("lifeboat level 3 --to COMMIT goes forward to the version before it, by another commit")
        );
    }
    let common = engine.common()?;
    let done =
        operation.plan.steps().zip(&operation.steps).filter(|(_, state)| matches!(state, StepState::Done { .. }));
    let mut steps: Vec<Step> = done
        .filter_map(|(done, _)| {
            let Undo::By(action) = &done.undo else { return None };
            let back = match done.action {
                // Nothing was done by saying so.
                Action::Say { .. } => Undo::Nothing,
                _ => by(done.action.clone()),
            };
            let title = turned(&done.title, "take back: ", "again: ");
            Some(step(turned(&done.id.0, BACK, AGAIN), title, StepClass::Idempotent, always(action), back))
        })
        .collect();
    steps.reverse();
    let title = turned(&operation.plan.title, "take back ", "again: ");
    let mut plan = steps::new_plan(&common, request, title, operation.plan.lease);
    plan.phases = vec![phase(&common, "rollback", vec![], steps)];
    Ok(plan)
}

/// What was done for sure is taken back for sure.
fn always(action: &Action) -> Action {
    match action {
        Action::Target { target, action: TargetAction::Run { folder, argv, env, .. } } => Action::Target {
            target: target.clone(),
            action: TargetAction::Run { folder: folder.clone(), argv: argv.clone(), env: env.clone(), after: None },
        },
        Action::Postgres(PgAction::ReplacePolicy { url, table, name, wanted, before, .. }) => {
            let (url, table, name) = (url.clone(), table.clone(), name.clone());
            let (wanted, before, or_leave) = (wanted.clone(), before.clone(), false);
            Action::Postgres(PgAction::ReplacePolicy { url, table, name, wanted, before, or_leave })
        }
        other => other.clone(),
    }
}
