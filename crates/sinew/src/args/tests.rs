//! Every subcommand can be found, understood and tried from its help.

use std::fmt::Write as _;

use clap::{Command as Clap, CommandFactory as _, Parser as _};

use super::*;

fn subcommands() -> Vec<Clap> {
    let mut command = Cli::command();
    command.build();
    command.get_subcommands().filter(|command| command.get_name() != "help").cloned().collect()
}

#[test]
fn the_parser_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_subcommand_has_a_text_and_an_example_of_itself() {
    for mut command in subcommands() {
        let name = command.get_name().to_owned();
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let long = command.get_long_about().map(ToString::to_string).unwrap_or_default();
        assert!(!about.is_empty() && !long.is_empty(), "{name} lacks a description");
        let help = command.render_long_help().to_string();
        let (_, examples) = help.split_once("Examples:\n").unwrap_or_else(|| {
            panic!("{name} lacks examples");
        });
        assert!(examples.contains(&format!("sinew {name}")), "{name}: no example of itself");
    }
}

#[test]
fn every_example_can_be_parsed() {
    for command in subcommands() {
        let examples = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
        let whole: Vec<&str> = examples.split("\\\n").map(str::trim_start).collect();
        for line in whole.join("").lines().filter(|line| line.trim_start().starts_with('s')) {
            // What stands after two spaces explains the example.
            let example = line.trim().split("  ").next().unwrap_or_default();
            let example = example.split(['|', '>']).next().unwrap_or_default();
            let words = example.split_whitespace().skip_while(|word| *word != "sinew");
            if let Err(error) = Cli::try_parse_from(words) {
                panic!("{example:?}: {error}");
            }
        }
    }
}

/// The reference page is written from the parser; `SINEW_BLESS=1 cargo test -p sinew` rewrites it.
#[test]
fn the_reference_page_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/cli.md");
    let page = reference();
    if std::env::var_os("SINEW_BLESS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == page, "docs/reference/cli.md: rewrite it with SINEW_BLESS=1");
}

const GLOBAL: [&str; 5] = ["socket", "control_socket", "output", "no_color", "help"];

fn reference() -> String {
    let mut page = String::from(
        "# The command line\n\nWritten from `sinew --help`; a test keeps it so.\n\n\
         | command | does |\n|---|---|\n",
    );
    for command in subcommands() {
        let (name, about) = (command.get_name(), command.get_about().unwrap_or_default());
        let _ = writeln!(page, "| [`sinew {name}`](#sinew-{name}) | {about} |");
    }
    page.push_str("\n## For every subcommand\n\n");
    // Its own list of subcommands is the table above.
    let mut top = Cli::command().help_template("{options}{after-help}");
    page.push_str(&block(&mut top));
    for command in subcommands() {
        let name = command.get_name().to_owned();
        let _ = write!(page, "\n## sinew {name}\n\n{}", block(&mut own(&command)));
        let below = command.get_subcommands().filter(|below| below.get_name() != "help");
        for below in below {
            let title = format!("\n### sinew {name} {}\n\n", below.get_name());
            page.push_str(&title);
            page.push_str(&block(&mut own(below)));
        }
    }
    page
}

/// A command without what is said to every other too.
fn own(command: &Clap) -> Clap {
    let known: Vec<_> =
        command.get_arguments().map(|argument| argument.get_id().to_string()).collect();
    let global = GLOBAL.into_iter().filter(|id| known.iter().any(|known| known == id));
    global.fold(command.clone(), |command, id| command.mut_arg(id, |argument| argument.hide(true)))
}

fn block(command: &mut Clap) -> String {
    let help = command.clone().term_width(100).render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    format!("```text\n{}\n```\n", lines.join("\n").trim_end().trim_start_matches('\n'))
}

#[test]
fn an_agent_is_told_what_to_join() {
    let words = "sinew agent --join a,b:99 --token t --node n --zone z --label k=v --label w= --address ::1 --placement";
    let cli = Cli::try_parse_from(words.split(' ')).unwrap();
    let Command::Agent(agent) = cli.command else { panic!("an agent") };
    let Join { join, token, node, zone, labels, addresses, placement } = agent.join;
    assert_eq!(join, ["a:7443", "b:99"]);
    assert_eq!((token.as_deref(), addresses.len()), (Some("t"), 1));
    assert_eq!(placement, Some(true));
    assert_eq!((node.unwrap().as_str(), zone.unwrap().as_str()), ("n", "z"));
    assert_eq!(labels, [("k", "v"), ("w", "")].map(|(k, v)| (k.to_owned(), v.to_owned())));
}
