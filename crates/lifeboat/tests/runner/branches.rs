//! A front end that somebody else builds from a branch: one commit taken back, pushed, and waited for. git is as it is; who builds
//! is a hook of the remote.

use std::os::unix::fs::PermissionsExt;

use lifeboat_model::ExitCode;

use crate::home::{Home, Ran};

/// Who builds what is pushed: the commit is built by now, and served once somebody has asked so many times as `slow` says.
const BUILDS: &str = "#!/bin/sh\nread old new name\n[ \"$name\" = refs/heads/main ] || exit 0\n\
                      [ -e ../broken ] || echo \"$new\" > ../built\n";

/// What the front end answers with.
const SERVED: &str = "#!/bin/sh\nslow=$(cat slow); [ \"$slow\" -gt 0 ] && echo $((slow - 1)) > slow || cp built served\n\
                      echo \"{\\\"build\\\": \\\"1.4.2+$(cut -c1-7 served)\\\"}\"\n";

struct Front {
    home: Home,
}

impl Front {
    /// Four commits on main, each of a file of its own, the third of them a merge; what is checked out is another branch, with
    /// somebody's work in it.
    fn open() -> Front {
        let home = Home::shop();
        let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
        home.write(
            "lifeboat.toml",
            format!(
                "{settings}[environments.local.targets.web]\nfolder = \"./code\"\nstop = [\"true\"]\nstart = [\"true\"]\n\
                 tells = {{ path = \"/version.json\", command = [\"../served.sh\"], version = \"/build\" }}\n\
                 [notify.status]\nfile = \"./messages.jsonl\"\n"
            ),
        );
        home.write("served.sh", SERVED.replace("slow=", "cd \"$(dirname \"$0\")\"\nslow="));
        home.write("slow", "0");
        let front = Front { home };
        front.executable("served.sh");
        front.shell(
            "git init -q --bare -b main remote.git; git init -q -b main code; cd code; git remote add origin ../remote.git
             one() { echo \"$1\" > \"$1\"; git add \"$1\"; git commit -qm \"add $1\"; }
             one good; git checkout -qb side; one side; git checkout -q main; one bad; git merge -q --no-ff -m 'merge side' side; one later
             git push -q origin main; git rev-parse main > ../built; cp ../built ../served
             git checkout -qb mine; one mine; echo by-hand > mine; echo new > untracked",
        );
        front.home.write("remote.git/hooks/post-receive", BUILDS);
        front.executable("remote.git/hooks/post-receive");
        front
    }

    fn executable(&self, name: &str) {
        std::fs::set_permissions(self.home.path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn prepared(&self, mut command: std::process::Command) -> std::process::Command {
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "shop").env(format!("GIT_{who}_EMAIL"), "shop@localhost");
        }
        command.env("GIT_CONFIG_GLOBAL", "/dev/null");
        command
    }

    fn run(&self, words: &[&str]) -> Ran {
        let output = self.prepared(self.home.command(words)).output().unwrap();
        self.home.ran(words, output)
    }

    fn shell(&self, text: &str) -> String {
        let mut shell = std::process::Command::new("bash");
        shell.args(["-ec", text]).current_dir(self.home.app());
        let output = self.prepared(shell).output().unwrap();
        self.home.ran(&[text], output).ends(ExitCode::Ok).out.trim().to_owned()
    }

    /// What is checked out, with what somebody has changed there, and every worktree.
    fn checkout(&self) -> String {
        self.shell(
            "cd code; git rev-parse HEAD; git status --porcelain --branch; cat mine untracked; git worktree list",
        )
    }

    fn tip(&self) -> String {
        self.shell("git -C remote.git rev-parse main")
    }

    /// The files of the branch, as everybody gets them.
    fn files(&self) -> String {
        self.shell("git -C remote.git ls-tree --name-only main | tr '\\n' ' '")
    }
}

/// APP-10 (D-45): not the newest one but the one that did the harm goes, what came after it stays, and it is over only when its
/// build is what answers.
#[test]
fn app_10_exactly_the_bad_commit_is_taken_back_and_its_build_is_waited_for() {
    let front = Front::open();
    let (before, tip) = (front.checkout(), front.tip());
    let bad = front.shell("git -C code rev-parse main~2");
    let shown = front.run(&["rollback", "--revert", "main~2", "--dry-run"]).ends(ExitCode::Ok);
    shown.says(&["add bad", "commits since stay", "is not touched"]);
    assert_eq!((front.tip(), front.checkout()), (tip.clone(), before.clone()), "looking changes nothing");
    // The platform builds for a while: it is asked again and again.
    front.home.write("slow", "3");
    let done = front.run(&["rollback", "--revert", "main~2", "--reason", "blank page", "--yes", "--json"]);
    let done = done.ends(ExitCode::Ok).json();
    assert_eq!(front.files(), "good later side");
    let told = front.shell("cat messages.jsonl");
    let (begun, over) = (told.find("ROLLBACK IN PROGRESS"), told.find("Rollback complete"));
    assert!(begun.is_some() && over > begun && told.contains("due to blank page"), "{told}");
    let said = front.shell("git -C remote.git log -1 --format=%B main");
    assert!(said.starts_with("Revert \"add bad\"\n\nThis reverts commit ") && said.contains(&bad), "{said}");
    assert!(said.ends_with("blank page"), "{said}");
    assert_eq!(front.shell("git -C remote.git rev-parse main^"), tip, "nothing was taken out by force");
    assert_eq!(front.shell("cat served slow"), format!("{}\n0", front.tip()));
    assert_eq!(front.checkout(), before, "somebody's work is not touched, and no worktree is left");
    // Again is nothing: it was taken back already, and nothing is pushed.
    let again = front.tip();
    front.shell("git -C code fetch -q origin");
    let refused = front.run(&["rollback", "--revert", &bad, "--yes"]).ends(ExitCode::FailedUndone);
    refused.says(&["was taken back already"]);
    assert_eq!((front.tip(), front.checkout()), (again, before.clone()));
    // And it comes back by one commit more.
    let id = done["operation"]["id"].as_str().unwrap_or_else(|| done["id"].as_str().unwrap()).to_owned();
    front.run(&["undo", &id, "--yes"]).ends(ExitCode::Ok);
    assert_eq!((front.files().as_str(), front.checkout()), ("bad good later side", before));
    assert_eq!(front.shell("cat served"), front.tip());
}

/// A merge goes with all that it brought.
#[test]
fn app_10_a_merge_is_taken_back_with_what_it_brought() {
    let front = Front::open();
    front.run(&["rollback", "--revert", "main~1", "--yes"]).ends(ExitCode::Ok);
    assert_eq!(front.files(), "bad good later");
    let said = front.shell("git -C remote.git log -1 --format=%B main");
    assert!(said.contains("reversing\nchanges made to "), "{said}");
}

/// A push that is refused is one sentence, and everything is as before.
#[test]
fn app_10_a_push_that_is_refused_changes_nothing() {
    let front = Front::open();
    let (before, tip) = (front.checkout(), front.tip());
    front
        .home
        .write("remote.git/hooks/pre-receive", "#!/bin/sh\necho 'GH006: Protected branch update failed' >&2; exit 1\n");
    front.executable("remote.git/hooks/pre-receive");
    let refused = front.run(&["rollback", "--revert", "main~2", "--yes"]).ends(ExitCode::FailedUndone);
    refused.says(&["origin did not take the commit for main", "GH006: Protected branch update failed"]);
    assert_eq!((front.tip(), front.checkout()), (tip, before));
    assert!(front.shell("cat messages.jsonl").contains("ROLLBACK FAILED: everything is as it was before"));
    // Nothing waits for anybody.
    front.run(&["abort"]).ends(ExitCode::Refused);
}

/// A build that does not come keeps it waiting: it waits again, or the push is taken back by another commit.
#[test]
fn app_10_a_build_that_never_comes_is_waited_for_again_or_taken_back() {
    let front = Front::open();
    let before = front.checkout();
    front.home.write("broken", "");
    let late = ["rollback", "--revert", "main~2", "--within", "1s", "--yes"];
    let waits = front.run(&late).ends(ExitCode::Interrupted);
    waits.says(&[
        "its build is not served after 1.0 s",
        "still answers with 1.4.2+",
        "lifeboat resume o-",
        "lifeboat abort o-",
    ]);
    assert_eq!(front.files(), "good later side");
    // The build is mended by hand: it goes on from there.
    front.shell("git -C remote.git rev-parse main > built");
    front.run(&["resume", "--yes"]).ends(ExitCode::Ok);
    // The next one never comes, and is taken back: by one more commit, since somebody may have fetched the one before.
    front.shell("git -C code fetch -q origin");
    let pushed = front.tip();
    let late = ["rollback", "--revert", "origin/main~1", "--within", "1s", "--yes"];
    front.run(&late).ends(ExitCode::Interrupted);
    assert_eq!(front.files(), "good side");
    front.run(&["abort", "--yes"]).ends(ExitCode::Ok);
    assert_eq!(front.files(), "good later side");
    assert_eq!(front.shell("git -C remote.git rev-parse main~2"), pushed, "nothing was taken out by force");
    assert_eq!(front.checkout().lines().last(), before.lines().last());
}

/// What cannot be done is said before anything is.
#[test]
fn app_10_what_cannot_be_taken_back_is_said() {
    let front = Front::open();
    let (before, tip) = (front.checkout(), front.tip());
    let run = |words: &[&str], code: ExitCode, says: &[&str]| {
        front.run(&[&["rollback", "--yes", "--revert"], words].concat()).ends(code).says(says);
    };
    run(&["HEAD"], ExitCode::Refused, &["is not on main of origin", "log --oneline -10"]);
    run(&["nonsense"], ExitCode::Usage, &["knows no version nonsense"]);
    run(&["main~3"], ExitCode::Refused, &["is the first commit of all"]);
    run(&["main", "--branch", "other"], ExitCode::Refused, &["origin has no branch other"]);
    // Others have pushed what is not known here.
    front.shell(
        "git clone -q remote.git other; cd other; echo x > x; git add x; git commit -qm x; git push -q origin main",
    );
    run(&["main~2"], ExitCode::Refused, &["does not know", "fetch origin"]);
    front.shell("git -C code fetch -q; git -C remote.git update-ref refs/heads/main $(git -C code rev-parse main)");
    // Lines that were changed again since.
    front.shell("cd other; git reset -q --hard HEAD~1; echo more >> bad; git commit -qam more; git push -q --force origin main; cd ../code; git fetch -q");
    run(&["main~2"], ExitCode::FailedUndone, &["cannot be taken back by itself", "the same lines of bad"]);
    assert_eq!(front.shell("git -C code worktree list | wc -l"), "1");
    front.shell(&format!("git -C remote.git update-ref refs/heads/main {tip}"));
    let settings = std::fs::read_to_string(front.home.path("lifeboat.toml")).unwrap();
    front.home.write("lifeboat.toml", settings.replace("tells =", "# tells ="));
    run(&["main~2"], ExitCode::Usage, &["nobody has said how web tells which build it is"]);
    assert_eq!((front.tip(), front.checkout()), (tip, before));
}
