//! That what the pages, the help and the messages tell people to type can be typed: each command line in a block of code is one that
//! the command takes, and each that is named in a sentence has the subcommand and the flags that it is named with. And that each block
//! of the guides is typed by a test, or says why not.

mod printed;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `dir` whose name ends so.
fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
        let path = entry.expect("can be listed").path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.to_str().is_some_and(|name| name.ends_with(ending)) {
            found.push(path);
        }
    }
    found
}

fn pages() -> Vec<PathBuf> {
    let mut pages = files(&root().join("docs"), ".md");
    pages.extend(["README.md", "CONTRIBUTING.md", "RELEASE.md"].map(|name| root().join(name)));
    pages
}

/// What stands for whatever the reader has: a process, a name, a host.
const ANY: &str = "1";

/// The commands of a line of shell, each as its words: those inside of `$(…)` too. What only the reader knows (`…`, `$NAME`,
/// `{{ … }}`, what a command prints) is [`ANY`].
fn commands(line: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let mut rest = line;
    let mut quoted = None;
    while let Some(letter) = rest.chars().next() {
        let after = &rest[letter.len_utf8()..];
        rest = after;
        match (letter, quoted) {
            ('\'', None) | ('"', None) => {
                quoted = Some(letter);
                word.get_or_insert_default();
            }
            (_, Some(quote)) if letter == quote => quoted = None,
            ('$', None | Some('"')) if after.starts_with('(') => {
                let end = closing(after);
                found.extend(commands(&after[1..end]));
                word.get_or_insert_default().push_str(ANY);
                rest = after.get(end + 1..).unwrap_or_default();
            }
            ('{', None) if after.starts_with('{') => {
                word.get_or_insert_default().push_str(ANY);
                rest = after.split_once("}}").map_or("", |(_, rest)| rest);
            }
            ('…', None) => word.get_or_insert_default().push_str(ANY),
            ('#', None) if word.is_none() => break,
            (' ', None) => words.extend(word.take()),
            ('|' | ';' | '&', None) => {
                words.extend(word.take());
                found.push(std::mem::take(&mut words));
            }
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    found.push(words);
    found
}

/// Where the parenthesis ends with which the text begins.
fn closing(text: &str) -> usize {
    let mut depth = 0;
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' if depth == 1 => return at,
            ')' => depth -= 1,
            _ => {}
        }
    }
    panic!("no end of $(: {text}");
}

/// The command lines of ours in the blocks of code of a page, with the number of their line.
fn typed(page: &str) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    let mut lines = page.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if !line.starts_with("    ") {
            continue;
        }
        let mut text = line.trim().to_owned();
        while let Some(begun) = text.strip_suffix('\\') {
            let next = lines.next().map_or("", |(_, line)| line.trim());
            text = format!("{begun}{next}");
        }
        // As tasks of Ansible and of cloud-init have them.
        let text = text.trim_start_matches("- ").trim_start_matches("cmd: ");
        for words in commands(text) {
            if words.len() > 1 && words[0] == "lanmesh" {
                found.push((number + 1, words));
            }
        }
    }
    found
}

