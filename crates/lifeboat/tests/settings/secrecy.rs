//! Passwords: the three places they come from, and that they never turn up in an answer.

use std::os::unix::fs::PermissionsExt;

use lifeboat::{
    cli::ConfigCommand,
    secrets::{PasswordSource, Passwords, read},
    wire,
};
use lifeboat_io::testing::ScriptedExec;
use lifeboat_model::FailureKind;
use secrecy::ExposeSecret;

use crate::world::{CANARY, World, everything_of};

const NAMES_A_FILE: &str = "version = 1\n[app]\nname = \"shop\"\n[vault]\nlocation = \"./vault\"\npassword = { file = \"./pw\" }\n\
    [environments.production.resources.db]\nkind = \"sqlite\"\npath = \"./shop.db\"\n";

#[track_caller]
fn gives(world: &World, source: &PasswordSource, password: &str) {
    let got = read(source, "./vault", &world.io).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(got.expose_secret(), password);
}

#[track_caller]
fn refuses(world: &World, source: &PasswordSource, sentence: &str) {
    let failure = read(source, "./vault", &world.io).unwrap_err();
    assert_eq!((failure.kind, failure.to_string().as_str()), (FailureKind::Refused, sentence));
}

#[test]
fn without_a_password_one_sentence_names_the_three_ways() {
    refuses(
        &World::new(),
        &PasswordSource::Nowhere,
        "there is no password for the vault ./vault: set LIFEBOAT_VAULT_PASSWORD, or write password = { file = \"…\" } or \
         password = { cmd = [\"…\"] } under [vault] in lifeboat.toml",
    );
}

#[test]
fn from_a_variable() {
    let mut world = World::new();
    let source = PasswordSource::Variable("SHOP_PASSWORD".into());
    refuses(&world, &source, "the password of the vault ./vault should be in SHOP_PASSWORD, which is not set");
    world.var("SHOP_PASSWORD", "");
    refuses(&world, &source, "the password of the vault ./vault, from the variable SHOP_PASSWORD, is empty");
    world.var("SHOP_PASSWORD", CANARY);
    gives(&world, &source, CANARY);
}

#[test]
fn from_a_file_of_variables_when_the_variable_is_not_set() {
    let mut world = World::new();
    let file = world.path(".env");
    let source = PasswordSource::VariableIn { name: "SHOP_PASSWORD".into(), file: file.clone() };
    world.write(".env", "OTHER=x\n");
    refuses(&world, &source, &format!("there is no SHOP_PASSWORD in {}, nor is the variable set", file.display()));
    world.write(".env", "SHOP_PASSWORD='from the file' # kept there\n");
    gives(&world, &source, "from the file");
    world.var("SHOP_PASSWORD", CANARY);
    gives(&world, &source, CANARY);
}

#[test]
fn from_a_file_without_the_newline_at_its_end() {
    let world = World::new();
    let path = world.path("pw");
    let source = PasswordSource::File(path.clone());
    let failure = read(&source, "./vault", &world.io).unwrap_err();
    assert_eq!(failure.message, "cannot read the password of the vault ./vault");
    for text in ["hunter2", "hunter2\n", "hunter2\r\n"] {
        world.write("pw", text);
        gives(&world, &source, "hunter2");
    }
    for (text, why) in [
        ("", "is empty"),
        ("\n", "is empty"),
        ("a\nb\n", "has more than one line"),
        (" hunter2\n", "begins or ends with a space"),
        ("a\0b", "has a zero byte in it"),
    ] {
        world.write("pw", text);
        refuses(
            &world,
            &source,
            &format!("the password of the vault ./vault, from the file {}, {why}", path.display()),
        );
    }
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    refuses(
        &world,
        &source,
        &format!("the password of the vault ./vault, from the file {}, is not text in UTF-8", path.display()),
    );
    std::fs::write(&path, vec![b'x'; 70_000]).unwrap();
    refuses(&world, &source, &format!("{} is too long to be a password", path.display()));
}

