//! Rules about `Cargo.toml` files: the arrows between our crates, and where heavy dependencies live.

use super::{SourceFile, find};

/// Which of our crates each of our crates may use, and which more in its tests. A new arrow is a new line here: it
/// needs a design note, not only a manifest.
const ARROWS: &[(&str, &[&str], &[&str])] = &[
    ("lifeboat-model", &[], &[]),
    ("lifeboat-io", &["lifeboat-model"], &[]),
    ("lifeboat-store", &["lifeboat-model", "lifeboat-io"], &[]),
    ("lifeboat-engine", &["lifeboat-model", "lifeboat-io", "lifeboat-store"], &["lifeboat-testkit"]),
    ("lifeboat-testkit", &["lifeboat-model", "lifeboat-io", "lifeboat-store", "lifeboat-engine"], &[]),
    ("lifeboat-web", &["lifeboat-model", "lifeboat-io", "lifeboat-store", "lifeboat-engine"], &["lifeboat-testkit"]),
    (
        "lifeboat",
        &["lifeboat-model", "lifeboat-io", "lifeboat-store", "lifeboat-engine", "lifeboat-web"],
        &["lifeboat-testkit"],
    ),
];

/// Dependencies that are heavy, or that say what a floor is about: which of our crates may use them, and which more in
/// their tests.
const AT_HOME: &[(&str, &[&str], &[&str])] = &[
    ("clap", &["lifeboat"], &[]),
    ("clap_complete", &["lifeboat"], &[]),
    ("clap_mangen", &["lifeboat"], &[]),
    ("indicatif", &["lifeboat"], &[]),
    ("rusqlite", &["lifeboat-io", "lifeboat-store", "lifeboat-testkit"], &["lifeboat"]),
    ("postgres-protocol", &["lifeboat-io"], &[]),
    ("rustls-native-certs", &["lifeboat-io"], &[]),
    ("object_store", &["lifeboat-io"], &[]),
    ("tokio", &["lifeboat-io", "lifeboat-web"], &["lifeboat-store", "lifeboat"]),
    ("axum", &["lifeboat-web"], &[]),
    ("reqwest", &["lifeboat-io"], &[]),
    ("rustls", &["lifeboat-io"], &[]),
    ("futures-util", &["lifeboat-io", "lifeboat-web"], &[]),
    ("hyper", &["lifeboat-web"], &[]),
    ("hyper-util", &["lifeboat-web"], &["lifeboat-io", "lifeboat-store", "lifeboat"]),
    ("tower-service", &["lifeboat-web"], &[]),
    ("s3s", &[], &["lifeboat-io", "lifeboat-store", "lifeboat-testkit", "lifeboat"]),
    ("s3s-fs", &[], &["lifeboat-io", "lifeboat-store", "lifeboat-testkit", "lifeboat"]),
    // Time is jiff, TLS is rustls; the others are no longer maintained, or were weighed and left out.
    ("chrono", &[], &[]),
    ("time", &[], &[]),
    ("openssl", &[], &[]),
    ("openssl-sys", &[], &[]),
    ("native-tls", &[], &[]),
    ("rustic_core", &[], &[]),
    ("serde_yml", &[], &[]),
    ("backoff", &[], &[]),
    ("dotenv", &[], &[]),
    ("bincode", &[], &[]),
];

/// Every arrow between our crates is one that the floors allow.
pub fn arrows(tree: &[SourceFile]) -> Vec<String> {
    for_each_crate(tree, |manifest, complaints| {
        let Some((_, always, in_tests)) = ARROWS.iter().find(|(name, ..)| *name == manifest.name) else {
            let name = &manifest.name;
            complaints.push(format!("{}: crate {name} has no floor; give it one in tidy's ARROWS.", manifest.path));
            return;
        };
        for used in &manifest.dependencies {
            let ours = used.name == "lifeboat" || used.name.starts_with("lifeboat-");
            if is_own_test_feature(manifest, used) {
                continue;
            }
            if ours && !allows(always, in_tests, &used.name, used.section) {
                complaints.push(format!(
                    "{}: {} must not use {} ({}); lower floors never name higher ones.",
                    manifest.path, manifest.name, used.name, used.section
                ));
            }
        }
    })
}

