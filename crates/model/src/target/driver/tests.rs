//! What is said to programs, and what is read out of their answers.

use super::*;

fn argv(words: Option<Vec<String>>) -> String {
    words.unwrap_or_default().join(" ")
}

fn names(names: &[&str]) -> Vec<String> {
    words(names)
}

/// One driver of each kind.
fn drivers() -> Vec<Driver> {
    let (releases, current) = (PathBuf::from("/r"), PathBuf::from("/c"));
    vec![
        Driver::Command {
            running: names(&["cat", "VERSION"]),
            stage: Some(names(&["fetch", "app-{version}.tar"])),
            switch: names(&["use", "{version}"]),
        },
        Driver::ReleaseDir { releases: releases.clone(), current: current.clone() },
        Driver::Git { releases: releases.clone(), current: current.clone() },
        Driver::Fly { app: "shop-production".into() },
        Driver::Pm2 {
            process: "shop".into(),
            script: "app.js".into(),
            brings: Brings::Git,
            releases: releases.clone(),
            current: current.clone(),
        },
        Driver::Systemd {
            unit: "shop.service".into(),
            user: false,
            brings: Brings::Folder,
            releases: releases.clone(),
            current: current.clone(),
        },
        Driver::Docker {
            container: "shop-box".into(),
            options: names(&["-p", "3025:3025", "--env-file", ".env"]),
            command: names(&["node", "server.js"]),
        },
        Driver::Compose { file: "/app/compose.yml".into(), service: "web".into(), image: "shop:current".into() },
        Driver::Vercel { project: "shop".into(), domain: "shop.example".into(), scope: Some("acme".into()) },
        Driver::SupabaseFunctions {
            project: "abcdefgh".into(),
            functions: names(&["hello", "restore"]),
            releases,
            current,
        },
    ]
}

#[test]
fn every_driver_has_a_word() {
    let found: Vec<&str> = drivers().iter().map(Driver::word).collect();
    assert_eq!(found, Driver::WORDS);
}

#[test]
fn what_is_said_to_programs() {
    let said: Vec<String> = drivers()
        .iter()
        .map(|driver| {
            let calls = [
                ("running", driver.running()),
                ("stage", driver.stage("v1")),
                ("stop", driver.stop()),
                ("switch", driver.switch("v1", false)),
                ("back", driver.switch("v1", true)),
                ("start", driver.start()),
                ("instances", driver.instances()),
                ("list", driver.list()),
            ];
            let pins = driver.pin("web", "v1").into_iter().map(|call| ("pin", Some(call)));
            let lines = calls.into_iter().chain(pins).filter(|(_, call)| call.is_some());
            let lines: Vec<String> = lines.map(|(what, call)| format!("  {what}: {}\n", argv(call))).collect();
            format!("{}\n{}", driver.word(), lines.concat())
        })
        .collect();
    let wanted = "\
command
  running: cat VERSION
  stage: fetch app-v1.tar
  switch: use v1
  back: use v1
release-dir
git
  pin: git update-ref refs/lifeboat/releases/v1 v1
fly
  running: fly releases --app shop-production --image --json
  switch: fly deploy --app shop-production --image v1 --yes
  back: fly deploy --app shop-production --image v1 --yes
  instances: fly machines list --app shop-production --json
  list: fly releases --app shop-production --image --json
pm2
  stop: pm2 delete shop
  start: pm2 start /c/app.js --name shop --cwd /c
  instances: pm2 jlist
  pin: git update-ref refs/lifeboat/releases/v1 v1
systemd
  stop: systemctl stop shop.service
  start: systemctl start shop.service
  instances: systemctl show --property=LoadState,ActiveState,SubState,InvocationID,MainPID shop.service
docker
  running: docker inspect --type container --format FIELDS shop-box
  stage: docker image inspect --format {{.Id}}{{range .RepoDigests}} {{.}}{{end}} v1
  stop: docker stop shop-box
  start: docker start shop-box
  instances: docker inspect --type container --format FIELDS shop-box
  list: docker image ls --no-trunc --format {{.ID}} {{.Repository}}:{{.Tag}} {{.CreatedAt}}
  pin: docker image tag v1 lifeboat/web:v1
compose
  running: docker image inspect --format {{.Id}}{{range .RepoDigests}} {{.}}{{end}} shop:current
  stage: docker image inspect --format {{.Id}}{{range .RepoDigests}} {{.}}{{end}} v1
  stop: docker compose --file /app/compose.yml stop web
  switch: docker image tag v1 shop:current
  back: docker image tag v1 shop:current
  start: docker compose --file /app/compose.yml up --detach --no-deps --no-build --pull never --force-recreate web
  instances: docker compose --file /app/compose.yml ps --all --quiet --no-trunc web
  list: docker image ls --no-trunc --format {{.ID}} {{.Repository}}:{{.Tag}} {{.CreatedAt}}
  pin: docker image tag v1 lifeboat/web:v1
vercel
  running: vercel inspect shop.example --scope acme
  stage: vercel inspect v1 --scope acme
  switch: vercel rollback v1 --yes --timeout 3m --scope acme
  back: vercel promote v1 --yes --timeout 3m --scope acme
  instances: vercel inspect shop.example --scope acme
  list: vercel list shop --prod --scope acme
supabase-functions
  instances: supabase functions list --project-ref abcdefgh --output json
  pin: git update-ref refs/lifeboat/releases/v1 v1
";
    let fields = docker_inspect(&[])[5].clone();
    assert_eq!(said.concat().replace(&fields, "FIELDS"), wanted);
}

