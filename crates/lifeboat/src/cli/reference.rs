//! The reference of all commands as Markdown, made from the same types that read the words.

use clap::{Arg, Command, CommandFactory};

use super::Cli;

/// `docs/cli-reference.md`.
pub fn reference() -> String {
    let mut root = Cli::command();
    root.build();
    let mut text = String::from(
        "# Command line reference\n\n\
         Made from the code; a test compares the two. To bring it up to date after a change:\n\
         `LIFEBOAT_UPDATE_REFERENCE=1 cargo test -p lifeboat --test runner reference`.\n\n\
         Exit codes are in [exit-codes.md](exit-codes.md).\n\n## Everywhere\n\nThese work with every command.\n\n",
    );
    text += &options(root.get_arguments().filter(|arg| arg.is_global_set()));
    section(&root, "lifeboat", &mut text);
    text
}

fn section(command: &Command, path: &str, text: &mut String) {
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let path = format!("{path} {}", sub.get_name());
        let level = if path.matches(' ').count() == 1 { "##" } else { "###" };
        *text += &format!("\n{level} {path}\n\n");
        *text += &sub.get_about().map(|about| format!("{about}.\n\n")).unwrap_or_default();
        *text += &format!("```\n{path}{}\n```\n", usage(sub));
        let own: Vec<&Arg> = sub.get_arguments().filter(|arg| !arg.is_global_set() && arg.get_id() != "help").collect();
        if !own.is_empty() {
            *text += &format!("\n{}", options(own.into_iter()));
        }
        if let Some(help) = sub.get_after_help() {
            *text += &format!("\n```text\n{help}\n```\n");
        }
        section(sub, &path, text);
    }
}

fn usage(command: &Command) -> String {
    let mut text = String::new();
    if command.has_subcommands() {
        text += " COMMAND";
    }
    for arg in command.get_positionals() {
        let name = value(arg);
        let dots = if arg.get_num_args().is_some_and(|count| count.max_values() > 1) { "..." } else { "" };
        text += &if arg.is_required_set() { format!(" {name}{dots}") } else { format!(" [{name}]{dots}") };
    }
    let own = command.get_arguments().any(|arg| !arg.is_positional() && !arg.is_global_set() && arg.get_id() != "help");
    text + if own { " [options]" } else { "" }
}

fn options<'a>(args: impl Iterator<Item = &'a Arg>) -> String {
    let mut text = String::from("| | |\n|---|---|\n");
    for arg in args.filter(|arg| !arg.is_hide_set()) {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let mut says = help.replace('|', "\\|");
        let values: Vec<String> = arg.get_possible_values().iter().map(|one| format!("`{}`", one.get_name())).collect();
        // Where clap hides the values, the sentence names them.
        if !values.is_empty() && arg.get_action().takes_values() && !arg.is_hide_possible_values_set() {
            says += &format!(". One of {}", values.join(", "));
        }
        let defaults: Vec<String> =
            arg.get_default_values().iter().map(|one| format!("`{}`", one.to_string_lossy())).collect();
        if !defaults.is_empty() && arg.get_action().takes_values() {
            says += &format!(". Default: {}", defaults.join(", "));
        }
        text += &format!("| {} | {says} |\n", name(arg));
    }
    text
}

fn name(arg: &Arg) -> String {
    let Some(long) = arg.get_long() else { return format!("`{}`", value(arg)) };
    let short = arg.get_short().map(|short| format!("`-{short}`, ")).unwrap_or_default();
    let value = match arg.get_action().takes_values() {
        true if arg.is_require_equals_set() => format!("[={}]", value(arg)),
        true => format!(" {}", value(arg)),
        false => String::new(),
    };
    format!("{short}`--{long}{value}`")
}

fn value(arg: &Arg) -> String {
    let names = arg.get_value_names().map(|names| names.join(" "));
    names.unwrap_or_else(|| arg.get_id().as_str().to_uppercase())
}
