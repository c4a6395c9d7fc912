//! Rules about Rust files: their size, their first line, what they may name, and that none is forgotten.

use std::collections::{BTreeMap, BTreeSet};

use super::SourceFile;

/// Past this we look for the seam.
const LINES_MAX: usize = 800;

/// The only files of the binary that name concrete doors and stores: everything else there takes what it is handed.
const WIRING: &[&str] =
    &["crates/lifeboat/src/outside.rs", "crates/lifeboat/src/wire.rs", "crates/lifeboat/src/wire/shop.rs"];

/// What the rest of the binary may name of the io floor: the bundle, the abstract doors, and the errors.
const OPEN_DOORS: &[&str] =
    &["Io", "Clock", "Env", "Random", "Stop", "Stopped", "stop", "AtPath", "PathError", "ObjectStore", "files"];

/// No Rust file is longer than we can keep in mind.
pub fn file_sizes(tree: &[SourceFile]) -> Vec<String> {
    let long = tree.iter().filter(|file| file.is_rust()).map(|file| (file, file.text.lines().count()));
    long.filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(file, lines)| format!("{}: {lines} lines, at most {LINES_MAX}; look for the seam.", file.path))
        .collect()
}

/// Each `lib.rs` and `main.rs` says first what it is for.
pub fn first_lines(tree: &[SourceFile]) -> Vec<String> {
    let heads = tree.iter().filter(|file| file.path.ends_with("/src/lib.rs") || file.path.ends_with("/src/main.rs"));
    heads
        .filter(|file| !file.text.starts_with("//! "))
        .map(|file| format!("{}: begin with `//!` and a sentence that says what this is for.", file.path))
        .collect()
}

/// No code says "later", and no test is switched off.
pub fn unfinished(tree: &[SourceFile]) -> Vec<String> {
    // In pieces, so that this file does not hold what it looks for.
    let words = [
        (concat!("to", "do!("), "finish it"),
        (concat!("unimpl", "emented!("), "finish it"),
        (concat!("#[ig", "nore"), "repair the test or remove it"),
    ];
    let mut complaints = Vec::new();
    for file in tree.iter().filter(|file| file.is_rust()) {
        for (number, line) in file.text.lines().enumerate() {
            for (word, remedy) in words.iter().filter(|(word, _)| line.contains(word)) {
                complaints.push(format!("{}:{}: holds `{word}`; {remedy}.", file.path, number + 1));
            }
        }
    }
    complaints
}

/// In the binary, only the wiring names concrete doors of io, or anything of store.
pub fn concrete_doors(tree: &[SourceFile]) -> Vec<String> {
    let mut complaints = Vec::new();
    let binary = tree.iter().filter(|file| file.is_rust() && file.path.starts_with("crates/lifeboat/src/"));
    for file in binary.filter(|file| !WIRING.contains(&file.path.as_str())) {
        let code = without_comment_lines(&file.text);
        if code.contains("lifeboat_store") {
            complaints.push(format!("{}: names lifeboat_store; only wire.rs may.", file.path));
        }
        for name in names_of_io(&code) {
            if !OPEN_DOORS.contains(&name.as_str()) {
                complaints.push(format!("{}: names lifeboat_io::{name}; only wire.rs may.", file.path));
            }
        }
        // The bundle is free to be handed on, not to be made.
        if code.contains("Io::system") {
            complaints.push(format!("{}: makes the real doors; only wire.rs may.", file.path));
        }
    }
    complaints
}

fn without_comment_lines(text: &str) -> String {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.collect::<Vec<_>>().join("\n")
}

/// What stands directly behind each `lifeboat_io::`: one name, or each name of a `{…}` list. Where the crate is named
/// alone (to rename it, say) the answer is `*`.
fn names_of_io(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, word) in code.match_indices("lifeboat_io") {
        let Some(rest) = code[at + word.len()..].strip_prefix("::") else {
            names.push("*".into());
            continue;
        };
        match rest.strip_prefix('{') {
            Some(list) => names.extend(top_level_names(list)),
            None => names.push(leading_name(rest)),
        }
    }
    names
}