/// Heavy dependencies are used only where they are at home; those weighed and left out, nowhere.
pub fn heavy_dependencies(tree: &[SourceFile]) -> Vec<String> {
    for_each_crate(tree, |manifest, complaints| {
        for used in &manifest.dependencies {
            let Some((_, always, in_tests)) = AT_HOME.iter().find(|(name, ..)| *name == used.name) else { continue };
            if !allows(always, in_tests, &manifest.name, used.section) {
                let at_home = if always.is_empty() { "nowhere".to_owned() } else { always.join(", ") };
                complaints.push(format!(
                    "{}: {} must not use {} ({}); it is at home in: {at_home}.",
                    manifest.path, manifest.name, used.name, used.section
                ));
            }
        }
    })
}

/// Versions and lints are chosen once, at the root.
pub fn shared_choices(tree: &[SourceFile]) -> Vec<String> {
    for_each_crate(tree, |manifest, complaints| {
        if !manifest.lints_of_workspace {
            complaints.push(format!("{}: say `[lints] workspace = true`.", manifest.path));
        }
        for used in manifest.dependencies.iter().filter(|used| !used.of_workspace) {
            if is_own_test_feature(manifest, used) {
                continue;
            }
            let name = &used.name;
            complaints.push(format!("{}: {name} belongs into the root's [workspace.dependencies].", manifest.path));
        }
    })
}

/// Every dependency that the root names is used by some crate.
pub fn unused_dependencies(tree: &[SourceFile]) -> Vec<String> {
    let (manifests, mut complaints) = crate_manifests(tree);
    let root = match find(tree, "Cargo.toml").and_then(|file| parse(&file.path, &file.text)) {
        Ok(root) => root,
        Err(complaint) => return vec![complaint],
    };
    let shared = root.get("workspace").and_then(|table| table.get("dependencies")).and_then(toml::Value::as_table);
    for name in shared.into_iter().flatten().map(|(name, _)| name) {
        if !manifests.iter().any(|manifest| manifest.dependencies.iter().any(|used| used.name == *name)) {
            complaints.push(format!("Cargo.toml: no crate uses {name}; remove it."));
        }
    }
    complaints
}

/// A crate may depend on itself in its tests: it turns on its own `testing` feature that way.
fn is_own_test_feature(manifest: &Manifest, used: &Dependency) -> bool {
    used.name == manifest.name && matches!(used.section, Section::Dev)
}

/// The names of the folders under `crates/`, in order.
pub fn crate_folders(tree: &[SourceFile]) -> Vec<&str> {
    tree.iter().filter_map(|file| folder_of_crate_manifest(&file.path)).collect()
}

fn folder_of_crate_manifest(path: &str) -> Option<&str> {
    let folder = path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml")?;
    (!folder.contains('/')).then_some(folder)
}

/// `user` may be the one who uses or the one who is used: the lists are read the same way.
fn allows(always: &[&str], in_tests: &[&str], user: &str, section: Section) -> bool {
    match section {
        Section::Normal | Section::Build => always.contains(&user),
        Section::Dev => always.contains(&user) || in_tests.contains(&user),
    }
}

fn for_each_crate(tree: &[SourceFile], rule: impl Fn(&Manifest, &mut Vec<String>)) -> Vec<String> {
    let (manifests, mut complaints) = crate_manifests(tree);
    manifests.iter().for_each(|manifest| rule(manifest, &mut complaints));
    complaints
}

/// What a rule needs to know of a crate's manifest.
struct Manifest {
    path: String,
    name: String,
    lints_of_workspace: bool,
    dependencies: Vec<Dependency>,
}

