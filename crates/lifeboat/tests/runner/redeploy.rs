//! Everything once more: the front end out of its repository, then every edge function, against small programs that behave like the
//! documented ones.

use std::os::unix::fs::PermissionsExt;

use lifeboat_model::ExitCode;

use crate::{
    drivers::{SUPABASE, VERCEL, noted},
    home::{Home, Ran},
};

/// `vercel` that builds, too: what it is given, in a folder that is linked to a project, becomes the newest deployment.
const BUILDS: &str = r#"
case $1 in
    link) mkdir -p .vercel; echo "$4" > .vercel/project; exit 0 ;;
    deploy) [ "$(cat .vercel/project)" = shop ] || { echo "Error: not linked" >&2; exit 1; }
        [ -e "$HOME/vercel-is-down" ] && { echo "Error: 503" >&2; exit 1; }
        cp page "$HOME/vercel/page"; echo "production Ready" > "$HOME/vercel/dpl_9"; echo dpl_9 > "$HOME/vercel/production"
        echo "https://shop-9.vercel.app"; exit 0 ;;
esac
"#;

/// A front end at Vercel, three functions at Supabase, and something on this host, named so that the order of names is another one
/// than the order in which they are deployed.
struct Lost {
    home: Home,
}

impl Lost {
    fn open() -> Lost {
        let home = Home::shop();
        let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
        home.write(
            "lifeboat.toml",
            format!(
                "{settings}[environments.local.targets.api]\ndriver = \"command\"\nrunning = [\"cat\", \"IN_USE\"]\n\
                 switch = [\"api\", \"use\", \"{{version}}\"]\nstop = [\"api\", \"stop\"]\nstart = [\"api\", \"start\"]\n\
                 [environments.local.targets.functions]\ndriver = \"supabase-functions\"\nproject = \"abcdefgh\"\nfolder = \"./code\"\n\
                 functions = [\"first\", \"same\", \"second\"]\nreleases = \"./releases\"\ncurrent = \"./current\"\n\
                 [environments.local.targets.web]\ndriver = \"vercel\"\nproject = \"shop\"\ndomain = \"shop.example\"\nfolder = \"./code\"\n\
                 answer_within = \"5s\"\nsmoke = [\"test\", \"-e\", \"../vercel/page\"]\n"
            ),
        );
        let lost = Lost { home };
        std::fs::create_dir_all(lost.home.path("programs")).unwrap();
        lost.program("vercel", &noted(&format!("{BUILDS}{VERCEL}")));
        lost.program("supabase", &noted(SUPABASE));
        lost.program("api", &noted(""));
        lost.home.write("IN_USE", "v7\n");
        lost.shell(
            "mkdir supabase vercel; git init -q --bare -b main remote.git; git init -q -b main code; cd code; git remote add origin ../remote.git
             for f in first same second; do mkdir -p supabase/functions/$f; echo \"the $f one\" > supabase/functions/$f/index.ts; done
             echo old > page; git add -A; git commit -qm one; git push -q origin main
             git worktree add -q --detach ../releases/$(git rev-parse HEAD) HEAD; ln -s releases/$(git rev-parse HEAD) ../current
             for f in first second; do echo '3 something else' > ../supabase/$f; done; echo '5 the same one' > ../supabase/same
             git clone -q ../remote.git ../other; cd ../other; echo new > page; git commit -qam two; git push -q origin main; cd ../code
             echo by-hand > page; echo production Ready > ../vercel/dpl_4; echo dpl_4 > ../vercel/production",
        );
        lost
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.home.path("programs").join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn prepared(&self, mut command: std::process::Command) -> std::process::Command {
        let path = format!("{}:{}", self.home.path("programs").display(), std::env::var("PATH").unwrap());
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "shop").env(format!("GIT_{who}_EMAIL"), "shop@localhost");
        }
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("HOME", self.home.app()).env("PATH", path);
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

    /// What was deployed, in order, since this was asked last.
    fn deployed(&self) -> Vec<String> {
        let all = std::fs::read_to_string(self.home.path("calls")).unwrap_or_default();
        std::fs::remove_file(self.home.path("calls")).unwrap_or_default();
        let is_meant = |line: &&str| {
            ["vercel link", "vercel deploy", "vercel promote", "supabase functions deploy", "api "]
                .iter()
                .any(|start| line.starts_with(start))
        };
        let short = |line: &str| line.split(" --project-ref").next().unwrap_or(line).to_owned();
        all.lines().filter(is_meant).map(short).collect()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.home.path(name)).unwrap_or_default().trim().to_owned()
    }
}

const API: [&str; 3] = ["api stop", "api use v7", "api start"];
const WEB: [&str; 2] = ["vercel link --yes --project shop", "vercel deploy --prod --yes"];
const FUNCTIONS: [&str; 3] =
    ["supabase functions deploy first", "supabase functions deploy same", "supabase functions deploy second"];