/// D-24: the name is freed, ports and variables are there again, the image is one that nobody can move.
#[test]
fn app_06_a_container_is_made_whole() {
    let call = docker_create("shop-box", &names(&["-p", "3025:3025"]), "sha256:1", &names(&["node"]));
    assert_eq!(call.join(" "), "docker create --name shop-box --pull never -p 3025:3025 sha256:1 node");
    assert_eq!(docker_rename("a", "b").join(" "), "docker rename a b");
    assert_eq!(docker_containers("a.b")[5..7], ["--filter".to_owned(), "name=^/?a\\.b$".to_owned()]);
    let up = "abcdefabcdefabcdef sha256:9 running 2026-01-01T00:00:00Z none 41\n";
    let found = docker_fields(up).unwrap();
    assert_eq!((found[0].id.as_str(), found[0].is_up), ("abcdefabcdef@2026-01-01T00:00:00Z", true));
    let sick = docker_fields("a sha256:9 running 2026 starting 41").unwrap();
    assert_eq!((sick[0].is_up, sick[0].state.as_str()), (false, "running, starting"));
    assert!(docker_fields("Error: no").unwrap_err().contains("no six fields"));
}

/// D-51: an ecosystem file starts one app of it; a list is found behind what a fresh daemon says, and a second entry is seen.
#[test]
fn app_07_pm2_has_one_entry() {
    let file = pm2::start("shop", Path::new("ecosystem.config.js"), Path::new("/c"));
    assert_eq!(file.join(" "), "pm2 start /c/ecosystem.config.js --only shop");
    let said = "[PM2] Spawning PM2 daemon\n[PM2] PM2 Successfully daemonized\n\
        [{\"name\":\"shop\",\"pid\":7,\"pm2_env\":{\"status\":\"online\",\"pm_uptime\":5,\"SECRET\":\"x\"}},\
         {\"name\":\"shop\",\"pid\":0,\"pm2_env\":{\"status\":\"errored\"}},{\"name\":\"other\",\"pid\":1}]";
    assert_eq!(pm2_entries("shop", said).unwrap(), 2);
    let found = pm2::instances("shop", said).unwrap();
    assert_eq!((found[0].id.as_str(), found[0].is_up, found[1].is_up), ("7@5", true, false));
    assert!(pm2_entries("shop", "[PM2][ERROR]").is_err());
}

#[test]
fn what_systemd_says_of_a_unit() {
    let up = "LoadState=loaded\nActiveState=active\nSubState=running\nInvocationID=ab\nMainPID=9\n";
    let found = systemd::instances(up).unwrap();
    assert_eq!((found[0].id.as_str(), found[0].is_up, found[0].process), ("ab", true, Some(9)));
    let failed = "LoadState=loaded\nActiveState=failed\nSubState=failed\nInvocationID=ab\nMainPID=0\n";
    assert!(systemd_has_failed(failed) && systemd::instances(failed).unwrap().is_empty());
    let none = "LoadState=not-found\nActiveState=inactive\nSubState=dead\nInvocationID=\nMainPID=0\n";
    assert!(systemd::instances(none).unwrap_err().contains("no such unit"));
    assert!(systemd::instances("").is_err());
}