#[test]
fn from_a_command_that_is_really_run() {
    let mut world = World::new();
    let command = |script: &str| PasswordSource::Command(["sh", "-c", script].map(String::from).to_vec());
    gives(&world, &command("echo hunter2"), "hunter2");
    refuses(&world, &command("true"), "the password of the vault ./vault, from the command sh, is empty");
    refuses(
        &world,
        &command("echo hunter2; echo locked >&2; exit 3"),
        "the command sh was to print the password of the vault ./vault and did not: sh ended with code 3: locked",
    );
    let missing = PasswordSource::Command(vec!["no-such-password-manager".into()]);
    let failure = read(&missing, "./vault", &world.io).unwrap_err();
    assert_eq!(failure.causes[0], "cannot start no-such-password-manager");

    // What a password manager needs is handed on; the vault's password is not.
    world.var("LIFEBOAT_VAULT_PASSWORD", "not this");
    let exec = ScriptedExec::new().answer(|what, _| {
        let names: Vec<_> = what.env.iter().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
        Some(ScriptedExec::done(if names.iter().any(|name| name.contains("LIFEBOAT")) { "leaked" } else { "kept" }))
    });
    world.exec(exec);
    gives(&world, &command("anything"), "kept");
}

#[test]
fn a_file_that_others_can_read_is_told() {
    let world = World::with(NAMES_A_FILE);
    let path = world.write("pw", "hunter2");
    for (mode, who) in [(0o600, None), (0o640, Some("its group")), (0o644, Some("every user of this host"))] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let expected: Vec<String> = who
            .iter()
            .map(|who| format!("{who} can read the password in {0}: chmod 600 {0}", path.display()))
            .collect();
        assert_eq!(world.resolve(&[]).unwrap().warnings, expected, "{mode:o}");
    }
}

#[test]
fn each_vault_has_its_own() {
    let mut passwords = Passwords::new(PasswordSource::Nowhere);
    passwords.insert("/a", PasswordSource::Variable("A".into()));
    assert_eq!(passwords.source("/a"), &PasswordSource::Variable("A".into()));
    assert_eq!(passwords.source("/b"), &PasswordSource::Nowhere);
}

#[test]
fn a_wrong_password_says_where_it_came_from_and_a_used_one_is_scrubbed() {
    let mut world = World::with(NAMES_A_FILE);
    world.write("pw", CANARY);
    let resolved = world.resolve(&[]).unwrap();
    let vaults = wire::vaults(&resolved, &world.io);
    let location = &resolved.setup.vault;
    assert!(!vaults.exists(location).unwrap());
    assert_eq!(vaults.open(location).unwrap_err().kind, FailureKind::Refused);
    let vault = vaults.create(location).unwrap();
    assert!(vaults.exists(location).unwrap());
    assert_eq!(vaults.create(location).unwrap().id(), vault.id(), "one that is there is opened");
    assert_eq!(vaults.folder(location), Some(world.path("vault")));
    assert_eq!(vaults.scrub(&format!("x {CANARY} y")), "x ••• y");
    assert_eq!(
        vaults.scrub("to postgres://me:s3cret@host/x, https://host/a@b"),
        "to postgres://me:•••@host/x, https://host/a@b"
    );

    world.write("pw", "another");
    let failure = wire::vaults(&resolved, &world.io).open(location).unwrap_err();
    assert!(
        failure.to_string().ends_with(&format!("it came from the file {}", world.path("pw").display())),
        "{failure}"
    );
    // The variable wins over the file.
    world.var("LIFEBOAT_VAULT_PASSWORD", CANARY);
    let resolved = world.resolve(&[]).unwrap();
    assert!(wire::vaults(&resolved, &world.io).open(location).is_ok());
}

#[test]
fn a_vault_that_lost_its_config_is_never_made_anew() {
    let world = World::with(NAMES_A_FILE);
    world.write("pw", CANARY);
    let resolved = world.resolve(&[]).unwrap();
    let vaults = wire::vaults(&resolved, &world.io);
    vaults.create(&resolved.setup.vault).unwrap();
    world.write("vault/data/00/0000", "a pack");
    std::fs::remove_file(world.path("vault/config")).unwrap();
    let keys = || std::fs::read_dir(world.path("vault/keys")).unwrap().count();
    assert_eq!(keys(), 1);
    let vaults = wire::vaults(&resolved, &world.io);
    for failure in
        [vaults.exists(&resolved.setup.vault).unwrap_err(), vaults.create(&resolved.setup.vault).unwrap_err()]
    {
        assert_eq!(failure.kind, FailureKind::Damaged);
        let place = world.path("vault").display().to_string();
        assert_eq!(failure.message, format!("the vault {place} has data and has lost its file \"config\""));
    }
    assert_eq!(keys(), 1, "its key is still there");
}

