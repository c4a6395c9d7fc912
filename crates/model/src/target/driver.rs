//! Drivers: how a version of the code is brought and put in use. What is said to programs is built here, as values, and what
//! they answer is read here; running them is somebody else's work.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

mod docker;
mod fly;
mod instance;
mod pm2;
mod supabase;
mod systemd;
mod variables;
mod vercel;

pub use docker::{
    docker_containers, docker_create, docker_fields, docker_inspect, docker_pull, docker_rename, docker_tag,
};
pub use fly::{FlyRelease, fly_current, fly_previous, fly_releases};
pub use instance::{Instance, Looked, is_new};
pub use pm2::pm2_entries;
pub use supabase::supabase_deploy;
pub use systemd::systemd_has_failed;
pub use variables::{Batch, VariablesCall};
pub use vercel::{VercelDeployment, vercel_build, vercel_deployment, vercel_inspect, vercel_link, vercel_urls};

/// How a version is brought and put in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "driver", rename_all = "kebab-case")]
pub enum Driver {
    /// By commands; `{version}` in a word stands for the version.
    Command {
        /// Prints the version that is in use.
        running: Vec<String>,
        /// Brings a version.
        stage: Option<Vec<String>>,
        /// Puts it in use.
        switch: Vec<String>,
    },
    /// A folder of releases, each in a folder of its own, and a link to the one in use.
    ReleaseDir {
        /// The folder of releases.
        releases: PathBuf,
        /// The link.
        current: PathBuf,
    },
    /// A worktree per commit beside the repository, and a link to the one in use. The repository's own checkout is never
    /// touched: what somebody has changed there by hand stays.
    Git {
        /// The folder of worktrees.
        releases: PathBuf,
        /// The link.
        current: PathBuf,
    },
    /// A Fly.io app, by the images of its releases.
    Fly {
        /// The app.
        app: String,
    },
    /// Versions beside each other as with `git` or `release-dir`, and a process of pm2 that runs the one in use. There is never
    /// more than one entry of that name.
    Pm2 {
        /// The process's name in pm2.
        process: String,
        /// What pm2 starts, in the version's folder: a script, or an ecosystem file (`*.config.js`, `*.json`, `*.yml`).
        script: PathBuf,
        /// How versions come into their folders.
        brings: Brings,
        /// The folder of versions.
        releases: PathBuf,
        /// The link.
        current: PathBuf,
    },
    /// Versions beside each other as with `git` or `release-dir`, and a unit of systemd that runs the one in use.
    Systemd {
        /// The unit.
        unit: String,
        /// Whether it is one of this user's own manager.
        user: bool,
        /// How versions come into their folders.
        brings: Brings,
        /// The folder of versions.
        releases: PathBuf,
        /// The link.
        current: PathBuf,
    },
    /// A container of Docker. A version is an image by its id, which nothing can move; the former container is renamed and
    /// kept, so that its name is free and its logs stay.
    Docker {
        /// The container's name.
        container: String,
        /// Options of `docker create`: ports, files of variables, volumes, restart policy.
        options: Vec<String>,
        /// What stands behind the image, when anything does.
        command: Vec<String>,
    },
    /// A service of Docker Compose. A version is an image by its id; the tag that the file names is led to it.
    Compose {
        /// The file.
        file: PathBuf,
        /// The service.
        service: String,
        /// The tag that the file gives the service: `shop:current`.
        image: String,
    },
    /// A Vercel project. A version is a deployment; variables are built into it.
    Vercel {
        /// The project's name.
        project: String,
        /// The domain that production answers at.
        domain: String,
        /// The team, when the project is a team's.
        scope: Option<String>,
    },
    /// Edge functions of a Supabase project: those of a commit, deployed over the ones that are there. Nothing is ever deleted.
    SupabaseFunctions {
        /// The project's reference.
        project: String,
        /// The functions, in the order in which they are deployed.
        functions: Vec<String>,
        /// The folder of worktrees.
        releases: PathBuf,
        /// The link to the version that was deployed last.
        current: PathBuf,
    },
}

/// How versions come into folders of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Brings {
    /// As worktrees of the repository, by commits.
    Git,
    /// By somebody else; they have to be there.
    Folder,
}

/// When a target gets the values of its variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EnvBinding {
    /// When it is built: they are part of the version, and a restart does not change them.
    Build,
    /// At each start.
    Start,
}