/// APP-14: the front end out of the remote, whatever lies in the folder, then all functions by the platform's own program; each is
/// seen to be there, and the journal has the order.
#[test]
fn app_14_everything_is_deployed_once_more_in_order() {
    let lost = Lost::open();
    let shown = lost.run(&["redeploy", "--dry-run"]).ends(ExitCode::Ok);
    shown.says(&["the newest of main at origin", "deploy the function second, and see that it is active"]);
    assert_eq!(lost.deployed(), [""; 0]);
    let done =
        lost.run(&["redeploy", "--reason", "the project was deleted", "--yes", "--json"]).ends(ExitCode::Ok).json();
    assert_eq!(lost.deployed(), [&API[..], &WEB[..], &FUNCTIONS[..]].concat());
    assert_eq!((lost.read("vercel/page"), lost.read("vercel/production")), ("new".into(), "dpl_9".into()));
    assert_eq!(lost.read("code/page"), "by-hand", "the folder itself is not touched");
    let functions = ["first", "same", "second"].map(|name| lost.read(&format!("supabase/{name}")));
    assert_eq!(functions, ["4 the first one", "5 the same one", "4 the second one"]);
    let id = done["operation"]["id"].as_str().unwrap_or_else(|| done["id"].as_str().unwrap()).to_owned();
    let journal = lost.run(&["journal", "show", &id, "--json"]);
    let steps: Vec<usize> = ["again.api", "build.web", "function.first", "function.same", "function.second"]
        .iter()
        .map(|step| journal.out.rfind(step).unwrap_or_else(|| panic!("{step} is not in {}", journal.out)))
        .collect();
    assert!(steps.is_sorted(), "{steps:?}");
    // Nothing is left of the copy, and no other version came.
    assert_eq!(lost.shell("find state -type d -name redeploy | wc -l; cat IN_USE"), "0\nv7");
}

/// One that fails stops it, says what is deployed and what is not, and what to type; it goes on with that one.
#[test]
fn app_14_one_that_fails_is_gone_on_with() {
    let lost = Lost::open();
    lost.home.write("supabase-is-down", "");
    let stopped = lost.run(&["redeploy", "--yes"]).ends(ExitCode::InBetween);
    stopped.says(&[
        "supabase functions deploy second",
        "Deployed: api, web, functions/first, functions/same. Not deployed: functions/second.",
        "lifeboat resume o-",
    ]);
    assert_eq!(lost.deployed(), [&API[..], &WEB[..], &FUNCTIONS[..]].concat());
    // Still down: the same again, and nothing else is repeated.
    lost.run(&["resume", "--yes"]).ends(ExitCode::InBetween).says(&["Not deployed: functions/second."]);
    assert_eq!(lost.deployed(), FUNCTIONS[2..]);
    std::fs::remove_file(lost.home.path("supabase-is-down")).unwrap();
    lost.run(&["resume", "--yes"]).ends(ExitCode::Ok);
    assert_eq!(lost.deployed(), FUNCTIONS[2..]);
    assert_eq!(lost.read("supabase/second"), "4 the second one");
}

/// The first of all fails: what was stopped runs again when somebody leaves it at that, and the rest was not begun. Some alone can be
/// named; a front end of which nothing is left is built all the same.
#[test]
fn app_14_it_can_be_left_and_be_of_some_alone() {
    let lost = Lost::open();
    lost.home.write("vercel-is-down", "");
    let stopped = lost.run(&["redeploy", "web", "functions", "--yes"]).ends(ExitCode::InBetween);
    stopped.says(&["503", "Deployed: nothing. Not deployed: web, functions/first, functions/same, functions/second."]);
    lost.run(&["abort", "--yes"]).ends(ExitCode::Ok);
    assert_eq!(lost.read("vercel/production"), "dpl_4");
    assert_eq!(lost.deployed(), WEB);
    std::fs::remove_file(lost.home.path("vercel-is-down")).unwrap();
    // Nothing is there any more: neither the deployment nor the functions, nor the link on this host.
    lost.shell("rm vercel/dpl_4 vercel/production current supabase/*; git -C code fetch -q");
    lost.run(&["redeploy", "web", "functions", "--yes"])
        .ends(ExitCode::Ok)
        .says(&["nothing tells what runs there now"]);
    assert_eq!(lost.deployed(), [&WEB[..], &FUNCTIONS[..]].concat());
    assert_eq!((lost.read("vercel/production"), lost.read("supabase/same")), ("dpl_9".into(), "1 the same one".into()));
    lost.run(&["redeploy", "nobody", "--yes"]).ends(ExitCode::Usage).says(&["has no target nobody"]);
}