/// APP-05: what is written for people, with colours; a build that failed and one of a branch are nothing to go back to.
#[test]
fn app_05_what_vercel_says_of_a_deployment() {
    let shown = |id: &str, target: &str, status: &str| Looked {
        out: String::new(),
        err: format!(
            "Fetched deployment\n\n  General\n\n    \u{1b}[36mid\u{1b}[39m\t\t{id}\n    name\tshop\n    target\t{target}\n    status\t\u{1b}[32m● {status}\u{1b}[39m\n    url\t\thttps://shop-1.vercel.app\n"
        ),
    };
    let found = vercel_deployment(&shown("dpl_1", "production", "Ready")).unwrap();
    assert_eq!((found.id.as_str(), found.can_run()), ("dpl_1", true));
    assert!(!vercel_deployment(&shown("dpl_1", "preview", "Ready")).unwrap().can_run());
    assert!(!vercel_deployment(&shown("dpl_1", "production", "Error")).unwrap().can_run());
    assert!(vercel_deployment(&Looked { err: "Error: not found".into(), ..Looked::default() }).is_err());
    let list = Looked { out: "https://b.vercel.app\nhttps://a.vercel.app\n".into(), err: "Age https://x y".into() };
    assert_eq!(vercel_urls(&list), ["https://b.vercel.app", "https://a.vercel.app"]);
}

/// D-44: over what is there, from another checkout; nothing is deleted.
#[test]
fn app_09_functions_are_deployed_over_each_other() {
    let call = supabase_deploy("abcdefgh", "hello", Path::new("/r/v1"));
    let wanted = "supabase functions deploy hello --project-ref abcdefgh --workdir /r/v1";
    assert_eq!(call.join(" "), wanted);
    let list = r#"[{"slug":"hello","version":4,"status":"ACTIVE"}]"#;
    let found = supabase::instances(&names(&["hello", "restore"]), list).unwrap();
    let ids: Vec<(&str, bool)> = found.iter().map(|one| (one.id.as_str(), one.is_up)).collect();
    assert_eq!(ids, [("hello@4", true), ("restore@0", false)]);
    assert!(supabase::instances(&[], "<html>").is_err());
}

/// APP-02 (D-19): the newest line is what runs; a change of secrets repeats its image; a failed release never ran.
#[test]
fn app_02_the_release_before_has_another_image_and_went_through() {
    let list = r#"[
        {"Version": 10, "Status": "complete", "ImageRef": "registry.fly.io/shop:bad"},
        {"Version": 9, "Status": "complete", "ImageRef": "registry.fly.io/shop:bad"},
        {"Version": 8, "Status": "complete", "ImageRef": "registry.fly.io/shop:good"},
        {"Version": 7, "Status": "complete", "ImageRef": "registry.fly.io/shop:old"},
        {"Version": 11, "Status": "failed", "ImageRef": "registry.fly.io/shop:never"}]"#;
    let releases = fly_releases(list).unwrap();
    assert_eq!(fly_current(&releases), Some("registry.fly.io/shop:bad"));
    assert_eq!(fly_previous(&releases, &|_| false).unwrap().number, 8);
    assert_eq!(fly_previous(&releases, &|image| image.ends_with("good")).unwrap().number, 7, "8 is held for bad");
    assert_eq!(fly_previous(&releases[..2], &|_| false), None);
    for (wrong, why) in [("Error: no access", "no JSON"), ("{}", "no list"), ("[{}]", "no Version")] {
        assert!(fly_releases(wrong).unwrap_err().contains(why), "{wrong}");
    }
    let machines = r#"[{"id":"1","state":"started","instance_id":"I","config":{"image":"img:good"}},
        {"id":"2","state":"stopped","instance_id":"J","config":{"image":"img:bad"}}]"#;
    let found = fly::machines(machines).unwrap();
    assert_eq!((found.len(), found[0].id.as_str(), found[0].version.as_deref()), (1, "1@I", Some("img:good")));
}

#[test]
fn a_driver_moves_with_its_folders() {
    let moved = |path: &Path| PathBuf::from(format!("/new{}", path.display()));
    for driver in drivers() {
        let places = driver.moved(&moved).places().map(|(releases, _)| releases.clone());
        assert_eq!(places, driver.places().map(|_| PathBuf::from("/new/r")), "{}", driver.word());
    }
}