impl Driver {
    /// Its word in the settings.
    pub fn word(&self) -> &'static str {
        match self {
            Driver::Command { .. } => "command",
            Driver::ReleaseDir { .. } => "release-dir",
            Driver::Git { .. } => "git",
            Driver::Fly { .. } => "fly",
            Driver::Pm2 { .. } => "pm2",
            Driver::Systemd { .. } => "systemd",
            Driver::Docker { .. } => "docker",
            Driver::Compose { .. } => "compose",
            Driver::Vercel { .. } => "vercel",
            Driver::SupabaseFunctions { .. } => "supabase-functions",
        }
    }

    /// All of their words.
    pub const WORDS: [&str; 10] =
        ["command", "release-dir", "git", "fly", "pm2", "systemd", "docker", "compose", "vercel", "supabase-functions"];

    /// The call that tells which version is in use; nothing where a link does, or where instances tell it.
    pub fn running(&self) -> Option<Vec<String>> {
        match self {
            Driver::Command { running, .. } => Some(running.clone()),
            Driver::Fly { app } => Some(words(&["fly", "releases", "--app", app, "--image", "--json"])),
            Driver::Vercel { domain, scope, .. } => Some(vercel_inspect(domain, scope.as_deref())),
            Driver::Docker { container, .. } => Some(docker_inspect(&[container])),
            // The tag is what the next start uses; what runs at this moment is told by the containers.
            Driver::Compose { image, .. } => Some(docker::image_id(image)),
            Driver::ReleaseDir { .. } | Driver::Git { .. } | Driver::Pm2 { .. } => None,
            Driver::Systemd { .. } | Driver::SupabaseFunctions { .. } => None,
        }
    }

    /// The call that brings a version, where a call does.
    pub fn stage(&self, version: &str) -> Option<Vec<String>> {
        match self {
            Driver::Command { stage, .. } => stage.as_deref().map(|argv| filled(argv, version)),
            // It has to be on this host; where it is to be had elsewhere, it is pulled by its digest.
            Driver::Docker { .. } | Driver::Compose { .. } => Some(docker::image_id(version)),
            Driver::Vercel { scope, .. } => Some(vercel_inspect(version, scope.as_deref())),
            // The registry has it; whether it still does is asked of the list of releases.
            Driver::Fly { .. } | Driver::ReleaseDir { .. } | Driver::Git { .. } => None,
            Driver::Pm2 { .. } | Driver::Systemd { .. } | Driver::SupabaseFunctions { .. } => None,
        }
    }

    /// The call that puts a version in use; nothing where a link does, or where it takes more than one. `back` says that it is
    /// what a rollback left, which it comes back to.
    pub fn switch(&self, version: &str, back: bool) -> Option<Vec<String>> {
        match self {
            Driver::Command { switch, .. } => Some(filled(switch, version)),
            Driver::Fly { app } => Some(words(&["fly", "deploy", "--app", app, "--image", version, "--yes"])),
            Driver::Vercel { scope, .. } => Some(vercel::switch(version, scope.as_deref(), back)),
            Driver::Compose { image, .. } => Some(docker_tag(version, image)),
            Driver::ReleaseDir { .. } | Driver::Git { .. } | Driver::Pm2 { .. } => None,
            Driver::Systemd { .. } | Driver::Docker { .. } | Driver::SupabaseFunctions { .. } => None,
        }
    }

    /// The call that stops it, where the driver knows one.
    pub fn stop(&self) -> Option<Vec<String>> {
        match self {
            Driver::Pm2 { process, .. } => Some(words(&["pm2", "delete", process])),
            Driver::Systemd { unit, user, .. } => Some(systemd::call(*user, &["stop", unit])),
            Driver::Docker { container, .. } => Some(words(&["docker", "stop", container])),
            Driver::Compose { file, service, .. } => Some(docker::compose(file, &["stop", service])),
            // What somebody is to say, and what is neither stopped nor started.
            Driver::Command { .. } | Driver::ReleaseDir { .. } | Driver::Git { .. } => None,
            Driver::Fly { .. } | Driver::Vercel { .. } | Driver::SupabaseFunctions { .. } => None,
        }
    }

    /// The call that starts it, where the driver knows one.
    pub fn start(&self) -> Option<Vec<String>> {
        match self {
            Driver::Pm2 { process, script, current, .. } => Some(pm2::start(process, script, current)),
            Driver::Systemd { unit, user, .. } => Some(systemd::call(*user, &["start", unit])),
            Driver::Docker { container, .. } => Some(words(&["docker", "start", container])),
            // Never built, never pulled: another image than the one that was looked at would come in its place.
            Driver::Compose { file, service, .. } => Some(docker::compose(
                file,
                &["up", "--detach", "--no-deps", "--no-build", "--pull", "never", "--force-recreate", service],
            )),
            Driver::Command { .. } | Driver::ReleaseDir { .. } | Driver::Git { .. } => None,
            Driver::Fly { .. } | Driver::Vercel { .. } | Driver::SupabaseFunctions { .. } => None,
        }
    }

    /// Whether it needs no commands of somebody's to be stopped and started.
    pub fn is_by_itself(&self) -> bool {
        match self {
            Driver::Command { .. } | Driver::ReleaseDir { .. } | Driver::Git { .. } => false,
            Driver::Fly { .. } | Driver::Vercel { .. } | Driver::SupabaseFunctions { .. } => true,
            Driver::Pm2 { .. } | Driver::Systemd { .. } | Driver::Docker { .. } | Driver::Compose { .. } => true,
        }
    }

    /// The call that tells which instances there are, where the platform knows them; read by [`Driver::read_instances`].
    pub fn instances(&self) -> Option<Vec<String>> {
        match self {
            Driver::Pm2 { .. } => Some(words(&["pm2", "jlist"])),
            Driver::Systemd { unit, user, .. } => Some(systemd::show(*user, unit)),
            Driver::Docker { container, .. } => Some(docker_inspect(&[container])),
            // These names are inspected in a second call.
            Driver::Compose { file, service, .. } => {
                Some(docker::compose(file, &["ps", "--all", "--quiet", "--no-trunc", service]))
            }
            Driver::Fly { app } => Some(words(&["fly", "machines", "list", "--app", app, "--json"])),
            Driver::Vercel { domain, scope, .. } => Some(vercel_inspect(domain, scope.as_deref())),
            Driver::SupabaseFunctions { project, .. } => Some(supabase::list(project)),
            Driver::Command { .. } | Driver::ReleaseDir { .. } | Driver::Git { .. } => None,
        }
    }

    /// Reads what [`Driver::instances`] printed.
    ///
    /// # Errors
    /// It is not what the program is documented to print; in words.
    pub fn read_instances(&self, said: &Looked) -> Result<Vec<Instance>, String> {
        match self {
            Driver::Pm2 { process, .. } => pm2::instances(process, &said.out),
            Driver::Systemd { .. } => systemd::instances(&said.out),
            Driver::Docker { .. } | Driver::Compose { .. } => docker_fields(&said.out),
            Driver::Fly { .. } => fly::machines(&said.out),
            Driver::Vercel { .. } => Ok(vec![vercel_deployment(said)?.instance()]),
            Driver::SupabaseFunctions { functions, .. } => supabase::instances(functions, &said.out),
            Driver::Command { .. } | Driver::ReleaseDir { .. } | Driver::Git { .. } => Ok(Vec::new()),
        }
    }

    /// What tells afterwards how the instance did that is about to go: names of files, and the calls that print them.
    pub fn evidence(&self) -> Vec<(&'static str, Vec<String>)> {
        match self {
            Driver::Pm2 { process, .. } => vec![(
                "log.txt",
                words(&["pm2", "logs", process, "--nostream", "--raw", "--timestamp", "--lines", LINES]),
            )],
            Driver::Systemd { unit, user, .. } => vec![
                ("log.txt", systemd::journal(*user, unit)),
                ("state.txt", systemd::call(*user, &["status", "--no-pager", "--full", "--lines", "0", unit])),
            ],
            Driver::Docker { container, .. } => vec![
                ("log.txt", words(&["docker", "logs", "--timestamps", "--tail", LINES, container])),
                ("state.txt", docker_inspect(&[container])),
            ],
            Driver::Compose { file, service, .. } => vec![(
                "log.txt",
                docker::compose(file, &["logs", "--no-color", "--timestamps", "--tail", LINES, service]),
            )],
            Driver::Fly { app } => vec![
                ("log.txt", words(&["fly", "logs", "--app", app, "--no-tail"])),
                ("state.txt", words(&["fly", "status", "--app", app])),
                ("releases.txt", words(&["fly", "releases", "--app", app, "--image"])),
            ],
            Driver::Vercel { domain, scope, .. } => vec![
                ("state.txt", vercel_inspect(domain, scope.as_deref())),
                ("build-log.txt", vercel::build_log(domain, scope.as_deref())),
            ],
            Driver::SupabaseFunctions { project, .. } => vec![("state.txt", supabase::list(project))],
            Driver::Command { .. } | Driver::ReleaseDir { .. } | Driver::Git { .. } => Vec::new(),
        }
    }

    /// The call that lists the versions a platform has, where it has a list of its own.
    pub fn list(&self) -> Option<Vec<String>> {
        match self {
            Driver::Fly { .. } => self.running(),
            Driver::Vercel { project, scope, .. } => Some(vercel::list(project, scope.as_deref())),
            Driver::Docker { .. } | Driver::Compose { .. } => Some(docker::images()),
            Driver::Command { .. } | Driver::ReleaseDir { .. } | Driver::Git { .. } => None,
            Driver::Pm2 { .. } | Driver::Systemd { .. } | Driver::SupabaseFunctions { .. } => None,
        }
    }

    /// The calls that keep a version from being cleared away, as far as the platform lets anybody do so.
    pub fn pin(&self, target: &str, version: &str) -> Vec<Vec<String>> {
        match self {
            Driver::Docker { .. } | Driver::Compose { .. } => vec![docker_tag(version, &docker::pin(target, version))],
            // A branch that is moved by force would leave the commit to git's own clearing up.
            Driver::Git { .. } | Driver::SupabaseFunctions { .. } => vec![pinned_commit(version)],
            Driver::Pm2 { brings: Brings::Git, .. } | Driver::Systemd { brings: Brings::Git, .. } => {
                vec![pinned_commit(version)]
            }
            Driver::Pm2 { brings: Brings::Folder, .. } | Driver::Systemd { brings: Brings::Folder, .. } => Vec::new(),
            Driver::Command { .. } | Driver::ReleaseDir { .. } => Vec::new(),
            Driver::Fly { .. } | Driver::Vercel { .. } => Vec::new(),
        }
    }

    /// Variables that its programs get from our own environment besides the usual ones, when they are set.
    pub fn passes(&self) -> &'static [&'static str] {
        match self {
            Driver::Fly { .. } => &["FLY_API_TOKEN", "FLY_ACCESS_TOKEN"],
            Driver::Vercel { .. } => &["VERCEL_TOKEN", "VERCEL_ORG_ID", "VERCEL_PROJECT_ID"],
            Driver::SupabaseFunctions { .. } => &["SUPABASE_ACCESS_TOKEN"],
            Driver::Docker { .. } | Driver::Compose { .. } => {
                &["DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"]
            }
            Driver::Pm2 { .. } => &["PM2_HOME"],
            Driver::Systemd { .. } => &["XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"],
            Driver::Command { .. } | Driver::ReleaseDir { .. } | Driver::Git { .. } => &[],
        }
    }

    /// When what it runs gets its variables, where nobody said.
    pub fn env_binding(&self) -> EnvBinding {
        match self {
            Driver::Vercel { .. } => EnvBinding::Build,
            Driver::Command { .. } | Driver::ReleaseDir { .. } | Driver::Git { .. } | Driver::Fly { .. } => {
                EnvBinding::Start
            }
            Driver::Pm2 { .. } | Driver::Systemd { .. } | Driver::Docker { .. } => EnvBinding::Start,
            Driver::Compose { .. } | Driver::SupabaseFunctions { .. } => EnvBinding::Start,
        }
    }

    /// The folder of releases and the link to the one in use, where there are such.
    pub fn places(&self) -> Option<(&PathBuf, &PathBuf)> {
        match self {
            Driver::ReleaseDir { releases, current } | Driver::Git { releases, current } => Some((releases, current)),
            Driver::Pm2 { releases, current, .. } | Driver::Systemd { releases, current, .. } => {
                Some((releases, current))
            }
            Driver::SupabaseFunctions { releases, current, .. } => Some((releases, current)),
            Driver::Command { .. } | Driver::Fly { .. } | Driver::Docker { .. } => None,
            Driver::Compose { .. } | Driver::Vercel { .. } => None,
        }
    }

    /// How versions come into those folders.
    pub fn brings(&self) -> Option<Brings> {
        match self {
            Driver::ReleaseDir { .. } => Some(Brings::Folder),
            Driver::Git { .. } | Driver::SupabaseFunctions { .. } => Some(Brings::Git),
            Driver::Pm2 { brings, .. } | Driver::Systemd { brings, .. } => Some(*brings),
            Driver::Command { .. } | Driver::Fly { .. } | Driver::Docker { .. } => None,
            Driver::Compose { .. } | Driver::Vercel { .. } => None,
        }
    }

    /// The same driver with other places, for a copy of its folders.
    #[must_use]
    pub fn moved(&self, to: &dyn Fn(&Path) -> PathBuf) -> Driver {
        let mut driver = self.clone();
        match &mut driver {
            Driver::ReleaseDir { releases, current } | Driver::Git { releases, current } => {
                (*releases, *current) = (to(releases), to(current));
            }
            Driver::Pm2 { releases, current, .. } | Driver::Systemd { releases, current, .. } => {
                (*releases, *current) = (to(releases), to(current));
            }
            Driver::SupabaseFunctions { releases, current, .. } => {
                (*releases, *current) = (to(releases), to(current));
            }
            Driver::Compose { file, .. } => *file = to(file),
            Driver::Command { .. } | Driver::Fly { .. } | Driver::Docker { .. } | Driver::Vercel { .. } => {}
        }
        driver
    }
}

/// So many lines of a log are kept.
const LINES: &str = "10000";

fn pinned_commit(commit: &str) -> Vec<String> {
    words(&["git", "update-ref", &format!("refs/lifeboat/releases/{commit}"), commit])
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn filled(argv: &[String], version: &str) -> Vec<String> {
    argv.iter().map(|word| word.replace("{version}", version)).collect()
}

#[cfg(test)]
mod tests;