/// The first names in a `use` list, up to its closing brace: `a::b, c::{d, e}}` has `a` and `c`.
fn top_level_names(list: &str) -> Vec<String> {
    let (mut names, mut depth, mut begin) = (Vec::new(), 0, 0);
    for (at, letter) in list.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                let name = leading_name(&list[begin..at]);
                names.extend((!list[begin..at].trim().is_empty()).then_some(name));
                begin = at + 1;
                if letter == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names
}

fn leading_name(text: &str) -> String {
    let name: String = text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    if name.is_empty() { "*".into() } else { name }
}

/// Every Rust file belongs to a target: none is forgotten, neither a test nor a module; every `mod` has its file.
pub fn forgotten_files(tree: &[SourceFile]) -> Vec<String> {
    let rust: BTreeMap<&str, &str> =
        tree.iter().filter(|file| file.is_rust()).map(|file| (file.path.as_str(), file.text.as_str())).collect();
    let manifests: BTreeMap<&str, &str> =
        tree.iter().filter_map(|file| Some((file.path.strip_suffix("/Cargo.toml")?, file.text.as_str()))).collect();

    let mut complaints = Vec::new();
    let mut waiting: Vec<&str> = rust.keys().copied().filter(|path| is_target(path, &manifests)).collect();
    let mut reached: BTreeSet<&str> = waiting.iter().copied().collect();
    while let Some(path) = waiting.pop() {
        let is_root = is_target(path, &manifests);
        for module in modules_of(rust[path]) {
            let places = module.places(path, is_root);
            match places.iter().find_map(|place| rust.get_key_value(place.as_str())) {
                Some((file, _)) if reached.insert(file) => waiting.push(file),
                Some(_) => {}
                None => complaints.push(format!("{path}: `mod {}` has no file {}.", module.name, places.join(" or "))),
            }
        }
    }
    let forgotten = rust.keys().filter(|path| !reached.contains(*path));
    complaints.extend(forgotten.map(|path| format!("{path}: no target includes this file; name it in a `mod`.")));
    complaints
}

/// Whether Cargo builds this file by itself.
fn is_target(path: &str, manifests: &BTreeMap<&str, &str>) -> bool {
    // The innermost package that holds the file.
    let holders = manifests.iter().filter(|(folder, _)| path.starts_with(&format!("{folder}/")));
    let Some((folder, manifest)) = holders.max_by_key(|(folder, _)| folder.len()) else { return false };
    let inside = &path[folder.len() + 1..];
    if manifest.contains(&format!("path = \"{inside}\"")) {
        return true;
    }
    if matches!(inside, "build.rs" | "src/lib.rs" | "src/main.rs") {
        return true;
    }
    let (place, rest) = if let Some(rest) = inside.strip_prefix("src/bin/") {
        ("bin", rest)
    } else {
        inside.split_once('/').unwrap_or(("", inside))
    };
    let by_itself = match place {
        "bin" => !manifest.contains("autobins = false"),
        "tests" => !manifest.contains("autotests = false"),
        "benches" => !manifest.contains("autobenches = false"),
        "examples" => !manifest.contains("autoexamples = false"),
        _ => false,
    };
    by_itself && (!rest.contains('/') || (rest.ends_with("/main.rs") && rest.matches('/').count() == 1))
}

/// A `mod name;`, or an `include!`.
#[derive(Debug, PartialEq, Eq)]
struct Module {
    name: String,
    /// What `#[path = "…"]` says, relative to the file's folder.
    path: Option<String>,
}