struct Dependency {
    name: String,
    section: Section,
    of_workspace: bool,
}

#[derive(Clone, Copy, Debug)]
enum Section {
    Normal,
    Dev,
    Build,
}

impl std::fmt::Display for Section {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.key())
    }
}

impl Section {
    const ALL: [Section; 3] = [Section::Normal, Section::Dev, Section::Build];

    fn key(self) -> &'static str {
        match self {
            Section::Normal => "dependencies",
            Section::Dev => "dev-dependencies",
            Section::Build => "build-dependencies",
        }
    }
}

/// The manifests under `crates/`, and a complaint for each that cannot be understood, or if there are none.
fn crate_manifests(tree: &[SourceFile]) -> (Vec<Manifest>, Vec<String>) {
    let (mut manifests, mut complaints) = (Vec::new(), Vec::new());
    for file in tree.iter().filter(|file| folder_of_crate_manifest(&file.path).is_some()) {
        match read_manifest(file) {
            Ok(manifest) => manifests.push(manifest),
            Err(complaint) => complaints.push(complaint),
        }
    }
    if manifests.is_empty() {
        complaints.push("crates: there is no crate to look at.".into());
    }
    (manifests, complaints)
}

fn parse(path: &str, text: &str) -> Result<toml::Table, String> {
    text.parse::<toml::Table>().map_err(|error| format!("{path}: is not TOML: {error}"))
}

fn read_manifest(file: &SourceFile) -> Result<Manifest, String> {
    let table = parse(&file.path, &file.text)?;
    let name = table.get("package").and_then(|package| package.get("name")).and_then(toml::Value::as_str);
    let name = name.ok_or_else(|| format!("{}: names no package.", file.path))?;
    // Dependencies for one platform only sit one table deeper and count the same.
    let platforms = table.get("target").and_then(toml::Value::as_table);
    let platforms = platforms.into_iter().flatten().filter_map(|(_, platform)| platform.as_table());
    let dependencies = std::iter::once(&table).chain(platforms).flat_map(read_dependencies).collect();
    let lints_of_workspace = table.get("lints").is_some_and(of_workspace);
    Ok(Manifest { path: file.path.clone(), name: name.into(), lints_of_workspace, dependencies })
}

fn read_dependencies(table: &toml::Table) -> Vec<Dependency> {
    let mut found = Vec::new();
    for section in Section::ALL {
        let entries = table.get(section.key()).and_then(toml::Value::as_table);
        for (key, value) in entries.into_iter().flatten() {
            // A renamed dependency says its real name in `package`.
            let name = value.get("package").and_then(toml::Value::as_str).unwrap_or(key);
            found.push(Dependency { name: name.into(), section, of_workspace: of_workspace(value) });
        }
    }
    found
}