#[test]
fn a_vault_nobody_named_is_told_so() {
    let world = World::with(
        "version = 1\n[app]\nname = \"shop\"\n[environments.production.resources.db]\nkind = \"sqlite\"\npath = \"./x\"\n",
    );
    let resolved = world.resolve(&[]).unwrap();
    let failure = wire::vaults(&resolved, &world.io).exists(&resolved.setup.vault).unwrap_err();
    assert_eq!(failure.message, "nobody has said where the vault is");
}

/// A secret in every place where somebody might put one by mistake: each file is refused, and none of what is said repeats it.
#[test]
fn a_secret_in_the_wrong_place_is_never_repeated() {
    let db = "[environments.production.resources.db]\nkind = \"sqlite\"\npath = \"./x\"\n";
    let head = "version = 1\n[app]\nname = \"shop\"\n";
    let wrong = [
        format!("{head}{db}[vault]\npassword = \"{CANARY}\"\n"),
        format!("{head}{db}[vault]\npassword = {CANARY}\n"),
        format!("{head}{db}[vault]\npassword = \"{CANARY}\n"),
        format!("{head}{db}[vault]\npassword: {CANARY}\n"),
        format!("{head}{db}[vault]\ntoken = \"{CANARY}\"\n"),
        format!("{head}{db}[vault]\npassword = [\"{CANARY}\"]\n"),
        format!("{head}{db}[vault]\npassword = {{ env = \"{CANARY}\" }}\n"),
        format!("{head}{db}[vault]\nlocation = \"s3:https://me:{CANARY}@host/bucket\"\n"),
        format!("{head}{db}[vault]\nlocation = \"gs://me:{CANARY}@host/bucket\"\n"),
        format!("{head}{db}[objectives]\nrpo = \"{CANARY}\"\n"),
        format!("{head}{db}[keep]\ndaily = \"{CANARY}\"\n"),
        format!("{head}{db}critical_tables = \"{CANARY}\"\n"),
        format!("version = \"{CANARY}\"\n[app]\nname = \"{CANARY} x\"\ntimezone = \"{CANARY}\"\n{db}"),
        format!(
            "{head}[environments.production.resources.db]\nkind = \"{CANARY}\"\npath = \"postgres://me:{CANARY}@host/x\"\n"
        ),
    ];
    for text in wrong {
        let mut world = World::with(&text);
        let failure = world.resolve(&[]).expect_err(&text);
        assert!(!everything_of(&failure).contains(CANARY), "{text}\n{failure}");
        let (code, told) = world.json().config(ConfigCommand::Check);
        assert!(!format!("{told}{code:?}").contains(CANARY), "{told}");
        assert!(!world.doctor().1.contains(CANARY));
    }
}

/// A secret in each right place: nothing that is shown repeats it.
#[test]
fn a_secret_in_its_right_place_is_never_shown() {
    let base = "version = 1\n[app]\nname = \"shop\"\n[environments.production.resources.db]\nkind = \"sqlite\"\npath = \"./shop.db\"\n\
                [environments.production.resources.env]\nkind = \"env\"\npath = \"./.env\"\n[vault]\nlocation = \"./vault\"\n";
    for way in ["env = \"SHOP_PASSWORD\"", "file = \"./pw\"", "cmd = [\"cat\", \"PW\"]"] {
        let mut world = World::with("");
        let way = way.replace("PW", world.path("pw").to_str().unwrap());
        world.write("lifeboat.toml", &format!("{base}password = {{ {way} }}\n"));
        world.write("pw", CANARY);
        world.write(".env", &format!("DATABASE_URL=postgres://me:{CANARY}@host/x\nTOKEN={CANARY}\n"));
        world.database("shop.db");
        world.var("SHOP_PASSWORD", CANARY);
        let resolved = world.resolve(&[]).unwrap();
        wire::vaults(&resolved, &world.io).create(&resolved.setup.vault).unwrap();
        let mut told = format!("{resolved:?}");
        for json in [false, true] {
            if json {
                world.json();
            }
            told += &world.config(ConfigCommand::Show).1;
            told += &world.config(ConfigCommand::Check).1;
            let (code, doctor) = world.doctor();
            assert!(doctor.contains("opens, and nobody has a lock on it"), "{doctor} {code:?}");
            told += &doctor;
            told += &world.init(true).1;
        }
        assert!(!told.contains(CANARY), "{told}");
        assert!(told.contains("•••"), "{told}");
    }
}