impl Module {
    /// Where the file may lie.
    fn places(&self, of: &str, of_is_root: bool) -> Vec<String> {
        let (folder, file) = of.rsplit_once('/').unwrap_or(("", of));
        if let Some(path) = &self.path {
            return vec![normalized(&format!("{folder}/{path}"))];
        }
        let stem = file.trim_end_matches(".rs");
        let children = if of_is_root || stem == "mod" { folder.to_owned() } else { format!("{folder}/{stem}") };
        vec![format!("{children}/{}.rs", self.name), format!("{children}/{}/mod.rs", self.name)]
    }
}

/// Without `..` and `.`.
fn normalized(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            ".." => {
                parts.pop();
            }
            "." => {}
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

/// The `mod name;` lines of a file (not those with a body), and its `include!`s of Rust files. Goes by lines: rustfmt
/// gives each its own.
fn modules_of(text: &str) -> Vec<Module> {
    let mut modules = Vec::new();
    let mut path = None;
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("#[path = \"") {
            path = rest.split('"').next().map(str::to_owned);
        } else if let Some(name) = module_name(line) {
            modules.push(Module { name: name.into(), path: path.take() });
        } else if let Some(file) = line.strip_prefix("include!(\"").and_then(|rest| rest.split('"').next()) {
            if file.ends_with(".rs") {
                modules.push(Module { name: file.into(), path: Some(file.into()) });
            }
        } else if !line.starts_with("#[") {
            path = None;
        }
    }
    modules
}