fn of_workspace(value: &toml::Value) -> bool {
    value.get("workspace").and_then(toml::Value::as_bool) == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A crate whose manifest holds these lines after the usual head.
    fn crate_with(name: &str, lines: &str) -> SourceFile {
        let text = format!("[package]\nname = \"{name}\"\n[lints]\nworkspace = true\n{lines}");
        SourceFile::new(&format!("crates/{}/Cargo.toml", name.trim_start_matches("lifeboat-")), &text)
    }

    fn check(rule: fn(&[SourceFile]) -> Vec<String>, name: &str, lines: &str, expected: &[&str]) {
        let complaints = rule(&[crate_with(name, lines)]);
        assert_eq!(complaints.len(), expected.len(), "{name} {lines}: {complaints:?}");
        for (complaint, part) in complaints.iter().zip(expected) {
            assert!(complaint.contains(part), "{complaint}\nshould contain: {part}");
        }
    }

    #[test]
    fn arrows_point_down() {
        check(arrows, "lifeboat-io", "[dependencies]\nlifeboat-model.workspace = true", &[]);
        check(
            arrows,
            "lifeboat-io",
            "[dependencies]\nlifeboat-store.workspace = true",
            &["must not use lifeboat-store"],
        );
        check(arrows, "lifeboat-model", "[dev-dependencies]\nlifeboat-io.workspace = true", &["(dev-dependencies)"]);
        check(arrows, "lifeboat-engine", "[dev-dependencies]\nlifeboat-testkit.workspace = true", &[]);
        check(arrows, "lifeboat-engine", "[dependencies]\nlifeboat-testkit.workspace = true", &["lifeboat-testkit"]);
        check(arrows, "lifeboat-engine", "[build-dependencies]\nlifeboat-testkit.workspace = true", &["(build-"]);
        check(arrows, "lifeboat-testkit", "[dependencies]\nlifeboat = { path = \"../lifeboat\" }", &["use lifeboat ("]);
        check(
            arrows,
            "lifeboat-model",
            "[target.'cfg(unix)'.dependencies]\nd = { package = \"lifeboat-engine\", path = \"x\" }",
            &["lifeboat-engine"],
        );
        check(arrows, "lifeboat-io", "[dev-dependencies]\nlifeboat-io = { path = \".\" }", &[]);
        check(arrows, "lifeboat-io", "[dependencies]\nlifeboat-io = { path = \".\" }", &["lifeboat-io"]);
        check(arrows, "lifeboat-common", "", &["has no floor"]);
        assert_eq!(arrows(&[]), ["crates: there is no crate to look at."]);
        assert!(arrows(&[SourceFile::new("crates/io/Cargo.toml", "not toml")])[0].contains("is not TOML"));
    }

    #[test]
    fn heavy_dependencies_stay_at_home() {
        check(heavy_dependencies, "lifeboat", "[dependencies]\nclap.workspace = true", &[]);
        check(
            heavy_dependencies,
            "lifeboat-engine",
            "[dependencies]\nclap.workspace = true",
            &["at home in: lifeboat."],
        );
        check(heavy_dependencies, "lifeboat", "[dev-dependencies]\nrusqlite.workspace = true", &[]);
        check(heavy_dependencies, "lifeboat", "[dependencies]\nrusqlite.workspace = true", &["must not use rusqlite"]);
        check(heavy_dependencies, "lifeboat-store", "[dependencies]\ntokio.workspace = true", &["tokio"]);
        check(heavy_dependencies, "lifeboat-io", "[dependencies]\nchrono = \"0.4\"", &["at home in: nowhere"]);
        check(heavy_dependencies, "lifeboat-io", "[dev-dependencies]\nopenssl = \"0.10\"", &["openssl"]);
    }

    #[test]
    fn choices_are_shared() {
        check(
            shared_choices,
            "lifeboat-io",
            "[dependencies]\nbytes = { workspace = true, features = [\"serde\"] }",
            &[],
        );
        check(shared_choices, "lifeboat-io", "[dependencies]\nbytes = \"1\"", &["bytes belongs into the root"]);
        check(shared_choices, "lifeboat-io", "[dev-dependencies]\nlifeboat-io = { path = \".\" }", &[]);
        let own_lints = SourceFile::new("crates/io/Cargo.toml", "[package]\nname = \"lifeboat-io\"");
        assert!(shared_choices(&[own_lints])[0].contains("[lints] workspace = true"));
    }

    #[test]
    fn dependencies_of_the_root_are_used() {
        let root = SourceFile::new("Cargo.toml", "[workspace.dependencies]\nbytes = \"1\"\nhex = \"0.4\"");
        let user = crate_with("lifeboat-io", "[dev-dependencies]\nbytes.workspace = true");
        assert_eq!(unused_dependencies(&[root, user.clone()]), ["Cargo.toml: no crate uses hex; remove it."]);
        assert_eq!(unused_dependencies(&[user]), ["Cargo.toml: this file is missing."]);
    }
}