#[test]
fn every_command_line_on_a_page_is_one_that_the_command_takes() {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for path in pages() {
        let text = std::fs::read_to_string(&path).expect("can be read");
        for (number, words) in typed(&text) {
            count += 1;
            // Behind everything else that a join takes it is a host.
            let host = words.iter().rev().skip(1).rev().cloned().chain(["n1".to_owned()]);
            let host: Option<Vec<String>> =
                (words[1] == "join" && words.last().is_some_and(|last| last == ANY)).then(|| host.collect());
            if let Err(error) = lanmesh::cli::command().try_get_matches_from(host.as_ref().unwrap_or(&words))
            {
                let why = error.to_string();
                let first = why.lines().next().unwrap_or_default();
                wrong.push(format!("{}:{number}: {}: {first}", path.display(), words.join(" ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 40, "only {count} were found");
}

fn flags(command: &Command) -> BTreeSet<String> {
    let longs = command.get_arguments().flat_map(|argument| {
        argument.get_long().into_iter().chain(argument.get_visible_aliases().into_iter().flatten())
    });
    longs.map(str::to_owned).chain(["help".to_owned(), "version".to_owned()]).collect()
}

/// What is wrong with a command as a sentence names it, with words that stand for something and none that have to be there.
fn objection(named: &str) -> Option<String> {
    let whole = lanmesh::cli::command();
    let globals = flags(&whole);
    let mut command = &whole;
    let mut words = named.split_whitespace().skip(1).peekable();
    while let Some(word) = words.peek() {
        // A flag of every command may be before it.
        if word.starts_with('-') || !command.has_subcommands() {
            break;
        }
        match command.find_subcommand(word) {
            Some(found) => command = found,
            None => return Some(format!("there is no {word:?} in `{}`", command.get_name())),
        }
        words.next();
    }
    let known = flags(command);
    for word in words.take_while(|word| *word != "--") {
        let Some(flag) = word.trim_matches(['[', ']']).strip_prefix("--") else { continue };
        let flag = flag.split(['=', '[', ']', ',']).next().unwrap_or_default();
        if !known.contains(flag) && !globals.contains(flag) {
            return Some(format!("`{}` has no --{flag}", command.get_name()));
        }
    }
    None
}

/// What stands between backquotes and begins with our name.
fn named(text: &str) -> impl Iterator<Item = &str> {
    // Where a sentence goes on in the next line of a source, a backslash is between.
    let begins = text.match_indices("`lanmesh ").map(|(at, _)| at + 1);
    begins
        .filter_map(|at| text[at..].split_once('`').map(|(named, _)| named))
        .filter(|named| named.len() < 200)
}

#[test]
fn every_command_that_a_page_or_a_message_names_has_that_subcommand_and_those_flags() {
    let mut sources = pages();
    for dir in ["src", "docker/src", "runtimes/src", "model/src", "ipam/src"] {
        sources.extend(files(&root().join(dir), ".rs"));
    }
    sources.extend(files(&root().join("packaging"), ""));
    let (mut wrong, mut count) = (Vec::new(), 0);
    for path in sources {
        let text = std::fs::read_to_string(&path).expect("can be read");
        for named in named(&text) {
            count += 1;
            let words: Vec<&str> = named.split_whitespace().filter(|word| *word != "\\").collect();
            if let Some(objection) = objection(&words.join(" ")) {
                wrong.push(format!("{}: `{named}`: {objection}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 100, "only {count} were found");
}

#[test]
fn every_block_of_a_guide_is_typed_by_a_test_or_says_why_not() {
    let mut known = printed::BLOCKS.iter().peekable();
    let mut wrong = Vec::new();
    let mut guides = files(&root().join("docs/guides"), ".md");
    guides.sort();
    for path in guides {
        let page = path.file_stem().and_then(|name| name.to_str()).expect("has a name");
        let (_, text) = printed::guide(page);
        for block in printed::blocks(&text) {
            let (at, first) = (format!("{}:{}", path.display(), block.line), &block.lines[0]);
            match known.next_if(|(of, begins, _)| *of == page && first.starts_with(begins)) {
                None => {
                    wrong
                        .push(format!("{at}: {first:?} is not the next in the list of tests/printed/mod.rs"));
                }
                Some((_, _, printed::By::Nobody(why))) => {
                    assert!(why.len() > 20, "{at}: {why:?} is no reason");
                }
                Some((_, begins, printed::By::Test(test))) => {
                    let text = std::fs::read_to_string(root().join(test)).unwrap_or_default();
                    // As Rust has it, where there are quotes in it.
                    let escaped = begins.replace('"', "\\\"");
                    if !text
                        .lines()
                        .any(|line| line.contains(page) && (line.contains(begins) || line.contains(&escaped)))
                    {
                        wrong.push(format!("{at}: {test} does not type {begins:?}"));
                    }
                }
            }
        }
    }
    wrong.extend(
        known.map(|(page, begins, _)| format!("{page}.md has no block {begins:?} where the list has it")),
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn shell_is_read_as_a_shell_reads_it() {
    let read = |line: &str| commands(line).into_iter().map(|words| words.join("+")).collect::<Vec<_>>();
    assert_eq!(read("a 'b c' \"d $(e 'f' | g)\" # h"), ["e+f", "g", "a+b c+d 1"]);
    assert_eq!(read("a … --b=x{{ c | d }} && e; f &"), ["a+1+--b=x1", "", "e", "f", ""]);
    assert_eq!(read("echo X | lanmesh join --token - h"), ["echo+X", "lanmesh+join+--token+-+h"]);
    assert!(objection("lanmesh network set --mtu 1380").is_none());
    assert!(objection("lanmesh network sett").is_some_and(|why| why.contains("sett")));
    assert!(objection("lanmesh network set --mtuu 1").is_some_and(|why| why.contains("--mtuu")));
}