fn module_name(line: &str) -> Option<&str> {
    let line = line.strip_prefix("pub").map_or(line, |rest| match rest.strip_prefix('(') {
        Some(rest) => rest.split_once(')').map_or(rest, |(_, rest)| rest),
        None => rest,
    });
    let name = line.trim_start().strip_prefix("mod ")?.strip_suffix(';')?.trim();
    name.chars().all(|c| c.is_alphanumeric() || c == '_').then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Vec<SourceFile> {
        files.iter().map(|(path, text)| SourceFile::new(path, text)).collect()
    }

    #[test]
    fn long_files_are_named() {
        let lines = |count: usize| "x\n".repeat(count);
        let complaints = file_sizes(&tree(&[
            ("crates/a/src/fits.rs", &lines(LINES_MAX)),
            ("crates/a/src/long.rs", &lines(LINES_MAX + 1)),
            ("docs/long.md", &lines(5000)),
        ]));
        assert_eq!(complaints, ["crates/a/src/long.rs: 801 lines, at most 800; look for the seam."]);
    }

    #[test]
    fn heads_without_a_sentence_are_named() {
        let complaints = first_lines(&tree(&[
            ("crates/a/src/lib.rs", "//! What it is for.\n"),
            ("crates/b/src/lib.rs", "mod x;\n"),
            ("crates/c/src/main.rs", "// no\nfn main() {}\n"),
            ("crates/c/src/other.rs", "fn other() {}\n"),
        ]));
        assert_eq!(complaints.len(), 2, "{complaints:?}");
        assert!(complaints[0].starts_with("crates/b/src/lib.rs: begin with"));
        assert!(complaints[1].starts_with("crates/c/src/main.rs"));
    }

    #[test]
    fn unfinished_code_is_named() {
        let stub = format!("fn a() {{}}\nfn b() {{ {}) }}\n", concat!("to", "do!("));
        let off = format!("{}]\nfn test() {{}}\n", concat!("#[ig", "nore"));
        let why = format!("{} = \"slow\"]\nfn test() {{}}\n", concat!("#[ig", "nore"));
        let later = format!("fn a() {{ {}) }}\n", concat!("unimpl", "emented!("));
        for (text, line) in [(&stub, 2), (&off, 1), (&why, 1), (&later, 1)] {
            let complaints = unfinished(&tree(&[("crates/a/src/x.rs", text)]));
            assert_eq!(complaints.len(), 1, "{text}: {complaints:?}");
            assert!(complaints[0].starts_with(&format!("crates/a/src/x.rs:{line}: ")), "{complaints:?}");
        }
        assert!(unfinished(&tree(&[("docs/x.md", &stub), ("crates/a/src/y.rs", "fn done() {}")])).is_empty());
    }

    #[test]
    fn concrete_doors_outside_the_wiring_are_named() {
        let check = |text: &str, expected: &[&str]| {
            let complaints = concrete_doors(&tree(&[("crates/lifeboat/src/demo.rs", text)]));
            assert_eq!(complaints.len(), expected.len(), "{text}: {complaints:?}");
            for (complaint, part) in complaints.iter().zip(expected) {
                assert!(complaint.contains(part), "{complaint}\nshould contain: {part}");
            }
            let other_places = [("crates/lifeboat/src/wire.rs", text), ("crates/engine/src/run.rs", text)];
            assert!(concrete_doors(&tree(&other_places)).is_empty());
        };
        check("use lifeboat_io::{Clock, Io, Stop};", &[]);
        check("// lifeboat_store::vault is opened in wire.rs", &[]);
        check("use lifeboat_store::vault::Vault;", &["lifeboat_store"]);
        check("use lifeboat_io::objects::folder::Folder;", &["lifeboat_io::objects"]);
        check(
            "use lifeboat_io::{Io,\n    objects::{folder::Folder, s3},\n    SystemClock,\n};",
            &["objects", "SystemClock"],
        );
        check("let io = lifeboat_io::Io::system();", &["makes the real doors"]);
        check("use lifeboat_io as doors;", &["lifeboat_io::*"]);
        check("use lifeboat_io::*;", &["lifeboat_io::*"]);
    }

    #[test]
    fn forgotten_files_are_named() {
        let check = |manifest: &str, files: &[(&str, &str)], expected: &[&str]| {
            let mut all = vec![("crates/a/Cargo.toml", manifest)];
            all.extend_from_slice(files);
            let complaints = forgotten_files(&tree(&all));
            assert_eq!(complaints.len(), expected.len(), "{files:?}: {complaints:?}");
            for (complaint, part) in complaints.iter().zip(expected) {
                assert!(complaint.contains(part), "{complaint}\nshould contain: {part}");
            }
        };
        let lib = ("crates/a/src/lib.rs", "pub mod x;\npub(crate) mod y;\n#[cfg(test)]\nmod tests {}\n");
        let (x, y) = (("crates/a/src/x.rs", "mod z;"), ("crates/a/src/y/mod.rs", "mod z;"));
        let (xz, yz) = (("crates/a/src/x/z.rs", ""), ("crates/a/src/y/z.rs", ""));
        check("", &[lib, x, y, xz, yz], &[]);
        check("", &[lib, x, y, xz], &["crates/a/src/y/mod.rs: `mod z` has no file"]);
        check("", &[lib, x, y, xz, yz, ("crates/a/src/lost.rs", "")], &["crates/a/src/lost.rs: no target includes"]);

        let (first, second) = (("crates/a/tests/first.rs", ""), ("crates/a/tests/second.rs", ""));
        check("", &[first, second], &[]);
        check("", &[first, ("crates/a/tests/help/mod.rs", "")], &["tests/help/mod.rs: no target"]);
        check("", &[("crates/a/tests/first.rs", "mod help;"), ("crates/a/tests/help/mod.rs", "")], &[]);
        check("", &[("crates/a/tests/suite/main.rs", "mod help;"), ("crates/a/tests/suite/help.rs", "")], &[]);
        let one_runner = "autotests = false\n[[test]]\nname = \"runner\"\npath = \"tests/runner.rs\"";
        let runner = ("crates/a/tests/runner.rs", "mod first;");
        check(one_runner, &[runner, first], &[]);
        check(one_runner, &[runner, first, second], &["tests/second.rs: no target includes"]);
        let elsewhere = ("crates/a/tests/runner.rs", "#[path = \"../shared/first.rs\"]\nmod other;");
        check(one_runner, &[elsewhere, ("crates/a/shared/first.rs", "")], &[]);
    }
}
